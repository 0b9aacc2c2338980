"""Resources and resource templates: what a function gives to read under a URI."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tenantry.jsonrpc import Object
from tenantry.mcp.content import Contents
from tenantry.mcp.functions import Function, documentation

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource of a fixed URI, or a template of many."""

    name: str
    title: str
    description: str
    uri: str
    """A URI, or a template with `{variables}` (RFC 6570, level 1)."""
    mime_type: str | None
    function: Function
    completions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def is_template(self) -> bool:
        """Whether the URI has variables."""
        return _VARIABLE.search(self.uri) is not None

    def match(self, uri: str) -> Object | None:
        """Give the variables' values where `uri` is this resource, else None."""
        pattern = "".join(
            f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part)
            for number, part in enumerate(_VARIABLE.split(self.uri))
        )
        found = re.fullmatch(pattern, uri)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}

    def contents(self, uri: str, value: object) -> list[Contents]:
        """Make of what the function gave the contents to send; raises TypeError for what is none."""
        if isinstance(value, str | bytes):
            return [Contents(uri, value, self.mime_type)]
        found = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Contents)]
        if not found or (isinstance(value, list) and len(found) != len(value)):
            raise TypeError(f"{self.name} gave no contents")
        return found


def resource(
    uri: str,
    *,
    name: str | None = None,
    title: str | None = None,
    mime_type: str | None = None,
    complete: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[[Callable[..., Any]], Resource]:
    """Make a `Resource` of a function that gives text, bytes or `Contents`.

    The variables of a template are the function's parameters; `complete` maps a variable to a function from what
    was typed to suggestions. Raises ValueError where variables and parameters differ.
    """

    def make(function: Callable[..., Any]) -> Resource:
        signature = Function.of(function)
        if set(signature.model.model_fields) != set(_VARIABLE.findall(uri)):
            raise ValueError(f"{uri}: the function's parameters are not the template's variables")
        chosen = name or function.__name__
        return Resource(
            name=chosen,
            title=title or chosen.replace("_", " ").capitalize(),
            description=documentation(function),
            uri=uri,
            mime_type=mime_type,
            function=signature,
            completions=complete or {},
        )

    return make


def find(uri: str, resources: Iterable[Resource]) -> tuple[Resource, Object] | None:
    """Give the resource that `uri` names, with its variables; a fixed URI goes before a template."""
    for item in sorted(resources, key=lambda item: item.is_template):
        variables = item.match(uri)
        if variables is not None:
            return item, variables
    return None
