"""Configurations of the field become YAML that validates and is simulated; what is wrong stands at its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from devicemesh import plugins
from devicemesh.cli import table
from devicemesh.foreign import systems
from devicemesh.spec.manifest import load

CASES = Path(__file__).parent / "cases"
EXAMPLES = ["kubeedge-temperature.yaml", "kubeedge-v1alpha2.yaml", "edgex.yaml", "telegraf.conf", "thingsboard-modbus.json",
            "thingsboard-opcua.json", "neuron.json"]  # fmt: skip
Dm = Callable[..., Result]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_theirs_goes_through(name: str, dm: Dm) -> None:
    Path(name).write_bytes((CASES / name).read_bytes())
    found = dm("import", name)
    kept = CASES / name.partition(".")[0]
    assert (found.exit_code, found.stdout) == (0, kept.with_suffix(".out.yaml").read_text())
    assert found.stderr == kept.with_suffix(".out.txt").read_text()
    read = load({"out": found.stdout}, plugins.load().protocols(), lambda namespace, name: None)
    assert read.problems == []
    assert "never carried over" not in found.stdout + found.stderr


def test_files_of_several_systems_at_once(dm: Dm) -> None:
    for name in EXAMPLES:
        Path(name).write_bytes((CASES / name).read_bytes())
    found = dm("import", *EXAMPLES, "-o", "all.yml")
    assert found.exit_code == 0, found.output
    assert found.stderr.count("taken for a configuration of") == len(EXAMPLES)
    assert dm("validate", "-f", "all.yml").exit_code == 0


KE = "apiVersion: devices.kubeedge.io/v1beta1\nkind: "
MODEL = (
    KE
    + "DeviceModel\nmetadata: {name: m}\nspec: {properties: [{name: a, type: INT, accessMode: ReadWrite}]}\n---\n"
)
DEVICE = (
    KE
    + "Device\nmetadata: {name: d}\nspec:\n  deviceModelRef: {name: m}\n  protocol: {protocolName: modbus, configData: {ip: h}}\n"
)
VISIT = "  properties: [{name: a, visitors: {configData: {register: HoldingRegister, offset: 1, limit: LIMIT}}}]\n"
PROFILE = "name: p\ndeviceResources:\n- name: a\n  attributes: {primaryTable: HOLDING_REGISTERS, PLACE}\n  properties: {valueType: TYPE}\n"
TOML = '[[inputs.modbus]]\nname = "x"\ncontroller = "CONTROLLER"\nholding_registers = [\n  { FIELD },\n]\n'
SLAVE: dict[str, Any] = {"host": "h", "unitId": 1, "deviceName": "d", "pollPeriod": 1000}


def tb(**tag: Any) -> str:
    whole = {"tag": "t", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 0, **tag}
    return json.dumps({"master": {"slaves": [{**SLAVE, "timeseries": [whole]}]}}, indent=1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DEVICE, "5:3: wrong-value the DeviceModel `m` is not in these files"),
        (MODEL + DEVICE + "  properties: [{name: b}]\n", "12:23: wrong-value the model has no property `b`"),
        (MODEL + DEVICE + VISIT.replace("LIMIT", "3"), "12:95: wrong-value 3 registers don't make a value of type int"),
        (MODEL + DEVICE + VISIT.replace("HoldingRegister", "Holding"), "12:60: unknown-word 'Holding' is not a register"),
        (MODEL + DEVICE + VISIT.replace("offset: 1", "offset: x"), "12:85: wrong-type `offset` must be a number, not 'x'"),
        (MODEL.replace("INT", "COMPLEX") + DEVICE + VISIT, "4:37: unknown-word 'complex' is not a type"),
        (MODEL.replace("ReadWrite", "Often"), "4:54: unknown-word 'Often' is not an accessMode"),
        (PROFILE.replace("PLACE", "startingAddress: 1.99").replace("TYPE", "Bool"), "4:66: wrong-address `startingAddress` '1.99' can't be read"),
        (PROFILE.replace("PLACE", "startingAddress: 70000").replace("TYPE", "Int16"), "4:66: wrong-address `startingAddress` '70000'"),
        (PROFILE.replace("PLACE", "startingAddress: 1").replace("TYPE", "Int8"), "5:27: unknown-word 'Int8' is not a type that"),
        (PROFILE.replace("PLACE", "startingAddress: 1").replace("TYPE", "Uint16, mask: 5"), "5:41: wrong-value mask 0x5 is no run"),
        ("deviceList:\n- {name: d, profileName: p, protocols: {modbus-tcp: {Address: h, Port: 1, UnitID: 1}}}\n", "2:26: wrong-value the profile `p`"),
        (TOML.replace("CONTROLLER", "http://x").replace("{ FIELD },", ""), "3:14: wrong-value the controller 'http://x' can't be read"),
        (TOML.replace("CONTROLLER", "tcp://x:1").replace("FIELD", 'name="a", byte_order="AB", data_type="INT17", address=[1]'), "5:42: unknown-word 'INT17' is not a type"),
        (TOML.replace("CONTROLLER", "tcp://x:1").replace("FIELD", 'name="a", byte_order="AC", data_type="INT16", address=[1]'), "5:26: unknown-word 'AC' is not a byte_order"),
        (TOML.replace("CONTROLLER", "tcp://x:1").replace("FIELD", 'name="a", byte_order="AB", data_type="INT16", address=[1, 3]'), "5:51: wrong-address the registers [1, 3]"),
        (TOML.replace("FIELD", "="), "5:5: wrong-file not TOML"),
        (TOML.replace("CONTROLLER", "tcp://x:1").replace("FIELD", 'name="a", byte_order="AB", data_type="STRING", address=[1]') + "[inputs.modbus.workarounds]\nstring_register_location = 'upper'\n",
         "8:28: wrong-value a text in the upper bytes of its registers"),
        (tb(type="17int"), "12:15: unknown-word '17int' is not a type"),
        (tb(functionCode=7), "13:23: wrong-value function 7 does not read"),
        (tb(address="5-1"), "15:18: wrong-address the range 5-1 has no values"),
        (tb(address=65536), "15:18: out-of-range"),
        ('{"master": {"slaves": [}}', "1:24: wrong-file not JSON"),
        ('{"nodes": [{"name": "n", "plugin": "Modbus TCP"}], "groups": [], "settings": [{"node": "n", "params": {"host": "h"}}],\n'
         '"tags": [{"driver": "n", "group": "g", "tags": [{"name": "t", "type": 3, "attribute": 1, "address": "1!500001"}]}]}', "2:101: wrong-address '1!500001'"),
    ],
)  # fmt: skip
def test_what_would_be_wrong_is_a_mistake_at_its_place(text: str, problem: str, dm: Dm) -> None:
    Path("theirs").write_text(text)
    found = dm("import", "theirs", "-o", "out.yml")
    assert found.exit_code == 1
    assert f"theirs:{problem}" in found.stdout, found.output
    assert "Nothing was written.\nTry: " in found.stderr
    assert not Path("out.yml").exists()


def test_all_mistakes_are_shown_at_once(dm: Dm) -> None:
    tags = [{"tag": f"t{n}", "type": "odd", "functionCode": 3, "address": n} for n in range(3)]
    Path("m.json").write_text(json.dumps({"master": {"slaves": [{**SLAVE, "timeseries": tags}]}}))
    found = dm("import", "m.json")
    assert (found.exit_code, found.stdout.count("unknown-word")) == (1, 3)


def test_what_nobody_knows_is_asked_for(dm: Dm) -> None:
    Path("x.json").write_text('{"what": 1}')
    found = dm("import", "x.json")
    assert (found.exit_code, "nothing in it says whose it is" in found.stdout) == (1, True)
    assert "say --from kubeedge|edgex|telegraf|thingsboard|neuron" in found.stdout
    Path("x.toml").write_text("[agent]\ninterval = '1s'\n")
    found = dm("import", "x.toml")
    assert (found.exit_code, "nothing in it says whose it is" in found.stdout) == (1, True)
    found = dm("import", "x.json", "--from", "telegraf")
    assert (found.exit_code, "nothing in it can be carried over" in found.stderr) == (1, True)
    for text in ("", "---\n", "properties: []\n"):  # no table, by its name
        Path("x.yaml").write_text(text)
        found = dm("import", "x.yaml")
        assert (found.exit_code, "x.yaml:1:1: wrong-file nothing in it says" in found.stdout) == (1, True)
    Path("x.csv").write_text("name,address\na,1\n")
    found = dm("import", "x.csv")
    assert (found.exit_code, "whose addresses are these?" in found.stderr) == (2, True)


def test_a_configuration_has_no_use_for_the_options_of_a_table(dm: Dm) -> None:
    Path("m.json").write_text(tb())
    for option in (("--protocol", "modbus"), ("--column", "type=int16"), ("--endpoint", "modbus://h:502/1")):
        found = dm("import", "m.json", *option)
        assert (found.exit_code, f"{option[0]} is for tables" in found.stderr) == (2, True)
        assert found.stderr.rstrip().splitlines()[-1].startswith("Try: ")
    Path("a.csv").write_text("name,address\na,1\n")
    Path("b.csv").write_text("name,address\nb,1\n")
    assert dm("import", "a.csv", "b.csv", "--protocol", "modbus").exit_code in (1, 2)
    found = dm("import", "m.json", "--namespace-uri", "two=x")
    assert (found.exit_code, "write it like 2=urn:plant" in found.stderr) == (2, True)


def made(dm: Dm, text: str, *options: str) -> tuple[list[Any], str]:
    Path("theirs").write_text(text)
    found = dm("import", "theirs", *options)
    assert found.exit_code == 0, found.output
    return list(yaml.safe_load_all(found.stdout)), found.stderr


def test_equal_models_are_one_and_what_differs_is_an_override(dm: Dm) -> None:
    profile = PROFILE.replace("PLACE", "startingAddress: 1").replace("TYPE", "Int16, readWrite: RW")
    device = "- {name: NAME, profileName: p, adminState: STATE, protocols: {modbus-tcp: {Address: h, Port: 1, UnitID: UNIT}}, autoEvents: [{interval: EVERY, sourceName: a}]}\n"
    rows = (("d1", "UNLOCKED", "1", "2s"), ("d2", "LOCKED", "2", "2s"), ("d3", "UNLOCKED", "3", "500ms"))
    text = profile + "---\ndeviceList:\n"
    for name, state, unit, every in rows:
        text += (
            device.replace("NAME", name).replace("STATE", state).replace("UNIT", unit).replace("EVERY", every)
        )
    documents, _ = made(dm, text)
    assert [one["kind"] for one in documents] == ["DeviceModel", "Device", "Device", "Device"]
    specs = [one["spec"] for one in documents[1:]]
    assert [one.get("paused", False) for one in specs] == [False, True, False]
    override = [{"name": "a", "telemetry": {"samplingInterval": "500ms", "report": "every"}}]
    assert [one.get("properties") for one in specs] == [None, None, override]


def test_commands_of_edgex_that_have_their_values(dm: Dm) -> None:
    text = """name: p
deviceResources:
- {name: a, attributes: {primaryTable: COILS, startingAddress: 0}, properties: {valueType: Bool, readWrite: RW, defaultValue: "true"}}
- {name: b, attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 0}, properties: {valueType: Int16, readWrite: WR}}
- {name: c, attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: 1}, properties: {valueType: Uint16, readWrite: W}}
deviceCommands:
- {name: stop, readWrite: W, resourceOperations: [{deviceResource: a}, {deviceResource: b, defaultValue: "-3"}]}
- {name: ask, readWrite: RW, resourceOperations: [{deviceResource: a}, {deviceResource: c}]}
- {name: see, readWrite: R, resourceOperations: [{deviceResource: c, mappings: {"0": off, "1": on}}, {deviceResource: b}]}
"""
    (model,), said = made(dm, text)
    assert model["spec"]["commands"] == [
        {"name": "stop", "writes": [{"property": "a", "value": True}, {"property": "b", "value": -3}]}
    ]
    assert model["spec"]["properties"][2] == {
        "name": "c", "type": "string", "access": "WriteOnly",
        "address": {"modbus": {"table": "holding", "offset": 1, "type": "uint16", "enum": {0: "off", 1: "on"}}},
    }  # fmt: skip
    assert "theirs:8: a command to which its caller gives the values is left out" in said


def test_what_thingsboard_writes_is_writable_here(dm: Dm) -> None:
    reads = [
        {"tag": "speed", "type": "16uint", "functionCode": 3, "address": 1, "divider": 10},
        {"tag": "level", "type": "32float", "functionCode": 4, "objectsCount": 2, "address": 1},
    ]
    slave = {
        **SLAVE, "byteOrder": "BIG", "wordOrder": "BIG", "timeseries": reads, "sendDataOnlyOnChange": True,
        "attributes": [{"tag": "mode", "type": "16int", "functionCode": 3, "address": 5, "variants": {"0": "off", "1": "on"}}],
        "attributeUpdates": [{"tag": "speed", "type": "16uint", "functionCode": 16, "address": 1}],
        "rpc": [
            {"tag": "setMode", "type": "16int", "functionCode": 6, "address": 5},
            {"tag": "reset", "type": "bits", "functionCode": 5, "address": 7, "value": True},
        ],
    }  # fmt: skip
    (model, _), said = made(dm, json.dumps({"master": {"slaves": [slave]}}))
    properties = {one["name"]: one for one in model["spec"]["properties"]}
    assert {name: one.get("access", "ReadOnly") for name, one in properties.items()} == {
        "speed": "ReadWrite", "level": "ReadOnly", "mode": "ReadWrite", "reset": "WriteOnly",
    }  # fmt: skip
    assert properties["speed"]["address"]["modbus"]["writeFunction"] == "multiple"
    assert properties["mode"]["address"]["modbus"]["enum"] == {0: "off", 1: "on"}
    assert properties["mode"]["telemetry"]["report"] == "none"
    assert properties["level"]["telemetry"]["report"] == "change"
    assert model["spec"]["commands"] == [{"name": "reset", "writes": [{"property": "reset", "value": True}]}]
    assert "what is written is scaled as what is read" in said


def test_the_old_shape_of_thingsboard(dm: Dm) -> None:
    device = {
        "unitId": 2,
        "deviceName": "old",
        "timeseriesPollPeriod": 500,
        "timeseries": [
            {
                "tag": "t",
                "type": "long",
                "functionCode": 4,
                "registerCount": 2,
                "address": 3,
                "byteOrder": "BIG",
            }
        ],
        "rpc": {"on": {"type": "bits", "functionCode": 5, "address": 4, "value": True}},
    }
    server = {
        "type": "tcp",
        "method": "rtu",
        "host": "192.0.2.9",
        "port": 5020,
        "wordOrder": "BIG",
        "devices": [device],
    }
    (model, made_device), _ = made(dm, json.dumps({"server": server}))
    assert made_device["spec"]["endpoint"]["modbus"] == {
        "host": "192.0.2.9",
        "port": 5020,
        "unit": 2,
        "transport": "rtuovertcp",
    }
    assert model["spec"]["properties"][0] == {
        "name": "t", "type": "int32", "address": {"modbus": {"table": "input", "offset": 3}},
        "telemetry": {"samplingInterval": "500ms", "report": "every"},
    }  # fmt: skip


def test_what_opcua_nodes_stand_for(dm: Dm) -> None:
    text = (CASES / "thingsboard-opcua.json").read_text().replace("${Power}", "${ns=2;s=Power}")
    _, said = made(dm, text)
    assert "ns=2 is a place in the server's list" in said
    documents, said = made(dm, text, "--namespace-uri", "2=urn:plant", "--namespace-uri", "9=urn:other")
    assert documents[1]["spec"]["endpoint"]["opcua"]["namespaces"] == {2: "urn:plant"}
    assert "server's list" not in said


def test_desired_values_of_kubeedge(dm: Dm) -> None:
    visits = VISIT.replace("LIMIT", "1").replace("{name: a,", "{name: a, desired: {value: VALUE},")
    documents, _ = made(dm, MODEL + DEVICE + visits.replace("VALUE", '"42"'))
    assert documents[1]["spec"]["desired"] == [{"name": "a", "value": 42}]
    documents, said = made(dm, MODEL + DEVICE + visits.replace("VALUE", "much"))
    assert "desired" not in documents[1]["spec"]
    assert "theirs:12: the desired value 'much' is left out: it is no uint16" in said


def test_limits_of_which_the_one_is_above_the_other(dm: Dm) -> None:
    profile = PROFILE.replace("PLACE", "startingAddress: 1").replace("TYPE", "Int16, minimum: 9, maximum: 1")
    (model,), said = made(dm, profile)
    assert "maximum" not in model["spec"]["properties"][0]
    assert "theirs:3: the limits 9 and 1 are left out" in said


def test_what_lies_beside_it_is_left_out(dm: Dm) -> None:
    beside = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    documents, said = made(dm, MODEL + DEVICE + VISIT.replace("LIMIT", "1") + beside)
    assert [one["kind"] for one in documents] == ["DeviceModel", "Device"]
    assert "a ConfigMap is left out: not of KubeEdge" in said


def test_json_has_tabs_wherever_it_likes(dm: Dm) -> None:
    documents, _ = made(dm, "\t" + tb(tag="a/\\").replace(" ", "\t").replace("a/", "a\\/") + "\n\t")
    assert documents[0]["spec"]["properties"][0]["name"] == "a"


@pytest.mark.parametrize(
    ("controller", "mode", "wanted"),
    [
        ("tcp://h:1", "ASCIIoverTCP", {"host": "h", "port": 1, "unit": 3, "transport": "asciiovertcp"}),
        (
            "file:///dev/ttyS1",
            "ASCII",
            {"serial": {"port": "/dev/ttyS1", "parity": "none", "mode": "ascii", "dataBits": 8}, "unit": 3},
        ),
        ("file:///dev/ttyS1", "RTU", {"serial": {"port": "/dev/ttyS1", "parity": "none"}, "unit": 3}),
    ],
)
def test_ascii_of_telegraf(controller: str, mode: str, wanted: dict[str, Any], dm: Dm) -> None:
    """Its characters have 8 bits where nobody says otherwise."""
    text = TOML.replace("CONTROLLER", controller).replace(
        "FIELD", 'name="a", byte_order="AB", data_type="INT16", address=[1]'
    )
    more = f'slave_id = 3\nparity = "N"\ntransmission_mode = "{mode}"\nholding'
    (_, device), _ = made(dm, text.replace("holding", more, 1))
    assert device["spec"]["endpoint"]["modbus"] == wanted


def test_ascii_of_thingsboard(dm: Dm) -> None:
    tag = {"tag": "t", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 0}
    slave = {**SLAVE, "method": "ascii", "timeseries": [tag]}
    (_, device), _ = made(dm, json.dumps({"master": {"slaves": [slave]}}))
    assert device["spec"]["endpoint"]["modbus"]["transport"] == "asciiovertcp"
    slave |= {"type": "serial", "port": "/dev/ttyS1", "bytesize": 7}
    (_, device), _ = made(dm, json.dumps({"master": {"slaves": [slave]}}))
    line = device["spec"]["endpoint"]["modbus"]["serial"]
    assert (line["mode"], line["dataBits"], line["parity"]) == ("ascii", 7, "none")


def neuron(*tags: dict[str, Any]) -> str:
    params = {"host": "h", "port": 502}
    several = [{"type": 3, "address": f"1!{400001 + n}", **one} for n, one in enumerate(tags)]
    return json.dumps({
        "nodes": [{"name": "n", "plugin": "Modbus TCP"}], "groups": [], "settings": [{"node": "n", "params": params}],
        "tags": [{"driver": "n", "group": "g", "tags": several}],
    })  # fmt: skip


def test_devices_that_dial_in_to_neuron(dm: Dm) -> None:
    found = json.loads(neuron({"name": "a", "attribute": 1}))
    found["settings"][0]["params"] |= {"connection_mode": 1, "host": "0.0.0.0", "port": 5020}
    (_, device), _ = made(dm, json.dumps(found))
    assert device["spec"]["endpoint"]["modbus"] == {"listen": "0.0.0.0:5020", "unit": 1}


def test_what_neuron_reads_of_a_tag(dm: Dm) -> None:
    """A tag is read where it says Read or Subscribe (`is_readable` of its tags)."""
    documents, _ = made(dm, neuron(*({"name": f"a{n}", "attribute": n} for n in range(1, 8))))
    told = [
        (one.get("access", "ReadOnly"), one.get("telemetry", {}).get("report"))
        for one in documents[0]["spec"]["properties"]
    ]
    read, both = "ReadOnly", "ReadWrite"
    assert told == [
        (read, "every"), ("WriteOnly", None), (both, "every"),
        (read, "change"), (read, "change"), (both, "change"), (both, "change"),
    ]  # fmt: skip


def test_devices_beside_one_are_counted(dm: Dm) -> None:
    same = [
        {"name": f"a{kind}", "attribute": 1, "type": kind, "address": "1!400001"} for kind in (3, 4, 5, 6)
    ]
    documents, said = made(dm, neuron(*same))
    assert [one["metadata"]["name"] for one in documents[1::2]] == ["n", "n-2", "n-3", "n-4"]
    assert "`a6` reads registers of another as something else: it is in `n-4`" in said


def test_fields_of_one_name_are_told_apart_alike(dm: Dm) -> None:
    requests = "".join(
        f'[[inputs.modbus.request]]\nslave_id = 1\nmeasurement = "m"\nfields = [{{ address = {n}, name = "x", type = "INT16" }}]\n'
        f'[inputs.modbus.request.tags]\nplace = "{place}"\n'
        for n, place in enumerate("abcd")
    )
    documents, _ = made(dm, TOML[: TOML.index("holding")].replace("CONTROLLER", "tcp://h:1") + 'configuration_type = "request"\n' + requests)  # fmt: skip
    names = [one["name"] for one in documents[0]["spec"]["properties"]]
    assert names == ["a_x", "b_x", "c_x", "d_x"]


def test_the_interval_of_the_agent_is_told_where_it_is_used(dm: Dm) -> None:
    text = TOML.replace("CONTROLLER", "tcp://h:1").replace("FIELD", 'name="a", byte_order="AB", data_type="INT16", scale=1.0, address=[1]')  # fmt: skip
    assert "no `interval` of the agent" in made(dm, text)[1]
    documents, said = made(dm, text + 'interval = "3s"\n')
    assert "interval" not in said
    assert documents[0]["spec"]["properties"][0]["telemetry"]["samplingInterval"] == "3s"


def test_names_of_a_range_that_are_left_out_are_told(dm: Dm) -> None:
    documents, said = made(dm, tb(address="5-6", tagOverrides={"5": "x"}))
    assert [one["name"] for one in documents[0]["spec"]["properties"]] == ["t_5", "t_6"]
    assert "`tagOverrides` is left out" in said


def test_from_knows_each_system() -> None:
    """The names stand there, too, so that no command waits for the importers."""
    assert set(table.FROM) == systems.SYSTEMS.keys()


def test_what_is_read_is_not_written_over(dm: Dm) -> None:
    Path("theirs.conf").write_text((CASES / "telegraf.conf").read_text())
    found = dm("import", "theirs.conf", "-o", "./theirs.conf")
    assert found.exit_code != 0
    assert "theirs.conf is what is read" in found.stderr
    assert Path("theirs.conf").read_text() == (CASES / "telegraf.conf").read_text()
