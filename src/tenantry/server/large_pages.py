"""Large pages for the heap that a server has once it is up.

A request touches some thousand places all over the heap, in more pages of 4 KiB than a processor remembers the
addresses of; of pages of 2 MiB it remembers all. Linux makes them where it is asked to, once, of memory that is in use
already, so what grows later takes no more than it needs. Elsewhere, and on kernels before 6.1, nothing happens.
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MADV_COLLAPSE = 25
# Private, writable and of no file: heaps, and stacks, of which hardly any is in use.
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0\b.*?^Rss: +(\d+) kB$", re.MULTILINE | re.DOTALL)


def use() -> None:
    """Have the memory that is in use now held in large pages, as far as that can be done."""
    with suppress(OSError, AttributeError):
        smaps = Path("/proc/self/smaps").read_text()
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, size in in_use(smaps):
            advise(start, size, _MADV_COLLAPSE)  # what it can't do it leaves as it is


def in_use(smaps: str) -> Iterator[tuple[int, int]]:
    """Give start and size in bytes of the mappings in /proc/PID/smaps of which at least half is used."""
    for first, end, used_kib in _MAPPING.findall(smaps):
        size = int(end, 16) - int(first, 16)
        if 2 * 1024 * int(used_kib) >= size:
            yield int(first, 16), size
