"""What an operator can watch: counts and times, for Prometheus.

Labels are names out of the configuration, never what a client sent: strangers must not make series.
"""

from bisect import bisect_left
from collections.abc import Sized

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tenantry.audit.record import Outcome
from tenantry.policy import Feature
from tenantry.server.admission import Admission
from tenantry.server.audit_writer import AuditWriter, State

SAMPLE_EVERY_S = 1.0
UNKNOWN = "unknown"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Figures:
    """The figures of one process; several processes of one server are added up by whoever shows them.

    What happens with each request is tallied, and counted in Prometheus' terms each second and when it is looked at:
    a process that is killed takes a second of it along.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("tenantry_requests", "HTTP requests answered", "path", "status")
        self._calls = self._counter("tenantry_calls", "Uses of a feature", "tenant", "kind", "name", "outcome")
        self._seconds = self._histogram(
            "tenantry_call_seconds", "From decision to durable record", _SECONDS, "tenant", "kind", "name"
        )
        self._denials = self._counter("tenantry_denials", "Denied uses of a feature", "tenant", "reason")
        self._batch = self._histogram("tenantry_audit_batch_records", "Records in one commit", _RECORDS)
        self._flush = self._histogram("tenantry_audit_commit_seconds", "One commit of the audit log", _SECONDS)
        self._audit = self._gauge("tenantry_audit_state", "0 ok, 1 slow, 2 failing", mode="livemax")
        self._queue = self._gauge("tenantry_audit_queue", "Records that wait for a commit")
        self._sessions = self._gauge("tenantry_sessions", "MCP sessions in memory")
        self._tasks = self._gauge(
            "tenantry_tasks", "Tasks of the event loop: one a connection, and some that serve all"
        )
        self._running = self._gauge("tenantry_requests_running", "Requests being served", "tenant")
        self._waiting = self._gauge("tenantry_requests_waiting", "Requests waiting for their turn", "tenant")
        self._streams = self._gauge("tenantry_streams", "Event streams open", "tenant")
        self._refused = self._gauge("tenantry_requests_refused", "Requests told to come again", "tenant")
        self._new_requests: dict[tuple[str, int], int] = {}
        self._new_calls: dict[tuple[str, Feature, Outcome], _Tally] = {}
        self._new_denials: dict[tuple[str, str], int] = {}
        self._new_commits = _Tally(_RECORDS), _Tally(_SECONDS)

    def request(self, path: str, status: int) -> None:
        """Count an answered request; `path` is one that is served, or empty."""
        self._new_requests[path, status] = self._new_requests.get((path, status), 0) + 1

    def call(self, tenant: str, feature: Feature, outcome: Outcome, seconds: float) -> None:
        """Count a use of a feature; one that nobody offers is to be named `UNKNOWN`."""
        tally = self._new_calls.get((tenant, feature, outcome))
        if tally is None:
            tally = self._new_calls[tenant, feature, outcome] = _Tally(_SECONDS)
        tally.add(seconds)

    def denial(self, tenant: str, reason: str) -> None:
        """Count a denial."""
        self._new_denials[tenant, reason] = self._new_denials.get((tenant, reason), 0) + 1

    def commit(self, records: int, seconds: float) -> None:
        """Count a commit of the audit log."""
        batch, flush = self._new_commits
        batch.add(records)
        flush.add(seconds)

    def registry(self) -> CollectorRegistry:
        """All of it as it is now."""
        self._settle()
        return self._registry

    def _settle(self) -> None:
        for (path, status), count in self._new_requests.items():
            self._requests.labels(path or UNKNOWN, str(status)).inc(count)
        for (tenant, feature, outcome), tally in self._new_calls.items():
            self._calls.labels(tenant, feature.kind, feature.name, outcome.value).inc(sum(tally.counts))
            self._seconds.labels(tenant, feature.kind, feature.name).take(tally)
        for labels, count in self._new_denials.items():
            self._denials.labels(*labels).inc(count)
        self._new_requests, self._new_calls, self._new_denials = {}, {}, {}
        for metric, tally in zip((self._batch, self._flush), self._new_commits, strict=True):
            metric.take(tally)
        self._new_commits = _Tally(_RECORDS), _Tally(_SECONDS)

    async def sample(self, admission: Admission, sessions: Sized, audit: AuditWriter) -> None:
        """Settle what was tallied and look at what has a level rather than a count, each second, until cancelled."""
        try:
            while True:
                self._settle()
                self._look(admission, sessions, audit)
                await trio.sleep(SAMPLE_EVERY_S)
        finally:
            self._settle()

    def _look(self, admission: Admission, sessions: Sized, audit: AuditWriter) -> None:
        for tenant, share in admission.shares.items():
            self._running.labels(tenant).set(share.running)
            self._streams.labels(tenant).set(share.streams)
            self._refused.labels(tenant).set(share.refused)
            self._waiting.labels(tenant).set(admission.waiting.get(tenant, 0))
        self._sessions.set(len(sessions))
        self._audit.set(list(State).index(audit.health.state))
        self._queue.set(audit.waiting)
        self._tasks.set(trio.lowlevel.current_statistics().tasks_living)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> "_Histogram":
        return _Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: str = "livesum") -> Gauge:
        return Gauge(name, text, labels, multiprocess_mode=mode, registry=self._registry)  # type: ignore[arg-type]


class _Tally:
    """What was observed lately, by the bucket that it falls into."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, amount: float) -> None:
        self.counts[bisect_left(self.bounds, amount)] += 1
        self.total += amount


class _Histogram(Histogram):
    """One that takes many observations at once."""

    def take(self, tally: _Tally) -> None:
        self._sum.inc(tally.total)
        for bucket, count in zip(self._buckets, tally.counts, strict=True):
            bucket.inc(count)
