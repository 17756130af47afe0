"""On what a broker hangs up: it does not say, so that it has to be found out. Pure.

A broker takes publishes in order, so the first one that it did not answer is to blame. That one goes alone
next time, before all else; the broker that hangs up on it again and again will not take it. Some do so on a
packet that is too large (MQTT 3.1.1 has no way to say so), some on a topic that is not allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

from devicemesh.sink.retained import Name

STRIKES = 3
"""How often a broker has to hang up on one message until it is believed: a network may break as well."""
TOO_LARGE = 0x95
"""A code that has no place in the answer to a publish; mosquitto gives it, and hangs up."""
NEVER = 0x100
"""No code of MQTT: whoever speaks for us knows that this record is taken by nobody, ever."""
FINAL = {TOO_LARGE: "too_large", NEVER: "refused"}
"""Codes after which a record is not tried again, and the policy under which it is dropped."""
LEARNED_S = 3600.0
"""A limit that was found out is forgotten after so long: a broker may be set up otherwise."""

Suspect = int | Name
"""The position of a record, or a retained message."""


class Suspects:
    """Whom to blame, and how large a packet may be."""

    def __init__(self) -> None:
        self.first: Suspect | None = None
        """What goes alone, before all else."""
        self._strikes = 0
        self._largest = 0  # packet that was accepted
        self._larger: dict[int, int] = {}  # under way, by identifier: those that are larger than it
        self._limit, self._limit_until = 0, 0.0

    def hung_up(self, under_way: Sequence[Suspect]) -> Suspect | None:
        """The broker hung up on these, in the order of their sending; returns what it will not take."""
        first = under_way[0] if under_way else None
        again = first is not None and first == self.first and len(under_way) == 1
        self._strikes = self._strikes + 1 if again else 0
        self.first = first
        if self._strikes < STRIKES:
            return None
        self.clear()
        return first

    def clear(self) -> None:
        """Nobody is to blame."""
        self.first, self._strikes = None, 0

    def sent(self, identifier: int, size: int) -> None:
        """A packet is under way."""
        if size > self._largest:
            self._larger[identifier] = size

    def answered(self, identifier: int, suspect: Suspect, code: int, now: float) -> None:
        """The broker did not hang up on it, or not without a word (MQTT 5, 3.4.2.1)."""
        if self._larger and (size := self._larger.pop(identifier, 0)):
            if code < 0x80:
                self._largest = max(self._largest, size)
            elif code == TOO_LARGE:
                self.not_taken(size, now)
        if suspect == self.first:
            self.clear()

    def disconnected(self) -> None:
        """Nothing is under way any more."""
        self._larger.clear()

    def not_taken(self, size: int, now: float) -> None:
        """What is to blame has this size. If nothing as large was ever taken, nothing as large will be."""
        if size > self._largest:
            self._limit, self._limit_until = size, now + LEARNED_S

    def too_large(self, size: int, now: float) -> bool:
        """Whether it is known that the broker hangs up on packets of this size."""
        return bool(self._limit) and size >= self._limit and now < self._limit_until
