"""dev.py: what a word starts, and when `.venv` is left alone, brought up to date or made anew."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import dev
import pytest

TENANTRY = str(dev.VENV / "bin" / "tenantry")


def test_run_serves_the_demo_with_the_flags_that_follow():
    assert dev.steps(["run", "--port", "0"]) == [[TENANTRY, "serve", "--demo", "--port", "0"]]


def test_any_other_word_is_a_tenantry_command():
    assert dev.steps(["call", "--tenant", "tenant-a"]) == [[TENANTRY, "call", "--tenant", "tenant-a"]]


def test_test_checks_and_then_hands_the_flags_to_pytest():
    commands = dev.steps(["test", "-k", "foo"])
    assert [command[2:] for command in commands] == [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pytest", "-k", "foo"],
    ]
    assert {tuple(command[:2]) for command in commands} == {(str(dev.PYTHON), "-m")}


@pytest.mark.parametrize(
    ("stamp", "interpreter", "todo"),
    [
        ("wanted", True, "nothing"),
        ("older", True, "update"),
        ("", True, "update"),  # a `.venv` that was made by hand is not thrown away
        (dev.UNFINISHED, True, "anew"),
        ("wanted", False, "anew"),  # the Python it was made with is gone
        ("", False, "anew"),
    ],
)
def test_the_plan_follows_from_the_stamp(stamp, interpreter, todo):
    assert dev.plan(stamp, "wanted", interpreter=interpreter) == todo


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project in a folder of its own, whose install is a count."""
    (tmp_path / "requirements.lock").write_text("trio==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    python = tmp_path / ".venv" / "bin" / "python"
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(dev, "STAMP", tmp_path / ".venv" / "dev-stamp")
    monkeypatch.setattr(dev, "PYTHON", python)
    return tmp_path


@pytest.fixture
def installs(tree, monkeypatch):
    """What each install found in `.venv`."""
    found: list[set[str]] = []

    def install(lock):
        found.append({entry.name for entry in dev.VENV.iterdir()})
        dev.PYTHON.parent.mkdir(exist_ok=True)
        dev.PYTHON.touch()

    monkeypatch.setattr(dev, "install", install)
    return found


def test_a_second_start_installs_nothing(installs):
    dev.prepare()
    dev.prepare()
    assert len(installs) == 1


def test_a_changed_lock_updates_in_place(installs):
    dev.prepare()
    (dev.ROOT / "requirements.lock").write_text("trio==2\n")
    dev.prepare()
    assert installs == [{"dev-stamp"}, {"dev-stamp", "bin"}]


def test_an_interrupted_install_is_made_anew(installs, monkeypatch):
    def interrupted(lock):
        (dev.VENV / "lib").mkdir()
        (dev.VENV / "lib64").symlink_to("lib")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dev, "install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dev.prepare()
    dev.prepare()
    dev.prepare()
    assert installs == [{"dev-stamp"}]


def test_the_digest_tells_lock_configuration_and_place_apart(tree):
    def variants() -> Iterator[str]:
        yield dev.digest(tree)
        (tree / "requirements.lock").write_text("trio==2\n")
        yield dev.digest(tree)
        (tree / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        yield dev.digest(tree)
        copy = tree / "copy"
        copy.mkdir()
        for name in ("requirements.lock", "pyproject.toml"):
            (copy / name).write_bytes((tree / name).read_bytes())
        yield dev.digest(copy)

    assert len(set(variants())) == 4


def test_a_failed_check_ends_the_run_with_its_status(monkeypatch):
    commands = [[sys.executable, "-c", "raise SystemExit(3)"], ["never started"]]
    monkeypatch.setattr(dev, "prepare", lambda: None)
    monkeypatch.setattr(dev, "steps", lambda words: commands)
    with pytest.raises(SystemExit) as stopped:
        dev.main(["anything"])
    assert stopped.value.code == 3


def test_a_failed_install_is_one_line(monkeypatch):
    def prepare():
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(dev, "prepare", prepare)
    with pytest.raises(SystemExit, match="the install did not finish"):
        dev.main(["run"])


def test_a_python_without_ensurepip_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        dev.make_venv(with_pip=True)


def test_an_old_python_can_read_as_far_as_the_line_that_names_the_version():
    ast.parse(Path(dev.__file__).read_text(), feature_version=(3, 7))


def test_the_lock_holds_every_dependency_and_the_build_backend_with_hashes():
    lock = (dev.ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    locked = {entry.partition("==")[0] for entry in entries}
    project = tomllib.loads((dev.ROOT / "pyproject.toml").read_text())
    named = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
        "editables",
    ]
    assert {re.split(r"[\s<>=!~;\[]", name)[0].lower() for name in named} <= locked
