"""Responses that legacy clients post to what the server asked them, each to its own session and question."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tenantry.jsonrpc import Object, Response
from tenantry.mcp.interaction import BadAnswer


class Waiting:
    """One question that waits for its response."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self._come = trio.Event()
        self._response: Response | None = None

    def resolve(self, response: Response) -> None:
        """Take the response; a second one changes nothing."""
        if self._response is None:
            self._response = response
            self._come.set()

    async def result(self) -> Object:
        """Wait for the response and give its result; raises `BadAnswer` where it is an error."""
        await self._come.wait()
        if self._response is None or self._response.result is None:
            raise BadAnswer("the client answered with an error")
        return self._response.result


class Inbox:
    """All questions that wait, by session: an id alone names nothing, because every client counts from 0."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[bytes, str], Waiting] = {}
        self._numbers = itertools.count(1)

    @contextmanager
    def expect(self, session: bytes) -> Iterator[Waiting]:
        """Wait for a response inside of the block; the id is one that was never used before."""
        waiting = Waiting(f"tenantry-{next(self._numbers)}")
        self._waiting[session, waiting.id] = waiting
        try:
            yield waiting
        finally:
            del self._waiting[session, waiting.id]

    def deliver(self, session: bytes, response: Response) -> None:
        """Hand a posted response over; one that nobody waits for is dropped."""
        waiting = self._waiting.get((session, str(response.id)))
        if waiting is not None:
            waiting.resolve(response)
