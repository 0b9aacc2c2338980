"""Workers hear each other, once each, and a message never makes its sender wait."""

import json

import trio
import trio.testing

from tenantry.server import bus as module
from tenantry.server.bus import WORKERS, Bus, Link, lines


def pair() -> tuple[Bus, trio.abc.Stream]:
    ours, theirs = trio.testing.memory_stream_pair()
    return Bus("one", Link(ours)), theirs


def line(kind: str, body: object) -> bytes:
    return json.dumps({"kind": kind, "body": body}).encode() + b"\n"


async def test_a_bus_alone_swallows_messages_and_knows_itself():
    bus = Bus("one")
    bus.publish("kind", {})
    assert bus.alive("one")
    assert not bus.alive("two")


async def test_a_message_arrives_whole_however_it_was_cut(nursery):
    bus, theirs = pair()
    heard: list[object] = []
    bus.subscribe("kind", heard.append)
    nursery.start_soon(bus.run)
    for byte in line("kind", {"text": "a\nb"}) + line("kind", {"text": "second"}) + line("other", {}):
        await theirs.send_all(bytes([byte]))
    await trio.testing.wait_all_tasks_blocked()
    assert heard == [{"text": "a\nb"}, {"text": "second"}]
    await theirs.aclose()


async def test_what_is_published_is_sent_in_its_order(nursery):
    bus, theirs = pair()
    bus.publish("a", {"n": 1})
    bus.publish("b", {"n": 2})
    nursery.start_soon(bus.run)
    sent = lines(theirs)
    assert [json.loads(await anext(sent)) for _ in range(2)] == [
        {"kind": "a", "body": {"n": 1}},
        {"kind": "b", "body": {"n": 2}},
    ]
    await sent.aclose()
    await theirs.aclose()


async def test_the_supervisor_says_who_lives(nursery):
    bus, theirs = pair()
    nursery.start_soon(bus.run)
    await theirs.send_all(line(WORKERS, {"alive": ["two"]}))
    await trio.testing.wait_all_tasks_blocked()
    assert bus.alive("two")
    assert bus.alive("one")
    await theirs.send_all(line(WORKERS, {"alive": []}))
    await trio.testing.wait_all_tasks_blocked()
    assert not bus.alive("two")
    await theirs.aclose()


async def test_somebody_who_reads_nothing_costs_messages_and_no_waiting(monkeypatch):
    monkeypatch.setattr(module, "QUEUE_MAX", 2)
    ours, _ = trio.testing.memory_stream_pair()
    link = Link(ours)
    for number in range(5):
        link.send("kind", {"n": number})
    assert link._exit.statistics().current_buffer_used == 2


async def test_run_ends_when_the_supervisor_is_gone():
    bus, theirs = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.run)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            await theirs.aclose()
    bus.publish("kind", {})  # nobody is there to hear, and nothing happens
