"""Foreign clients: how they are installed, started and led.

Each is a program that uses an official SDK unmodified. It is led by lines of JSON: an order on its standard input,
`{"call": {"name": ..., "arguments": ...}}` or with `"age": true` to let its access token be over first, and on its
standard output `{"authorize": URL}` when a person is to go there, which is answered by `{"callback": URL}`, and at the
end `{"answer": ..., "tokens": ..., "client_id": ...}` or `{"error": ...}`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.official.runner import TOOLS

HERE = Path(__file__).parent
# Longer than any step takes on a busy machine.
STOP_S = 30


def _quietly(*command: object, cwd: Path | None = None) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """One version of one SDK."""

    package: str
    version: str
    modules: tuple[str, ...] = ()
    """What a program in TypeScript's world imports; empty for Python."""

    @property
    def home(self) -> Path:
        """The directory that it is installed into."""
        return TOOLS / f"foreign-{self.package.replace('/', '-').strip('@')}-{self.version}"

    def install(self) -> None:
        """Install it with all that it needs, once, apart from all else."""
        done = self.home / "installed"
        if done.exists():
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        if self.modules:
            (self.home / "package.json").write_text('{"private": true, "type": "module"}\n')
            flags = ("--no-fund", "--no-audit", "--ignore-scripts", "--no-package-lock")
            _quietly("npm", "install", *flags, f"{self.package}@{self.version}", cwd=self.home)
        elif uv := shutil.which("uv"):
            _quietly(uv, "venv", "--quiet", "--python", sys.executable, self.home / "venv")
            _quietly(uv, "pip", "install", "--quiet", "--python", self._python, f"{self.package}=={self.version}")
        else:
            _quietly(sys.executable, "-m", "venv", self.home / "venv")
            _quietly(self._python, "-m", "pip", "install", "--quiet", f"{self.package}=={self.version}")
        done.touch()

    @property
    def _python(self) -> Path:
        return self.home / "venv" / "bin" / "python"

    def command(self, url: str) -> list[str]:
        """What starts a client of the server at `url`."""
        if not self.modules:
            return [str(self._python), str(HERE / "client.py"), url]
        # Modules are looked for from the place of the file that imports them.
        program = shutil.copy(HERE / "client.mjs", self.home / "client.mjs")
        return ["node", str(program), *self.modules, url]


SDKS = {
    "python": Sdk(package="mcp", version="2.3.0"),
    "typescript": Sdk(
        package="@modelcontextprotocol/client", version="2.4.0", modules=("@modelcontextprotocol/client",)
    ),
    "typescript-1": Sdk(
        package="@modelcontextprotocol/sdk",
        version="1.32.2",
        modules=tuple(f"@modelcontextprotocol/sdk/client/{name}.js" for name in ("index", "streamableHttp", "auth")),
    ),
}


@dataclass
class ForeignClient:
    """A client that runs; `person` goes to a URL and gives the one that they were led back to."""

    process: subprocess.Popen[str]
    person: Callable[[str], str]
    state: dict[str, Any] = field(default_factory=dict)
    """What it said last."""

    @classmethod
    def start(cls, sdk: Sdk, url: str, person: Callable[[str], str]) -> "ForeignClient":
        """Install what it needs and start it."""
        sdk.install()
        process = subprocess.Popen(sdk.command(url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return cls(process, person)

    def call(self, name: str, *, age: bool = False, **arguments: object) -> str:
        """Let it call a tool, with an access token that is over if `age`; give the text that came back."""
        self._send({"call": {"name": name, "arguments": arguments}, "age": age})
        while "authorize" in (said := self._hear()):
            self._send({"callback": self.person(said["authorize"])})
        assert "error" not in said, said["error"]
        self.state = said
        content = said["answer"]["content"]
        assert not said["answer"].get("isError"), content
        return str(content[0]["text"])

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client ended"
        said: dict[str, Any] = json.loads(line)
        return said

    def stop(self) -> None:
        """Let it end by itself."""
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(STOP_S)
            finally:
                self.process.kill()
