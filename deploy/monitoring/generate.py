"""Writes what is derived: the dashboard, and the alerts for the Prometheus operator. `python generate.py`"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RULE = HERE.parent / "components/prometheus-rule/prometheus-rule.yaml"
ME = 'namespace=~"$namespace",instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8


@dataclass(frozen=True)
class Panel:
    """One picture: a title, what it means, and its lines as (query, name of the line)."""

    title: str
    about: str
    lines: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    bad_from: float | None = None  # a stat is red from here on


def rate(metric: str, by: str) -> str:
    return f"sum by (instance, {by}) (rate({of(metric)}[$__rate_interval]))"


def p95(metric: str) -> str:
    return f"histogram_quantile(0.95, sum by (le, link) (rate({metric}_bucket{{{ME}}}[$__rate_interval])))"


def of(metric: str, **labels: str) -> str:
    more = [f'{name}="{value}"' for name, value in labels.items()]
    return f"{metric}{{{','.join([ME, *more])}}}"


def stat(title: str, about: str, query: str, bad_from: float | None = None, unit: str = "short") -> Panel:
    return Panel(title, about, ((query, ""),), unit, "stat", 4, bad_from)


ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        stat("Devices ready", "Devices whose values are all good.",
             f"sum({of('devicemesh_devices', state='Ready')})"),
        stat("Devices offline", "They can't be read at all: `devicemesh get devices`.",
             f"sum({of('devicemesh_devices', state='Offline')})", 1),
        stat("Links down", "Peers to which there is no connection.",
             f"count({of('devicemesh_link_up')} == 0) or vector(0)", 1),
        stat("Brokers away", "Runtimes without an MQTT broker.",
             f"count({of('devicemesh_sink_up')} == 0) or vector(0)", 1),
        stat("Outbox", "The fullest one.",
             f"max({of('devicemesh_outbox_bytes')} / {of('devicemesh_outbox_capacity_bytes')})", 0.5, "percentunit"),
        stat("Critical alarms", "Alarms of devices that are on.",
             f"sum({of('devicemesh_alarms_active', severity='critical')})", 1),
    ],
    "Values": [
        Panel("Samples", "Read from devices, and published: in windows, or one by one.",
              ((f"sum by (instance) (rate({of('devicemesh_samples_read_total')}[$__rate_interval]))", "read {{instance}}"),
               (f"sum by (instance) (rate({of('devicemesh_samples_published_total')}[$__rate_interval]))",
                "published {{instance}}"))),
        Panel("Samples dropped, by policy",
              "`deadband`, `rate`, `none` and `bad` were asked for; every other policy is a loss (docs/mqtt.md).",
              ((rate("devicemesh_samples_dropped_total", "policy"), "{{policy}} {{instance}}"),)),
        Panel("Bad samples, by quality", "`Bad.NoAnswer` is a silent device, `Bad.NoLink` no connection.",
              ((rate("devicemesh_samples_bad_total", "quality"), "{{quality}} {{instance}}"),)),
        Panel("Lost before they got here, and read afterwards", "As far as peers say, and from their history.",
              ((rate("devicemesh_samples_lost_total", "link, reason"), "lost {{link}} {{reason}}"),
               (rate("devicemesh_samples_backfilled_total", "link"), "read afterwards {{link}}"))),
        Panel("Alarms that are on", "Of the models, and of the devices themselves.",
              ((f"sum by (severity) ({of('devicemesh_alarms_active')})", "{{severity}}"),)),
        Panel("Alarms and events", "That devices told of: published, and dropped.",
              ((rate("devicemesh_events_total", "state"), "{{state}} {{instance}}"),
               (rate("devicemesh_events_dropped_total", "policy"), "dropped {{policy}} {{instance}}"))),
    ],
    "Links": [
        Panel("Links", "1 while the connection is open.", ((of("devicemesh_link_up"), "{{mapper}} {{link}}"),)),
        Panel("Since the last answer", "How long ago a peer answered.",
              ((f"time() - ({of('devicemesh_link_last_success_timestamp_seconds')} > 0)", "{{mapper}} {{link}}"),), "s"),
        Panel("Requests", "On the wire.", ((rate("devicemesh_link_requests_total", "link, result"), "{{link}} {{result}}"),)),
        Panel("Answers, 95 of 100 within", "How long peers take.",
              ((p95("devicemesh_link_request_duration_seconds"), "{{link}}"),), "s"),
        Panel("Polls skipped", "As the one before had not ended: more is asked for than the link carries.",
              ((rate("devicemesh_polls_overrun_total", "link"), "{{link}}"),)),
        Panel("Reconnects, and the wait before the next try", "Of links.",
              ((f"increase({of('devicemesh_link_reconnects_total')}[$__rate_interval])", "opened {{link}}"),
               (of("devicemesh_link_backoff_seconds"), "wait in s {{link}}"))),
        Panel("Writes and calls", "By what became of them.",
              ((rate("devicemesh_writes_total", "mapper, outcome"), "write {{outcome}} {{mapper}}"),
               (rate("devicemesh_calls_total", "mapper, outcome"), "call {{outcome}} {{mapper}}"))),
        Panel("Writes, 95 of 100 within", "With their read-back.", ((p95("devicemesh_write_duration_seconds"), "{{link}}"),), "s"),
    ],
    "Broker and outbox": [
        Panel("Outbox", "Bytes that wait for the broker, and the room for them.",
              ((of("devicemesh_outbox_bytes"), "waiting {{instance}}"), (of("devicemesh_outbox_capacity_bytes"), "room {{instance}}")),
              "bytes"),
        Panel("Age of the oldest waiting message", "0 where nothing waits.",
              ((f"(time() - ({of('devicemesh_outbox_oldest_timestamp_seconds')} > 0)) or 0 * {of('devicemesh_outbox_messages')}",
                "{{instance}}"),), "s"),
        Panel("Messages", "Accepted by the broker, refused by it, and waiting.",
              ((f"rate({of('devicemesh_sink_messages_total')}[$__rate_interval])", "accepted a second {{instance}}"),
               (f"rate({of('devicemesh_sink_refusals_total')}[$__rate_interval])", "refused a second {{instance}}"),
               (of("devicemesh_outbox_messages"), "waiting {{instance}}"))),
        Panel("Samples on their way", "In open windows, in the outbox, and left by earlier runs.",
              ((of("devicemesh_samples_pending"), "in windows {{instance}}"), (of("devicemesh_samples_spooled"), "in the outbox {{instance}}"),
               (of("devicemesh_samples_recovered_spooled"), "of earlier runs {{instance}}"))),
        Panel("Connects, and what earlier runs had left", "To the broker; samples that a run before this one had spooled.",
              ((f"increase({of('devicemesh_sink_reconnects_total')}[$__rate_interval])", "connected {{instance}}"),
               (rate("devicemesh_samples_recovered_total", "outcome"), "earlier run: {{outcome}} {{instance}}")), width=24),
    ],
    "Runtime": [
        Panel("Polls begin late, 95 of 100 within", "This machine is busy.", ((p95("devicemesh_poll_lag_seconds"), "{{link}}"),), "s"),
        Panel("Event loop", "How late the runtime gets to its work.", ((of("devicemesh_event_loop_lag_seconds"), "{{instance}}"),), "s"),
        Panel("Errors", "Tasks that ended with an exception: bugs of ours.",
              ((of("devicemesh_errors_total"), "{{instance}}"),)),
        Panel("Status writes", "To the store: SQLite, or the API server.",
              ((rate("devicemesh_store_writes_total", "store, result"), "{{store}} {{result}} {{instance}}"),)),
        Panel("Versions", "Of the runtimes.",
              ((f"count by (version, python) ({of('devicemesh_build_info')})", "{{version}} on Python {{python}}"),), kind="table"),
    ],
}  # fmt: skip


def panels() -> Iterator[dict[str, Any]]:
    """The panels in rows, from left to right."""
    number, y = 0, 0
    for title, row in ROWS.items():
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}  # fmt: skip
        y, x = y + 1, 0
        for panel in row:
            number += 1
            height = 4 if panel.kind == "stat" else HEIGHT
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height})
            x += panel.width
            if x >= WIDTH:
                x, y = 0, y + height
        y += HEIGHT if x else 0


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad_from is not None:
        steps.append({"color": "red", "value": panel.bad_from})
    at_once = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if not at_once else {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": name,
             "instant": at_once, "range": not at_once, "format": "table" if panel.kind == "table" else "time_series"}
            for index, (query, name) in enumerate(panel.lines)
        ],
    }  # fmt: skip


def _variable(name: str, query: str) -> dict[str, Any]:
    """A choice of several, all of them at first; `.*` also takes what has no such label."""
    return {"name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
            "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*", "sort": 1,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}  # fmt: skip


def dashboard() -> dict[str, Any]:
    build = "devicemesh_build_info"
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    choices = [
        source,
        _variable("namespace", f"label_values({build}, namespace)"),
        _variable("instance", f'label_values({build}{{namespace=~"$namespace"}}, instance)'),
    ]
    return {
        "uid": "devicemesh",
        "title": "DeviceMesh",
        "tags": ["devicemesh"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": choices},
        "panels": list(panels()),
    }


def rule(alerts: str) -> str:
    """The same alerts, for the operator."""
    head = """\
# Made by deploy/monitoring/generate.py from alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: devicemesh, namespace: devicemesh}
spec:
"""
    return head + textwrap.indent(alerts[alerts.index("groups:") :], "  ")


def made() -> dict[Path, str]:
    """Path -> text of all that is derived."""
    alerts = (HERE / "alerts.yaml").read_text("utf-8")
    return {
        HERE / "dashboard.json": json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n",
        RULE: rule(alerts),
    }


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, "utf-8")
