"""What is tallied comes out as Prometheus itself would have counted it."""

import trio
import trio.testing
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tenantry.audit.record import Outcome
from tenantry.config import build
from tenantry.policy import Feature
from tenantry.server.admission import Admission
from tenantry.server.audit_writer import AuditWriter
from tenantry.server.figures import SAMPLE_EVERY_S, Figures

ECHO = Feature("tool", "echo")
LABELS = {"tenant": "a", "kind": "tool", "name": "echo"}


def test_a_tally_falls_into_the_buckets_that_observing_would_fill():
    amounts = [0.0, 0.0005, 0.00050001, 0.001, 0.3, 1, 59.9, 60, 61, 1000]
    figures, peer = Figures(), CollectorRegistry()
    bounds = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
    observing = Histogram("tenantry_call_seconds", "the same", LABELS, buckets=bounds, registry=peer)
    for round_ in (amounts[:5], amounts[5:]):
        for amount in round_:
            figures.call("a", ECHO, Outcome.SUCCEEDED, amount)
            observing.labels(**LABELS).observe(amount)
        registry = figures.registry()
    for name in ("tenantry_call_seconds_bucket", "tenantry_call_seconds_sum", "tenantry_call_seconds_count"):
        for bound in (*map(str, map(float, bounds)), "+Inf"):
            labels = {**LABELS, **({"le": bound} if name.endswith("_bucket") else {})}
            assert registry.get_sample_value(name, labels) == peer.get_sample_value(name, labels)
    assert registry.get_sample_value("tenantry_calls_total", {**LABELS, "outcome": "succeeded"}) == len(amounts)


def test_looking_twice_counts_once():
    figures = Figures()
    figures.request("/mcp", 200)
    figures.commit(3, 0.1)
    figures.denial("a", "unknown")
    assert generate_latest(figures.registry()) == generate_latest(figures.registry())
    figures.request("/mcp", 200)
    figures.commit(1, 0.1)
    figures.denial("a", "unknown")
    figures.denial("a", "unknown")
    figures.denial("a", "foreign")
    registry = figures.registry()
    assert registry.get_sample_value("tenantry_requests_total", {"path": "/mcp", "status": "200"}) == 2
    denials = [
        registry.get_sample_value("tenantry_denials_total", {"tenant": "a", "reason": reason})
        for reason in ("unknown", "foreign")
    ]
    assert denials == [3, 1]
    assert registry.get_sample_value("tenantry_audit_batch_records_sum") == 4
    assert registry.get_sample_value("tenantry_audit_batch_records_count") == 2


async def test_what_is_tallied_is_there_after_a_second_and_at_the_end(autojump_clock):
    figures = Figures()
    registry = figures.registry()

    def requests() -> float | None:
        return registry.get_sample_value("tenantry_requests_total", {"path": "/mcp", "status": "200"})

    async with trio.open_nursery() as nursery:
        audit = AuditWriter(NoLog(), queue_max=1)
        nursery.start_soon(figures.sample, Admission(build({}, source="test")), (), audit)
        await trio.testing.wait_all_tasks_blocked()
        figures.request("/mcp", 200)
        await trio.sleep(SAMPLE_EVERY_S)
        await trio.testing.wait_all_tasks_blocked()
        assert requests() == 1
        figures.request("/mcp", 200)
        nursery.cancel_scope.cancel()
    assert requests() == 2


class NoLog:
    def commit(self, *_: object, **__: object) -> None:
        raise AssertionError

    def reopen(self) -> None:
        raise AssertionError

    def backfill(self) -> None:
        raise AssertionError
