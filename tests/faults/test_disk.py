import random

from tests.faults import disk
from tests.faults.disk import Create, Disk, Event, File, Flush, Remove, Truncate, Write


def left(medium: Disk, choose: disk.Choice) -> dict[str, bytes]:
    return medium.after_power_cut(random.Random(0), choose)


def disk_after(*events: Event) -> Disk:
    medium = Disk()
    for event in events:
        medium.take(event)
    return medium


def test_what_was_flushed_is_there_and_what_was_not_may_be():
    medium = disk_after(
        Create("a"), Flush(""), Write("a", 0, b"old"), Flush("a"), Write("a", 1, b"NEW"), Truncate("a", 3)
    )
    assert left(medium, disk.none_of_it) == {"a": b"old"}
    assert left(medium, disk.all_of_it) == {"a": b"oNE"}


def test_a_name_holds_once_its_directory_was_flushed():
    medium = disk_after(Create("a"), Flush(""), Create("b"), Remove("a"))
    assert left(medium, disk.none_of_it) == {"a": b""}
    assert left(medium, disk.all_of_it) == {"b": b""}


def test_a_write_whose_neighbour_is_missing_leaves_zeros():
    medium = disk_after(Create("a"), Flush(""), Write("a", 0, b"x" * 4), Write("a", 4, b"y" * 4))
    assert left(medium, lambda change: [change] if isinstance(change, Write) and change.offset else []) == {
        "a": bytes(4) + b"y" * 4
    }


def test_a_torn_write_is_torn_at_the_bounds_of_sectors():
    file = File(pending=[Write("a", 24, b"x" * 1500)])
    found = set()
    rng = random.Random(1)
    for _ in range(200):
        content = Disk()
        content.take(Create("a"))
        content.take(file.pending[0])
        found.add(left(content, disk.some_of_it(rng)).get("a", b""))
    edges = {at for content in found for at in range(1, len(content)) if content[at - 1] != content[at]}
    assert edges == {24, 512, 1024}
