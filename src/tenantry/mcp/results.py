"""The bodies of results, each as its revision wants it."""

import json
from collections.abc import Iterable
from typing import Any

from pydantic_core import to_jsonable_python

from tenantry.jsonrpc import Object
from tenantry.mcp import revisions
from tenantry.mcp.revisions import Era, Revision, Structured
from tenantry.mcp.tools import Tool

SERVER_INFO = "io.modelcontextprotocol/serverInfo"
CAPABILITIES: Object = {"tools": {}}
INSTRUCTIONS = "The tools are those of your tenant. Every call is recorded in an audit log before it is answered."
# Lists differ by person and change only with the configuration; a minute spares most repeated lists.
LIST_TTL_MS = 60_000
DISCOVER_TTL_MS = 3_600_000


def _server_info(version: str, revision: Revision) -> Object:
    info: Object = {"name": "tenantry", "version": version}
    if revision.titles:
        info["title"] = "Tenantry"
    return info


def complete(body: Object, *, revision: Revision, version: str) -> Object:
    """Add what every result of the revision carries; `version` is the server software's."""
    if revision.era is Era.LEGACY:
        return body
    meta = {SERVER_INFO: _server_info(version, revision)}
    return {"resultType": "complete", **body, "_meta": meta}


def of_initialize(revision: Revision, *, version: str) -> Object:
    """The result of the legacy handshake."""
    return {
        "protocolVersion": revision.name,
        "capabilities": CAPABILITIES,
        "serverInfo": _server_info(version, revision),
        "instructions": INSTRUCTIONS,
    }


def of_discover() -> Object:
    """The result of `server/discover`; the same for everybody who may ask."""
    return {
        "supportedVersions": revisions.supported(modern=True),
        "capabilities": CAPABILITIES,
        "instructions": INSTRUCTIONS,
        "ttlMs": DISCOVER_TTL_MS,
        "cacheScope": "public",
    }


def of_list(tools: Iterable[Tool], *, next_cursor: str | None, revision: Revision) -> Object:
    """One page of `tools/list`; private, because it was filtered by who asks (2026-07-28, caching)."""
    body: Object = {"tools": [_description(tool, revision) for tool in tools]}
    if next_cursor is not None:
        body["nextCursor"] = next_cursor
    if revision.era is Era.MODERN:
        body |= {"ttlMs": LIST_TTL_MS, "cacheScope": "private"}
    return body


def _description(tool: Tool, revision: Revision) -> Object:
    body: Object = {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
    if revision.titles:
        body["title"] = tool.title
    if revision.tool_annotations and tool.annotations:
        body["annotations"] = tool.annotations
    return body


def of_value(value: Any, *, revision: Revision) -> Object:  # noqa: ANN401
    """The result of a call that gave back `value`: text as it is, anything else as JSON.

    Raises ValueError or a pydantic error where the value has no JSON form.
    """
    if isinstance(value, str):
        return {"content": [_text(value)], "isError": False}
    plain = to_jsonable_python(value)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    body: Object = {"content": [_text(text)], "isError": False}
    if revision.structured is Structured.ANY or (revision.structured is Structured.OBJECT and isinstance(plain, dict)):
        body["structuredContent"] = plain
    return body


def of_failure(text: str) -> Object:
    """The result of a call that failed in a way that a model can read and mend."""
    return {"content": [_text(text)], "isError": True}


def _text(text: str) -> Object:
    return {"type": "text", "text": text}
