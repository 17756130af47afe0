"""An imported configuration reads what the other system reads.

Registers are served by pymodbus. What their system makes of them is taken from their sources, which are named;
of the ThingsBoard gateway it is what its converter of 3.8.5 printed for these registers.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

Bring = Callable[..., list[Any]]
Values = Callable[..., dict[str, dict[str, Any]]]
PI = (0x4048, 0xF5C3)
"""3.14 as an IEEE float, high register first."""


def types(documents: list[Any]) -> dict[str, str]:
    models = (one for one in documents if one["kind"] == "DeviceModel")
    return {prop["name"]: prop["type"] for model in models for prop in model["spec"]["properties"]}


def merged(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values of all devices: what reads registers of others as something else is in one of its own."""
    return {name: value for several in found.values() for name, value in several.items()}


KUBEEDGE = """
apiVersion: devices.kubeedge.io/{version}
kind: DeviceModel
metadata: {{name: plc}}
spec:
  properties:
{model}
---
apiVersion: devices.kubeedge.io/{version}
kind: Device
metadata: {{name: plc-1}}
spec:
  deviceModelRef: {{name: plc}}
  {device}
"""


def test_kubeedge_v1alpha2_swaps_and_types(bring: Bring, values: Values) -> None:
    """SwitchRegister reverses the registers, SwitchByte the bytes of each; ints have no sign (modbus-dmi)."""
    rows = [
        ("plain", "int", 0, 2, 1, False, False),
        ("bytes", "int", 0, 2, 1, True, False),
        ("words", "int", 0, 2, 1, False, True),
        ("both", "int", 0, 2, 1, True, True),
        ("pi", "float", 2, 2, 1, False, False),
        ("pi-words", "float", 4, 2, 1, False, True),
        ("far", "int", 6, 4, 1, False, True),
        ("high", "int", 10, 1, 1, False, False),
        ("tens", "int", 11, 1, 10, False, False),
        ("tenths", "int", 11, 1, 0.1, False, False),
        ("flag", "boolean", 12, 1, 1, True, False),
        ("name", "string", 13, 2, 1, True, False),
    ]
    model = "\n".join(
        f"  - {{name: {name}, type: {{{type_}: {{accessMode: ReadOnly}}}}}}" for name, type_, *_ in rows
    )
    visitors = "\n".join(
        f"  - {{propertyName: {name}, modbus: {{register: HoldingRegister, offset: {offset}, limit: {limit}, "
        f"scale: {scale}, isSwap: {str(swap).lower()}, isRegisterSwap: {str(words).lower()}}}}}"
        for name, _, offset, limit, scale, swap, words in rows
    )
    device = (
        "protocol: {modbus: {slaveID: 3}, common: {tcp: {ip: 192.0.2.1, port: 502}}}\n  propertyVisitors:\n"
        + visitors
    )
    made = bring(k_yaml=KUBEEDGE.format(version="v1alpha2", model=model, device=device))
    holding = [0x1122, 0x3344, *PI, PI[1], PI[0], 4, 3, 2, 1, 0x8000, 123, 0x0100, 0x6261, 0x0063]
    found = merged(values(made, {3: {"holding": holding}}))
    assert found == {
        "plain": 0x11223344, "bytes": 0x22114433, "words": 0x33441122, "both": 0x44332211,
        "pi": pytest.approx(3.14), "pi-words": pytest.approx(3.14), "far": 0x0001000200030004,
        "high": 32768, "tens": 1230, "tenths": pytest.approx(12.3), "flag": True, "name": "abc",
    }  # fmt: skip
    kinds = types(made)
    assert (kinds["high"], kinds["tens"], kinds["tenths"], kinds["far"]) == (
        "uint16",
        "int32",
        "float32",
        "uint64",
    )


def test_kubeedge_v1beta1_reads_one_register(bring: Bring, values: Values) -> None:
    """A float of one register is scaled, an int is not, and nothing is swapped (examples/temperature-sensor)."""
    model = "  - {name: t, type: FLOAT, accessMode: ReadWrite}\n  - {name: n, type: INT}\n  - {name: on, type: INT}"
    device = """protocol: {protocolName: modbus, configData: {communicateMode: TCP, ip: 192.0.2.1, port: "502", slaveID: 1}}
  properties:
  - name: t
    collectCycle: 10000000000
    visitors: {protocolName: modbus, configData: {dataType: float, register: HoldingRegister, offset: 0, limit: 1, scale: 0.1, isSwap: true}}
  - name: n
    visitors: {protocolName: modbus, configData: {dataType: int, register: HoldingRegister, offset: 1, limit: 1, scale: 0.1}}
  - name: on
    visitors: {protocolName: modbus, configData: {dataType: int, register: CoilRegister, offset: 1, limit: 1}}
"""
    made = bring(k_yaml=KUBEEDGE.format(version="v1beta1", model=model, device=device))
    found = values(made, {1: {"holding": [40235, 7], "coil": [False, True]}})["plc-1"]
    assert found == {"t": pytest.approx(4023.5), "n": 7, "on": True}
    assert made[0]["spec"]["properties"][0]["telemetry"] == {"samplingInterval": "10s"}


EDGEX = [
    # name, attributes, properties; registers from 0; device-modbus-go deviceclient.go, swap.go, transformresult.go
    ("plain", "startingAddress: 0", "valueType: Uint32", 0x11223344),
    ("bytes", "startingAddress: 0, isByteSwap: true", "valueType: Uint32", 0x22114433),
    ("words", 'startingAddress: "0", isWordSwap: "true"', "valueType: Uint32", 0x33441122),
    ("both", "startingAddress: 0, isByteSwap: true, isWordSwap: true", "valueType: Int32", 0x44332211),
    ("pi", "startingAddress: 2", "valueType: Float32", 3.14),
    ("pi-words", "startingAddress: 4, isWordSwap: true", "valueType: Float32", 3.14),
    ("small", "startingAddress: 6, isByteSwap: true", "valueType: Int16", -2),
    ("tenths", "startingAddress: 6, rawType: Int16", "valueType: Float32, scale: 0.1, offset: 5", 4.8),
    ("unsigned", "startingAddress: 6, rawType: Uint16", 'valueType: Float64, scale: "0.5"', 32767.0),
    ("tens", "startingAddress: 7", "valueType: Uint16, scale: 10", 1230),
    ("nibble", "startingAddress: 8", "valueType: Uint16, mask: 3840, shift: -8", 0xB),
    ("shifted", "startingAddress: 8", "valueType: Uint16, shift: -4", 0xABC),
    ("left", "startingAddress: 8", "valueType: Uint16, mask: 15, shift: 4", 0xD0),
    ("bit", "startingAddress: 9.10", "valueType: Bool", True),
    ("printed", "startingAddress: 9.1", "valueType: Bool", True),
    ("quoted", 'startingAddress: "9.1"', "valueType: Bool", False),
    ("lowest", "startingAddress: 9", "valueType: Bool", False),
    ("long", "startingAddress: 0, isWordSwap: true", "valueType: Uint64", 0x112233444048F5C3),
    ("text", "startingAddress: 10, stringRegisterSize: 2", "valueType: String", "abc"),
]  # fmt: skip


def test_edgex_attributes_and_transforms(bring: Bring, values: Values) -> None:
    resources = "\n".join(
        f"- name: {name}\n  attributes: {{primaryTable: HOLDING_REGISTERS, {place}}}\n"
        f"  properties: {{{kind}, readWrite: R}}"
        for name, place, kind, _ in EDGEX
    )
    profile = f"name: plc\ndeviceResources:\n{resources}\n"
    devices = """deviceList:
- name: plc-1
  profileName: plc
  protocols: {modbus-tcp: {Address: 192.0.2.1, Port: "0x1F6", UnitID: "3", Timeout: 5, IdleTimeout: 5}}
"""
    made = bring(profile_yaml=profile, devices_yaml=devices)
    holding = [0x1122, 0x3344, *PI, PI[1], PI[0], 0xFFFE, 123, 0xABCD, 0x0400, 0x6162, 0x6300]
    found = merged(values(made, {3: {"holding": holding}}))
    assert found == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, *_, value in EDGEX
    }
    kinds = types(made)
    assert (kinds["tens"], kinds["tenths"], kinds["unsigned"], kinds["small"]) == (
        "int32",
        "float32",
        "float64",
        "int16",
    )
    endpoint = made[-1]["spec"]["endpoint"]["modbus"]
    assert endpoint == {"host": "192.0.2.1", "port": 502, "unit": 3, "timeout": "5s"}


TELEGRAF = [
    # order, data_type, scale, registers, what Telegraf has: type_conversions*.go, configuration_original.go
    ("AB", "INT16", 1.0, [0xFFFE], -2),
    ("BA", "INT16", 1.0, [0xFEFF], -2),
    ("ABCD", "UINT32", 1.0, [0x1122, 0x3344], 0x11223344),
    ("DCBA", "UINT32", 1.0, [0x4433, 0x2211], 0x11223344),
    ("BADC", "UINT32", 1.0, [0x2211, 0x4433], 0x11223344),
    ("CDAB", "UINT32", 1.0, [0x3344, 0x1122], 0x11223344),
    ("CDAB", "FLOAT32-IEEE", 1.0, [PI[1], PI[0]], 3.14),
    ("ABCD", "FLOAT32-IEEE", 2.0, [*PI], 6.28),
    ("ABCDEFGH", "INT64", 1.0, [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD], -3),
    ("GHEFCDAB", "UINT64", 1.0, [4, 3, 2, 1], 0x0001000200030004),
    ("HGFEDCBA", "UINT64", 1.0, [0x0400, 0x0300, 0x0200, 0x0100], 0x0001000200030004),
    ("BADCFEHG", "UINT64", 1.0, [0x0100, 0x0200, 0x0300, 0x0400], 0x0001000200030004),
    ("AB", "FIXED", 0.1, [0xFFFE], -0.2),
    ("AB", "UFIXED", 0.1, [0xFFFE], 6553.4),
    ("CDAB", "FLOAT32", 0.01, [0x0000, 0x8000], 21474836.48),
    ("AB", "INT8L", 1.0, [0x12FE], -2),
    ("AB", "UINT8H", 1.0, [0x12FE], 0x12),
    ("BA", "UINT8H", 1.0, [0x12FE], 0xFE),
    ("AB", "UINT16", 10.0, [123], 1230),
    ("AB", "FLOAT16-IEEE", 1.0, [0x3E00], 1.5),
]  # fmt: skip


def test_telegraf_registers(bring: Bring, values: Values) -> None:
    rows, holding, wanted = [], list[int](), dict[str, Any]()
    for index, (order, kind, scale, registers, value) in enumerate(TELEGRAF):
        address = list(range(len(holding), len(holding) + len(registers)))
        rows.append(
            f'{{ name = "v{index}", byte_order = "{order}", data_type = "{kind}", scale={scale}, address = {address}}},'
        )
        holding += registers
        wanted[f"v{index}"] = pytest.approx(value) if isinstance(value, float) else value
    text = f"""[[inputs.modbus]]
  name = "plc-1"
  interval = "250ms"
  slave_id = 3
  controller = "tcp://192.0.2.1:502"
  coils = [{{ name = "run", address = [1] }}]
  holding_registers = [{chr(10).join(rows)}]
"""
    made = bring(telegraf_conf=text)
    found = values(made, {3: {"holding": holding, "coil": [False, True]}})["plc-1"]
    assert found == {"run": True, **wanted}
    kinds = types(made)
    assert (kinds["v0"], kinds["v7"], kinds["v12"], kinds["v18"]) == ("int16", "float32", "float64", "int32")
    assert made[0]["spec"]["properties"][0]["telemetry"] == {"samplingInterval": "250ms", "report": "every"}


def test_telegraf_texts_and_bits_of_registers(bring: Bring, values: Values) -> None:
    """A text is as long as its list of registers (`configuration_original.go`)."""
    text = """[[inputs.modbus]]
  name = "plc"
  slave_id = 3
  controller = "tcp://192.0.2.1:502"
  holding_registers = [
    { name = "firmware", byte_order = "AB", data_type = "STRING", address = [1, 2] },
    { name = "bit", byte_order = "AB", data_type = "BIT", bit = 4, address = [0] },
  ]
  [inputs.modbus.workarounds]
    string_register_location = "both"
"""
    found = values(bring(telegraf_conf=text), {3: {"holding": [0x10, 0x6162, 0x6300]}})
    assert found == {"plc": {"firmware": "abc", "bit": True}}


def test_telegraf_requests_and_metrics(bring: Bring, values: Values) -> None:
    """A scaled number is FLOAT64, one that is not keeps its class; a bit is of the ordered register."""
    text = """[agent]
  interval = "1m30s"
[[inputs.modbus]]
  name = "plc"
  controller = "tcp://192.0.2.1:502"
  configuration_type = "request"
  [[inputs.modbus.request]]
    slave_id = 3
    byte_order = "DCBA"
    fields = [
      { address=0, name="voltage", type="INT16", scale=0.1 },
      { address=1, name="left out", type="INT16", omit=true },
      { address=2, name="energy", type="FLOAT32" },
      { address=4, name="whole", type="INT16", output="FLOAT64" },
      { address=4, name="ten", type="INT16", scale=10.0 },
    ]
  [[inputs.modbus.request]]
    slave_id = 4
    register = "discrete"
    fields = [{ address=2, name="open" }]
[[inputs.modbus]]
  name = "meter"
  controller = "tcp://192.0.2.2:502"
  configuration_type = "metric"
  [[inputs.modbus.metric]]
    slave_id = 3
    byte_order = "BADC"
    fields = [
      { register="input", address=0, name="bit", type="BIT", bit=4 },
      { register="input", address=1, name="text", type="STRING", length=2 },
    ]
"""
    made = bring(telegraf_conf=text)
    swapped = [int.from_bytes(one.to_bytes(2, "big"), "little") for one in (*reversed(PI), 0xFFFE)]
    units = {
        3: {"holding": [0xFEFF, 0, *swapped], "input": [0x1000, 0x6261, 0x0063]},
        4: {"discrete": [False, False, True]},
    }
    found = values(made, units)
    assert found == {
        "plc-3": {"voltage": pytest.approx(-0.2), "energy": pytest.approx(3.14), "whole": -2, "ten": -20},
        "plc-4": {"open": True},
        "meter": {"bit": True, "text": "abc"},
    }
    kinds = types(made)
    assert (kinds["voltage"], kinds["energy"], kinds["whole"], kinds["ten"]) == (
        "float64",
        "float32",
        "float64",
        "float64",
    )
    assert made[0]["spec"]["properties"][0]["telemetry"]["samplingInterval"] == "90s"


HOLDING = [0x1234, 0x5678, 0x4048, 0xF5C3, 0x0101, 0x8001, 0x4142, 0x4300]
THINGSBOARD: dict[tuple[str, str], dict[str, Any]] = {
    ("BIG", "BIG"): {"i16": -32767, "i32": 305419896, "f32": 3.14, "u64": 1311768465946244547, "f16": 2.140625, "tenth": 466.0, "ten": 46600},
    ("BIG", "LITTLE"): {"i16": -32767, "i32": 1450709556, "f32": -4.95020344754212e32, "u64": 17709068839183454772, "f16": 2.140625, "tenth": 466.0, "ten": 46600},
    ("LITTLE", "BIG"): {"i16": 384, "i32": 873625686, "f32": 197391.828125, "u64": 3752193751527769077, "f16": 8.5, "tenth": 1333.0, "ten": 133300},
    ("LITTLE", "LITTLE"): {"i16": 384, "i32": 2018915346, "f32": -490.564453, "u64": 14120271648424080402, "f16": 8.5, "tenth": 1333.0, "ten": 133300},
}  # fmt: skip
ALWAYS = {
    "i8": 18, "text": "ABC", "raw": b"\x12\x34", "first": True, "bit8": True, "last": False,
    **{f"coils_{index}": one for index, one in enumerate((True, False, True, True))},
}  # fmt: skip


@pytest.mark.parametrize("orders", THINGSBOARD)
def test_thingsboard_types_and_orders(orders: tuple[str, str], bring: Bring, values: Values) -> None:
    tags = [
        ("i16", "16int", 3, 1, 5, {}),
        ("i32", "32int", 3, 2, 0, {}),
        ("f32", "32float", 3, 2, 2, {}),
        ("u64", "64uint", 3, 4, 0, {}),
        ("f16", "16float", 3, 1, 2, {}),
        ("i8", "8int", 3, 1, 0, {}),
        ("tenth", "16int", 3, 1, 0, {"divider": 10}),
        ("ten", "16int", 3, 1, 0, {"multiplier": 10}),
        ("text", "string", 3, 2, 6, {}),
        ("raw", "bytes", 3, 1, 0, {}),
        ("first", "bits", 3, 1, 4, {}),
        ("bit8", "bits", 3, 16, 5, {"bit": 8}),
        ("last", "bits", 3, 1, 5, {"bit": 8}),
        ("coils", "bits", 1, 4, 0, {}),
    ]
    timeseries = [
        {"tag": name, "type": kind, "functionCode": code, "objectsCount": count, "address": address, **more}
        for name, kind, code, count, address, more in tags
    ]
    byte, word = orders
    slave = {
        "host": "192.0.2.1", "port": 502, "type": "tcp", "method": "socket", "unitId": 3, "deviceName": "plc",
        "pollPeriod": 250, "byteOrder": byte, "wordOrder": word, "timeseries": timeseries, "attributes": [],
    }  # fmt: skip
    made = bring(modbus_json=json.dumps({"master": {"slaves": [slave]}}, indent=1))
    found = merged(values(made, {3: {"holding": HOLDING, "coil": [True, False, True, True, False]}}))
    approx = {key: pytest.approx(one) for key, one in THINGSBOARD[orders].items()}
    assert found == {**approx, **ALWAYS}
    kinds = types(made)
    assert (kinds["tenth"], kinds["ten"], kinds["i8"]) == ("float64", "int32", "int8")


def test_thingsboard_orders_are_little_where_nothing_is_said(bring: Bring, values: Values) -> None:
    slave = {
        "host": "192.0.2.1", "port": 502, "unitId": 3, "deviceName": "plc", "pollPeriod": 1000,
        "timeseries": [{"tag": "r${address}", "type": "16uint", "functionCode": 3, "objectsCount": 2, "address": "0-3"}],
    }  # fmt: skip
    made = bring(modbus_json=json.dumps({"master": {"slaves": [slave]}}))
    assert values(made, {3: {"holding": HOLDING}})["plc"] == {"r0": 0x3412, "r2": 0x4840}


def test_neuron_addresses_and_orders(bring: Bring, values: Values) -> None:
    """`#LL`, ABCD, is the default, unless the node says another; 400001 is register 0 (modbus-tcp.md)."""
    tags = [
        ("low", "3!400001", 3, {}, -2),
        ("swapped", "3!400001#B", 4, {}, 0xFEFF),
        ("tenth", "3!400001", 3, {"decimal": 0.1, "bias": 5}, 4.8),
        ("node", "3!400002", 6, {}, 0x33441122),
        ("ll", "3!400002#LL", 6, {}, 0x11223344),
        ("lb", "3!400002#LB", 6, {}, 0x22114433),
        ("bl", "3!400002#BL", 6, {}, 0x33441122),
        ("bb", "3!400002#BB", 5, {}, 0x44332211),
        ("far", "3!400002", 8, {}, 0x112233440000000A),
        ("near", "3!400002#B", 8, {}, 0x0A00000044332211),
        ("text", "3!400006.4L", 13, {}, "abc"),
        ("run", "3!000002", 11, {"attribute": 3}, True),
    ]
    config = {
        "nodes": [{"plugin": "MQTT", "name": "mqtt"}, {"plugin": "Modbus TCP", "name": "plc"}],
        "groups": [{"driver": "plc", "group": "g", "tag_count": 1, "interval": 100}],
        "tags": [{"driver": "plc", "group": "g", "tags": [
            {"name": name, "address": address, "type": kind, "attribute": 1, "description": "", **more}
            for name, address, kind, more, _ in tags
        ]}],
        "subscriptions": [],
        "settings": [{"node": "plc", "params": {
            "connection_mode": 0, "host": "192.0.2.1", "port": 502, "timeout": 3000, "interval": 20, "endianess": 4,
        }}],
    }  # fmt: skip
    made = bring(neuron_json=json.dumps(config, indent=1))
    units = {3: {"holding": [0xFFFE, 0x1122, 0x3344, 0, 10, 0x6261, 0x0063], "coil": [False, True]}}
    found = merged(values(made, units))
    assert found == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, *_, value in tags
    }
    assert (
        made[-1]["spec"]["endpoint"]["modbus"] | {"timeout": "3s", "pauseBetweenRequests": "20ms", "unit": 3}
        == (made[-1]["spec"]["endpoint"]["modbus"])
    )
