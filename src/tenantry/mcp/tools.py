"""Tools as values: what a function offers to a model, and the check of arguments.

A tool is an ordinary function under `@tool`. Its typed parameters give the input schema; the schema is what
arguments are judged by (JSON Schema 2020-12), and the types are what the function then receives.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, overload

import jsonschema_rs
from pydantic import BaseModel, ValidationError

from tenantry.jsonrpc import Object
from tenantry.mcp.context import CallContext
from tenantry.mcp.functions import Function, documentation, schema_of
from tenantry.mcp.param_headers import mirrored

# The validator quotes the value, which may be as large as a body.
MAX_PROBLEM_LENGTH = 500
# MCP 2026-07-28, tools, tool names
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong; the text becomes an `isError` result."""


class ArgumentError(Exception):
    """The arguments do not fit the tool's schema; the text names the place and the rule."""


class TaskSupport(Enum):
    """Whether a call may go on as a task (the tasks extension)."""

    FORBIDDEN = "forbidden"
    OPTIONAL = "optional"
    AFTER_ASKING = "after_asking"
    """It becomes one at `ctx.background()`, when all questions have been answered."""
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One function with what the protocol says of it."""

    name: str
    title: str
    description: str
    input_schema: Object
    output_schema: Object | None
    annotations: Object
    task_support: TaskSupport
    recorded: tuple[str, ...]
    """Parameters whose values stand in the audit log in clear; of all others there is a digest."""
    headers: dict[str, tuple[str, ...]]
    """Which parameters, by their path, are mirrored in which `Mcp-Param-` header."""
    function: Function
    _takes_all: bool
    _input: jsonschema_rs.Draft202012Validator
    _output: jsonschema_rs.Draft202012Validator | None

    def bind(self, arguments: Object, context: CallContext | None) -> dict[str, Any]:
        """Make the keyword arguments for the function; one that wants no context may be given none.

        Raises `ArgumentError` where `arguments` do not fit the input schema.
        """
        if not self._input.is_valid(arguments):
            raise ArgumentError(_describe(next(self._input.iter_errors(arguments))))
        if self._takes_all:
            return self.function.with_context({"arguments": arguments}, context)
        try:
            return self.function.bind(arguments, context)
        except ValidationError as error:
            raise ArgumentError(f"the arguments do not fit: {error.errors()[0]['msg']}") from None

    def check_output(self, value: object) -> None:
        """Raise ValueError where a structured result does not fit the output schema."""
        if self._output is not None and not self._output.is_valid(value):
            problem = _describe(next(self._output.iter_errors(value)))
            raise ValueError(f"the result does not fit the output schema: {problem}")


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
    input_schema: Object | None = ...,
    output_schema: Object | None = ...,
    task: str = ...,
    record: tuple[str, ...] = ...,
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
    input_schema: Object | None = None,
    output_schema: Object | None = None,
    task: str = "forbidden",
    record: tuple[str, ...] = (),
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a `Tool` of a typed function; the docstring is the description that the model reads.

    The function may be sync (it then runs in a thread) or async, may take one parameter annotated `CallContext`,
    and gives back text, content blocks or any JSON value. With an `input_schema` of its own it takes one parameter
    `arguments`. The hints are those of MCP's tool annotations; unset ones stay unsaid. `task` says whether a call
    may, or must, go on as a task where the client has tasks. `record` names the parameters whose values the audit log
    shall hold in clear, cut to a bounded length; a parameter that is a secret can't be one of them. Raises ValueError
    for a name or a schema that the protocol does not allow, TypeError for a parameter without a type.
    """

    def make(function: Callable[..., Any]) -> Tool:
        chosen = name or function.__name__
        if not _TOOL_NAME.match(chosen):
            raise ValueError(f"{chosen!r} is no tool name")
        signature = Function.of(function)
        schema = input_schema or schema_of(signature.model)
        output = output_schema or _output_schema(signature.returns)
        hints = {
            "readOnlyHint": read_only,
            "destructiveHint": destructive,
            "idempotentHint": idempotent,
            "openWorldHint": open_world,
        }
        return Tool(
            name=chosen,
            title=title or chosen.replace("_", " ").capitalize(),
            description=documentation(function),
            input_schema=schema,
            output_schema=output,
            annotations={hint: value for hint, value in hints.items() if value is not None},
            task_support=TaskSupport(task),
            recorded=_recordable(record, schema),
            headers=mirrored(schema),
            function=signature,
            _takes_all=input_schema is not None,
            _input=_validator(schema),
            _output=None if output is None else _validator(output),
        )

    return make if function is None else make(function)


def _recordable(names: tuple[str, ...], schema: Object) -> tuple[str, ...]:
    properties = schema.get("properties", {})
    for name in names:
        if name not in properties:
            raise ValueError(f"record: there is no parameter {name}")
        # What pydantic makes of SecretStr, and what JSON Schema has for the purpose.
        if properties[name].get("writeOnly") or properties[name].get("format") == "password":
            raise ValueError(f"record: {name} is a secret")
    return tuple(names)


def _output_schema(returns: Any) -> Object | None:  # noqa: ANN401
    return schema_of(returns) if isinstance(returns, type) and issubclass(returns, BaseModel) else None


def _refuse_to_fetch(uri: str) -> Any:  # noqa: ANN401
    # 2026-07-28, JSON Schema usage: a reference to the network is never followed.
    raise ValueError(f"{uri} is not fetched")


def _validator(schema: Object) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema once; raises ValueError where it is none, or reaches outside of itself.

    A pattern is matched in time linear in the text, so that no argument can make it run away.
    """
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        retriever=_refuse_to_fetch,
        pattern_options=jsonschema_rs.RegexOptions(),
    )
