"""The runtime's metrics, gathered when they are asked for: the data path only counts."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from devicemesh import __version__
from devicemesh.mapper import Quality
from devicemesh.runtime.runtime import Runtime
from devicemesh.sink.base import SinkStats

LINK = ["mapper", "link"]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"devicemesh_{name}", text, value=value)


class RuntimeCollector(Collector):
    """Collects from one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterable[Metric]:
        yield from self._runtime_metrics()
        yield from self._link_metrics()
        yield from self._sample_metrics()
        yield from self._sink_metrics()

    def _runtime_metrics(self) -> Iterator[Metric]:
        runtime = self._runtime
        build = GaugeMetricFamily(
            "devicemesh_build_info", "Version of the runtime, always 1.", labels=["version", "python"]
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        devices = GaugeMetricFamily("devicemesh_devices", "Devices by state.", labels=["state"])
        for state, count in runtime.states().items():
            devices.add_metric([state], count)
        yield devices
        yield _gauge("event_loop_lag_seconds", "Latest lag of the event loop.", runtime.loop_lag_s)
        text = "Tasks of ours that ended with an exception: bugs."
        yield CounterMetricFamily("devicemesh_errors", text, value=runtime.errors)
        alarms = GaugeMetricFamily("devicemesh_alarms_active", "Alarms that are on.", labels=["severity"])
        active = [event.severity for event in runtime.alarms.values()]
        active += [one.severity for one in runtime.occurrences.active()]
        for severity in ("info", "warning", "critical"):
            alarms.add_metric([severity], active.count(severity))
        yield alarms
        told = CounterMetricFamily(
            "devicemesh_events", "Alarms and events that peers told of, published.", labels=["state"]
        )
        for state, count in runtime.occurrences.published.items():
            told.add_metric([state], count)
        yield told
        withheld = CounterMetricFamily(
            "devicemesh_events_dropped",
            "Alarms and events that were not published, by the policy that dropped them.",
            labels=["policy"],
        )
        for policy, count in runtime.occurrences.dropped.items():
            withheld.add_metric([policy], count)
        yield withheld
        writes = CounterMetricFamily(
            "devicemesh_store_writes", "Status patches to the store.", labels=["store", "result"]
        )
        for result, count in runtime.reporter.writes.items():
            writes.add_metric([runtime.store.kind, result], count)
        yield writes

    def _link_metrics(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("devicemesh_link_up", "1 while the link to the peer is open.", labels=LINK)
        success = GaugeMetricFamily(
            "devicemesh_link_last_success_timestamp_seconds",
            "Unix time of the last request that the peer answered.",
            labels=LINK,
        )
        backoff = GaugeMetricFamily(
            "devicemesh_link_backoff_seconds", "Wait before the next try; 0 while up.", labels=LINK
        )
        opened = CounterMetricFamily("devicemesh_link_reconnects", "Times the link was opened.", labels=LINK)
        requests = CounterMetricFamily(
            "devicemesh_link_requests", "Requests on the wire.", labels=[*LINK, "result"]
        )
        overruns = CounterMetricFamily(
            "devicemesh_polls_overrun", "Polls skipped because the one before had not ended.", labels=LINK
        )
        lost = CounterMetricFamily(
            "devicemesh_samples_lost",
            "Samples lost before they got here, as far as peers say.",
            labels=[*LINK, "reason"],
        )
        backfilled = CounterMetricFamily(
            "devicemesh_samples_backfilled", "Samples read from a peer's history.", labels=LINK
        )
        lag = HistogramMetricFamily("devicemesh_poll_lag_seconds", "How late a poll began.", labels=LINK)
        duration = HistogramMetricFamily(
            "devicemesh_link_request_duration_seconds", "How long the peer took to answer.", labels=LINK
        )
        writing = HistogramMetricFamily(
            "devicemesh_write_duration_seconds", "How long a write and its read-back took.", labels=LINK
        )
        outcomes: dict[tuple[str, str], int] = {}
        called: dict[tuple[str, str], int] = {}
        for (mapper, name), link in self._runtime.supervisor.links.items():
            stats, labels = link.stats, [mapper, name]
            up.add_metric(labels, stats.up)
            success.add_metric(labels, stats.last_success_s)
            backoff.add_metric(labels, stats.backoff_s)
            opened.add_metric(labels, stats.reconnects)
            requests.add_metric([*labels, "ok"], stats.answers)
            requests.add_metric([*labels, "failed"], stats.failures)
            overruns.add_metric(labels, stats.overruns)
            backfilled.add_metric(labels, stats.backfilled)
            for reason, count in link.lost().items():
                lost.add_metric([*labels, reason], count)
            for family, histogram in (
                (lag, stats.lag),
                (duration, stats.request),
                (writing, link.writeback.duration),
            ):
                family.add_metric(labels, list(histogram.cumulated()), histogram.sum_s)
            for outcome, count in link.writeback.outcomes.items():
                outcomes[mapper, outcome] = outcomes.get((mapper, outcome), 0) + count
            for outcome, count in link.writeback.calls.items():
                called[mapper, outcome] = called.get((mapper, outcome), 0) + count
        writes = CounterMetricFamily("devicemesh_writes", "Writes to devices.", labels=["mapper", "outcome"])
        for (mapper, outcome), count in outcomes.items():
            writes.add_metric([mapper, outcome], count)
        calls = CounterMetricFamily("devicemesh_calls", "Calls of devices.", labels=["mapper", "outcome"])
        for (mapper, outcome), count in called.items():
            calls.add_metric([mapper, outcome], count)
        yield from (up, success, backoff, opened, requests, overruns, lost, backfilled, lag, duration)
        yield from (writes, calls, writing)

    def _sample_metrics(self) -> Iterator[Metric]:
        samples = self._runtime.samples()
        yield CounterMetricFamily(
            "devicemesh_samples_read", "Samples taken from devices.", value=samples["read"]
        )
        yield CounterMetricFamily(
            "devicemesh_samples_published",
            "Samples that left, in windows or one by one.",
            value=samples["published"],
        )
        dropped = CounterMetricFamily(
            "devicemesh_samples_dropped",
            "Samples that did not leave, by the policy that dropped them.",
            labels=["policy"],
        )
        for policy, count in samples["dropped"].items():
            dropped.add_metric([policy], count)
        yield dropped
        yield _gauge("samples_pending", "Samples in open windows.", samples["pending"])
        yield _gauge("samples_spooled", "Samples taken by the sink, not yet accepted.", samples["spooled"])
        bad = CounterMetricFamily(
            "devicemesh_samples_bad", "Samples read with a quality below Good.", labels=["quality"]
        )
        counted = self._runtime.aggregator.bad
        for quality in (one for one in Quality if one >= Quality.UNCERTAIN):
            bad.add_metric([quality.word], counted.get(quality, 0))
        yield bad

    def _sink_metrics(self) -> Iterator[Metric]:
        stats = self._runtime.sink.stats()
        yield _gauge("sink_up", "1 while the sink is connected.", stats.up)
        yield CounterMetricFamily(
            "devicemesh_sink_messages", "Messages the broker accepted.", value=stats.messages
        )
        yield CounterMetricFamily(
            "devicemesh_sink_refusals", "Messages the broker answered with an error.", value=stats.refusals
        )
        yield from _recovered(stats)
        yield CounterMetricFamily(
            "devicemesh_sink_reconnects", "Times the sink connected.", value=stats.reconnects
        )
        yield _gauge("outbox_messages", "Messages waiting for the broker.", stats.outbox_messages)
        yield _gauge("outbox_bytes", "Bytes waiting for the broker.", stats.outbox_bytes)
        yield _gauge("outbox_capacity_bytes", "Room of the outbox.", stats.outbox_capacity_bytes)
        yield _gauge(
            "outbox_oldest_timestamp_seconds",
            "Unix time of the oldest waiting message; 0 when empty.",
            stats.outbox_oldest_s,
        )


def _recovered(stats: SinkStats) -> Iterator[Metric]:
    """What earlier runs had left in the outbox: not read in this run, and so in no sum of its samples."""
    recovered = CounterMetricFamily(
        "devicemesh_samples_recovered", "Samples of earlier runs, by what became of them.", labels=["outcome"]
    )
    recovered.add_metric(["published"], stats.recovered_published)
    for policy, count in stats.recovered_dropped.items():
        recovered.add_metric([f"dropped_{policy}"], count)
    yield recovered
    yield _gauge("samples_recovered_spooled", "Samples of earlier runs that wait.", stats.recovered_spooled)
