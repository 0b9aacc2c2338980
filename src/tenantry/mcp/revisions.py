"""The one table of protocol revisions: what each of them has.

Nothing else in the project compares revision strings; code asks for a feature.
"""

from dataclasses import dataclass
from enum import Enum

from tenantry.jsonrpc import Code


class Era(Enum):
    """How a client opens (MCP 2026-07-28, versioning, terminology)."""

    LEGACY = "legacy"
    MODERN = "modern"


class Structured(Enum):
    """What `structuredContent` of a tool's result may be."""

    ABSENT = "absent"
    OBJECT = "object"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One dated revision and its features."""

    name: str
    era: Era = Era.LEGACY
    tool_annotations: bool = True
    titles: bool = True
    structured: Structured = Structured.OBJECT
    argument_errors_are_results: bool = True
    """Whether bad arguments are an `isError` result that a model can read, or a -32602."""
    completions: bool = True
    """Whether completion is a capability of its own."""
    modes_of_elicitation: bool = True
    """Whether an elicitation names its mode."""
    selects_many: bool = True
    """Whether a form may have a field of several values."""
    batches: bool = False
    event_ids: bool = True
    """Whether streams can be resumed."""
    priming: bool = True
    """Whether a stream begins with an event that holds an id alone, and may be closed by the server early."""
    audio: bool = True
    resource_not_found: Code = Code.RESOURCE_NOT_FOUND


_ALL = (
    Revision(
        name="2026-07-28",
        era=Era.MODERN,
        structured=Structured.ANY,
        event_ids=False,
        resource_not_found=Code.INVALID_PARAMS,
    ),
    Revision(name="2025-11-25"),
    Revision(
        name="2025-06-18",
        argument_errors_are_results=False,
        modes_of_elicitation=False,
        selects_many=False,
        priming=False,
    ),
    Revision(
        name="2025-03-26",
        titles=False,
        structured=Structured.ABSENT,
        argument_errors_are_results=False,
        modes_of_elicitation=False,
        selects_many=False,
        priming=False,
        batches=True,
    ),
    Revision(
        name="2024-11-05",
        tool_annotations=False,
        titles=False,
        structured=Structured.ABSENT,
        argument_errors_are_results=False,
        modes_of_elicitation=False,
        selects_many=False,
        priming=False,
        completions=False,
        audio=False,
    ),
)
REVISIONS = {revision.name: revision for revision in _ALL}
LEGACY = {revision.name: revision for revision in _ALL if revision.era is Era.LEGACY}
MODERN = {revision.name: revision for revision in _ALL if revision.era is Era.MODERN}
NEWEST_LEGACY = LEGACY["2025-11-25"]
# MCP 2025-06-18 and later, transports: what a request without the header is taken for.
ASSUMED = LEGACY["2025-03-26"]


def supported(*, modern: bool) -> list[str]:
    """The names of all revisions that are served, newest first; legacy ones by handshake."""
    return [revision.name for revision in _ALL if modern or revision.era is Era.LEGACY]


def negotiate(requested: str) -> Revision:
    """Answer an `initialize`: the requested revision if a handshake can lead to it, else the newest that can."""
    return LEGACY.get(requested, NEWEST_LEGACY)
