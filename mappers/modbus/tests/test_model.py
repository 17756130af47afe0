"""What may be declared, and what is said about mistakes."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from typing import Any

import pytest
from devicemesh_modbus.endpoint import ModbusEndpoint
from devicemesh_modbus.model import ModbusAddress
from devicemesh_modbus.uri import format_endpoint, parse_address, parse_endpoint
from pydantic import ValidationError

from devicemesh.mapper import ConfigError
from devicemesh.spec.values import ValueType as V

LINE = {"port": "/dev/ttyUSB0"}


def address(**fields: Any) -> ModbusAddress:
    return ModbusAddress.model_validate({"table": "holding", "offset": 100, **fields})


@pytest.mark.parametrize(
    ("fields", "kind", "link", "tries"),
    [
        ({"host": "10.0.0.5"}, "tcp", "10.0.0.5:502", 1),
        ({"host": "PLC.local", "port": 1502}, "tcp", "plc.local:1502", 1),
        ({"host": "::1"}, "tcp", "[::1]:502", 1),
        ({"host": "plc", "tls": {"caFile": "ca.pem"}}, "tls", "plc:802", 1),
        ({"host": "plc", "transport": "udp"}, "udp", "plc:502", 2),
        ({"host": "plc", "transport": "rtuovertcp", "retries": 0}, "rtuovertcp", "plc:502", 1),
        ({"host": "plc", "transport": "asciiovertcp"}, "asciiovertcp", "plc:502", 2),
        ({"serial": LINE}, "serial", "/dev/ttyUSB0", 2),
        ({"serial": {**LINE, "mode": "ascii"}}, "serial", "/dev/ttyUSB0", 2),
        ({"listen": "0.0.0.0:5020"}, "tcp", "listen 0.0.0.0:5020", 1),
        ({"listen": "[::]:5020", "transport": "rtuovertcp"}, "rtuovertcp", "listen [::]:5020", 2),
    ],
)
def test_what_follows_from_what_is_given(fields: dict[str, Any], kind: str, link: str, tries: int) -> None:
    endpoint = ModbusEndpoint.model_validate(fields)
    assert (endpoint.kind, endpoint.link(), endpoint.tries) == (kind, link, tries)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give one of `host`, `serial` and `listen`"),
        ({"host": "plc", "serial": LINE}, "give one of `host`, `serial` and `listen`"),
        ({"host": "plc", "listen": "0.0.0.0:5020"}, "give one of `host`, `serial` and `listen`"),
        ({"listen": "plc:5020"}, "no address to listen on: write it like 0.0.0.0:PORT"),
        ({"listen": "0.0.0.0"}, "no address to listen on"),
        ({"listen": "0.0.0.0:0"}, "no address to listen on"),
        ({"listen": "0.0.0.0:5020", "port": 5020}, "`listen` has its port at its end"),
        ({"listen": "0.0.0.0:5020", "transport": "udp"}, "`udp` does not go with `listen`: tcp, rtuovertcp"),
        ({"listen": "0.0.0.0:5020", "tls": {}}, "`tls` does not go with `listen`"),
        ({"listen": "0.0.0.0:5020", "pipeline": 2}, "`pipeline` goes with `host`"),
        ({"host": "plc", "registration": "86"}, "`registration` goes with `listen`"),
        ({"listen": "0.0.0.0:5020", "registration": 860000000000001}, "put it into quotes"),
        ({"listen": "0.0.0.0:5020", "registration": ""}, "at least 1 character"),
        ({"listen": "0.0.0.0:5020", "registration": "hex:zz"}, "'hex:zz' is not hexadecimal"),
        ({"listen": "0.0.0.0:5020", "registration": "hex:"}, "1 to 256 bytes"),
        ({"listen": "0.0.0.0:5020", "registration": "8" * 257}, "1 to 256 bytes"),
        ({"serial": LINE, "port": 502}, "a serial line has its `port` inside `serial`"),
        ({"serial": LINE, "transport": "tcp"}, "transport `tcp` does not go with `serial`"),
        ({"host": "plc", "transport": "serial"}, "transport `serial` does not go with `host`"),
        ({"host": "plc", "transport": "udp", "tls": {}}, "transport `udp` knows no `tls`"),
        ({"serial": {**LINE, "dataBits": 7}}, "RTU needs 8 data bits"),
        ({"serial": LINE, "unit": 0}, "nobody answers it"),
        ({"host": "plc", "transport": "rtuovertcp", "pipeline": 2}, "answers can't be told apart"),
        ({"host": "plc", "pipeline": 2, "pauseBetweenRequests": "5ms"}, "exclude each other"),
        (
            {"host": "plc", "forbidden": [{"table": "holding", "start": 9, "end": 3}]},
            "`end` 3 is before `start` 9",
        ),
        ({"host": "plc", "timeout": "0s"}, "out of range"),
        ({"host": "plc", "unit": 256}, "less than or equal to 255"),
        ({"host": "plc", "timeot": "1s"}, "Extra inputs"),
    ],
)
def test_an_endpoint_that_makes_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModbusEndpoint.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": "coil", "bit": 3}, "a coil is one bit: it has no `bit`"),
        ({"table": "discrete", "scale": 2}, "a discrete is one bit: it has no `scale`"),
        ({"bits": 3}, "`bits` needs `bit`"),
        ({"table": "input", "writeFunction": "single"}, "input registers can only be read"),
        ({"table": "coil", "writeFunction": "mask"}, "`mask` is for holding registers"),
        ({"offset": 65536}, "less than or equal to 65535"),
    ],
)
def test_an_address_that_makes_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        address(**fields)


@pytest.mark.parametrize(
    ("fields", "type_", "access", "message"),
    [
        ({"table": "input"}, V.UINT16, "ReadWrite", "input registers can only be read"),
        ({"table": "discrete"}, V.BOOL, "WriteOnly", "discrete inputs can only be read"),
        ({"table": "coil"}, V.FLOAT32, "ReadOnly", "a coil is a bool, not a float32"),
        ({}, V.JSON, "ReadOnly", "Modbus carries no json"),
        ({}, V.STRING, "ReadOnly", "a string needs `length`, in registers"),
        ({}, V.BYTES, "ReadOnly", "a bytes needs `length`"),
        ({"length": 2}, V.UINT32, "ReadOnly", "`length` is for string and bytes"),
        ({"type": "uint16"}, V.STRING, "ReadOnly", "give `enum`, or type string and `length`"),
        ({"type": "string", "length": 2}, V.UINT16, "ReadOnly", "a uint16 can't be made from a string"),
        ({"enum": {0: "off"}}, V.UINT16, "ReadOnly", "the property must be a string"),
        ({"enum": {0: "off"}, "type": "float32"}, V.STRING, "ReadOnly", "not of a float32"),
        ({"type": "float32"}, V.BOOL, "ReadOnly", "a bool can't be made from a float32"),
        ({"add": 5}, V.BOOL, "ReadOnly", "a bool can't be made from a bool with `scale` or `add`"),
        (
            {"type": "uint16", "bit": 3, "scale": 10},
            V.BOOL,
            "ReadWrite",
            "from a uint16 with `scale` or `add`",
        ),
        ({"offset": 65535}, V.FLOAT32, "ReadOnly", "holding 65535..65536 reaches past the last register"),
        ({"bit": 16}, V.BOOL, "ReadOnly", "bit 16 and 1 bits reach out of 16 bits"),
        ({"bit": 12, "bits": 5}, V.UINT8, "ReadOnly", "reach out of 16 bits"),
        ({"scale": 0}, V.FLOAT32, "ReadOnly", "scale not 0"),
        ({"writeFunction": "single"}, V.UINT32, "ReadWrite", "writes one register, not 2"),
    ],
)
def test_a_property_that_can_not_live_there(
    fields: dict[str, Any], type_: V, access: str, message: str
) -> None:
    refusal = address(**fields).refusal(type_, access)
    assert refusal is not None and message in refusal


@pytest.mark.parametrize(
    ("fields", "type_", "text"),
    [
        ({}, V.UINT16, "holding 100"),
        ({}, V.FLOAT64, "holding 100..103"),
        ({"length": 8}, V.STRING, "holding 100..107"),
        ({"bit": 3}, V.BOOL, "holding 100 bit 3"),
        ({"bit": 4, "bits": 3}, V.UINT8, "holding 100 bit 4..6"),
        ({"type": "uint32", "bit": 20}, V.BOOL, "holding 100..101 bit 20"),
        ({}, V.INT8, "holding 100"),
        ({"enum": {0: "off"}}, V.STRING, "holding 100"),
        ({"table": "coil"}, V.BOOL, "coil 100"),
        ({"noValue": 32768, "scale": 0.1, "type": "int16"}, V.FLOAT64, "holding 100"),
    ],
)
def test_a_property_that_can(fields: dict[str, Any], type_: V, text: str) -> None:
    one = address(**fields)
    assert one.refusal(type_, "ReadOnly") is None
    assert one.text(type_) == text


@pytest.mark.parametrize(
    ("one", "type_", "other", "other_type", "collides"),
    [
        ({}, V.FLOAT32, {"offset": 101}, V.UINT16, True),
        ({}, V.FLOAT32, {}, V.UINT32, True),
        ({"wordOrder": "little"}, V.UINT32, {}, V.UINT32, True),
        ({"scale": 0.1}, V.FLOAT32, {}, V.FLOAT32, False),
        ({}, V.FLOAT32, {"offset": 102}, V.FLOAT32, False),
        ({}, V.UINT16, {"bit": 3}, V.BOOL, False),
        ({}, V.UINT8, {"byteOrder": "little"}, V.UINT8, False),
        ({}, V.UINT16, {"table": "input"}, V.UINT32, False),
        ({"length": 9, "offset": 95}, V.BYTES, {}, V.UINT32, False),
        ({"length": 125}, V.STRING, {"offset": 224}, V.UINT16, True),
        ({"length": 125}, V.STRING, {"offset": 225}, V.UINT16, False),
    ],
)
def test_overlaps(
    one: dict[str, Any], type_: V, other: dict[str, Any], other_type: V, collides: bool
) -> None:
    first, second = address(**one), address(**other)
    there, back = first.overlap(second, type_, other_type), second.overlap(first, other_type, type_)
    assert (there is not None, back is not None) == (collides, collides)
    if there:
        assert first.text(type_) in there and second.text(other_type) in there
        (table, low, high), (other_table, other_low, other_high) = (
            first.extent(type_),
            second.extent(other_type),
        )
        assert table == other_table and low <= other_high and other_low <= high


def test_the_nearest_value_that_a_register_holds() -> None:
    assert address(type="int16", scale=0.1).nearest(V.FLOAT64, 200.04) == 200.0
    assert address(type="int16", scale=10.0).nearest(V.INT32, 1204) == 1200
    assert address(bit=3, bits=2).nearest(V.UINT16, 2) == 2
    assert address(table="coil").nearest(V.BOOL, True) is True
    assert address().nearest(V.FLOAT32, 0.1) == 0.10000000149011612


def test_conflicts_on_one_link_name_both_values() -> None:
    slow = ModbusEndpoint.model_validate({"serial": {**LINE, "baudrate": 9600}, "unit": 1, "timeout": "3s"})
    fast = ModbusEndpoint.model_validate({"serial": {**LINE, "baudrate": 19200}, "unit": 2})
    assert slow.link() == fast.link()
    assert slow.conflict(fast) == "baudrate 9600 and 19200"
    assert slow.conflict(slow.model_copy(update={"unit": 9, "timeout": "1s", "max_registers": 4})) is None
    tcp, rtu = ModbusEndpoint(host="plc"), ModbusEndpoint(host="plc", transport="rtuovertcp")
    assert tcp.conflict(rtu) == "transport tcp and rtuovertcp"
    lines = [ModbusEndpoint.model_validate({"serial": {**LINE, "mode": m}}) for m in ("rtu", "ascii")]
    assert lines[0].conflict(lines[1]) == "mode rtu and ascii"


def test_only_where_modems_dial_in_can_two_not_be_one() -> None:
    assert ModbusEndpoint(host="plc").claims() is None
    port = "0.0.0.0:5020"
    assert ModbusEndpoint(listen=port, unit=3).claims() == "unit 3 of a modem"
    assert ModbusEndpoint(listen=port, registration="86").claims() == "unit 1 of the modem 86"


def test_characters_of_a_line() -> None:
    def line(**fields: Any) -> tuple[int, float]:
        serial = ModbusEndpoint.model_validate({"serial": {**LINE, "baudrate": 9600, **fields}}).serial
        assert serial is not None
        return serial.character_bits, round(serial.byte_s * 9600)

    assert line() == (8, 11) and line(parity="none") == (8, 10)
    assert line(mode="ascii") == (7, 20), "7E1, and two characters a byte"
    assert line(mode="ascii", dataBits=8, stopBits=2, parity="none") == (8, 22)


def test_endpoints_by_the_thousand_share_what_is_equal() -> None:
    declared = json.dumps({"host": "10.0.0.5", "port": 15_000, "unit": 3, "breaker": {"failures": 5}})
    one, other = (ModbusEndpoint.model_validate(json.loads(declared)) for _ in range(2))
    assert one.host is other.host and one.port is other.port
    assert sys.getsizeof(vars(one)) < sys.getsizeof(dict(vars(one).items())), "its names are not its own"


def test_an_endpoint_that_shares_is_a_model_as_any_other() -> None:
    given = {"host": "10.0.0.5", "unit": 3, "breaker": {"failures": 5}}
    one, other = ModbusEndpoint.model_validate(given), ModbusEndpoint.model_validate({**given, "unit": 4})
    assert one != other and one == other.model_copy(update={"unit": 3})
    assert hash(one) == hash(other.model_copy(update={"unit": 3}))
    assert one.model_dump(exclude_unset=True) == given
    assert ModbusEndpoint.model_validate(one.model_dump(by_alias=True)) == one
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
    with pytest.raises(ValidationError, match="frozen"):
        one.unit = 4


def test_redirecting_keeps_the_devices_own_part() -> None:
    tcp = ModbusEndpoint(host="10.0.0.5", unit=7, timeout="2s").redirect("127.0.0.1:15020")
    assert (tcp.link(), tcp.unit, tcp.timeout, tcp.kind) == ("127.0.0.1:15020", 7, "2s", "tcp")
    assert ModbusEndpoint(host="plc").redirect("[::1]:15020").link() == "[::1]:15020"
    line = ModbusEndpoint.model_validate({"serial": {**LINE, "baudrate": 9600}, "unit": 7})
    pty = line.redirect("/dev/pts/4")
    assert (pty.link(), pty.kind, pty.serial and pty.serial.baudrate, pty.unit) == (
        "/dev/pts/4",
        "serial",
        9600,
        7,
    )
    assert (line.redirect("127.0.0.1:9").kind, line.redirect("127.0.0.1:9").unit) == ("rtuovertcp", 7)
    text = ModbusEndpoint.model_validate({"serial": {**LINE, "mode": "ascii"}})
    pty = text.redirect("/dev/pts/4")
    assert (pty.frames, pty.serial and pty.serial.character_bits) == ("ascii", 8)
    assert (text.redirect("127.0.0.1:9").kind, text.frames) == ("asciiovertcp", "ascii")
    over = ModbusEndpoint(host="plc", transport="asciiovertcp").redirect("/dev/pts/4")
    assert (over.kind, over.frames) == ("serial", "ascii")
    modem = ModbusEndpoint(listen="0.0.0.0:5020", registration="86", unit=7).redirect("127.0.0.1:9")
    assert (modem.link(), modem.registration, modem.unit) == ("listen 127.0.0.1:9", "86", 7)
    tls = ModbusEndpoint.model_validate({"host": "plc.local", "tls": {"caFile": "ca.pem"}}).redirect(
        "127.0.0.1:9"
    )
    assert tls.tls is not None and (tls.kind, tls.tls.server_name) == ("tls", "plc.local")


@pytest.mark.parametrize(
    ("uri", "link", "kind", "unit", "told"),
    [
        ("modbus://10.0.0.5:502/3", "10.0.0.5:502", "tcp", 3, True),
        ("modbus://10.0.0.5", "10.0.0.5:502", "tcp", 1, False),
        ("modbus+udp://10.0.0.5:5020/0", "10.0.0.5:5020", "udp", 0, True),
        ("modbus+tls://plc/1?caFile=/etc/ca.pem", "plc:802", "tls", 1, True),
        ("modbus+rtu://10.0.0.5:4001/9", "10.0.0.5:4001", "rtuovertcp", 9, True),
        ("modbus+serial:///dev/ttyUSB0?baudrate=9600&parity=none&unit=3", "/dev/ttyUSB0", "serial", 3, True),
        ("modbus+ascii://10.0.0.5:4001/9", "10.0.0.5:4001", "asciiovertcp", 9, True),
        ("modbus+serial:///dev/ttyUSB0?mode=ascii&unit=3", "/dev/ttyUSB0", "serial", 3, True),
        ("modbus+listen://0.0.0.0:5020", "listen 0.0.0.0:5020", "tcp", 1, False),
        (
            "modbus+listen://[::]:5020/7?registration=86&transport=rtuovertcp",
            "listen [::]:5020",
            "rtuovertcp",
            7,
            True,
        ),
        ("modbus://[::1]:1502/1?timeout=250ms", "[::1]:1502", "tcp", 1, True),
    ],
)
def test_uris(uri: str, link: str, kind: str, unit: int, told: bool) -> None:
    endpoint, unit_told = parse_endpoint(uri)
    assert (endpoint.link(), endpoint.kind, endpoint.unit, unit_told) == (link, kind, unit, told)
    again, _ = parse_endpoint(format_endpoint(endpoint, 5))
    assert again.unit == 5 and endpoint.conflict(again) is None
    assert (again.registration, again.frames) == (endpoint.registration, endpoint.frames)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://10.0.0.5", "is not a Modbus URI: write it like modbus://"),
        ("modbus://", "is not a Modbus URI"),
        ("modbus://10.0.0.5:99999/1", "is not a Modbus URI"),
        ("modbus://10.0.0.5/300", "unit: "),
        ("modbus://10.0.0.5/1?timeot=1s", "timeot"),
        ("modbus+listen://", "listen: "),
        ("modbus+listen://plc:5020", "no address to listen on"),
        ("modbus+serial://ttyUSB0", "is not a Modbus URI"),
        ("modbus+serial:///dev/ttyUSB0?baudrate=fast", "baudrate"),
    ],
)
def test_uris_that_are_none(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_endpoint(uri)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("holding:100", {}),
        ("holding:0x64", {}),
        ("40101", {}),
        ("400101", {}),
        ("holding:100:float32", {"type": "float32"}),
        ("holding:100.3", {"bit": 3}),
        ("holding:100:string:8", {"type": "string", "length": 8}),
        ("coil:100", {"table": "coil"}),
        ("30101", {"table": "input"}),
        ("10101", {"table": "discrete"}),
        ("00101", {"table": "coil"}),
    ],
)
def test_short_forms_of_addresses(text: str, fields: dict[str, Any]) -> None:
    assert parse_address(text) == address(**fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100", "is not a Modbus address: write a table and an offset"),
        ("holding", "is not a Modbus address"),
        ("register:5", "table: "),
        ("holding:70000", "offset: "),
        ("holding:5:flaot32", "`flaot32` is not a type"),
        ("40000", "offset: "),
    ],
)
def test_short_forms_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_address(text)
