"""How often a status may be written, pure: an API server and its etcd are shared with everybody else."""

from __future__ import annotations

from dataclasses import dataclass

VALUES_S = 30.0
"""A device's values are written at most so often; the last ones win."""
FIRST_S = 2.0
"""The first values of all wait so long: what is written before anything was read would stand for VALUES_S."""
BURST = 3
"""So many changes of a device's health go out at once; then one every VALUES_S."""
SETTLE_S = 0.25
"""Changes that come together (opened, read, ready) are one."""


class Bucket:
    """A token bucket: `rate` a second, halved when the server says that it is too much, back by and by."""

    def __init__(self, rate: float, burst: float) -> None:
        self._full = rate
        self.rate = rate
        self._burst = burst
        self._tokens = burst
        self._at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until a token is there; 0: take it."""
        self._fill(now_s)
        return max(0.0, (1 - self._tokens) / self.rate)

    def take(self, now_s: float) -> None:
        self._fill(now_s)
        self._tokens -= 1

    def too_much(self) -> None:
        """The server answered 429."""
        self.rate = max(self.rate / 2, self._full / 64)
        self._tokens = min(self._tokens, 0.0)

    def _fill(self, now_s: float) -> None:
        passed = max(0.0, now_s - self._at_s)
        self._at_s = max(self._at_s, now_s)
        self.rate = min(self._full, self.rate + self._full * passed / 300)  # whole again after five minutes
        self._tokens = min(self._burst, self._tokens + passed * self.rate)


@dataclass(slots=True)
class Turn:
    """When one device may write again."""

    values_s: float | None = None  # its values were written
    credit: float = BURST
    credit_s: float = 0.0

    def values_due_s(self, now_s: float) -> float:
        """The time from which its values may be written."""
        return now_s + FIRST_S if self.values_s is None else max(now_s, self.values_s + VALUES_S)

    def spend_values(self, now_s: float) -> None:
        """Its values were written."""
        self.values_s = now_s

    def health_due_s(self, now_s: float) -> float:
        """The time from which its health may be written."""
        self._earn(now_s)
        return now_s + (SETTLE_S if self.credit >= 1 else (1 - self.credit) * VALUES_S)

    def spend_health(self, now_s: float) -> None:
        """Its health was written."""
        self._earn(now_s)
        self.credit -= 1

    def _earn(self, now_s: float) -> None:
        self.credit = min(BURST, self.credit + (now_s - self.credit_s) / VALUES_S)
        self.credit_s = now_s
