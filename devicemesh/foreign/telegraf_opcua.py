"""Telegraf: the nodes and groups of `inputs.opcua` and `inputs.opcua_listener`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devicemesh.foreign import opcua
from devicemesh.foreign.things import Signal, Thing
from devicemesh.foreign.times import of_go
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_OF_CONNECTION = (
    "workarounds", "request_workarounds", "client_trace", "optional_fields", "read_retry_timeout", "locales",
    "read_retry_count", "reconnect_error_threshold", "timestamp_format", "connect_fail_behavior", "events",
)  # fmt: skip
_STAMPS = {"gather": "arrival", "server": "server", "source": "source"}
_DEADBANDS = ("absolute", "percent")


def thing(plugin: Branch, kind: str, every: str) -> Thing:
    """The server of a plugin, with all that it reads of it."""
    plugin.tell_left(*_OF_CONNECTION)
    plugin.tell_left(
        "remote_certificate", why="put the server's certificate into the folder `trusted` of `pki`"
    )
    listens = kind == "opcua_listener"
    signals = []
    for node, group in _nodes(plugin):
        signal = plugin.source.said.attempt(_signal, node, group)
        if signal is not None:
            signal.telemetry = _telemetry(signal, node, group, every, listens=listens)
            signals.append(signal)
    name = plugin.text("name", "alias", default=kind)
    return Thing(plugin, name, signals, "opcua", _endpoint(plugin, name, listens=listens))


def _endpoint(plugin: Branch, name: str, *, listens: bool) -> dict[str, Any]:
    method = plugin.text("auth_method", default="Anonymous").casefold()
    user = plugin.text("username", default="") if method == "username" else ""
    certificate, key = (plugin.text(one, default="") for one in ("certificate", "private_key"))
    security = opcua.Security(
        policy=plugin.text("security_policy", default=""),
        mode=plugin.text("security_mode", default=""),
        certificate=certificate,
        key=key,
        user=user,
        secret=name,
        user_certificate=certificate if method == "certificate" else "",
        user_key=key if method == "certificate" else "",
    )
    if user:
        here = plugin.here("password", "username")
        here.tell(f"the password goes into the secret `{security.secret_name}`, key `password`")
    more: dict[str, Any] = {}
    for theirs, ours in (("request_timeout", "timeout"), ("session_timeout", "sessionTimeout")):
        if span := plugin.get(theirs):
            more[ours] = of_go(span)
    more["mode"] = None if listens else "poll"
    if listens and (span := plugin.get("subscription_interval")):
        more["publishingInterval"] = of_go(span)
    stamp = plugin.word(_STAMPS, "timestamp", default="arrival", what="a timestamp")
    more["timestamps"] = None if stamp == "source" else stamp
    return opcua.endpoint(plugin.at("endpoint"), security, **more)


def _nodes(plugin: Branch) -> Iterator[tuple[Branch, Branch | None]]:
    for node in plugin.items("nodes"):
        yield node, None
    for group in plugin.items("group"):
        for node in group.items("nodes"):
            yield node, group


def _signal(node: Branch, group: Branch | None) -> Signal:
    place = _node(node, group)
    node.tell("nothing says the types of nodes: `json` takes what the server sends; say what it is")
    apart = group.text("name", default="") if group is not None else ""
    for one in (node, group):
        if one is not None:
            tags = [tag.raw for _, tag in one.map("default_tags").pairs()]
            apart = "_".join([apart, *tags]).strip("_") if one is node or not apart else apart
    return Signal(node, node.text("name"), ValueType.JSON, {"node": place}, apart=apart)


def _node(node: Branch, group: Branch | None) -> str:
    """The NodeId, by itself or of its parts, which a group may have."""
    if (whole := node.get("id")) is not None:
        return whole.raw
    parts = {}
    for key in ("namespace", "namespace_uri", "identifier_type"):
        own = node.get(key)
        shared = group.get(key) if group is not None else None
        chosen = own if own is not None and own.raw else shared
        parts[key] = chosen.raw if chosen is not None else ""
    kind, identifier = parts["identifier_type"], node.text("identifier")
    if kind not in ("s", "i", "g", "b"):
        raise node.here("identifier_type").problem(f"{kind!r} is not an identifier_type: s, i, g or b")
    if parts["namespace_uri"]:
        uri = parts["namespace_uri"].replace("%", "%25").replace(";", "%3B")
        return f"nsu={uri};{kind}={identifier}"
    space = parts["namespace"]
    if not space:
        raise node.problem("`namespace` is missing", code="missing-field")
    return f"{kind}={identifier}" if space == "0" else f"ns={space};{kind}={identifier}"


def _telemetry(
    signal: Signal, node: Branch, group: Branch | None, every: str, *, listens: bool
) -> dict[str, Any]:
    if not listens:
        return {"samplingInterval": every, "report": "every"}
    monitoring = node.map("monitoring_params")
    monitoring.tell_left("queue_size", "discard_oldest")
    span = monitoring.get("sampling_interval") or (group.get("sampling_interval") if group else None)
    found: dict[str, Any] = {"report": "change"}
    if span is not None and span.raw.strip("0msh") != "":
        found = {"samplingInterval": of_go(span), **found}
    change = monitoring.map("data_change_filter")
    if change.text("deadband_type", default="None").casefold() in _DEADBANDS:
        change.tell("a deadband is left out: what is of type json has none")
    return found
