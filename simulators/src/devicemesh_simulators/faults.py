"""Faults of a simulated device: what can go wrong on a wire, switchable while it runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

FAULTS = {
    "delay": "delay=500ms: every answer comes this late",
    "drop": "drop=30: this percentage of the requests is not answered",
    "exception": "exception=4: every request is answered with this exception code",
    "disconnect": "disconnect: the connection is closed instead of an answer",
    "garbage": "garbage=30: this percentage of the answers is random bytes",
    "noise": "noise=5: numbers are off by up to this percentage",
    "unplug": "unplug: silent, as if its cable were pulled",
}


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one device now."""

    delay_s: float = 0.0
    drop: float = 0.0  # probability
    exception: int = 0
    disconnect: bool = False
    garbage: float = 0.0  # probability
    noise: float = 0.0  # relative

    def switched(self, fault: str, arguments: Mapping[str, str]) -> Faults:
        """These faults and one more; `heal` ends all. Raises ValueError."""
        argument = next(iter(arguments.values()), "")
        if fault == "heal":
            return Faults()
        if fault == "unplug":
            return replace(self, drop=1.0)
        if fault == "disconnect":
            return replace(self, disconnect=True)
        if fault == "delay":
            return replace(self, delay_s=_seconds(argument or "500ms"))
        if fault == "exception":
            code = int(_number(argument or "4", 255))
            return replace(self, exception=code)
        if fault in ("drop", "garbage", "noise"):
            percent = _number(argument or "30", 100)
            share = percent / 100
            return replace(
                self,
                drop=share if fault == "drop" else self.drop,
                garbage=share if fault == "garbage" else self.garbage,
                noise=share if fault == "noise" else self.noise,
            )
        raise ValueError(f"`{fault}` is no fault: {', '.join(FAULTS)}, heal")

    def words(self) -> str:
        """What is wrong now, for people."""
        parts = [
            f"delay {self.delay_s * 1e3:.0f} ms" if self.delay_s else "",
            "silent" if self.drop >= 1 else f"drops {self.drop:.0%}" if self.drop else "",
            f"exception {self.exception}" if self.exception else "",
            "disconnects" if self.disconnect else "",
            f"garbage {self.garbage:.0%}" if self.garbage else "",
            f"noise {self.noise:.0%}" if self.noise else "",
        ]
        return ", ".join(p for p in parts if p) or "healthy"

    def drops(self, rng: random.Random) -> bool:
        return bool(self.drop) and rng.random() < self.drop

    def garbles(self, rng: random.Random) -> bool:
        return bool(self.garbage) and rng.random() < self.garbage


def _seconds(text: str) -> float:
    from devicemesh.spec.values import duration_ns

    return duration_ns(text) / 1e9


def _number(text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 <= number <= most:
        raise ValueError(f"{text} is out of range: 0 to {most:g}")
    return number
