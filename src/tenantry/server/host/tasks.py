"""A connection's tasks, and the way of a request's messages to the application."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from tenantry.server.asgi import ASGIApp, Message

# Chunks between a connection's reader and the application: enough to keep both busy, small enough to hold.
INBOX_EVENTS = 10


class Tasks(TaskGroup):
    """A task a request, with a queue to the application that never keeps the connection from closing.

    A disconnect overtakes nothing but waits for no room either, and what comes for an application that has
    returned is dropped.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def spawn_app(
        self,
        app: AppWrapper,  # noqa: ARG002 - hypercorn's wrapper is left out
        config: Config,  # noqa: ARG002
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application on one request; gives the function that takes the request's messages."""
        disconnect = f"{scope['type']}.disconnect"
        entrance, exit_ = trio.open_memory_channel[Message](INBOX_EVENTS)

        async def put(event: ASGIReceiveEvent) -> None:
            if event["type"] == disconnect:
                entrance.close()
                return
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await entrance.send(cast("Message", event))

        async def receive() -> Message:
            try:
                return await exit_.receive()
            except trio.EndOfChannel:
                return {"type": disconnect}

        async def run() -> None:
            with exit_:
                await self._app(cast("Message", scope), receive, cast("Callable[[Message], Awaitable[None]]", send))
            await send(None)

        self.spawn(run)
        return put
