"""All that a server offers, whoever asks."""

from collections.abc import Iterable
from dataclasses import dataclass

from tenantry.mcp.catalogue import Catalogue
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.tools import Tool

KINDS = ("tool", "resource", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The catalogues of one configuration."""

    tools: Catalogue[Tool]
    resources: Catalogue[Resource]
    prompts: Catalogue[Prompt]

    @classmethod
    def of(cls, items: Iterable[Tool | Resource | Prompt]) -> "Offer":
        """Sort items by their kind; raises ValueError where two of a kind have one name."""
        found = list(items)
        return cls(
            tools=Catalogue(item for item in found if isinstance(item, Tool)),
            resources=Catalogue(item for item in found if isinstance(item, Resource)),
            prompts=Catalogue(item for item in found if isinstance(item, Prompt)),
        )

    def names(self, kind: str) -> Iterable[str]:
        """The names of one kind, in order."""
        return self._catalogue(kind)

    def item(self, kind: str, name: str) -> Tool | Resource | Prompt:
        """What is offered under that name."""
        return self._catalogue(kind)[name]

    def _catalogue(self, kind: str) -> Catalogue[Tool] | Catalogue[Resource] | Catalogue[Prompt]:
        return {"tool": self.tools, "resource": self.resources, "prompt": self.prompts}[kind]  # type: ignore[return-value]
