"""ThingsBoard's gateway: the OPC UA connector, with `mapping` beside `server` (new) or in it (old). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from devicemesh.foreign import opcua
from devicemesh.foreign.things import Signal, Thing
from devicemesh.foreign.times import every
from devicemesh.foreign.tree import Branch
from devicemesh.spec.values import ValueType

_NODE = re.compile(r"(?:nsu?=[^;]+;)?[isgb]=[^}]+")
_PATTERN = re.compile(r"[*+?|()\[\]^$]|\\[dwsDWS]")
_TOP = ("Root", "Objects")


def things(document: Branch) -> Iterator[Thing]:
    """A device for each entry of `mapping`."""
    server = document.map("server")
    whole = server if server.get("mapping") else document
    shared = server.source.said.attempt(_endpoint, server)
    for one in whole.items("mapping"):
        thing = one.source.said.attempt(_thing, one, server, shared or {})
        if thing is not None:
            yield thing


def _endpoint(server: Branch) -> dict[str, Any]:
    identity = server.map("identity")
    kind = identity.text("type", default="anonymous")
    certificate = identity.text("cert", "pathToClientCert", default="")
    key = identity.text("privateKey", "pathToPrivateKey", default="")
    security = opcua.Security(
        policy=server.text("security", default=""),
        mode=identity.text("mode", default=""),
        certificate=certificate,
        key=key,
        user=identity.text("username", default="") if kind != "anonymous" else "",
        secret=server.text("name", default="opcua"),
    )
    if security.user:
        place = f"the secret `{security.secret_name}`, key `password`"
        identity.here("password", "username").tell(f"the password goes into {place}")
    identity.tell_left("caCert", "pathToCACert", why="put it into the folder `trusted` of `pki`")
    listens = server.boolean("enableSubscriptions", default=True)
    if server.get("disableSubscriptions") is not None:
        listens = not server.boolean("disableSubscriptions")
    more: dict[str, Any] = {}
    for theirs, ours in (("timeoutInMillis", "timeout"), ("sessionTimeoutInMillis", "sessionTimeout")):
        milliseconds = server.number(theirs, default=0)
        more[ours] = every(milliseconds) if milliseconds else None
    more["mode"] = None if listens else "poll"
    return opcua.endpoint(server.at("url"), security, **more)


def _thing(entry: Branch, server: Branch, endpoint: dict[str, Any]) -> Thing | None:
    info = entry.map("deviceInfo")
    name = info.text("deviceNameExpression", default="") or entry.text("deviceNamePattern", default="")
    kind = info.text("deviceProfileExpression", default="") or entry.text(
        "deviceTypePattern", default="default"
    )
    base = entry.text("deviceNodePattern")
    if _PATTERN.search(re.sub(r"\\\.", "", base)):
        entry.at("deviceNodePattern").tell(
            f"`{name}` is left out: its nodes are looked for by a pattern; `devicemesh discover` shows them"
        )
        return None
    if "${" in name:
        entry.tell("a device's name that the server has is made of its expression")
    entry.tell_left("rpc_methods", why="`devicemesh discover` makes commands of methods")
    entry.tell_left("converter")
    wanted = [
        _bare(one.text("value", "attributeOnDevice", default="")) for one in entry.items("attributes_updates")
    ]
    signals = []
    for section in ("timeseries", "attributes"):
        for one in entry.items(section):
            signal = entry.source.said.attempt(_signal, one, base)
            if signal is None:
                continue
            report = "none" if section == "attributes" else "every"
            period = server.number("pollPeriodInMillis", default=5000)
            signal.telemetry = {"samplingInterval": every(period), "report": report}
            signals.append(signal)
    for text in filter(None, wanted):
        _make_writable(entry, signals, _address(entry, text, base))
    clean = "" if kind == "default" or "${" in kind else kind
    return Thing(entry, re.sub(r"[${}\\]", " ", name), signals, "opcua", dict(endpoint), clean)


def _make_writable(entry: Branch, signals: list[Signal], address: dict[str, str]) -> None:
    for one in signals:
        if one.address == address:
            one.access = "ReadWrite"
            return
    entry.tell("an attribute update of a node that is not read is left out")


def _signal(one: Branch, base: str) -> Signal | None:
    value = one.text("value", "path", default="")
    if one.text("type", default="") == "constant" or not value:
        one.tell("a constant is left out: `labels` of a device have such words")
        return None
    address = _address(one, _bare(value), base)
    one.tell("nothing says the types of nodes: `json` takes what the server sends; say what it is")
    return Signal(one, one.text("key"), ValueType.JSON, dict(address))


def _bare(text: str) -> str:
    """What an expression `${...}` has inside."""
    found = re.search(r"\$\{([^}]+)\}", text)
    return found[1] if found else text


def _address(at: Branch, text: str, base: str) -> dict[str, str]:
    """A node, or the way to one from the Objects folder."""
    if found := _NODE.fullmatch(text):
        return {"node": found[0]}
    if _NODE.fullmatch(base) and not text.startswith("Root"):
        raise at.problem(
            f"the way {text!r} from the node {base} can't be followed here", "name the node: ns=2;s=..."
        )
    names = re.split(r"\\\.|\.", text)
    if names[0] != "Root":
        names = [*re.split(r"\\\.|\.", base), *names]
    while names and names[0].rpartition(":")[2] in _TOP:
        names = names[1:]
    if not names:
        raise at.problem(f"{text!r} is the way to no node", code="wrong-address")
    if any(not re.match(r"\d+:", one) for one in names):
        at.tell(
            "names without a namespace are of namespace 0 here: give `namespace`, or 2:Name and `namespaces`"
        )
    return {"browsePath": "/".join(_escaped(one) for one in names)}


def _escaped(name: str) -> str:
    index, colon, rest = name.partition(":")
    if colon and index.isdigit():
        return f"{index}:" + re.sub(r"([&/:])", r"&\1", rest)
    return re.sub(r"([&/:])", r"&\1", name)
