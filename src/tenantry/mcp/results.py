"""The bodies of results, each as its revision wants it."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from tenantry.jsonrpc import Object
from tenantry.mcp import revisions
from tenantry.mcp.content import BLOCKS, Audio, Block, Contents, Message
from tenantry.mcp.offer import Offer
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.revisions import Era, Revision, Structured
from tenantry.mcp.tools import Tool

SERVER_INFO = "io.modelcontextprotocol/serverInfo"
TASKS = "io.modelcontextprotocol/tasks"
INSTRUCTIONS = "The tools are those of your tenant. Every call is recorded in an audit log before it is answered."
# Lists differ by person and change only with the configuration; a minute spares most repeated lists.
LIST_TTL_MS = 60_000
DISCOVER_TTL_MS = 3_600_000
# MCP, completion: at most a hundred values at once.
COMPLETIONS_MAX = 100


def capabilities(offer: Offer, revision: Revision, *, push: bool) -> Object:
    """What the server can do; `push` says whether it can send what nobody asked for at that moment."""
    changes: Object = {"listChanged": True} if push else {}
    found: Object = {"tools": changes, "logging": {}}
    if len(offer.resources):
        found["resources"] = {**changes, **({"subscribe": True} if push else {})}
    if len(offer.prompts):
        found["prompts"] = changes
    if revision.completions and any(
        item.completions for group in (offer.prompts, offer.resources) for item in (group[name] for name in group)
    ):
        found["completions"] = {}
    if revision.era is Era.MODERN:
        found["extensions"] = {TASKS: {}}
    return found


def _server_info(version: str, revision: Revision) -> Object:
    info: Object = {"name": "tenantry", "version": version}
    if revision.titles:
        info["title"] = "Tenantry"
    return info


def complete(body: Object, *, revision: Revision, version: str) -> Object:
    """Add what every result of the revision carries; `version` is the server software's."""
    if revision.era is Era.LEGACY:
        return body
    meta = {SERVER_INFO: _server_info(version, revision), **body.get("_meta", {})}
    return {"resultType": "complete", **body, "_meta": meta}


def of_initialize(offer: Offer, revision: Revision, *, version: str, push: bool) -> Object:
    """The result of the legacy handshake."""
    return {
        "protocolVersion": revision.name,
        "capabilities": capabilities(offer, revision, push=push),
        "serverInfo": _server_info(version, revision),
        "instructions": INSTRUCTIONS,
    }


def of_discover(offer: Offer, revision: Revision) -> Object:
    """The result of `server/discover`; the same for everybody who may ask."""
    return {
        "supportedVersions": revisions.supported(modern=True),
        "capabilities": capabilities(offer, revision, push=True),
        "instructions": INSTRUCTIONS,
        "ttlMs": DISCOVER_TTL_MS,
        "cacheScope": "public",
    }


def of_list(key: str, items: Iterable[Object], *, next_cursor: str | None, revision: Revision) -> Object:
    """One page of a list; private, because it was filtered by who asks (2026-07-28, caching)."""
    body: Object = {key: list(items)}
    if next_cursor is not None:
        body["nextCursor"] = next_cursor
    return body | caching(revision, LIST_TTL_MS)


def caching(revision: Revision, ttl_ms: int) -> Object:
    """The caching hints of what only the asking principal may see, in revisions that have them."""
    return {"ttlMs": ttl_ms, "cacheScope": "private"} if revision.era is Era.MODERN else {}


def describe_tool(tool: Tool, revision: Revision) -> Object:
    """The entry of a tool in its list."""
    body: Object = {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
    if revision.titles:
        body["title"] = tool.title
    if revision.tool_annotations and tool.annotations:
        body["annotations"] = tool.annotations
    if tool.output_schema is not None and revision.structured is not Structured.ABSENT:
        body["outputSchema"] = tool.output_schema
    return body


def describe_resource(resource: Resource, revision: Revision) -> Object:
    """The entry of a resource or a template in its list."""
    body: Object = {
        "uriTemplate" if resource.is_template else "uri": resource.uri,
        "name": resource.name,
        "description": resource.description,
    }
    if revision.titles:
        body["title"] = resource.title
    if resource.mime_type is not None:
        body["mimeType"] = resource.mime_type
    return body


def describe_prompt(prompt: Prompt, revision: Revision) -> Object:
    """The entry of a prompt in its list."""
    body: Object = {"name": prompt.name, "description": prompt.description, "arguments": prompt.arguments}
    if revision.titles:
        body["title"] = prompt.title
    return body


def of_value(value: Any, *, tool: Tool, revision: Revision) -> Object:  # noqa: ANN401
    """The result of a tool that gave back `value`: text and blocks as they are, anything else as JSON.

    Raises ValueError or a pydantic error where the value has no JSON form or does not fit the output schema.
    """
    if tool.output_schema is None and (isinstance(value, str) or _has_blocks(value)):
        blocks = value if isinstance(value, list) else [value]
        return {"content": [_block(item, revision) for item in blocks], "isError": False}
    plain = to_jsonable_python(value, by_alias=True)
    tool.check_output(plain)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    body: Object = {"content": [_text(text)], "isError": False}
    if revision.structured is Structured.ANY or (revision.structured is Structured.OBJECT and isinstance(plain, dict)):
        body["structuredContent"] = plain
    return body


def _block(item: str | Block, revision: Revision) -> Object:
    if isinstance(item, str):
        return _text(item)
    if isinstance(item, Audio) and not revision.audio:
        return _text(f"(a sound of type {item.mime_type}, which this client's revision has no block for)")
    return item.block()


def _has_blocks(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, BLOCKS) for item in items) and all(isinstance(item, (str, *BLOCKS)) for item in items)


def of_failure(text: str) -> Object:
    """The result of a call that failed in a way that a model can read and mend."""
    return {"content": [_text(text)], "isError": True}


def of_prompt(prompt: Prompt, messages: Sequence[Message]) -> Object:
    """The result of `prompts/get`."""
    return {"description": prompt.description, "messages": [message.body() for message in messages]}


def of_contents(contents: Sequence[Contents], revision: Revision) -> Object:
    """The result of `resources/read`; stale at once, because nobody knows when it changes."""
    return {"contents": [item.body() for item in contents], **caching(revision, 0)}


def of_completions(values: Sequence[str]) -> Object:
    """The result of `completion/complete`."""
    shown = list(values[:COMPLETIONS_MAX])
    return {"completion": {"values": shown, "total": len(values), "hasMore": len(shown) < len(values)}}


def of_input_required(requests: Object, state: str) -> Object:
    """The interim result that asks for more (2026-07-28, multi round-trip requests)."""
    return {"resultType": "input_required", "inputRequests": requests, "requestState": state}


def _text(text: str) -> Object:
    return {"type": "text", "text": text}
