"""Tables that people have, to YAML that `validate` accepts; and what is wrong with them, at its cell."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from devicemesh.cli.main import app

CASES = Path(__file__).parent / "cases"
TABLES = {
    "energy-meter": ("--endpoint", "modbus://192.0.2.30:502/1"),
    "drive": ("--protocol", "modbus", "--column", "wordOrder=little"),
    "press-nodes": ("--endpoint", "opcua://192.0.2.31:4840", "--device", "press-1"),
}
Bring = Callable[..., Result]


@pytest.fixture
def dm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Run a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["--home", "home", *words], prog_name="devicemesh")


@pytest.fixture
def bring(dm: Bring) -> Bring:
    """Import a table of these lines."""

    def run(*lines: str, options: tuple[str, ...] = ("--protocol", "modbus")) -> Result:
        Path("table.csv").write_text("\n".join(lines) + "\n", "utf-8")
        return dm("import", "table.csv", *options)

    return run


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_field_becomes_a_model_that_validates(name: str, dm: Bring) -> None:
    shutil.copy(CASES / f"{name}.csv", f"{name}.csv")
    found = dm("import", f"{name}.csv", *TABLES[name])
    assert (found.exit_code, found.stdout) == (0, (CASES / f"{name}.yaml").read_text())
    assert found.stderr == (CASES / f"{name}.txt").read_text()
    assert dm("import", f"{name}.csv", *TABLES[name], "-o", "out.yaml").exit_code == 0
    assert Path("out.yaml").read_text("utf-8") == found.stdout
    assert dm("validate", "-f", "out.yaml").exit_code == 0


def test_all_mistakes_are_shown_at_once_each_at_its_cell(bring: Bring) -> None:
    found = bring(
        "Tag,Register,Data Type,Unit,Scale,Access",
        "speed,40001,REAL32,rmp,,RW",
        "state,40001,UNIT16,,,X",
        "speed,50001,INT16,,ten,R",
        "mode,,INT16,,,R",
        "oil,30001,UINT16,degC,,RW",
        "hours,40100,UINT32,h,,R",
        "days,40101,UINT16,d,,R",
    )
    assert found.exit_code == 1
    shown = [line for line in found.stdout.splitlines() if line.startswith("table.csv:")]
    assert [line.split(" ")[:2] for line in shown] == [
        ["table.csv:2:20:", "wrong-value"],
        ["table.csv:3:13:", "unknown-word"],
        ["table.csv:3:22:", "unknown-word"],
        ["table.csv:4:1:", "duplicate-name"],
        ["table.csv:4:7:", "wrong-address"],
        ["table.csv:4:20:", "wrong-type"],
        ["table.csv:5:1:", "wrong-address"],
        ["table.csv:6:5:", "wrong-address"],
        ["table.csv:8:6:", "overlap"],
    ]
    assert "^^^  did you mean `rpm`?" in found.stdout
    assert "did you mean `uint16`?" in found.stdout
    assert found.stderr.splitlines()[-2:] == [
        "9 problems in table.csv. Nothing was written.",
        "Try: devicemesh explain wrong-value",
    ]


def test_what_is_assumed_is_said_once(bring: Bring) -> None:
    found = bring("Signal;Address", "Speed, actual;1", "Torque;2", "Power;3")
    assert found.exit_code == 0
    assert "{table: holding, offset: 1}" in found.stdout
    assert found.stderr.splitlines() == [
        "table.csv: columns: `Signal` is name",
        "table.csv: addresses begin at 1 and are taken as offsets from 0; "
        "if the list counts from 1: --column base=1",
        "table.csv: nothing says which table: holding registers; if they are others: --column table=input",
        "table.csv: nothing says the type: uint16; if it is another: --column type=int16",
        "table.csv: nothing says what may be written: it is read only",
        "table.csv: names: `Speed, actual` is Speed_actual",
    ]


def test_a_column_that_the_table_lacks_is_given(bring: Bring) -> None:
    options = (
        "--protocol",
        "modbus",
        "--column",
        "table=input",
        "--column",
        "base=1",
        "--column",
        "type=int16",
    )
    found = bring("name,address,type", "a,1,", "b,2,uint16", options=(*options, "--column", "access=R"))
    assert found.exit_code == 0
    assert "type: int16\n    address: {modbus: {table: input, offset: 0}}" in found.stdout
    assert "type: uint16\n    address: {modbus: {table: input, offset: 1}}" in found.stdout
    assert found.stderr == ""
    wrong = bring("name,address", "a,1", options=("--protocol", "modbus", "--column", "tabel=input"))
    assert (wrong.exit_code, "did you mean `table`?" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8", ","), ("utf-8-sig", ";"), ("utf-16", "\t"), ("cp1252", "|")],
)
def test_encodings_and_delimiters(encoding: str, delimiter: str, dm: Bring) -> None:
    rows = (("Größe", "Nr"), ("", ""), ("Export of", ""), ("Name", "Address", "Type", "Unit"),
            ("Öl", "40001", "INT", "°C"), ("", "", "", ""))  # fmt: skip
    text = "\r\n".join(delimiter.join(row) for row in rows)
    Path("t.csv").write_bytes(text.encode(encoding))
    found = dm("import", "t.csv", "--protocol", "modbus", "--model", "tank")
    assert (found.exit_code, "name: Oel\n    type: int16\n    unit: °C\n" in found.stdout) == (0, True)
    assert ("read as Windows-1252" in found.stderr) == (encoding == "cp1252")


def test_a_decimal_comma_is_one_where_the_delimiter_is_a_semicolon(bring: Bring) -> None:
    assert "scale: 0.25" in bring("name;address;type;factor", "a;40001;int16;0,25").stdout
    refused = bring("name,address,type,factor", 'a,40001,int16,"0,25"')
    assert (refused.exit_code, "write 0.25" in refused.stdout) == (1, True)


def test_an_export_of_kepware_with_a_line_of_two_points(bring: Bring) -> None:
    header = (
        "Tag Name,Address,Data Type,Client Access,Scaling,Raw Low,Raw High,Scaled Low,Scaled High,Eng Units"
    )
    found = bring(
        header,
        '"Tank.Level",40002,Short,RO,Linear,0,1000,0,100,m',
        '"Tank.Flow",40003,Word,RO,Linear,4000,20000,-10,10,m3/h',
        '"Tank.P",40010,Float,R/W,None,,,,,bar',
        '"Tank.Run",00001,Boolean,R/W,,,,,,',
    )
    assert found.exit_code == 0, found.output
    assert "{table: holding, offset: 1, type: int16, scale: 0.1}" in found.stdout
    assert "{table: holding, offset: 2, type: uint16, scale: 0.00125, add: -15}" in found.stdout
    assert "{table: holding, offset: 9}" in found.stdout
    wrong = bring(
        header,
        "a,40001,Word,RO,Linear,0,0,0,1,",
        "b,40002,Word,RO,Linear,,,,,",
        "c,40003,Word,RO,Square Root,0,1,0,1,",
    )
    assert wrong.stdout.count("table.csv:") == 3
    assert "raw low and raw high are the same" in wrong.stdout
    assert "`scale` must be a number, not 'Linear'" in wrong.stdout


def test_how_often_a_value_is_read_has_a_unit(bring: Bring) -> None:
    found = bring("Tag Name,Address,Data Type,Scan Rate", "a,40001,Word,100", "b,40002,Word,")
    assert "telemetry: {samplingInterval: 100ms}" in found.stdout
    assert "`Scan Rate` is taken for ms" in found.stderr
    assert "{samplingInterval: 2.5s}" in bring("name;address;type;Interval (s)", "a;40001;word;2,5").stdout
    assert "{samplingInterval: 1m30s}" in bring("name,address,type,interval", "a,40001,word,1m30s").stdout
    refused = bring("name,address,type,interval", "a,40001,word,100", "b,40002,word,often")
    assert "table.csv:2:14: wrong-value `100` has no unit" in refused.stdout
    assert "table.csv:3:14: wrong-value 'often' is not a duration" in refused.stdout


@pytest.mark.parametrize(
    ("header", "row", "found"),
    [
        ("Description,Register,Units,Size,Data type,Access", "I,3000,A,2,FLOAT32,R/WC", "offset: 3000}"),
        ("Quantity,Details,Start Reg (Hex),Size,Res.,Unit,Data type", "E,,5B14,4,0.01,kWh,Unsigned",
         "offset: 23316, type: uint64, scale: 0.01}"),
        ("Modicon address,Physical address,Length (words),Variable,Data Format", "300001,0000h,2,V,INT32", "table: input, offset: 0}"),
        ("Start,End,R/W,Function codes,Name,Type", '7,8,RW,"0x03, 0x06",A,uint32', "table: holding, offset: 7}"),
        ("Modbus Register No.,TAG NAME,data_type,Eng. Units", "40007,x,dint,°C", "table: holding, offset: 6}"),
    ],
)  # fmt: skip
def test_headers_of_makers(header: str, row: str, found: str, bring: Bring) -> None:
    made = bring(header, row)
    assert (made.exit_code, found in made.stdout) == (0, True), made.output


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK\x03\x04\x14\x00", "is a workbook, not text"),
        (b"", "no line names the columns"),
        (b"1,2,3\n4,5,6\n", "no line names the columns"),
        (b"name,type\na,int16\n", "1:1: wrong-table no column says where a value lives: address"),
        (b"List\n\nThing,Address,Type\na,1,int16\n", "3:1: wrong-table no column has the names: name, tag"),
        (b'name,address\n"a,1\nb,2\n', "is a closing quote missing?"),
        (b"name,address\n", "there is no row below the header"),
    ],
)
def test_what_is_no_table(data: bytes, why: str, dm: Bring) -> None:
    Path("t.csv").write_bytes(data)
    found = dm("import", "t.csv", "--protocol", "modbus")
    assert (found.exit_code, why in found.stdout, "Try:" in found.stderr) == (1, True, True), found.output


def test_wrong_use_has_a_reason_and_something_to_try(bring: Bring) -> None:
    table = ("name,address,type", "a,40001,int16")
    for options in (
        (),
        ("--protocol", "modbos"),
        ("--protocol", "modbus", "--device", "d"),
        ("--protocol", "opcua", "--endpoint", "modbus://192.0.2.1/1"),
        ("--endpoint", "modbus://192.0.2.1/one"),
        ("--protocol", "modbus", "--model", "Not A Name"),
    ):
        found = bring(*table, options=options)
        assert (found.exit_code, found.stdout, "Try: " in found.stderr) == (2, "", True), options


def test_any_mapper_reads_its_short_form_and_the_fields_of_its_address(bring: Bring) -> None:
    found = bring(
        "Name,Path,Pointer,Type,Scale,Offset",
        "Temp,/air,/temperature,float64,,",
        "Raw,/raw,,uint16,0.1,4",
        options=("--endpoint", "coap://192.0.2.7"),
    )
    assert found.exit_code == 0, found.output
    assert "{coap: {path: /air, pointer: /temperature}}" in found.stdout
    assert (
        "type: float32\n    address: {coap: {path: /raw, offset: 4, type: uint16, scale: 0.1}}"
        in found.stdout
    )
    found = bring("Name,Address,Type", "Temp,/air#/temperature,float64", options=("--protocol", "coap"))
    assert "{coap: {path: /air, pointer: /temperature}}" in found.stdout


def test_mistakes_in_a_cell_of_several_lines_are_where_it_begins(bring: Bring) -> None:
    found = bring(
        "name,description,address,type", 'a,"two', 'lines",40001,int17', 'b,"x ""y"", z",40002,int16'
    )
    assert next(line.split()[0] for line in found.stdout.splitlines() if "int17" in line) == "table.csv:3:14:"
    found = bring(
        "name,description,address,type", 'a,"two', 'lines",40001,int16', 'b,"x ""y"", z",40002,int16'
    )
    assert ("description: two lines" in found.stdout, 'description: x "y", z' in found.stdout) == (True, True)


def test_a_quoted_cell_is_where_its_quote_is(bring: Bring) -> None:
    found = bring("name,address,type", 'a, 40001 ,"', '  int17"', "b,  4x ,int16")
    assert [line.split()[0] for line in found.stdout.splitlines() if line.startswith("table.csv")] == [
        "table.csv:2:11:",
        "table.csv:4:5:",
    ]


def test_problems_of_a_row_do_not_hide_those_of_the_next(bring: Bring) -> None:
    found = bring("name,address,type,min,max", "a,40001,int16,9,1", ",40002,int16,,", "???,40003,int16,,")
    lines = [line for line in found.stdout.splitlines() if line.startswith("table.csv")]
    assert len(lines) == 3, found.stdout
    assert "minimum 9 is above maximum 1" in lines[0]
    assert json.dumps(lines).count("name") == 2


def test_a_scale_of_nothing_and_a_name_of_nothing(bring: Bring) -> None:
    found = bring("name,address,type,scale", "a,1,int16,0", "温度,2,int16,1", "b c,3,int16,1")
    assert "table.csv:2:11: wrong-value a scale of 0 leaves nothing of a value" in found.stdout
    assert "table.csv:3:1: wrong-value `温度` has no letter or digit" in found.stdout
    assert "2 problems" in found.stderr
    assert "names: `b c` is b_c\n" in found.stderr
