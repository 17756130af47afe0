"""What is counted of one link."""

from __future__ import annotations

from dataclasses import dataclass, field

from devicemesh.runtime.histogram import Histogram

MAX_REASONS = 50
"""Reasons are words of a mapper; one that makes them up for each error must not fill the memory."""


@dataclass(slots=True)
class LinkStats:
    """Counted since the start."""

    up: bool = False
    last_success_s: float = 0.0  # Unix time
    backoff_s: float = 0.0
    reconnects: int = 0
    answers: int = 0
    failures: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # the failures by reason, a word each
    why: str = ""  # it is down, and when it is tried again
    overruns: int = 0
    backfilled: int = 0  # samples read from a peer's history
    lag: Histogram = field(default_factory=Histogram)  # of polls
    request: Histogram = field(default_factory=Histogram)  # until an answer

    def failed(self, reason: str) -> None:
        """Count a request, or an attempt to open the link, that failed."""
        self.failures += 1
        if reason in self.errors or len(self.errors) < MAX_REASONS:
            self.errors[reason] = self.errors.get(reason, 0) + 1
