"""Faults of a simulated device: what can go wrong on a wire, switchable while it runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from devicemesh.spec.values import duration_ns

PLAIN = ("disconnect", "unplug", "heal")
"""Those without a value; `heal` ends all faults."""
VALUES = {"delay": "500ms", "drop": "30", "exception": "4", "garbage": "30", "noise": "5"}
"""Those with a value, and the one that they have when none is given."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one unit now."""

    delay_s: float = 0.0
    drop: float = 0.0  # probability
    exception: int = 0
    disconnect: bool = False
    garbage: float = 0.0  # probability
    noise: float = 0.0  # relative

    def switched(self, fault: str, arguments: Mapping[str, str]) -> Faults:
        """These faults and one more; `arguments` holds its value, if it has one. Raises ValueError."""
        given = next(iter(arguments.values()), None)
        if fault in VALUES:
            return self._set(fault, given or VALUES[fault])
        if fault not in PLAIN:
            raise ValueError(f"`{fault}` is no fault: {', '.join((*VALUES, *PLAIN))}")
        if given is not None:
            raise ValueError(f"`{fault}` takes no value")
        if fault == "unplug":
            return replace(self, drop=1.0)
        return Faults() if fault == "heal" else replace(self, disconnect=True)

    def _set(self, fault: str, value: str) -> Faults:
        if fault == "delay":
            return replace(self, delay_s=duration_ns(value) / 1e9)
        if fault == "exception":
            return replace(self, exception=_code(value))
        share = _percent(value) / 100
        if fault == "drop":
            return replace(self, drop=share)
        return replace(self, garbage=share) if fault == "garbage" else replace(self, noise=share)

    def words(self) -> str:
        """What is wrong now, for people."""
        parts = [
            f"every answer {self.delay_s * 1e3:g} ms late" if self.delay_s else "",
            self._dropping(),
            f"exception {self.exception}" if self.exception else "",
            "disconnects" if self.disconnect else "",
            f"{self.garbage * 100:g} % garbage" if self.garbage else "",
            f"numbers off by up to {self.noise * 100:g} %" if self.noise else "",
        ]
        return ", ".join(part for part in parts if part) or "healthy"

    def _dropping(self) -> str:
        if self.drop >= 1:
            return "silent"
        return f"{self.drop * 100:g} % unanswered" if self.drop else ""

    def drops(self, rng: random.Random) -> bool:
        """Whether to leave this request without an answer."""
        return self.drop > 0 and rng.random() < self.drop

    def garbles(self, rng: random.Random) -> bool:
        """Whether to answer this request with random bytes."""
        return self.garbage > 0 and rng.random() < self.garbage


def _percent(text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        raise ValueError(f"{text!r} is not a percentage: 0 to 100") from None
    if not 0 <= percent <= 100:
        raise ValueError(f"{text} is not a percentage: 0 to 100")
    return percent


def _code(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 255:
        raise ValueError(f"{text!r} is not an exception code: 1 to 255")
    return int(text)
