"""Prompts: messages that a function makes of its arguments, for a person to choose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, overload

from tenantry.jsonrpc import Object
from tenantry.mcp.content import BLOCKS, Message, Text
from tenantry.mcp.functions import Function, documentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt with what the protocol says of it."""

    name: str
    title: str
    description: str
    arguments: list[Object]
    function: Function
    completions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def messages(self, value: object) -> list[Message]:
        """Make of what the function gave the messages to send; raises TypeError for what is none."""
        found = value if isinstance(value, list) else [value]
        return [self._message(item) for item in found]

    def _message(self, item: object) -> Message:
        if isinstance(item, Message):
            return item
        if isinstance(item, str):
            return Message("user", Text(item))
        if isinstance(item, BLOCKS):
            return Message("user", item)
        raise TypeError(f"{self.name} gave no message")


@overload
def prompt(function: Callable[..., Any]) -> Prompt: ...
@overload
def prompt(
    *,
    name: str | None = ...,
    title: str | None = ...,
    complete: Mapping[str, Callable[..., Any]] | None = ...,
) -> Callable[[Callable[..., Any]], Prompt]: ...
def prompt(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    title: str | None = None,
    complete: Mapping[str, Callable[..., Any]] | None = None,
) -> Prompt | Callable[[Callable[..., Any]], Prompt]:
    """Make a `Prompt` of a function of text parameters that gives text, blocks or messages.

    `complete` maps a parameter to a function from what was typed to suggestions.
    """

    def make(function: Callable[..., Any]) -> Prompt:
        signature = Function.of(function)
        chosen = name or function.__name__
        return Prompt(
            name=chosen,
            title=title or chosen.replace("_", " ").capitalize(),
            description=documentation(function),
            arguments=[
                {
                    "name": item.alias or field_name,
                    **({"description": item.description} if item.description else {}),
                    "required": item.is_required(),
                }
                for field_name, item in signature.model.model_fields.items()
            ],
            function=signature,
            completions=complete or {},
        )

    return make if function is None else make(function)
