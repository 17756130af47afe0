"""One unit without I/O, by the bytes that the specification prints."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from devicemesh_modbus.model import ModbusAddress
from devicemesh_simulators.bank import Bank, room
from devicemesh_simulators.faults import Faults
from hypothesis import given
from hypothesis import strategies as st

from devicemesh.spec.values import ValueType


def register(name: str, offset: int, type_: str = "uint16", **more: Any) -> dict[str, Any]:
    """A writable holding register with a value; `modbus` and `access` override."""
    modbus = {"table": "holding", "offset": offset, **more.pop("modbus", {})}
    simulation = {k: more.pop(k) for k in ("signal", "value", "low", "high", "period", "step") if k in more}
    base = {"name": name, "type": type_, "access": "ReadWrite", "address": {"modbus": modbus}}
    return {**base, "simulation": simulation, **more}


def read(bank: Bank, first: int, count: int = 1, function: int = 3) -> bytes:
    answer = bank.answer(struct.pack(">BHH", function, first, count))
    assert answer[0] == function, answer.hex()
    return answer[2:]


Made = Callable[..., Bank]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({}, "42f6e979"),
        ({"wordOrder": "little"}, "e97942f6"),
        ({"byteOrder": "little"}, "f64279e9"),
        ({"byteOrder": "little", "wordOrder": "little"}, "79e9f642"),
    ],
)
def test_a_float_lies_in_its_declared_order(bank: Made, order: dict[str, str], expected: str) -> None:
    assert read(bank(register("a", 7, "float32", value=123.456, modbus=order)), 7, 2).hex() == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [({}, "00010000"), ({"wordOrder": "little"}, "00000001"), ({"byteOrder": "little"}, "01000000")],
)
def test_a_bit_of_two_registers_lies_in_its_declared_order(
    bank: Made, order: dict[str, str], expected: str
) -> None:
    bit = register("a", 0, "bool", value=True, modbus={"type": "uint32", "bit": 16, **order})
    assert read(bank(bit), 0, 2).hex() == expected


def test_parts_of_a_register_leave_each_other_alone(bank: Made) -> None:
    unit = bank(
        register("low", 0, "uint8", value=0x12, modbus={"bit": 0, "bits": 8, "type": "uint16"}),
        register("flag", 0, "bool", value=True, modbus={"type": "uint16", "bit": 15}),
        register("nibble", 0, "uint16", value=5, modbus={"bit": 8, "bits": 4}),
    )
    assert read(unit, 0).hex() == "8512"
    assert unit.answer(bytes.fromhex("16 0000 7fff 0000")).hex() == "1600007fff0000"
    assert read(unit, 0).hex() == "0512"


def test_a_mask_write_ends_the_signals_of_its_bits_only(bank: Made, clock: Any) -> None:
    wave = {"signal": "square", "period": "10s"}
    unit = bank(
        register("mine", 0, "bool", **wave, modbus={"type": "uint16", "bit": 0}),
        register("other", 0, "bool", **wave, modbus={"type": "uint16", "bit": 1}),
    )
    unit.answer(bytes.fromhex("16 0000 fffe 0001"))
    seen = set()
    for clock.seconds in range(0, 20, 2):
        seen.add(read(unit, 0)[1])
    assert seen == {0b01, 0b11}


def test_a_read_only_bit_beside_a_writable_one_is_left_as_it_is(bank: Made) -> None:
    unit = bank(
        register("start", 0, "bool", modbus={"type": "uint16", "bit": 0}),
        register("ok", 0, "bool", value=True, access="ReadOnly", modbus={"type": "uint16", "bit": 1}),
    )
    assert unit.answer(bytes.fromhex("06 0000 0001"))[0] == 6
    assert read(unit, 0).hex() == "0003"
    assert unit.answer(bytes.fromhex("16 0000 fffd 0000")).hex() == "9602"  # only the read-only one


def test_half_a_written_float_keeps_its_other_half(bank: Made) -> None:
    unit = bank(register("a", 0, "float32", value=1.5))
    unit.answer(bytes.fromhex("06 0001 0001"))
    assert read(unit, 0, 2).hex() == "3fc00001"


def test_64_bits_arrive_exactly(bank: Made, clock: Any) -> None:
    counter = register("n", 0, "uint64", signal="counter", step=2**52 + 1, period="1s", access="ReadOnly")
    unit = bank(counter)
    clock.seconds = 1001.5
    assert int.from_bytes(read(unit, 0, 4)) == 1001 * (2**52 + 1)
    written = bank(register("n", 0, "int64"))
    written.answer(struct.pack(">BHHBq", 16, 0, 4, 8, 2**62 + 1))
    assert int.from_bytes(read(written, 0, 4)) == 2**62 + 1


TYPES = st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32"])


@given(TYPES, st.sampled_from([1.0, 0.001, -0.1, 10.0]), st.floats(0, 500))
def test_a_property_wider_than_its_register_stops_at_its_end(
    declare: Any, wire: str, scale: float, moment: float
) -> None:
    """Neither refused nor wrapped: nobody declared how far the signal goes."""
    wide = register(
        "a", 0, "float64", signal="sine", access="ReadOnly", modbus={"type": wire, "scale": scale}
    )
    wide |= {"minimum": -1e6, "maximum": 1e6}
    unit = Bank("1", lambda: moment)
    unit.add(declare("device", [wide, register("neighbour", 9, value=77)]))
    assert read(unit, 0, 10)[-2:].hex() == "004d"


@pytest.mark.parametrize(
    ("address", "type_", "low", "high"),
    [
        ({}, "int16", -32768, 32767),
        ({"type": "uint16", "scale": 0.5, "add": -10}, "float64", -10, 32757.5),
        ({"bit": 3, "bits": 4}, "uint16", 0, 15),
        ({"bit": 3, "bits": 4}, "int16", -8, 7),
        ({"type": "uint8"}, "int64", 0, 255),
        ({"type": "int16", "scale": -2, "add": 1}, "int32", -65533, 65537),
        ({"type": "float16"}, "float64", -65504, 65504),
        ({"type": "uint64"}, "int8", 0, 127),
        ({"noValue": 0x8000}, "int16", -32767, 32767),
        ({"noValue": -1}, "uint16", 0, 65534),
        ({"noValue": 0}, "uint16", 1, 65535),
        ({"noValue": 7, "bit": 3, "bits": 4}, "int16", -8, 6),
    ],
)
def test_room_is_what_type_and_register_both_hold(
    address: dict[str, Any], type_: str, low: float, high: float
) -> None:
    held = room(ModbusAddress.model_validate({"table": "holding", "offset": 0, **address}), ValueType(type_))
    assert (held.low, held.high) == (low, high)


def test_a_simulated_device_may_say_that_it_has_no_value(bank: Made) -> None:
    """In the middle of its range there is no way round the code; of words there is."""
    assert read(bank(register("a", 0, value=7, modbus={"noValue": 7})), 0).hex() == "0007"
    words = {"table": "holding", "offset": 0, "enum": {1: "on", 2: "none"}, "noValue": 2}
    assert room(ModbusAddress.model_validate(words), ValueType.STRING).words == ("on",)


def test_holes_read_as_zero_and_outside_is_refused(bank: Made) -> None:
    unit = bank(register("a", 10, value=1), register("b", 20, value=2))
    assert read(unit, 10, 11).hex() == "0001" + "0000" * 9 + "0002"
    for first, count in ((9, 2), (20, 2), (21, 1), (65535, 1), (65535, 125)):
        assert unit.answer(struct.pack(">BHH", 3, first, count)).hex() == "8302"
        assert unit.answer(struct.pack(">BHH", 1, first, count)).hex() == "8102"
    assert unit.answer(struct.pack(">BHHB4s", 16, 20, 2, 4, b"full")).hex() == "9002"
    assert read(unit, 20).hex() == "0002"


def test_read_only_registers_refuse_writes_and_keep_their_value(bank: Made) -> None:
    unit = bank(
        register("a", 0, value=1), register("b", 1, value=2, access="ReadOnly"), register("c", 2, value=3)
    )
    for request in ("06 0001 0009", "10 0000 0003 06 000900090009", "16 0001 0000 0009"):
        answer = unit.answer(bytes.fromhex(request))
        assert answer.hex() == f"{int(request[:2], 16) | 0x80:02x}02"
    assert read(unit, 0, 3).hex() == "000100020003"


def test_a_written_value_stays_and_the_signal_is_over(bank: Made, clock: Any) -> None:
    unit = bank(register("a", 0, signal="ramp", low=0, high=100, period="10s"))
    before = read(unit, 0)
    clock.seconds = 5
    assert read(unit, 0) != before
    unit.answer(bytes.fromhex("06 0000 002a"))
    for clock.seconds in (6, 600):
        assert read(unit, 0).hex() == "002a"


def coil(name: str, offset: int, **simulation: Any) -> dict[str, Any]:
    address = {"modbus": {"table": "coil", "offset": offset}}
    return {
        "name": name, "type": "bool", "access": "ReadWrite", "address": address, "simulation": simulation,
    }  # fmt: skip


def test_noise_is_bounded_and_leaves_nothing_behind(bank: Made) -> None:
    unit = bank(
        register("declared", 0, value=1000),
        register("written", 1),
        register("part", 2, "uint16", value=8, modbus={"bit": 4, "bits": 4}),
        register("word", 3, "string", value="on", modbus={"type": "uint16", "enum": {0: "off", 1: "on"}}),
        coil("coil", 0),
    )
    unit.answer(bytes.fromhex("06 0001 03e8"))
    unit.answer(bytes.fromhex("05 0000 ff00"))
    honest = read(unit, 0, 4)
    unit.faults = Faults().switched("noise", {"value": "5"})
    seen: list[set[int]] = [set(), set(), set(), set()]
    for _ in range(200):
        for values, value in zip(seen, struct.unpack(">4H", read(unit, 0, 4)), strict=True):
            values.add(value)
        assert read(unit, 0, 1, function=1) == b"\x01"
    for values in seen[:2]:
        assert len(values) > 20
        assert 950 <= min(values) < max(values) <= 1050
    assert seen[2] == {8 << 4}  # 5 % of 8 is less than a step
    assert seen[3] == {1}
    unit.faults = unit.faults.switched("heal", {})
    assert read(unit, 0, 4) == honest


def test_noise_at_the_end_of_a_register_does_not_wrap(bank: Made) -> None:
    unit = bank(register("a", 0, value=65535))
    unit.faults = Faults(noise=0.5)
    assert {int.from_bytes(read(unit, 0)) for _ in range(50)} <= set(range(32767, 65536))


def test_read_and_write_in_one_request(bank: Made) -> None:
    unit = bank(register("a", 0, value=1), register("b", 1, value=2))
    assert unit.answer(bytes.fromhex("17 0000 0002 0001 0001 02 0007")).hex() == "170400010007"
    assert unit.answer(bytes.fromhex("17 0009 0002 0001 0001 02 0008")).hex() == "9702"
    assert read(unit, 1).hex() == "0007"  # what is refused is not half done


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("03 0000 0000", "8303"),
        ("03 0000 007e", "8303"),
        ("01 0000 07d1", "8103"),
        ("03 0000", "8303"),
        ("03", "8303"),
        ("06 0000 00", "8603"),
        ("06 0000 0001 00", "8603"),
        ("05 0000 0001", "8503"),
        ("0f 0000 0001 02 01", "8f03"),
        ("10 0000 0002 04 0001", "9003"),
        ("10 0000 0000 00", "9003"),
        ("17 0000 0001 0000 0000 00", "9703"),
        ("2b", "ab03"),
        ("2b 0d 01 00", "ab01"),
        ("2b 0e 05 00", "ab03"),
        ("2b 0e 04 07", "ab02"),
        ("07", "8701"),
        ("41 00", "c101"),
    ],
)
def test_a_malformed_request_gets_the_code_of_the_specification(
    bank: Made, request_: str, expected: str
) -> None:
    unit = bank(register("a", 0), coil("c", 0))
    assert unit.answer(bytes.fromhex(request_)).hex() == expected


@given(st.binary(min_size=1, max_size=260))
def test_no_request_breaks_it(declare: Any, request_: bytes) -> None:
    unit = Bank("1", lambda: 0.0)
    unit.add(declare("device", [register("a", 0, "float32"), coil("c", 0)]))
    assert unit.answer(request_)[0] & 0x7F == request_[0] & 0x7F


def test_identification_as_a_stream_and_one_by_one(bank: Made) -> None:
    unit = bank(register("a", 0))
    assert unit.answer(bytes.fromhex("2b0e0100"))[:9].hex() == "2b0e0181000003" + "000a"
    assert unit.answer(bytes.fromhex("2b0e0401")) == bytes.fromhex("2b0e0481000001" + "0106") + b"device"


def test_values_do_not_depend_on_who_else_is_read(bank: Made, clock: Any) -> None:
    def walk(name: str, offset: int) -> dict[str, Any]:
        return register(name, offset, signal="walk", low=0, high=60000, period="1ms")

    both, other = (bank(walk("a", 0), walk("b", 1)) for _ in range(2))
    clock.seconds = 0.5
    read(both, 0)
    clock.seconds = 1.0
    assert read(both, 1) == read(other, 1)


def test_each_property_and_each_seed_goes_its_own_way(declare: Any) -> None:
    walk = {"signal": "walk", "low": 0, "high": 60000, "period": "1ms", "step": 100}
    seen = set()
    for seed in "12":
        unit = Bank(seed, lambda: 1.0)
        unit.add(declare("device", [register("a", 0, **walk), register("b", 1, **walk)]))
        seen |= set(struct.unpack(">2H", read(unit, 0, 2)))
    assert len(seen) == 4


def test_two_devices_of_one_unit_are_one(declare: Any) -> None:
    unit = Bank("1", lambda: 0.0)
    unit.add(declare("one", [register("speed", 0, value=7)]))
    unit.add(declare("two", [register("speed", 0, value=9), register("more", 5, value=3)]))
    unit.answer(bytes.fromhex("06 0000 0001"))
    assert read(unit, 0, 6).hex() == "0001" + "0000" * 4 + "0003"


@pytest.mark.parametrize(
    "wrong",
    [
        register("a", 0, "float64", high=400, signal="sine", modbus={"type": "int16", "scale": 0.01}),
        register("a", 0, "string", value="hot", modbus={"type": "uint16", "enum": {0: "cold"}}),
        register("a", 0, "string", value="too long", modbus={"length": 2}),
    ],
)
def test_a_signal_that_does_not_fit_its_register_is_named_at_the_start(
    bank: Made, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"^default/device: a: "):
        bank(wrong)


@pytest.mark.parametrize("length", [1, 2, 40])
def test_texts_fit_whatever_their_length(bank: Made, length: int) -> None:
    unit = bank(
        register("text", 0, "string", modbus={"length": length}),
        register("blob", length, "bytes", modbus={"length": length}),
    )
    assert read(unit, 0).startswith(b"te")
    assert read(unit, length).startswith(b"bl")


def test_faults_add_up_and_heal() -> None:
    faults = (
        Faults()
        .switched("delay", {"value": "20ms"})
        .switched("drop", {})
        .switched("garbage", {"value": "2.5%"})
    )
    assert faults.words() == "every answer 20 ms late, 30 % unanswered, 2.5 % garbage"
    assert faults.switched("drop", {"value": "0"}).words() == "every answer 20 ms late, 2.5 % garbage"
    assert faults.switched("unplug", {}).words().split(", ")[1] == "silent"
    assert (
        Faults().switched("noise", {}).switched("exception", {}).words()
        == "exception 4, numbers off by up to 5 %"
    )
    assert faults.switched("heal", {}) == Faults()
    assert Faults().words() == "healthy"


@pytest.mark.parametrize(
    ("fault", "value", "words"),
    [
        ("unplugged", None, "`unplugged` is no fault: delay, drop, .*unplug, heal"),
        ("drop", "101", "101 is not a percentage"),
        ("drop", "lots", "'lots' is not a percentage"),
        ("drop", "nan", "nan is not a percentage"),
        ("exception", "4.5", "'4.5' is not an exception code: 1 to 255"),
        ("exception", "0", "not an exception code"),
        ("exception", "256", "not an exception code"),
        ("delay", "5", "'5' is not a duration"),
        ("heal", "drop", "`heal` takes no value"),
    ],
)
def test_a_wrong_fault_is_explained(fault: str, value: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Faults().switched(fault, {} if value is None else {"value": value})
