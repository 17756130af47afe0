"""What is said, and what answers mean: no peer, no loop.

Replace: all of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from devicemesh_scpi import plan
from devicemesh_scpi.mapper import ScpiMapper
from devicemesh_scpi.model import ScpiAddress, ScpiEndpoint
from devicemesh_scpi.plan import ScpiPoint

from devicemesh.mapper import ConfigError, Point, PointError
from devicemesh.spec.values import ValueType


def point(type_: str = "float64", channel: int | None = None) -> ScpiPoint:
    endpoint = ScpiEndpoint(host="bench", channel=channel)
    return Point(0, "default/supply", "x", ValueType(type_), endpoint, ScpiAddress(header="VOLT"))


def test_a_channel_is_named_in_each_line() -> None:
    assert (plan.question(point()), plan.command(point(), 5.0)) == ("VOLT?", "VOLT 5.0")
    assert plan.question(point(channel=2)) == "VOLT? (@2)"
    assert plan.command(point(channel=2), True) == "VOLT 1,(@2)"


def test_a_text_is_one_line_whatever_is_in_it() -> None:
    assert plan.command(point(), "BUS") == "VOLT BUS"
    assert plan.command(point(), 'say "a"; *RST') == 'VOLT "say ""a""; *RST"'
    for text in ("1\n*RST", "20 °C"):
        with pytest.raises(PointError, match="a line of ASCII"):
            plan.command(point(), text)


@pytest.mark.parametrize(
    ("answer", "type_", "value"),
    [
        (b"+5.01E+00\r\n", "float32", 5.01),
        (b".5\n", "float64", 0.5),
        (b"+9007199254740993\n", "int64", 2**53 + 1),
        (b"3.0E1\n", "uint8", 30),
        (b"ON\n", "bool", True),
        (b"0\n", "bool", False),
        (b'"say ""a"""\n', "string", 'say "a"'),
        (b"BUS\n", "string", "BUS"),
        (b"1.5\n", "json", 1.5),
    ],
)
def test_answers(answer: bytes, type_: str, value: Any) -> None:
    decoded = plan.decode(answer, point(type_))
    assert (decoded, type(decoded)) == (value, type(value))


@pytest.mark.parametrize(
    ("answer", "type_", "why"),
    [
        (b"\n", "float32", "not a number"),
        (b"nan\n", "float32", "not a number"),
        (b"9.91E37\n", "float32", "there is no number"),
        (b"300\n", "uint8", "does not fit"),
        (b"1.5\n", "int16", "not an integer"),
        (b"YES\n", "bool", "not a bool"),
    ],
)
def test_wrong_answers_say_why(answer: bytes, type_: str, why: str) -> None:
    with pytest.raises(PointError, match=why) as caught:
        plan.decode(answer, point(type_))
    assert caught.value.reason == "Undecodable"


def test_what_the_queue_of_errors_says() -> None:
    plan.check("VOLT 5", b'+0,"No error"\n')
    for line, reason in (
        (b'-113,"Undefined header"', "BadAddress"),
        (b'-222,"Data out of range"', "Refused"),
    ):
        with pytest.raises(PointError) as caught:
            plan.check("VOLT 5", line)
        assert caught.value.reason == reason


def test_short_forms() -> None:
    mapper = ScpiMapper()
    endpoint = mapper.parse_endpoint("scpi://Bench:5555/2?timeout=2s")
    assert (endpoint.link(), endpoint.text(), endpoint.timeout_s) == (
        "bench:5555",
        "bench:5555 channel 2",
        2.0,
    )
    assert endpoint.redirect("[::1]:7").link() == "[::1]:7"
    assert mapper.parse_address("MEAS:VOLT?") == ScpiAddress(header="MEAS:VOLT")
    for uri in (
        "modbus://bench",
        "scpi://bench:99999",
        "scpi://bench/two",
        "scpi://bench?baud=1",
        "scpi://[::1",
    ):
        with pytest.raises(ConfigError):
            mapper.parse_endpoint(uri)
    with pytest.raises(ConfigError, match="is no header: write it like MEAS:VOLT"):
        mapper.parse_address("VOLT 5;*RST")
