"""How a property is read and told, and what stands in for it in a simulation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from devicemesh.spec.base import Strict
from devicemesh.spec.statistics import COMMON, MAX_QUANTILES, STATISTICS, Statistic
from devicemesh.spec.values import Duration, Interval, ValueType, duration_ns, mismatch


class Telemetry(Strict):
    """How often a property is read, and what of it leaves for MQTT."""

    sampling_interval: Interval = "1s"
    """How often the device is asked."""
    report: Literal["every", "change", "window", "none"] = "change"
    """every: each sample; change: what leaves the deadband; window: statistics; none: the twin only."""
    deadband: float = Field(default=0, ge=0)
    """For change: an absolute difference, in the property's unit, up to which a value counts as unchanged."""
    deadband_percent: float = Field(default=0, ge=0, le=100)
    """For change: the same in percent of the value reported last. The larger of the two holds."""
    heartbeat: Duration = "0s"
    """For change: report at least this often (and a second), changed or not; 0s: never. Where none comes, \
the newest reading is reported again, with its own time."""
    min_interval: Duration = "0s"
    """For change: report a number or boolean no more often; what changed meanwhile is reported when it is \
over, as it is then."""
    window: Interval = "10s"
    """For window: its length; windows are aligned to multiples of it since the epoch."""
    lateness: Duration = "0s"
    """For window: how long it stays open for late samples."""
    statistics: tuple[Statistic, ...] = COMMON
    """For window: what is published of it. By default count, mean, min, max, first, last and stddev; also \
sum, range, delta, rms; by time timeAverage, percentGood, durationNonzero; of steps transitions, increase, \
rate, resets; and quantiles, as p50, p95, p99.9. See docs/statistics.md."""

    @model_validator(mode="after")
    def _in_step(self) -> Self:
        if 0 < duration_ns(self.heartbeat) < duration_ns(self.min_interval):
            raise ValueError(f"heartbeat {self.heartbeat} is shorter than minInterval {self.min_interval}")
        return self

    @model_validator(mode="after")
    def _few_quantiles(self) -> Self:
        if len(set(self.statistics) - set(STATISTICS)) > MAX_QUANTILES:
            raise ValueError(f"more than {MAX_QUANTILES} quantiles in `statistics`")
        return self


class Simulation(Strict):
    """What `devicemesh sim` answers for this property."""

    signal: Literal["constant", "sine", "ramp", "walk", "square", "counter", "replay"] | None = None
    """The shape over time; by default one that suits the type and the range."""
    value: int | float | str | bool | None = None
    """For constant."""
    low: int | float | None = None
    """The smallest value; by default the property's minimum."""
    high: int | float | None = None
    """The greatest value; by default the property's maximum."""
    period: Interval = "60s"
    """For sine, ramp and square: one turn. For counter and walk: one step."""
    step: int | float = 1
    """For counter and walk: the (largest) change in a step."""
    noise: float = Field(default=0, ge=0)
    """Standard deviation of noise laid over the signal."""
    history: bool = False
    """Whether the simulated device keeps what it had, where its protocol can give that."""
    file: str | None = None
    """For replay: a CSV file (columns time in seconds, value), relative to the manifest; repeats."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.signal == "replay" and self.file is None:
            raise ValueError("signal replay needs `file`, a CSV of `seconds,value`")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def refusal(self, type_: ValueType) -> str | None:
        """Say why a property of this type can't be simulated so, or None."""
        if not (type_.is_number or type_ == ValueType.BOOL) and self.signal not in (None, "constant"):
            return f"signal {self.signal}: a {type_} can only be constant"
        if self.value is not None and type_ not in (ValueType.BYTES, ValueType.JSON):
            return mismatch(self.value, type_)
        return None
