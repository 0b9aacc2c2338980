"""Of which mappings large pages are asked for; that they are made is the kernel's to say."""

from tenantry.server import large_pages

SMAPS = """\
0041f000-006d2000 r-xp 0001f000 fe:00 260811                             /usr/bin/python3.11
Size:               2764 kB
Rss:                2500 kB
32c56000-33adb000 rw-p 00000000 00:00 0                                  [heap]
Size:              14868 kB
KernelPageSize:        4 kB
Rss:               14000 kB
7fbb72fff000-7fbb737ff000 rw-p 00000000 00:00 0
Size:               8192 kB
Rss:                  40 kB
7fbb73800000-7fbb73a00000 rw-p 00000000 00:00 0
Size:               2048 kB
Rss:                1024 kB
7fbb7a000000-7fbb7a200000 rw-s 00000000 00:05 77                         /dev/shm/figures
Size:               2048 kB
Rss:                2048 kB
7fbb7b000000-7fbb7b200000 rw-p 00000000 fe:00 99                         /usr/lib/x.so
Size:               2048 kB
Rss:                2048 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
Size:                132 kB
Rss:                  20 kB
"""


def test_heaps_are_asked_for_and_neither_files_nor_stacks():
    assert list(large_pages.in_use(SMAPS)) == [(0x32C56000, 0xE85000), (0x7FBB73800000, 0x200000)]


def test_asking_changes_nothing_that_is_there():
    kept = [bytearray([number]) * 4096 for number in range(256)] * 4
    large_pages.use()
    assert all(set(block) == {number % 256} for number, block in enumerate(kept))


def test_where_the_kernel_tells_nothing_nothing_happens(monkeypatch):
    def missing(_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", missing)
    large_pages.use()
