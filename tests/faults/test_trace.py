from pathlib import Path

import pytest

from tests.faults import trace
from tests.faults.disk import Acknowledge, Create, Event, Flush, Remove, Write

DATA = Path("/d")


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def read(*lines: str) -> list[Event]:
    return list(trace.events(iter(lines), DATA))


LOG = f"3<{hexed('/d/log')}>"


def test_an_acknowledgement_counts_when_it_begins_and_a_flush_when_it_has_returned():
    assert read(
        f'7 openat(AT_FDCWD<{hexed("/")}>, "{hexed("/d/log")}", O_RDWR|O_CREAT, 0600) = {LOG}',
        f'7 pwrite64({LOG}, "{hexed("abc")}", 3, 9) = 2',
        f"7 fdatasync({LOG} <unfinished ...>",
        f'8 write(1<{hexed("pipe:[1]")}>, "{hexed("durable 5")}", 9 <unfinished ...>',
        "7 <... fdatasync resumed>) = 0",
        "8 <... write resumed>) = 9",
    ) == [Create("log"), Write("log", 9, b"ab"), Acknowledge(5), Flush("log")]


def test_a_file_that_is_removed_while_another_thread_calls_is_known_by_its_name():
    assert read(
        f'7 unlink("{hexed("/d/log")}" <unfinished ...>',
        f"8 fdatasync({LOG}) = 0",
        "7 <... unlink resumed>) = 0",
    ) == [Flush("log"), Remove("log")]


def test_what_failed_what_is_elsewhere_and_what_is_shared_memory_does_not_count():
    other = f"3<{hexed('/e/log')}>"
    assert (
        read(
            f"7 fdatasync({LOG}) = -1 EIO (Input/output error)",
            f"7 fdatasync({other}) = 0",
            f"7 ftruncate(3<{hexed('/d/log-shm')}>, 3) = 0",
            f'8 write(1<{hexed("pipe:[1]")}>, "{hexed("refused 5")}", 9) = 9',
        )
        == []
    )


def test_a_call_that_the_model_does_not_know_is_not_passed_over():
    with pytest.raises(NotImplementedError, match="fallocate"):
        read(f"7 fallocate({LOG}, 0, 0, 4096) = 0")
