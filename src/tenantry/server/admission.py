"""What each tenant may have going on: a request beyond that waits, or is told to come again.

It is asked after the token was verified, before the body is read or parsed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from tenantry import web
from tenantry.config import Config
from tenantry.fairness import Bucket, FairQueue

# A rate bounds the average; this many seconds of it may come at once.
BURST_S = 1.0


@dataclass(slots=True, kw_only=True)
class Share:
    """What a tenant takes at this moment."""

    running: int = 0
    streams: int = 0
    bytes: int = 0
    refused: int = 0
    bucket: Bucket | None = None


class Admission:
    """Counts what each tenant has going on, and lets its requests begin. `run` must be running."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = trio.current_time) -> None:
        self._limits = config.limits
        self._tenants = config.tenants
        self._clock = clock
        self._shares: dict[str, Share] = {}
        self._queue: FairQueue[_Turn] = FairQueue()
        self._some = trio.Event()
        self.under_way = 0
        """How many requests have begun and not ended."""

    @property
    def shares(self) -> Mapping[str, Share]:
        """What each tenant takes, for figures."""
        return self._shares

    @property
    def waiting(self) -> Mapping[str, int]:
        """How many requests of each tenant wait, for figures."""
        return dict(self._queue)

    async def begin(self, tenant: str, *, size: int = 0) -> Share:
        """Return when a request of the tenant may begin; `end` must follow. `size` is its body's, in bytes.

        Raises `web.HttpError` 429 with Retry-After where the tenant has too much going on or waiting.
        """
        share = self._share(tenant)
        self._require_room(share, tenant, size)
        share.bytes += size
        if share.running < self._limits.calls_at_once:
            self._enter(share)
            return share
        try:
            await self._take_turn(share, tenant)
        except BaseException:
            share.bytes -= size
            raise
        return share

    def end(self, share: Share, *, size: int = 0) -> None:
        """The request is over."""
        share.bytes -= size
        self._leave(share)

    def require_stream(self, tenant: str) -> None:
        """Raise `web.HttpError` 429 where the tenant has no room for a further stream."""
        share = self._share(tenant)
        if share.streams >= self._limits.streams_per_tenant:
            raise _come_again(share, 5.0, "this tenant has too many streams open")

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """Count a stream while it is open."""
        share = self._share(tenant)
        share.streams += 1
        try:
            yield
        finally:
            share.streams -= 1

    async def run(self) -> None:
        """Let those that wait begin when there is room, until cancelled."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            while (turn := self._queue.pop(self._has_room)) is not None:
                self._enter(turn.share)
                turn.come.set()

    async def _take_turn(self, share: Share, tenant: str) -> None:
        turn = _Turn(share)
        self._queue.push(tenant, turn)
        self._some.set()
        try:
            with trio.move_on_after(self._limits.call_wait_s):
                await turn.come.wait()
        except trio.Cancelled:
            if not self._queue.remove(tenant, turn):
                self._leave(share)
            raise
        if self._queue.remove(tenant, turn):
            raise _come_again(share, 1.0, "this tenant's requests wait for too long")

    def _enter(self, share: Share) -> None:
        share.running += 1
        self.under_way += 1

    def _leave(self, share: Share) -> None:
        share.running -= 1
        self.under_way -= 1
        if len(self._queue):
            self._some.set()

    def _has_room(self, tenant: str) -> bool:
        return self._shares[tenant].running < self._limits.calls_at_once

    def _require_room(self, share: Share, tenant: str, size: int) -> None:
        wait_s = 0.0 if share.bucket is None else share.bucket.take(self._clock())
        if wait_s:
            raise _come_again(share, wait_s, "this tenant's requests come too fast")
        if self._queue.waiting(tenant) >= self._limits.calls_waiting:
            raise _come_again(share, 1.0, "this tenant has too many requests waiting")
        if share.bytes and share.bytes + size > self._limits.body_bytes_at_once:
            raise _come_again(share, 1.0, "this tenant's requests are too large together")

    def _share(self, tenant: str) -> Share:
        share = self._shares.get(tenant)
        if share is None:
            section = self._tenants.get(tenant)
            rate = None if section is None else section.calls_per_s
            share = self._shares[tenant] = Share(
                bucket=None if rate is None else Bucket(rate, max(1.0, rate * BURST_S)),
            )
        return share


class _Turn:
    """A request that waits; equal to itself alone."""

    __slots__ = ("come", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.come = trio.Event()


def _come_again(share: Share, wait_s: float, why: str) -> web.HttpError:
    share.refused += 1
    return web.HttpError(429, f"{why}, try again later", headers={"retry-after": str(math.ceil(wait_s))})
