"""When to leave something silent alone. Pure: the clock is the caller's."""

from __future__ import annotations

import random

from devicemesh_modbus.answers import SilentError

FIRST_PAUSE_S = 1.0
JITTER = 0.1


class Breaker:
    """Counts silences in a row; from `failures` on, pauses between tries double from 1 s to `period_s`.

    What answers again needs none: it is dropped.
    """

    __slots__ = ("_failures", "_period_s", "_retry_at", "_rng", "error", "silences")

    def __init__(self, failures: int, period_s: float, rng: random.Random) -> None:
        self._failures = failures
        self._period_s = period_s
        self._rng = rng
        self._retry_at = 0.0
        self.silences = 0
        self.error: SilentError | None = None  # of the last silence; says when the next try is

    def ready(self, now: float) -> bool:
        """Whether to try at `now`, in seconds of the caller's clock."""
        return now >= self._retry_at

    def failed(self, now: float, error: SilentError, hold_s: float) -> SilentError:
        """Count a silence; not before `hold_s` from now is there another try. Returns the error to show."""
        self.silences += 1
        pause_s = hold_s
        if self.silences >= self._failures:
            pause_s = max(hold_s, self._pause_s() * self._rng.uniform(1 - JITTER, 1 + JITTER))
            error = SilentError(f"{error}, {self.silences} tries, next in {pause_s:.2g} s")
        self._retry_at = now + pause_s
        self.error = error
        return error

    @property
    def exhausted(self) -> bool:
        """Whether the pauses have reached their greatest length."""
        return self.silences >= self._failures and self._pause_s() >= self._period_s

    def _pause_s(self) -> float:
        doubled = FIRST_PAUSE_S * 2.0 ** min(self.silences - self._failures, 30)
        return min(doubled, self._period_s)
