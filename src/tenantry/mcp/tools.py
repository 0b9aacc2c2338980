"""Tools as values: what a function offers to a model, the catalogue of them, and the check of arguments.

A tool is an ordinary function under `@tool`. Its typed parameters give the input schema; the schema is what
arguments are judged by (JSON Schema 2020-12), and the types are what the function then receives.
"""

import base64
import binascii
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints, overload

import jsonschema_rs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tenantry.identity import Principal
from tenantry.jsonrpc import Object

PAGE_SIZE = 100
# The validator quotes the value, which may be as large as a body.
MAX_PROBLEM_LENGTH = 500
# MCP 2026-07-28, tools, tool names
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong; the text becomes an `isError` result."""


class ArgumentError(Exception):
    """The arguments do not fit the tool's schema; the text names the place and the rule, not the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a tool may know of its caller; a function receives it in the parameter annotated with this type."""

    principal: Principal

    @property
    def tenant(self) -> str:
        """The caller's tenant: whatever a tool reads or changes must stay inside it."""
        return self.principal.tenant

    @property
    def subject(self) -> str:
        """The person on whose behalf the call is made."""
        return self.principal.subject


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One function with what the protocol says of it."""

    name: str
    title: str
    description: str
    input_schema: Object
    annotations: Object
    function: Callable[..., Any]
    is_async: bool
    context_parameter: str | None
    _model: type[BaseModel]
    _validator: jsonschema_rs.Draft202012Validator

    def bind(self, arguments: Object, context: CallContext) -> dict[str, Any]:
        """Make the keyword arguments for `function`.

        Raises `ArgumentError` where `arguments` do not fit the input schema.
        """
        problem = next(self._validator.iter_errors(arguments), None)
        if problem is not None:
            raise ArgumentError(_describe(problem))
        try:
            parsed = self._model.model_validate(arguments)
        except ValidationError as error:
            raise ArgumentError(f"the arguments do not fit: {error.errors()[0]['msg']}") from None
        values = {name: getattr(parsed, name) for name in type(parsed).model_fields}
        if self.context_parameter is not None:
            values[self.context_parameter] = context
        return values


def _describe(problem: jsonschema_rs.ValidationError) -> str:
    place = "/".join(str(step) for step in problem.instance_path)
    return f"{place or 'the arguments'}: {problem.message}"[:MAX_PROBLEM_LENGTH]


@overload
def tool(function: Callable[..., Any]) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = ...,
    title: str | None = ...,
    read_only: bool | None = ...,
    destructive: bool | None = ...,
    idempotent: bool | None = ...,
    open_world: bool | None = ...,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    title: str | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    open_world: bool | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a `Tool` of a typed function; the docstring is the description that the model reads.

    The function may be sync (it then runs in a thread) or async, may take one parameter annotated `CallContext`,
    and gives back text or any JSON value. The hints are those of MCP's tool annotations; unset ones stay unsaid.
    Raises ValueError for a name that the protocol does not allow, TypeError for a parameter without a type.
    """

    def make(function: Callable[..., Any]) -> Tool:
        chosen = name or function.__name__
        if not _TOOL_NAME.match(chosen):
            raise ValueError(f"{chosen!r} is no tool name")
        model, context_parameter = _arguments_model(function)
        schema = _schema_of(model)
        hints = {
            "readOnlyHint": read_only,
            "destructiveHint": destructive,
            "idempotentHint": idempotent,
            "openWorldHint": open_world,
        }
        return Tool(
            name=chosen,
            title=title or chosen.replace("_", " ").capitalize(),
            description=inspect.cleandoc(function.__doc__ or ""),
            input_schema=schema,
            annotations={hint: value for hint, value in hints.items() if value is not None},
            function=function,
            is_async=inspect.iscoroutinefunction(function),
            context_parameter=context_parameter,
            _model=model,
            _validator=jsonschema_rs.Draft202012Validator(schema, validate_formats=True),
        )

    return make if function is None else make(function)


def _arguments_model(function: Callable[..., Any]) -> tuple[type[BaseModel], str | None]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in hints:
            raise TypeError(f"{function.__name__}: parameter {parameter.name} needs a type")
        if hints[parameter.name] is CallContext:
            context_parameter = parameter.name
            continue
        default = Field() if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{function.__name__}_arguments", __base__=_Arguments, **fields), context_parameter


def _schema_of(model: type[BaseModel]) -> Object:
    schema = _without_titles(model.model_json_schema())
    schema.setdefault("properties", {})
    return schema


def _without_titles(schema: Object) -> Object:
    # pydantic makes a title of every name, which tells a model nothing and costs it tokens.
    schema.pop("title", None)
    for keyword in ("properties", "$defs"):
        for item in schema.get(keyword, {}).values():
            _without_titles(item)
    return schema


class Catalogue:
    """All tools that the server knows, in the order of their names: lists must come out the same each time."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for item in sorted(tools, key=lambda item: item.name):
            if item.name in self._tools:
                raise ValueError(f"two tools are named {item.name}")
            self._tools[item.name] = item

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]


def page(names: Sequence[str], cursor: object, *, size: int = PAGE_SIZE) -> tuple[list[str], str | None]:
    """Cut one page out of sorted names: those behind the one that `cursor` stands for, and the next cursor.

    A cursor holds a name and no number, so that it stays good when tools come and go. Raises ValueError for a
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
