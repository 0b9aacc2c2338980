"""Programs of others that tests run: one exact version each, in an environment of its own, installed once."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".tenantry-tools"


def npm_package(name: str, version: str) -> Path:
    """Install a package of the npm registry with all that it needs; give the package's directory."""

    def install(home: Path) -> None:
        (home / "package.json").write_text('{"private": true}\n')
        flags = ("--no-fund", "--no-audit", "--ignore-scripts", "--no-package-lock", "--loglevel=error")
        _quietly("npm", "install", *flags, f"{name}@{version}", cwd=home)

    return once(name, version, install) / "node_modules" / name


def python_package(name: str, version: str) -> Path:
    """Install a package of the Python index with all that it needs; give the directory of its programs."""

    def install(home: Path) -> None:
        wanted = f"{name}=={version}"
        if uv := shutil.which("uv"):
            _quietly(uv, "venv", "--quiet", "--python", sys.executable, home / "venv")
            _quietly(uv, "pip", "install", "--quiet", "--python", home / "venv" / "bin" / "python", wanted)
        else:
            _quietly(sys.executable, "-m", "venv", home / "venv")
            _quietly(home / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", wanted)

    return once(name, version, install) / "venv" / "bin"


def once(name: str, version: str, install: Callable[[Path], None]) -> Path:
    """Give the directory in which `install` has installed that version, this time or an earlier one."""
    home = TOOLS / f"{name.rpartition('/')[2]}-{version}"
    done = home / "installed"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        install(home)
        done.touch()
    return home


def _quietly(*command: object, cwd: Path | None = None) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.DEVNULL)
