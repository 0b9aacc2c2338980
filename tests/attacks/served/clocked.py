"""Runs the tenantry command with a clock that a test can shift: `python clocked.py FILE serve ...`.

FILE holds eight bytes, the seconds by which the wall clock is off. They are read at each look at the clock, so the
whole server sees the shift at once; the monotonic clock, which deadlines hang on, goes on as ever.
"""

import mmap
import struct
import sys
import time
from pathlib import Path


def main() -> None:
    """Put the shifted clock in place before anything of the server is imported."""
    _, path, *command = sys.argv
    sys.path.pop(0)  # the folder of this file holds the server's tools, which the configuration leads to
    with Path(path).open("r+b") as file:
        shift = mmap.mmap(file.fileno(), 8)
    real = time.time
    time.time = lambda: real() + float(struct.unpack_from("d", shift)[0])

    from tenantry.cli import main as tenantry  # after the clock

    sys.argv = ["tenantry", *command]
    tenantry()


if __name__ == "__main__":
    main()
