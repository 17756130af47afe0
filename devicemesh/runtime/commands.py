"""What clients ask of devices over the sink: desired values into the store, commands onto the wire."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from devicemesh.aggregate import Aggregator
from devicemesh.mapper import Invocation
from devicemesh.runtime.device import RunningDevice, without
from devicemesh.runtime.link import Link
from devicemesh.runtime.reporter import properties
from devicemesh.runtime.supervisor import Supervisor
from devicemesh.sink.base import Command, Sink
from devicemesh.spec.device import Command as Declared
from devicemesh.store.base import Key, NotFoundError, Store, StoreUnavailableError
from devicemesh.twin import Attempt

log = logging.getLogger("devicemesh.commands")


class Commands:
    """Every command gets one answer per property, on the `.../result` topic beside its own."""

    def __init__(self, store: Store, sink: Sink, supervisor: Supervisor, aggregator: Aggregator) -> None:
        self._aggregator = aggregator
        self._store = store
        self._sink = sink
        self._supervisor = supervisor

    async def handle(self, command: Command) -> None:
        """Never raises: what is wrong is the answer."""
        namespace, _, name = command.device.partition("/")
        device = self._supervisor.devices.get(Key("Device", namespace, name))
        if device is None:
            self._answer(command, {"state": "refused", "reason": "UnknownDevice"})
            return
        if command.kind == "read":
            self._read(command, device)
            return
        await (self._command if command.kind == "command" else self._desired)(command, device)

    def _read(self, command: Command, device: RunningDevice) -> None:
        """The newest readings as `twin/reported` has them, which may be told later."""
        _, reported = properties(device, self._aggregator.snapshot(device.column))
        self._answer(command, {"state": "applied", "reported": json.loads(reported)})

    async def _desired(self, command: Command, device: RunningDevice) -> None:
        if not isinstance(command.body, dict):
            message = 'the payload must be a JSON object, as in {"speed": 1200}'
            self._answer(command, {"state": "refused", "reason": "BadPayload", "message": message})
            return
        if command.kind == "write":
            self._anew(device, command.body)
        for prop, answer in (await self.desire(device, command.body, "mqtt", command.id)).items():
            if answer["state"] != "accepted":  # what becomes of it is told once it is known
                self._answer(command, {"property": prop[:64], **answer})

    def _anew(self, device: RunningDevice, values: Mapping[str, Any]) -> None:
        """Write those that are desired already as if they were edited: somebody acts, and sees others."""
        if known := {prop for prop, value in values.items() if device.wants(prop, value)}:
            device.anew(known)
            link = self._supervisor.link_of(device)
            link.writeback.resume()  # not all stores tell of an edit that changes nothing
            link.wake()

    async def desire(
        self, device: RunningDevice, values: Mapping[str, Any], owner: str, identity: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """Edit desired values in the store, which is all; None takes one back. `owner`: who asks.

        Returns what is known at once of each: `accepted` is on its way to the device, `refused` would not
        be taken by the model, `failed` has not reached the store. One that changes nothing, or is taken
        back, is answered as it stands. `identity` comes back with what becomes of those on their way.
        """
        refusals = {prop: _refusal(device, prop, value) for prop, value in values.items()}
        answers = {p: _refused(values[p], why) for p, why in refusals.items() if why is not None}
        good = {prop: value for prop, value in values.items() if refusals[prop] is None}
        unchanged = [p for p, v in good.items() if device.bound.desired.get(p, ...) == v]
        if identity is not None:
            device.desired_ids = {**device.desired_ids, **dict.fromkeys(good, identity)}
        try:
            if good:
                await self._store.set_desired(device.bound.key, good, owner)
        except (NotFoundError, StoreUnavailableError) as error:
            return answers | {prop: _failed(value, str(error)) for prop, value in good.items()}
        for prop, value in good.items():
            attempt = device.attempts.get(prop)
            if value is None:  # taken back: nothing is written
                device.desired_ids = without(device.desired_ids, prop)
                answers[prop] = {"state": "applied", "value": None}
            elif prop not in unchanged or prop in device.edited:
                answers[prop] = {"state": "accepted", "value": value}
            else:  # nothing will change: say how it stands
                answers[prop] = outcome(attempt) if attempt else {"state": "waiting", "value": value}
        return answers

    async def _command(self, command: Command, device: RunningDevice) -> None:
        self._answer(command, await self.run(device, command.name, command.body))

    async def run(self, device: RunningDevice, name: str, body: Any) -> dict[str, Any]:
        """Do a command once, now or not at all; `body` holds a call's arguments. Returns the answer."""
        known = device.bound.commands.get(name)
        if known is None:
            return {"state": "refused", "reason": "UnknownCommand"}
        return await (self._call(device, known, body) if known.is_call else self._write(device, known))

    async def _write(self, device: RunningDevice, known: Declared) -> dict[str, Any]:
        writes = [(w.property, w.value) for w in known.writes]
        for prop, value in writes:
            refusal = device.specs[prop].refusal(value) if prop in device.specs else f"no property `{prop}`"
            if refusal:
                return {"state": "refused", "reason": "Refused", "message": refusal}
        link = self._supervisor.link_of(device)
        if down := _down(device, link):
            return down
        done = await link.writeback.command(device.name, writes)
        worst = next((a for a in done.values() if a.state != "applied"), None)
        results = {prop: outcome(attempt) for prop, attempt in done.items()}
        return {"state": worst.state if worst else "applied", "properties": results}

    async def _call(self, device: RunningDevice, known: Declared, body: Any) -> dict[str, Any]:
        try:
            arguments = known.accept(body)
        except ValueError as error:
            return {"state": "refused", "reason": "BadArguments", "message": str(error)}
        address = device.bound.shape.calls.get(known.name)
        if address is None:
            message = f"`{known.name}` has no {device.bound.mapper.protocol} address"
            return {"state": "refused", "reason": "NoAddress", "message": message}
        if device.bound.paused:
            return {"state": "refused", "reason": "Paused", "message": "paused in its declaration"}
        link = self._supervisor.link_of(device)
        if down := _down(device, link):
            return down
        types = {one.name: one.type for one in known.arguments}
        endpoint = device.bound.endpoint
        call = Invocation(device.name, known.name, endpoint, address, arguments, types)
        done = await link.writeback.call(call)
        if done.state == "applied":
            return {"state": "applied", "result": dict(done.result)}
        return {"state": done.state, "reason": done.reason, "message": done.message}

    def settled(self, device: RunningDevice, prop: str, attempt: Attempt) -> None:
        """A desired value was applied or refused: tell the clients."""
        body: dict[str, Any] = {"property": prop, **outcome(attempt)}
        if identity := device.desired_ids.get(prop):
            device.desired_ids = without(device.desired_ids, prop)
            body["id"] = identity
        self._sink.event(device.name, "twin/desired/result", body)

    def _answer(self, command: Command, body: Mapping[str, Any]) -> None:
        topic = f"command/{command.name}/result" if command.kind == "command" else "twin/desired/result"
        identity = {"id": command.id} if command.id else {}
        self._sink.event(command.device, topic, {**body, **identity})


def outcome(attempt: Attempt) -> dict[str, Any]:
    """An attempt as clients read it."""
    body: dict[str, Any] = {"state": attempt.state, "value": attempt.value}
    if attempt.state != "applied":
        body |= {"reason": attempt.reason, "message": attempt.message}
    return body


def _down(device: RunningDevice, link: Link) -> dict[str, Any] | None:
    """The answer where the link is down: a command is never kept for later."""
    if link.stats.up:
        return None
    reason, message = device.trouble or ("NoLink", "the link is down")
    return {"state": "failed", "reason": reason, "message": message}


def _refusal(device: RunningDevice, prop: str, value: Any) -> str | None:
    spec = device.specs.get(prop)
    if spec is None:
        return f"the model has no property `{prop[:64]}`"
    return None if value is None else spec.refusal(value)  # null takes a desired value back


def _refused(value: Any, message: str) -> dict[str, Any]:
    return {"state": "refused", "reason": "Refused", "message": message, "value": value}


def _failed(value: Any, message: str) -> dict[str, Any]:
    return {"state": "failed", "value": value, "reason": "StoreUnavailable", "message": message}
