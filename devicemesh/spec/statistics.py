"""What can be published of a window: `telemetry.statistics`. See docs/statistics.md."""

from __future__ import annotations

import difflib
import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

STATISTICS = (
    "count",
    "mean",
    "min",
    "max",
    "first",
    "last",
    "stddev",
    "sum",
    "range",
    "delta",
    "rms",
    "timeAverage",
    "percentGood",
    "durationNonzero",
    "transitions",
    "increase",
    "rate",
    "resets",
)
"""All but the quantiles, in the order of a payload."""
COMMON = STATISTICS[:7]
"""Those of a property that names none."""
MAX_QUANTILES = 8
"""Of one property."""
_MEANT = {"median": "p50", "p100": "max", "avg": "mean", "average": "mean", "std": "stddev"}
_QUANTILE = re.compile(r"p(\d{1,2}(\.\d{1,3})?)")


def percent_of(name: str) -> Decimal:
    """The percent of a quantile: 99.9 of p99.9. Raises ValueError for what is no statistic."""
    if found := _QUANTILE.fullmatch(name):
        return Decimal(found[1])
    words = [name] if name in _MEANT else difflib.get_close_matches(name, [*STATISTICS, *_MEANT], 1, 0.6)
    near = [_MEANT.get(word, word) for word in words]
    help_ = f"did you mean {near[0]}" if near else f"one of {', '.join(STATISTICS)}, or p0 to p99.999"
    raise ValueError(f"`{name}` is not a statistic: {help_}")


def _known(name: str) -> str:
    if name not in STATISTICS:
        percent_of(name)
    return name


Statistic = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema(
        {"type": "string", "pattern": f"^({'|'.join(STATISTICS)}|p[0-9]{{1,2}}([.][0-9]{{1,3}})?)$"}
    ),
]
