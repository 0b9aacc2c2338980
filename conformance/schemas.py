"""Every message that a server sends, checked against the official schema of its revision.

`schemas/<revision>.json` holds the official schema without its prose. To make the files anew from a folder that has
`<revision>/schema.json`: `python -m conformance.schemas FOLDER`.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator

FOLDER = Path(__file__).parent / "schemas"
LEGACY = ("2025-03-26", "2025-06-18", "2025-11-25")
MODERN = ("2026-07-28",)
REVISIONS = (*LEGACY, *MODERN)
PROSE = frozenset({"description", "title", "$comment", "examples"})
NAMED = frozenset({"properties", "definitions", "$defs"})  # below these a key is a name, not a keyword
MODERN_ERRORS = {
    -32020: "HeaderMismatchError",
    -32021: "MissingRequiredClientCapabilityError",
    -32022: "UnsupportedProtocolVersionError",
}
MAX_SHOWN = 400


def stripped(node: Any, *, names: bool = False) -> Any:
    """Give a schema without its prose: the facts alone."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if names or key not in PROSE}
        return {key: stripped(value, names=not names and key in NAMED) for key, value in kept.items()}
    return [stripped(item) for item in node] if isinstance(node, list) else node


def patched(schema: dict[str, Any]) -> dict[str, Any]:
    """Mend what the schemas of the older revisions say other than their texts mean."""
    definitions = schema.get("definitions") or schema["$defs"]
    for keyword in ("minimum", "maximum", "default"):
        bound = definitions.get("NumberSchema", {}).get("properties", {}).get(keyword)
        if bound is not None:
            bound["type"] = "number"  # a bound of a number need not be an integer
    if "JSONRPCError" in definitions:
        # JSON-RPC 2.0 section 5: what can't be parsed has no id to repeat; the later schemas leave it out.
        definitions["JSONRPCError"]["properties"]["id"] = {"type": ["string", "integer", "null"]}
        definitions["JSONRPCError"]["required"] = ["error", "jsonrpc"]
    return schema


@cache
def schema_of(revision: str) -> dict[str, Any]:
    """Load the schema of a revision."""
    loaded: dict[str, Any] = json.loads((FOLDER / f"{revision}.json").read_bytes())
    return loaded


@cache
def definitions_of(revision: str) -> dict[str, Any]:
    """Give the named parts of a revision's schema."""
    schema = schema_of(revision)
    found: dict[str, Any] = schema.get("definitions") or schema["$defs"]
    return found


@cache
def validator(revision: str, name: str) -> Validator:
    """Give the validator of one named part."""
    schema = schema_of(revision)
    kind = "definitions" if "definitions" in schema else "$defs"
    made = Draft7Validator if kind == "definitions" else Draft202012Validator
    return made({**schema, "allOf": [{"$ref": f"#/{kind}/{name}"}]})


@cache
def by_method(revision: str, union: str) -> dict[str, str]:
    """Give method -> name of the part, for each message of a union such as ServerNotification."""
    definitions = definitions_of(revision)
    names = [member["$ref"].rpartition("/")[2] for member in definitions.get(union, {}).get("anyOf", [])]
    return {definitions[name]["properties"]["method"]["const"]: name for name in names}


def result_name(revision: str, method: str | None) -> str | None:
    """Name the part for the result of a request; None where the schema has none for that method."""
    request = by_method(revision, "ClientRequest").get(method or "")
    if request is None:
        return None
    stem = request.removesuffix("Request")
    definitions = definitions_of(revision)
    wanted = (f"{stem}ResultResponse", f"{stem}Result")
    return next((name for name in wanted if name in definitions), "EmptyResult")


def violations(revision: str, message: Any, method: str | None = None) -> list[str]:
    """Say what is wrong with a message from the server; `method` is that of the request that it answers."""
    if isinstance(message, list):
        if revision != "2025-03-26":
            return [f"{revision} has no batches, yet one came: {shown(message)}"]
        return [fault for item in message for fault in violations(revision, item, method)] or (
            [] if message else ["an empty batch came"]
        )
    if not isinstance(message, dict):
        return [f"no JSON-RPC message: {shown(message)}"]
    if "method" in message:
        return _of_method(revision, message)
    if "error" in message:
        return _of_error(revision, message)
    return _of_result(revision, message, method)


def _of_method(revision: str, message: dict[str, Any]) -> list[str]:
    is_request = "id" in message
    if is_request and revision in MODERN:
        return [f"a server of {revision} sends no requests, yet one came: {shown(message)}"]
    name = "JSONRPCRequest" if is_request else "JSONRPCNotification"
    known = by_method(revision, "ServerRequest" if is_request else "ServerNotification")
    names = [name, *([known[message["method"]]] if message["method"] in known else [])]
    return [fault for name in names for fault in _faults(revision, name, message, message)]


def _of_error(revision: str, message: dict[str, Any]) -> list[str]:
    name = "JSONRPCErrorResponse" if "JSONRPCErrorResponse" in definitions_of(revision) else "JSONRPCError"
    faults = _faults(revision, name, message, message)
    if "result" in message:
        faults.append(f"both result and error: {shown(message)}")
    if revision in MODERN and isinstance(message["error"], dict):
        special = MODERN_ERRORS.get(message["error"].get("code", 0))
        faults += _faults(revision, special, message, message) if special else []
    return faults


def _of_result(revision: str, message: dict[str, Any], method: str | None) -> list[str]:
    envelope = "JSONRPCResultResponse" if "JSONRPCResultResponse" in definitions_of(revision) else "JSONRPCResponse"
    faults = _faults(revision, envelope, message, message)
    name = result_name(revision, method)
    if faults or name is None:
        return faults
    part = message if name.endswith("ResultResponse") else message["result"]
    return _faults(revision, name, part, message)


def _faults(revision: str, name: str, part: Any, message: Any) -> list[str]:
    return [
        f"{revision} {name}: {error.message[:MAX_SHOWN]} at {error.json_path} in {shown(message)}"
        for error in validator(revision, name).iter_errors(part)
    ]


def shown(message: Any) -> str:
    """Give a message as text of bounded length."""
    return json.dumps(message)[:MAX_SHOWN]


def main(folder: Path) -> None:
    """Make `schemas/` anew from the official files under `folder`."""
    for revision in REVISIONS:
        schema = patched(stripped(json.loads((folder / revision / "schema.json").read_bytes())))
        text = json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True)
        (FOLDER / f"{revision}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
