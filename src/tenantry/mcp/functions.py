"""Typed functions as the protocol sees them: their parameters as a model, the caller's context beside them."""

import dis
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from tenantry.jsonrpc import Object
from tenantry.mcp.context import CallContext


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function, and how to call it."""

    callable: Callable[..., Any]
    is_async: bool
    waits: bool
    """Whether a call of it may have to wait for something, so that there is a time in which it can be ended."""
    model: type[BaseModel]
    """Its parameters but the context."""
    context_parameter: str | None
    returns: Any

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Function":
        """Read a function's signature; raises TypeError for a parameter without a type."""
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
        return cls(
            callable=function,
            is_async=inspect.iscoroutinefunction(function),
            waits=_waits(function),
            model=create_model(f"{function.__name__}_arguments", __base__=_Arguments, **fields),
            context_parameter=context_parameter,
            returns=hints.get("return"),
        )

    def bind(self, arguments: Object, context: CallContext | None) -> dict[str, Any]:
        """Make the keyword arguments; raises pydantic's ValidationError."""
        parsed = self.model.model_validate(arguments)
        return self.with_context(dict(parsed.__dict__), context)

    def with_context(self, values: dict[str, Any], context: CallContext | None) -> dict[str, Any]:
        """Put the context beside keyword arguments, where the function wants it."""
        return values if self.context_parameter is None else {**values, self.context_parameter: context}


def _waits(function: Callable[..., Any]) -> bool:
    """Tell whether a function can be suspended: a sync one runs in a thread, an async one waits where it awaits."""
    code = getattr(function, "__code__", None)
    if code is None or not inspect.iscoroutinefunction(function):
        return True
    return any(instruction.opname == "SEND" for instruction in dis.get_instructions(code))


def documentation(function: Callable[..., Any]) -> str:
    """The docstring without its indentation: what a model reads."""
    return inspect.cleandoc(function.__doc__ or "")


def schema_of(model: type[BaseModel]) -> Object:
    """The JSON Schema of a model, without the titles that pydantic makes of every name."""
    schema = _without_titles(model.model_json_schema())
    schema.setdefault("properties", {})
    return schema


def _without_titles(schema: Object) -> Object:
    # They tell a model nothing and cost it tokens.
    schema.pop("title", None)
    for keyword in ("properties", "$defs"):
        for item in schema.get(keyword, {}).values():
            _without_titles(item)
    return schema
