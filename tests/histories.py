"""What clients saw, in their own words, held fully against what the audit log holds.

Each client keeps a history of its own: what it has asked for, and what it was answered. `differences` compares: each
answer has exactly one record that says the same, each request at most one, and no record is nobody's. A denial may
instead be one of those that a summary counts, and each tool's summaries count exactly the denials without a record.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CALLS = frozenset({"tool_call", "tool_denied"})
SUMMARY = "denials_summarised"
GRANTS = frozenset({"client_registered", "token_issued", "token_refreshed"})


class Event(NamedTuple):
    """What a record is about: a call by its JSON-RPC id, a grant by its kind and client."""

    what: str
    id: str | int


@dataclass
class History:
    """One client's."""

    asked: Counter[Event] = field(default_factory=Counter)
    answered: Counter[Event] = field(default_factory=Counter)
    said: dict[Event, Mapping[str, object]] = field(default_factory=dict)
    """What the answer says of itself; the record must have the same in its fields."""

    def ask(self, event: Event) -> None:
        """Something is on its way, and may come to a record from now on."""
        self.asked[event] += 1

    def answer(self, event: Event, **said: object) -> None:
        """It was answered, so it must have a record."""
        self.answered[event] += 1
        if said:
            self.said[event] = said


def event_of(entry: Mapping[str, Any]) -> Event | None:
    """What a record is about, None where histories do not hold such a thing."""
    if entry["kind"] in CALLS:
        return Event("call", entry["jsonrpc_id"])
    if entry["kind"] in GRANTS:
        return Event(entry["kind"], entry["client"])
    return None


def differences(histories: Iterable[History], entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say where histories and log differ; nothing where they agree fully."""
    whole = _merged(histories)
    records, summarised = _sorted(entries)
    found = []
    unrecorded: Counter[object] = Counter()
    unanswered = 0
    for event in whole.asked.keys() | records.keys():
        count, answered, asked = len(records[event]), whole.answered[event], whole.asked[event]
        said = whole.said.get(event, {})
        unanswered += max(0, asked - max(answered, count))
        if (count, answered, said.get("outcome")) == (0, 1, "denied"):
            unrecorded[said["tool"]] += 1
        elif not answered <= count <= asked:
            found.append(f"{event.what} {event.id}: asked {asked}, answered {answered}, recorded {count} times")
        elif said and count == 1:
            found += _contradictions(event, said, records[event][0])
    for tool in unrecorded.keys() | summarised.keys():
        denied, count = unrecorded[tool], summarised[tool]
        if not denied <= count <= denied + unanswered:
            found.append(f"denials of {tool}: {denied} answered without a record, summaries count {count}")
    return found


def _merged(histories: Iterable[History]) -> History:
    whole = History()
    for history in histories:
        whole.asked += history.asked
        whole.answered += history.answered
        whole.said |= history.said
    return whole


def _sorted(
    entries: Iterable[Mapping[str, Any]],
) -> tuple[dict[Event, list[Mapping[str, Any]]], Counter[object]]:
    """Give the records of each event, and how many denials the summaries count by tool."""
    records: dict[Event, list[Mapping[str, Any]]] = defaultdict(list)
    summarised: Counter[object] = Counter()
    for entry in entries:
        event = event_of(entry)
        if event is not None:
            records[event].append(entry)
        elif entry["kind"] == SUMMARY:
            summarised[entry["tool"]] += entry["count"]
    return records, summarised


def _contradictions(event: Event, said: Mapping[str, object], entry: Mapping[str, Any]) -> list[str]:
    return [
        f"{event.what} {event.id}: answered as {name} {value!r}, recorded as {entry.get(name)!r}"
        for name, value in said.items()
        if entry.get(name) != value
    ]
