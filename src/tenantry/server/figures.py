"""What an operator can watch: counts and times, for Prometheus.

Labels are names out of the configuration, never what a client sent: strangers must not make series.
"""

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
    """The figures of one process; several processes of one server are added up by whoever shows them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Series that were looked up once; there are as many as the registry has.
        self._known: dict[tuple[str, int], Counter] = {}
        self._known_calls: dict[tuple[str, Feature, Outcome], tuple[Counter, Histogram]] = {}
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
        self._running = self._gauge("tenantry_requests_running", "Requests being served", "tenant")
        self._waiting = self._gauge("tenantry_requests_waiting", "Requests waiting for their turn", "tenant")
        self._streams = self._gauge("tenantry_streams", "Event streams open", "tenant")
        self._refused = self._gauge("tenantry_requests_refused", "Requests told to come again", "tenant")

    def request(self, path: str, status: int) -> None:
        """Count an answered request; `path` is one that is served, or empty."""
        known = self._known.get((path, status))
        if known is None:
            known = self._known[path, status] = self._requests.labels(path or UNKNOWN, str(status))
        known.inc()

    def call(self, tenant: str, feature: Feature, outcome: Outcome, seconds: float) -> None:
        """Count a use of a feature; one that nobody offers is to be named `UNKNOWN`."""
        known = self._known_calls.get((tenant, feature, outcome))
        if known is None:
            known = self._known_calls[tenant, feature, outcome] = (
                self._calls.labels(tenant, feature.kind, feature.name, outcome.value),
                self._seconds.labels(tenant, feature.kind, feature.name),
            )
        count, times = known
        count.inc()
        times.observe(seconds)

    def denial(self, tenant: str, reason: str) -> None:
        """Count a denial."""
        self._denials.labels(tenant, reason).inc()

    def commit(self, records: int, seconds: float) -> None:
        """Count a commit of the audit log."""
        self._batch.observe(records)
        self._flush.observe(seconds)

    async def sample(self, admission: Admission, sessions: Sized, audit: AuditWriter) -> None:
        """Look at what has a level rather than a count, each second, until cancelled."""
        while True:
            for tenant, share in admission.shares.items():
                self._running.labels(tenant).set(share.running)
                self._streams.labels(tenant).set(share.streams)
                self._refused.labels(tenant).set(share.refused)
                self._waiting.labels(tenant).set(admission.waiting.get(tenant, 0))
            self._sessions.set(len(sessions))
            self._audit.set(list(State).index(audit.health.state))
            self._queue.set(audit.waiting)
            await trio.sleep(SAMPLE_EVERY_S)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: str = "livesum") -> Gauge:
        return Gauge(name, text, labels, multiprocess_mode=mode, registry=self.registry)  # type: ignore[arg-type]
