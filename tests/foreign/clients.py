"""Foreign clients: how they are installed, started and led.

Each is a program that uses an official SDK unmodified. It is led by lines of JSON: an order on its standard input,
`{"call": {"name": ..., "arguments": ...}}` or with `"age": true` to let its access token be over first, and on its
standard output `{"authorize": URL}` when a person is to go there, which is answered by `{"callback": URL}`, and at the
end `{"answer": ..., "tokens": ..., "client_id": ...}` or `{"error": ...}`.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tools import npm_package, python_package

HERE = Path(__file__).parent
# Longer than any step takes on a busy machine.
STOP_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """One version of one SDK."""

    package: str
    version: str
    modules: tuple[str, ...] = ()
    """What a program in TypeScript's world imports; empty for Python."""

    def command(self, url: str) -> list[str]:
        """Install it, and give what starts a client of the server at `url`."""
        if not self.modules:
            return [str(python_package(self.package, self.version) / "python"), str(HERE / "client.py"), url]
        # Modules are looked for from the place of the file that imports them.
        program = shutil.copy(HERE / "client.mjs", npm_package(self.package, self.version) / "foreign-client.mjs")
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
