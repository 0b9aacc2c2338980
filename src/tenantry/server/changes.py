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
from tenantry.server.bus import Bus

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
    """Holds the configuration that is served now, and tells of its changes, in every worker."""

    def __init__(
        self, world: World, bus: Bus, people: Callable[[Directory], Directory] = lambda configured: configured
    ) -> None:
        """Serve `world`; `people` adds to what is configured whom the store knows besides."""
        self.configured = world
        self._people = people
        self.world = self._peopled(world)
        self._listeners: set[Listener] = set()
        self._list_changed = bus.telling("list_changed", self._tell_list)
        self._updated = bus.telling("resource_updated", self._tell_resource)
        self._task = bus.telling("task", self._tell_task)

    def _peopled(self, world: World) -> World:
        return World(self._people(world.directory), world.offer)

    def people_changed(self) -> None:
        """Ask the store again who there is besides the configured people."""
        self.replace(self.configured)

    def add(self, listener: Listener) -> None:
        """Begin to tell."""
        self._listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        """Stop telling."""
        self._listeners.discard(listener)

    def replace(self, world: World) -> None:
        """Serve another configuration from now on, and tell each listener whose view of it differs."""
        self.configured = world
        world = self._peopled(world)
        before, self.world = self.world, world
        for listener in list(self._listeners):
            for kind in listener.kinds:
                if _view(before, listener.principal, kind) != _view(world, listener.principal, kind):
                    listener.deliver(LIST_CHANGED[kind], {})

    def list_changed(self, kind: str, tenant: str) -> None:
        """Tell a tenant that one of its lists has changed."""
        self._list_changed({"kind": kind, "tenant": tenant})

    def updated(self, uri: str, tenant: str) -> None:
        """Tell those of a tenant who subscribed to a resource that it has changed."""
        self._updated({"uri": uri, "tenant": tenant})

    def task(self, task_id: str, binding: tuple[str, str, str], body: Object) -> None:
        """Tell whoever listens for a task of theirs how it stands."""
        self._task({"id": task_id, "binding": list(binding), "task": body})

    def _tell_list(self, body: Object) -> None:
        for listener in list(self._listeners):
            if listener.principal.tenant == body["tenant"] and body["kind"] in listener.kinds:
                listener.deliver(LIST_CHANGED[body["kind"]], {})

    def _tell_resource(self, body: Object) -> None:
        for listener in list(self._listeners):
            if listener.principal.tenant == body["tenant"] and body["uri"] in listener.uris():
                listener.deliver("notifications/resources/updated", {"uri": body["uri"]})

    def _tell_task(self, body: Object) -> None:
        for listener in list(self._listeners):
            if body["id"] in listener.tasks and list(listener.principal.binding) == body["binding"]:
                listener.deliver("notifications/tasks", body["task"])


def _view(world: World, principal: Principal, kind: str) -> list[object]:
    names = policy.visible(principal, kind, world.offer.names(kind), world.directory)
    return [(name, world.offer.item(kind, name)) for name in names]
