"""What a server offers, by name: tools, resources and prompts alike, in an order that never changes by itself."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

PAGE_SIZE = 100


class Named(Protocol):
    """Something that a catalogue can hold."""

    @property
    def name(self) -> str:
        """What the configuration and, for tools and prompts, the protocol know it by."""


T = TypeVar("T", bound=Named)


class Catalogue(Generic[T]):
    """Items in the order of their names: lists must come out the same each time."""

    def __init__(self, items: Iterable[T]) -> None:
        """Take the items; raises ValueError where two have one name."""
        self._items: dict[str, T] = {}
        for item in sorted(items, key=lambda item: item.name):
            if item.name in self._items:
                raise ValueError(f"two are named {item.name}")
            self._items[item.name] = item

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __getitem__(self, name: str) -> T:
        return self._items[name]

    def __len__(self) -> int:
        return len(self._items)


def page(names: Sequence[str], cursor: object, *, size: int = PAGE_SIZE) -> tuple[list[str], str | None]:
    """Cut one page out of sorted names: those behind the one that `cursor` stands for, and the next cursor.

    A cursor holds a name and no number, so that it stays good when items come and go. Raises ValueError for a
    cursor that we did not make (MCP, pagination).
    """
    start = "" if cursor is None else _decode_cursor(cursor)
    rest = [name for name in names if name > start]
    chosen = rest[:size]
    return chosen, _encode_cursor(chosen[-1]) if len(rest) > size else None


def _encode_cursor(name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": name}).encode()).decode()


def _decode_cursor(cursor: object) -> str:
    try:
        after: str = json.loads(base64.urlsafe_b64decode(str(cursor).encode("ascii")))["after"]
        return "" + after  # a TypeError unless it is text
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("unknown cursor") from None
