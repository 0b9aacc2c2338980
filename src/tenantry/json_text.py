"""Values written as JSON text, without white space.

The standard library makes a new encoder for every text, which takes longer than to write a short one; here each kind
of text has its encoder for good.
"""

import json
from collections.abc import Callable
from json import encoder
from typing import Any

quoted: Callable[[str], str] = encoder.encode_basestring
"""Writes a text as JSON does, and no other character than it must differently."""


class Writer(json.JSONEncoder):
    """Writes UTF-8 text as it is, and no NaN. One that has no reference to itself in it comes to an end."""

    def __init__(self, *, sort_keys: bool = False) -> None:
        """With `sort_keys` the members of an object stand in the order of their names."""
        super().__init__(
            separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=sort_keys, check_circular=False
        )
        self._write: Any = encoder.c_make_encoder(  # type: ignore[attr-defined]
            *(None, self.default, quoted, None),
            *(self.key_separator, self.item_separator, sort_keys, False, False),
        )

    def encode(self, o: object) -> str:
        """Write a value; raises TypeError and ValueError for one that has no JSON form."""
        return "".join(self._write(o, 0))
