"""Start or test this project on a machine that has nothing of it but Python 3.11 or newer.

    python3 dev.py run [flags]     tenantry serve --demo
    python3 dev.py test [flags]    all that CI runs: ruff, mypy, then pytest with the flags
    python3 dev.py WORDS           any other tenantry command, e.g. python3 dev.py call --help

The first start makes .venv and installs requirements.lock into it, with uv when it is on PATH.
After a change of the dependencies, make the lock anew (without `-U` the versions stay as they are):

    printf '%s\\n' hatchling editables | uv pip compile pyproject.toml - --group dev --universal \\
        --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header --no-annotate \\
        --generate-hashes --output-file requirements.lock
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

if sys.version_info < (3, 11):  # noqa: UP036 -- this file alone must say so to an older Python
    sys.exit("dev.py: Python 3.11 or newer is needed, this is " + sys.version.split()[0])

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "dev-stamp"
PYTHON = VENV / "bin" / "python"
UNFINISHED = "unfinished"


def steps(words: list[str]) -> list[list[str]]:
    """Translate the words after `dev.py` to commands; all but the last are checks that must pass first."""
    python, tenantry = str(PYTHON), str(VENV / "bin" / "tenantry")
    if words[0] == "run":
        return [[tenantry, "serve", "--demo", *words[1:]]]
    if words[0] == "test":
        return [
            [python, "-m", "ruff", "check", "."],
            [python, "-m", "ruff", "format", "--check", "."],
            [python, "-m", "mypy"],
            [python, "-m", "pytest", *words[1:]],
        ]
    return [[tenantry, *words]]


def digest(root: Path) -> str:
    """Give the fingerprint of what an install in `root` depends on.

    The place counts too: the scripts of a copied `.venv` would start the code of the original tree.
    """
    parts = (str(root).encode(), (root / "requirements.lock").read_bytes(), (root / "pyproject.toml").read_bytes())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def plan(stamp: str, wanted: str, *, interpreter: bool) -> str:
    """Say what `.venv` needs: `nothing`, `update` in place, or to be made `anew`.

    `stamp` is what the stamp file holds, "" for a `.venv` that somebody else made. A stopped install is made
    anew, for a package of which half was copied may pass for an installed one.
    """
    if not interpreter or stamp == UNFINISHED:
        return "anew"
    return "nothing" if stamp == wanted else "update"


def empty(folder: Path, *, keep: str) -> None:
    """Remove everything in `folder` but the file named `keep`."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != keep:
            entry.unlink()


def say(text: str) -> None:
    """Report progress on stderr: stdout belongs to the command."""
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def make_venv(*, with_pip: bool) -> None:
    """Make `.venv` or complete it; ends the program where Debian has split off what that takes."""
    needed = ("venv", "ensurepip") if with_pip else ("venv",)
    if not all(importlib.util.find_spec(name) for name in needed):
        sys.exit("dev.py: this Python can't make a virtual environment: apt install python3-venv")
    import venv  # noqa: PLC0415 -- absent on the machines that the line above is for

    venv.create(VENV, symlinks=True, with_pip=with_pip)


def install(lock: IO[str]) -> None:
    """Install the locked dependencies and the project itself; raises CalledProcessError.

    The installer inherits `lock`, so that it still keeps others out if this process is killed before it.
    """
    uv = shutil.which("uv")
    if not PYTHON.exists() or (uv is None and not any(VENV.glob("lib/python3*/site-packages/pip"))):
        make_venv(with_pip=uv is None)
    say(f"installing into {VENV} with {'uv' if uv else 'pip, which takes up to a minute'} ...")
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    installer = [uv, "pip", "install", "--compile-bytecode", "--python", str(PYTHON)] if uv else pip
    for what in (
        ["--require-hashes", "--no-deps", "-r", str(ROOT / "requirements.lock")],
        ["--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    ):
        subprocess.run(
            [*installer, "--quiet", *what],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=(lock.fileno(),),
        )


def overwrite(file: IO[str], text: str) -> None:
    """Replace all that `file` holds."""
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def prepare() -> None:
    """Bring `.venv` to what the lock and pyproject.toml say; where it is so already this costs milliseconds."""
    VENV.mkdir(exist_ok=True)
    with STAMP.open("a+") as stamp:
        fcntl.flock(stamp, fcntl.LOCK_EX)  # a second start waits for the install of the first
        stamp.seek(0)
        wanted = digest(ROOT)
        todo = plan(stamp.read(), wanted, interpreter=PYTHON.exists())
        if todo == "nothing":
            return
        overwrite(stamp, UNFINISHED)
        if todo == "anew":
            empty(VENV, keep=STAMP.name)
        install(stamp)
        overwrite(stamp, wanted)


def main(words: list[str]) -> None:
    """Prepare `.venv`, then become the command, so that signals reach it; returns only after help."""
    if not words or words[0] in {"-h", "--help"}:
        say(__doc__ or "")
        sys.exit(0 if words else 2)
    try:
        prepare()
    except (subprocess.CalledProcessError, KeyboardInterrupt):
        sys.exit("dev.py: the install did not finish; the next start begins it anew")
    if words[0] == "test":
        os.chdir(ROOT)
    *checks, last = steps(words)
    for check in checks:
        say(" ".join(check[2:]))
        status = subprocess.run(check, check=False).returncode
        if status:
            sys.exit(status)
    os.execv(last[0], last)


if __name__ == "__main__":
    main(sys.argv[1:])
