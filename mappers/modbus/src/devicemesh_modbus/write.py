"""Writes: the right function for each place, its echo checked, the value read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from devicemesh.mapper import Outcome, PointError, Write
from devicemesh_modbus import answers
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.exchange import Shared, exchange
from devicemesh_modbus.image import equal, image, merged, registers, value_of
from devicemesh_modbus.link import Ask
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.plan import FUNCTIONS, ModbusPoint, data_size, rejection

ModbusWrite: TypeAlias = Write[ModbusEndpoint, ModbusAddress]
SILENT_WRITES = 2
"""Unanswered writes in a row after which a unit is left alone: one register of a living unit may be dead."""
SILENT_PAUSE_S = 1.0
"""For how long; then one write is tried."""
SINGLE_COIL, SINGLE, MULTIPLE_COILS, MULTIPLE, MASK = 5, 6, 15, 16, 22


@dataclass(slots=True)
class _Silence:
    """Writes of a unit that were not answered."""

    count: int  # in a row
    until: float  # no other is tried before
    last: Outcome


class Writer:
    """Writes in order, one outcome each; see `Writable.write`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._lacks: set[tuple[int, int]] = set()  # (unit, function) that was refused as unknown
        self._silent: dict[int, _Silence] = {}  # by unit

    async def write(self, writes: Sequence[ModbusWrite]) -> list[Outcome]:
        return [await self._spared(one) for one in writes]

    async def _spared(self, write: ModbusWrite) -> Outcome:
        """Write, unless the unit is silent: many writes of a dead unit must not hold up its neighbours."""
        unit, clock = write.point.endpoint.unit, self._shared.clock
        silence = self._silent.get(unit)
        if silence is not None and silence.count >= SILENT_WRITES and clock() < silence.until:
            return silence.last
        outcome = await self._write(write)
        if isinstance(outcome.error, answers.SilentError) and outcome.value is None:
            count = silence.count + 1 if silence is not None else 1
            self._silent[unit] = _Silence(count, clock() + SILENT_PAUSE_S, outcome)
        else:
            self._silent.pop(unit, None)
        return outcome

    async def _write(self, write: ModbusWrite) -> Outcome:
        point = write.point
        wrong = point.address.refusal(point.type, "ReadWrite") or rejection(point, self._shared.opened)
        if wrong:
            return Outcome(error=PointError(wrong, reason="NotWritable"))
        try:
            data, mask = self._image(write)
        except ValueError as error:
            return Outcome(error=PointError(f"{point.name}: {error}", reason="OutOfRange"))
        doubt: answers.SilentError | answers.MalformedError | None = None
        try:
            await self._put(point, data, mask)
        except (answers.SilentError, answers.MalformedError) as error:
            if point.endpoint.unit in self._shared.quiet:
                return Outcome(error=error)  # it has been silent all along
            doubt = error  # it may have been written: the read-back tells
        except PointError as error:
            return Outcome(error=error)
        try:
            back = await self.read(point)
        except PointError:
            return Outcome(error=doubt)
        value, _ = value_of(point.address, point.type, back)
        written = isinstance(doubt, answers.SilentError) and equal(back, data, mask)
        return Outcome(value, None if written else doubt)

    @staticmethod
    def _image(write: ModbusWrite) -> tuple[bytes, bytes]:
        address = write.point.address
        if address.is_bit:
            return bytes((bool(write.value),)), b"\1"
        return image(address, write.point.type, write.value)

    async def _put(self, point: ModbusPoint, data: bytes, mask: bytes) -> None:
        """Write with the first function that the unit knows."""
        unit = point.endpoint.unit
        known = _functions(point, mask)
        functions = [f for f in known if (unit, f) not in self._lacks] or known
        for function in functions:
            whole = data
            if function != MASK and not _is_whole(mask) and not point.address.is_bit:
                whole = merged(await self.read(point), data, mask)
            try:
                await self._send(point, function, whole, mask)
                return
            except answers.RefusedError as refusal:
                if refusal.code != answers.ILLEGAL_FUNCTION or function == functions[-1]:
                    raise
                self._lacks.add((unit, function))

    async def _send(self, point: ModbusPoint, function: int, data: bytes, mask: bytes) -> None:
        if function == MASK:
            words = [registers(mask)[0] ^ 0xFFFF, registers(data)[0]]
        else:
            words = list(data) if point.address.is_bit else registers(data)
        endpoint = point.endpoint
        ask = self._shared.requests.write(
            endpoint.unit, function, point.address.offset, words,
            timeout_s=endpoint.timeout_s, pause_s=endpoint.pause_s,
        )  # fmt: skip
        what = point.address.text(point.type)
        await exchange(self._shared, ask, 1, lambda answer: self._check_echo(ask, answer, what))
        self._shared.answered(endpoint.unit)

    def _check_echo(self, ask: Ask, answer: bytes, what: str) -> None:
        who = self._shared.who(ask.unit)
        answers.check(answer, ask.function, who, what)
        expected = ask.pdu[:5] if ask.function in (MULTIPLE_COILS, MULTIPLE) else ask.pdu
        if answer != expected:
            raise answers.MalformedError(
                f"{who} confirmed {answer.hex(' ')} instead of {expected.hex(' ')} for {what}"
            )

    async def read(self, point: ModbusPoint) -> bytes:
        """The data of an answer that holds just this point. Raises `PointError`."""
        data, _ = await exchange(
            self._shared, self.ask(point), point.endpoint.tries, lambda answer: self.judge(point, answer)
        )
        return bytes(data)

    def ask(self, point: ModbusPoint) -> Ask:
        """The request that reads just this point."""
        endpoint, address = point.endpoint, point.address
        return self._shared.requests.read(
            endpoint.unit, address.table, address.offset, address.span(point.type),
            timeout_s=endpoint.timeout_s, pause_s=endpoint.pause_s,
        )  # fmt: skip

    def judge(self, point: ModbusPoint, answer: bytes) -> memoryview:
        """The data in the answer to `ask(point)`."""
        address = point.address
        size = data_size(address.table, address.span(point.type))
        who = self._shared.who(point.endpoint.unit)
        return answers.data(answer, FUNCTIONS[address.table], size, who, address.text(point.type))


def _is_whole(mask: bytes) -> bool:
    return mask == b"\xff" * len(mask)


def _functions(point: ModbusPoint, mask: bytes) -> list[int]:
    """The functions that can write this point, the preferred first."""
    address, wanted = point.address, point.address.write_function
    if address.is_bit:
        possible = {"single": SINGLE_COIL, "multiple": MULTIPLE_COILS}
    elif address.span(point.type) > 1:
        possible = {"multiple": MULTIPLE}
    elif _is_whole(mask):
        possible = {"single": SINGLE, "multiple": MULTIPLE}
    else:
        possible = {"mask": MASK, "single": SINGLE, "multiple": MULTIPLE}
    if wanted == "mask":
        return [MASK]
    return [function for name, function in possible.items() if wanted in (None, name)]
