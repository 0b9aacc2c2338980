"""The one source of change events: who listens, and to whom a change is told.

A change of the configuration reaches exactly the principals whose own view changed; a change that a tool reports
reaches its tenant.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tenantry import policy
from tenantry.identity import Principal
from tenantry.jsonrpc import Object
from tenantry.mcp.offer import KINDS, Offer
from tenantry.policy import Directory

LIST_CHANGED = {
    "tool": "notifications/tools/list_changed",
    "resource": "notifications/resources/list_changed",
    "prompt": "notifications/prompts/list_changed",
}


@dataclass(slots=True, kw_only=True, eq=False)
class Listener:
    """Somebody with an open stream, and what they want to hear of."""

    principal: Principal
    deliver: Callable[[str, Object], None]
    """Given the notification's method and parameters; must not wait."""
    kinds: frozenset[str] = frozenset(KINDS)
    uris: Callable[[], Iterable[str]] = field(default=tuple)
    tasks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class World:
    """One configuration as it is served: who may what, and what there is."""

    directory: Directory
    offer: Offer


class Changes:
    """Holds the configuration that is served now, and tells of its changes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._listeners: set[Listener] = set()

    def add(self, listener: Listener) -> None:
        """Begin to tell."""
        self._listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        """Stop telling."""
        self._listeners.discard(listener)

    def replace(self, world: World) -> None:
        """Serve another configuration from now on, and tell each listener whose view of it differs."""
        before, self.world = self.world, world
        for listener in list(self._listeners):
            for kind in listener.kinds:
                if _view(before, listener.principal, kind) != _view(world, listener.principal, kind):
                    listener.deliver(LIST_CHANGED[kind], {})

    def list_changed(self, kind: str, tenant: str) -> None:
        """Tell a tenant that one of its lists has changed."""
        for listener in list(self._listeners):
            if listener.principal.tenant == tenant and kind in listener.kinds:
                listener.deliver(LIST_CHANGED[kind], {})

    def updated(self, uri: str, tenant: str) -> None:
        """Tell those of a tenant who subscribed to a resource that it has changed."""
        for listener in list(self._listeners):
            if listener.principal.tenant == tenant and uri in listener.uris():
                listener.deliver("notifications/resources/updated", {"uri": uri})

    def task(self, task_id: str, binding: tuple[str, str, str], body: Object) -> None:
        """Tell whoever listens for a task of theirs how it stands."""
        for listener in list(self._listeners):
            if task_id in listener.tasks and listener.principal.binding == binding:
                listener.deliver("notifications/tasks", body)


def _view(world: World, principal: Principal, kind: str) -> list[object]:
    names = policy.visible(principal, kind, world.offer.names(kind), world.directory)
    return [(name, world.offer.item(kind, name)) for name in names]
