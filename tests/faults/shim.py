"""Faults of a disk inside of a process, by tests/faults/shim.c: errors, short writes, slow flushes, an end in mid-call.

A process started with `Faults.environment` is at the mercy of the `Faults` object, at once and while it runs.
"""

import errno
import mmap
import os
import struct
import subprocess
from enum import Enum
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_FIELDS = ("mode", "error", "first", "last", "count", "delay_us", "jump_s")
_FIELDS_BYTES = 8 * len(_FIELDS)
_SIZE = _FIELDS_BYTES + 256
_FLAGS = ("-shared", "-fPIC", "-O1", "-Wall")
FOR_EVER = 2**62


class Mode(Enum):
    """What happens to the calls that are met; the numbers of shim.c."""

    OFF = 0
    COUNT = 1
    FAIL = 2
    SHORT = 3
    KILL = 4


class Faults:
    """What happens to the calls of a process that has the shim in it."""

    def __init__(self, directory: Path) -> None:
        """Take hold of what `make` made in `directory`."""
        self._library, self._path = directory / "shim.so", directory / "faults"
        with self._path.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _SIZE)

    @classmethod
    def make(cls, directory: Path, under: Path) -> "Faults":
        """Compile the shim into `directory`; it is to concern the calls on what lies under `under`."""
        subprocess.run(["gcc", *_FLAGS, "-o", directory / "shim.so", SOURCE, "-ldl"], check=True)
        control = bytearray(_SIZE)
        name = os.fsencode(under.absolute())
        control[_FIELDS_BYTES : _FIELDS_BYTES + len(name)] = name
        (directory / "faults").write_bytes(control)
        return cls(directory)

    @property
    def environment(self) -> dict[str, str]:
        """The variables for a process that these faults are to happen to."""
        return {**os.environ, "LD_PRELOAD": str(self._library), "FAULTS": str(self._path)}

    @property
    def count(self) -> int:
        """The calls met since the last `set`."""
        return self._get("count")

    def set(
        self,
        mode: Mode,
        *,
        error: int = errno.EIO,
        first: int = 1,
        last: int = FOR_EVER,
        delay_ms: float = 0,
        jump_s: int = 0,
    ) -> None:
        """Begin to count anew; the calls `first` to `last` are met by `mode`, and each flush takes `delay_ms`.

        The wall clock is `jump_s` ahead of what it is.
        """
        self._put("mode", Mode.OFF.value)
        for name, value in (
            ("error", error),
            ("first", first),
            ("last", last),
            ("count", 0),
            ("delay_us", round(1000 * delay_ms)),
            ("jump_s", jump_s),
            ("mode", mode.value),
        ):
            self._put(name, value)

    def clear(self) -> None:
        """Let everything work again."""
        self.set(Mode.OFF)

    def _get(self, name: str) -> int:
        (value,) = struct.unpack_from("=q", self._control, 8 * _FIELDS.index(name))
        return int(value)

    def _put(self, name: str, value: int) -> None:
        struct.pack_into("=q", self._control, 8 * _FIELDS.index(name), value)
