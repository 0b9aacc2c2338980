"""The audit record: what is kept of a call, and the exact bytes that stand for it.

A record is a flat JSON object. Its canonical bytes (keys sorted, no white space, UTF-8) are what is stored and,
later, hashed; its sequence number is its place in the log and no part of the bytes. Arguments, passwords, codes
and tokens are never in it: arguments are there as a digest and a size.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from enum import Enum, StrEnum
from types import NoneType
from typing import Any, NamedTuple

from tenantry.json_text import Writer, quoted

# Beyond that, other readers of JSON lose digits.
_EXACT = 2**53
# Names and ids come from clients: a record must not grow with what they send.
MAX_TEXT = 256


class Kind(Enum):
    """What happened."""

    TOOL_CALL = "tool_call"
    TOOL_DENIED = "tool_denied"
    PROMPT_GET = "prompt_get"
    PROMPT_DENIED = "prompt_denied"
    RESOURCE_READ = "resource_read"
    RESOURCE_DENIED = "resource_denied"
    TASK_CREATED = "task_created"
    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGIN_THROTTLED = "login_throttled"
    LOGOUT = "logout"
    LOGIN_SESSION_ENDED = "login_session_ended"
    CLIENT_REGISTERED = "client_registered"
    KEY_ROTATED = "key_rotated"
    KEY_RETIRED = "key_retired"
    SERVICE_ADDED = "service_added"
    """An operator made a client that acts for itself."""
    CONSENT_GRANTED = "consent_granted"
    CONSENT_DENIED = "consent_denied"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    TOKEN_ISSUED = "token_issued"  # noqa: S105
    TOKEN_REFRESHED = "token_refreshed"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    CODE_REUSED = "code_reused"
    REFRESH_REUSED = "refresh_reused"
    SUBJECT_ENDED = "subject_ended"
    """Somebody is no longer in the directory, and what they granted has ended."""
    SESSION_REFUSED = "session_refused"
    DENIALS_SUMMARISED = "denials_summarised"
    """So many more denials of one kind than have a record of their own."""
    LOG_RECOVERED = "log_recovered"
    """A commit had failed; the log was opened again and goes on."""
    USER_ADDED = "user_added"
    USER_PASSWORD_SET = "user_password_set"  # noqa: S105
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    CLIENT_REVOKED = "client_revoked"
    GRANT_REVOKED = "grant_revoked"
    LOG_PRUNED = "log_pruned"
    """The content of all records up to `upto` was taken out; their hashes stay."""


class Outcome(StrEnum):
    """How a call ended."""

    SUCCEEDED = "succeeded"
    TOOL_ERROR = "tool_error"
    INVALID_ARGUMENTS = "invalid_arguments"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INPUT_REQUIRED = "input_required"
    """The client was asked for more, and may send the call again with the answers."""
    CONTINUED = "continued"
    """It goes on as a task, whose own record follows."""
    FAILED = "failed"
    """It ended with a protocol error."""
    DENIED = "denied"


# Field name -> types; None may always be left out. A record with another field, or without a required one, is
# malformed: `check` says so.
_REQUIRED: dict[str, tuple[type, ...]] = {"kind": (str,), "time": (int,)}
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "tenant": (str,),
    "subject": (str,),
    "client": (str,),
    "family": (str,),
    "scope": (str,),
    "key": (str,),
    "tool": (str,),
    "prompt": (str,),
    "resource": (str,),
    "task": (str,),
    "arguments_sha256": (str,),
    "arguments_bytes": (int,),
    "recorded": (dict,),
    "decision": (str,),
    "reason": (str,),
    "outcome": (str,),
    "duration_us": (int,),
    "jsonrpc_id": (int, str),
    "session": (str,),
    "era": (str,),
    "revision": (str,),
    "mode": (str,),
    "peer": (str,),
    "operator": (str,),
    "upto": (int,),
    "count": (int,),
    "first": (int,),
    "last": (int,),
}

_TYPES = {**_REQUIRED, **_OPTIONAL}
FIELDS = tuple(_TYPES)
"""Every field that a record may have."""
_KINDS = frozenset(kind.value for kind in Kind)
_WRITER = Writer(sort_keys=True)


def digest(arguments: object) -> tuple[str, int]:
    """Give what is kept of a call's arguments: SHA-256 over their canonical JSON, and its size in bytes."""
    encoded = canonical(arguments)
    return hashlib.sha256(encoded).hexdigest(), len(encoded)


def canonical(value: object) -> bytes:
    """Write a JSON value in its one canonical form."""
    return _WRITER.encode(value).encode()


def excerpt(arguments: dict[str, Any], names: Iterable[str]) -> dict[str, str | int] | None:
    """Give the values of those arguments for a record's `recorded`; None where none of them is there.

    Text is cut as all text is; numbers with a fraction and everything else stand as their JSON, cut too.
    """
    found: dict[str, str | int] = {}
    for name in names:
        value = arguments.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
            found[name] = value
        elif value is not None:
            found[name] = _cut(value if isinstance(value, str) else canonical(value).decode())
    return found or None


class Form:
    """Records of the same fields, some of them alike in all: what is alike is written once, and the rest each time."""

    __slots__ = ("_common", "_layouts", "_places")

    def __init__(self, kind: Kind, places: tuple[str, ...], **common: Any) -> None:  # noqa: ANN401
        """Take the names of the fields that differ, and the others with their values; raises as `encode` does."""
        self._places = places
        fields = {"kind": kind, **common}
        self._common = {name: _writer(name, type(value))(value) for name, value in fields.items() if value is not None}
        self._layouts: dict[tuple[type, ...], _Layout] = {}

    def encode(self, *values: Any) -> bytes:  # noqa: ANN401
        """Build the canonical bytes of the record that has these values in its places.

        `time` is microseconds since the epoch. Fields that are None are left out, enums stand as their value, and text
        is cut at `MAX_TEXT` characters. Raises ValueError for a field that no record has or of the wrong type.
        """
        # Every call has such a record, and nearly all of them have the same fields of the same types.
        types = tuple(map(type, values))
        layout = self._layouts.get(types)
        if layout is None:
            layout = self._layouts[types] = self._layout(types)
        parts = layout.parts.copy()
        for at, place, write in layout.places:
            parts[at] = write(values[place])
        return "".join(parts).encode()

    def _layout(self, types: tuple[type, ...]) -> "_Layout":
        present = [name for name, kind in zip(self._places, types, strict=True) if kind is not NoneType]
        parts: list[str] = []
        places: list[tuple[int, int, Callable[[Any], str]]] = []
        for name in sorted([*self._common, *present]):
            parts += [f'{"," if parts else "{"}"{name}":', self._common.get(name, "")]
            if name in present:
                place = self._places.index(name)
                places.append((len(parts) - 1, place, _writer(name, types[place])))
        return _Layout([*parts, "}"], places)


class _Layout(NamedTuple):
    """A record in parts, with gaps where values differ."""

    parts: list[str]
    places: list[tuple[int, int, Callable[[Any], str]]]
    """For each gap which part it is, which value belongs there, and what writes it."""


def _writer(name: str, kind: type) -> Callable[[Any], str]:
    admitted = _TYPES.get(name)
    if admitted is None:
        raise ValueError(f"{name} is no field of a record")
    if issubclass(kind, Enum) and str in admitted:
        return _value
    if kind not in admitted:
        raise ValueError(f"{name} has the wrong type")
    return _WRITERS[kind]


def _text(text: str) -> str:
    return quoted(text if text.isascii() and len(text) <= MAX_TEXT else _cut(text))


def _value(member: Enum) -> str:
    return quoted(member._value_)  # the property takes two calls


_WRITERS: dict[type, Callable[[Any], str]] = {str: _text, int: str, dict: _WRITER.encode}


def encode(kind: Kind, *, time_us: int, **fields: Any) -> bytes:  # noqa: ANN401
    """Build the canonical bytes of one record, as `Form.encode` does; `time_us` is microseconds since the epoch."""
    return Form(kind, ("time", *fields)).encode(time_us, *fields.values())


def _cut(text: str) -> str:
    # A lone surrogate can't be written as UTF-8; JSON from clients is refused with one, so this is the last net.
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def check(record: object) -> str | None:
    """Say what is wrong with a decoded record, or None if it is well-formed."""
    if not isinstance(record, dict):
        return "not an object"
    for name in _REQUIRED:
        if name not in record:
            return f"{name} is missing"
    for name, value in record.items():
        types = _TYPES.get(name)
        if types is None:
            return f"{name} is no field of a record"
        if type(value) not in types:
            return f"{name} has the wrong type"
    if record["kind"] not in _KINDS:
        return "kind is unknown"
    return None


def decode(body: bytes) -> dict[str, Any]:
    """Read a stored record back.

    Raises ValueError where the bytes are no well-formed record in canonical form.
    """
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    problem = check(record)
    if problem is None and canonical(record) != body:
        problem = "not in canonical form"
    if problem is not None:
        raise ValueError(problem)
    return dict(record)
