"""The Edge Node: sessions, births and deaths, and what hosts ask."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from devicemesh import __version__
from devicemesh.settings import SparkplugSettings
from devicemesh.sink.base import Declaration
from devicemesh.sink.client import Will
from devicemesh.sink.connection import Connection
from devicemesh.sink.dialect import Dialect
from devicemesh.sink.entry import Encode, Link, TooLargeError, packet_bytes
from devicemesh.sink.inbox import Inbox
from devicemesh.sink.routes import Route
from devicemesh.sink.sender import Sender
from devicemesh.sink.sparkplug import births, commands, told
from devicemesh.sink.sparkplug.devices import ALIAS_BITS, NodeDevice, NodeDevices
from devicemesh.sink.sparkplug.host import PrimaryHost
from devicemesh.sink.sparkplug.link import SequencedLink
from devicemesh.sink.sparkplug.numbers import SessionNumber
from devicemesh.sink.sparkplug.table import Shapes
from devicemesh.sink.sparkplug.topics import NodeTopics
from devicemesh.sink.sparkplug.trial import Trial
from devicemesh.sink.sparkplug.wire import encode
from devicemesh.sink.told import Told, event, gap, telemetry
from devicemesh.sink.topics import identity

log = logging.getLogger("devicemesh.sink")

KNOWN_S = 10.0
"""How long after the connection records wait for the declarations of their devices."""
REBIRTH_S = 1.0
"""The least time between two births of the node that hosts ask for."""
_LAST_WORDS_S = 1.0  # between the last data of a device that is gone and its death
_BURST_S = 0.01  # of births, or of deaths, at once: the event loop has others to serve


class _Birth(NamedTuple):
    """A DBIRTH that is ready, and what it shows of quiet properties."""

    payload: bytes
    shown: dict[str, Told]


class EdgeNode(Dialect):
    """See `Dialect`. Births and deaths are made when they are due, out of what is known then.

    Data waits until all that are alive are born; a device that comes to life later is born before its data.
    A device that is not alive is born for what was read of it earlier, and dies again when that has gone out.
    """

    def __init__(
        self,
        settings: SparkplugSettings,
        instance: str,
        inbox: Inbox,
        encode_json: Encode,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topics: NodeTopics = NodeTopics(settings.group, settings.node or instance)
        self._host = PrimaryHost(settings.primary_host) if settings.primary_host else None
        host = [self._host.topic] if self._host else []
        self.subscriptions: Sequence[str] = [self.topics.command, self.topics.commands + "+", *host]
        self._aliases = settings.aliases
        self._inbox, self._encode, self._clock = inbox, encode_json, clock
        self._devices = NodeDevices()
        self._shapes = Shapes()
        self._trial = Trial()
        self._unborn: dict[str, None] = {}  # alive, and to be told
        self._dying: dict[str, None] = {}  # told, and not alive
        self._untold: dict[str, None] = {}  # their twins have news
        self._dropped: dict[str, int] = {}  # samples by policy, as told last
        self._known = False  # all devices that are declared
        self._connection: Connection | None = None
        self._link: SequencedLink | None = None  # once the node is born
        self._ready: Callable[[Link], None] | None = None  # until records may go out
        self._since_s = self._born_s = 0.0
        self._rebirth = self._soon = False
        self._next: tuple[str, _Birth | None] = ("", None)  # of the record encoded last; to be born

    def opened(self, sender: Sender, home: Path, epoch: int) -> None:
        self._sender = sender
        self._number = SessionNumber(home / "sparkplug")

    # -- the session

    def will(self) -> Will:
        self._number.next()
        return Will(self.topics.death, births.node_death(self._number.value, _now_ms()), retain=False)

    def connected(self, connection: Connection, ready: Callable[[Link], None]) -> None:
        self._connection, self._ready, self._since_s = connection, ready, self._clock()
        if self._host is None:
            self._begin()
        else:
            self.waits_for = f"waits for the primary host, {self._host.topic}"
            log.info("%s", self.waits_for)

    def _begin(self) -> None:
        """Be born."""
        assert self._connection is not None
        self.waits_for = None
        self._link = SequencedLink(self._connection, self._sender.acknowledged, self._before_data)
        self._give_birth()
        log.info("born, %s", self.topics.birth)

    def _give_birth(self) -> None:
        """NBIRTH; all devices are to be told anew."""
        assert self._link is not None
        self._rebirth, self._born_s = False, self._clock()
        birth = births.node_birth(self._number.value, _now_ms(), __version__, self._dropped)
        self._link.begin(self.topics.birth, birth)
        self._all_are_gone()
        self._unborn = {name: None for name, device in self._devices if device.alive}
        self._link.holds = bool(self._unborn)

    def _all_are_gone(self) -> None:
        """Hosts know none of them."""
        for name, device in self._devices:
            device.there = device.born = False
            if not device.declared:
                self._devices.forget(name)
        for names in (self._unborn, self._dying, self._untold):
            names.clear()

    def disconnected(self, *, hung_up: bool = False) -> None:
        guilty = self._trial.disconnected(self._clock(), hung_up=hung_up)
        if guilty is not None:
            log.error("the broker hangs up on the birth of %s: it is not told for an hour", guilty)
        self._connection = self._link = self._ready = None
        self.waits_for = None
        self._all_are_gone()

    async def leave(self, patience_s: float) -> None:
        """The will, or its like, says it all."""

    def close(self, connection: Connection) -> None:
        self._go(connection, "closed by us")

    def _go(self, connection: Connection, reason: str) -> None:
        """Die, in order: MQTT 5 has the broker publish the will, 3.1.1 has us do it (section 5.2.3)."""
        if self._link is not None and not connection.v5:
            connection.publish_once(self.topics.death, births.node_death(self._number.value, _now_ms()))
        connection.close(reason, with_will=self._link is not None)

    # -- devices

    def declare(self, device: str, declaration: Declaration) -> None:
        table, quiet = self._shapes.of(declaration)
        known = self._devices[device]
        known.declared = True
        if table is not known.table:
            self._trial.forget(device)
            self._devices.redeclare(device, table, quiet)
            if known.alive:
                self._unborn[device] = None

    def retain(self, device: str, topic: str, payload: bytes) -> None:
        identity(device)  # raises here, to the caller
        known = self._devices.find(device)
        if known is None:
            if not payload:
                return
            known = self._devices[device]
        if topic == "twin/reported":
            known.twin = payload
            self._untold[device] = None
            if self._link is not None and not self._link.congested:
                self._tell_news(device, self._link)
            return
        known.state(payload)
        self._unborn.pop(device, None)
        self._dying.pop(device, None)
        if known.alive and not known.born:
            self._unborn[device] = None
        elif known.there and not known.alive:
            self._dying[device] = None
        elif not payload:
            self._devices.forget(device)

    def release(self, device: str) -> None:
        known = self._devices.find(device)
        if known is not None and known.there and self._link is not None:
            self._bury(device, self._link)
        for names in (self._unborn, self._dying, self._untold):
            names.pop(device, None)
        self._devices.forget(device)

    def forget_absent(self, exists: Callable[[str], bool]) -> None:
        self._known = True

    # -- out

    def payload(self, route: Route, body: bytes, late: bool) -> bytes:
        try:
            return self._payload(route, body, late)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:  # of another version, perhaps
            raise ValueError(f"it is not as it should be: {error!r}") from error

    def _payload(self, route: Route, body: bytes, late: bool) -> bytes:
        if not route.device:
            return self._gap(body)
        device = self._devices[route.device]
        if route.names is not None and device.born and device.alive and device.table is not None:
            first = self._first_alias(device)
            quick = device.table.encode(body, route.names, first, late, _now_ms())
            if quick is not None:
                self._next = route.device, None
                return quick
        return self._slowly(device, route, body, late)

    def _slowly(self, device: NodeDevice, route: Route, body: bytes, late: bool) -> bytes:
        """What is not usual, value by value."""
        if route.names is None:
            found = list(event(route.suffix, json.loads(body), _now_ms()))
            device.standing.update({one.name: one for one in found if "/alarm/" in one.name})
        else:
            found = list(telemetry(json.loads(self._encode(body, route.names))))
            if not device.alive and all(one.quality.startswith("Bad") for one in found):
                return b""  # its death says it
        if unknown := told.unknown(found, device.metrics):
            device.learn(unknown)
        self._next = route.device, None if device.born else self._birth(route.device, device, found)
        return self._data(device, found, late)

    def _gap(self, body: bytes) -> bytes:
        found = list(gap(json.loads(body)))
        self._dropped = {one.name.partition("/")[2]: one.value for one in found}
        return encode([told.metric(one, births.NODE_METRICS, None, False) for one in found], _now_ms())

    def _data(self, device: NodeDevice, found: Sequence[Told], late: bool) -> bytes:
        first = self._first_alias(device)
        return encode([told.metric(one, device.metrics, first, late) for one in found], _now_ms())

    def _first_alias(self, device: NodeDevice) -> int | None:
        return device.number << ALIAS_BITS if self._aliases else None

    def _before_data(self, topic: str) -> None:
        """The record that was encoded last is about to be published: hosts have to know its device."""
        if topic == self.topics.gap:
            return
        name, birth = self._next
        device = self._devices[name]
        if birth is not None and not device.born:
            self._bear(name, device, birth)
        device.told_s = self._clock()
        if not device.alive:
            self._dying[name] = None

    def _birth(self, name: str, device: NodeDevice, found: Sequence[Told] = ()) -> _Birth:
        """DBIRTH, with what is known; `found` is what comes after it. Raises TooLargeError."""
        known = {**{one.name: one for one in found}, **device.known()}
        birth = births.device_birth(device.metrics, known, self._first_alias(device), _now_ms())
        most = self._connection.max_packet_bytes if self._connection is not None else 1 << 28
        size = packet_bytes(self.topics.of(name, "DBIRTH"), birth)
        if size > most or self._trial.too_large(size, self._clock()):
            raise TooLargeError(f"the birth of {name}, {len(birth)} bytes, is more than the broker takes")
        return _Birth(birth, {one: known[one] for one in device.quiet if one in known})

    def _bear(self, name: str, device: NodeDevice, birth: _Birth) -> None:
        assert self._link is not None
        self._link.send(self.topics.of(name, "DBIRTH"), birth.payload)
        device.shown = birth.shown
        device.there = device.born = True
        self._unborn.pop(name, None)
        self._untold.pop(name, None)

    def _tell_of(self, name: str, device: NodeDevice) -> None:
        """It is alive, and hosts are to know it."""
        if self._trial.is_left_out(name, self._clock()):
            self._unborn.pop(name)
            return
        try:
            birth = self._birth(name, device)
        except TooLargeError as error:
            log.error("%s", error)
            self._unborn.pop(name)
            return
        self._bear(name, device, birth)
        self._trial.sent(name, packet_bytes(self.topics.of(name, "DBIRTH"), birth.payload))

    def _bury(self, name: str, link: SequencedLink) -> None:
        device = self._devices[name]
        device.there = device.born = False
        self._dying.pop(name, None)
        link.send(self.topics.of(name, "DDEATH"), births.device_death(_now_ms()))
        if not device.declared:  # it was deleted, or is only known from what waited
            self._devices.forget(name)

    def _tell_news(self, name: str, link: SequencedLink) -> None:
        """Data of the moment, which nobody keeps."""
        self._untold.pop(name)
        device = self._devices.find(name)
        news = device.news() if device is not None and device.born and device.alive else ()
        if device is not None and news:
            link.send(self.topics.device(name, ""), self._data(device, news, False))

    # -- in

    def message(self, topic: str, payload: bytes, retained: bool, correlation: bytes | None) -> None:
        if self._host is not None and topic == self._host.topic:
            if self._host.heard(payload):
                self._host_changed()
        elif len(payload) > self._inbox.max_payload_bytes:
            self._refuse(topic, f"{len(payload)} bytes are too many")
        elif topic == self.topics.command:
            self._rebirth |= commands.asks_for_rebirth(payload)
        elif topic.startswith(self.topics.commands) and not retained:
            self._command(topic, payload)
        else:
            self._inbox.refused += 1

    def _refuse(self, topic: str, why: str) -> None:
        self._inbox.refused += 1
        if self._inbox.refused.bit_count() == 1:  # the 1st, 2nd, 4th, ...: not to fill the log
            log.warning("%s refused: %s", topic, why)

    def _command(self, topic: str, payload: bytes) -> None:
        try:
            asked = commands.asked(topic.removeprefix(self.topics.commands), payload, self._devices)
        except ValueError as error:
            self._refuse(topic, str(error))
            return
        for command in asked:
            self._inbox.take(command, topic)

    def _host_changed(self) -> None:
        assert self._host is not None
        if self._host.online and self._link is None and self._connection is not None:
            self._begin()
        elif not self._host.online and self._link is not None and self._connection is not None:
            self._go(self._connection, f"the primary host is offline, {self._host.topic}")

    # -- again and again

    def tend(self) -> None:
        link, now_s = self._link, self._clock()
        if link is None:
            return
        if self._rebirth and now_s - self._born_s >= REBIRTH_S:
            log.info("a host asks who is here: all are told anew")
            self._give_birth()
        turn = self._trial.turn(self._unborn)
        self._in_time(turn, link, lambda name: self._tell_of(name, self._devices[name]))
        if asked := self._trial.under_way:
            link.settle(lambda: self._births_arrived(asked))
        waits = self._unborn or self._trial.careful
        if waits and (link.holds or self._ready is not None):
            return
        link.holds = False
        if self._ready is not None and (self._known or now_s - self._since_s >= KNOWN_S):
            ready, self._ready = self._ready, None
            ready(link)
        self._in_time(self._untold, link, lambda name: self._tell_news(name, link))
        silent = [name for name in self._dying if now_s - self._devices[name].told_s >= _LAST_WORDS_S]
        self._in_time(silent, link, lambda name: self._bury(name, link))

    def _births_arrived(self, names: Sequence[str]) -> None:
        self._trial.answered(names, self._clock())
        self._go_on_soon()

    def _in_time(self, names: Iterable[str], link: SequencedLink, act: Callable[[str], None]) -> None:
        """As many as may be at once; the others' turn comes soon."""
        end_s = self._clock() + _BURST_S
        for name in list(names):
            if link.behind:
                return
            if self._clock() > end_s:
                self._go_on_soon()
                return
            act(name)

    def _go_on_soon(self) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._soon = False
        self.tend()


def _now_ms() -> int:
    return time.time_ns() // 10**6
