"""The words of `telemetry.statistics`, as the manifest and as the CustomResourceDefinition know them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from pydantic import ValidationError

from devicemesh.spec.statistics import STATISTICS, percent_of
from devicemesh.spec.telemetry import Telemetry

GOOD = [*STATISTICS, "p0", "p5", "p50", "p95", "p99.9", "p99.999", "p50.0"]
WRONG = ["", "p", "p100", "p-1", "p1.2345", "p1.", "P95", "95", "median", "Mean", "mean ", "p95\n"]


def pattern() -> str:
    found: str = Telemetry.model_json_schema()["properties"]["statistics"]["items"]["pattern"]
    return found


@pytest.mark.parametrize("name", GOOD)
def test_what_is_a_statistic_is_one_for_the_api_server_too(name: str) -> None:
    assert Telemetry(report="window", statistics=(name,)).statistics == (name,)
    assert re.search(pattern(), name)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_none_is_none_for_the_api_server_too(name: str) -> None:
    with pytest.raises(ValidationError):
        Telemetry(report="window", statistics=(name,))
    assert not re.search(pattern().replace("$", r"\Z"), name)  # RE2 takes no newline for an end


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("timeAvrage", "timeAverage"),
        ("median", "p50"),
        ("avg", "mean"),
        ("avergae", "mean"),
        ("std", "stddev"),
        ("p100", "max"),
    ],
)
def test_a_word_that_others_use_leads_to_ours(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean {meant}$"):
        percent_of(name)


def test_where_no_word_is_near_all_are_told() -> None:
    with pytest.raises(ValueError, match=r"one of count, mean, .*, resets, or p0 to p99\.999$"):
        percent_of("xyz")


def test_a_quantile_is_a_decimal() -> None:
    assert percent_of("p99.9") == Decimal("99.9")


def test_eight_quantiles_are_the_most() -> None:
    names = tuple(f"p{n}" for n in range(9))
    Telemetry(report="window", statistics=("mean", *names[:8], *names[:8]))
    with pytest.raises(ValidationError, match="more than 8 quantiles"):
        Telemetry(report="window", statistics=names)


def test_a_heartbeat_is_no_shorter_than_the_interval() -> None:
    assert Telemetry.model_validate({"heartbeat": "1s", "minInterval": "1s"}).min_interval == "1s"
    with pytest.raises(ValidationError, match="heartbeat 500ms is shorter than minInterval 1s"):
        Telemetry.model_validate({"heartbeat": "500ms", "minInterval": "1s"})
