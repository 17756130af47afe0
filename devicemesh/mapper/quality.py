"""How far a value can be trusted."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Quality(enum.IntEnum):
    """How far a value can be trusted: one byte, its top two bits the OPC UA severity (Part 4, 7.39)."""

    GOOD = 0x00
    FROM_HISTORY = 0x01  # good, but read afterwards from what the peer has kept
    UNCERTAIN = 0x40
    UNKNOWN_CODE = 0x41  # an enum's code that the model does not name: the number is delivered
    UNCERTAIN_FROM_HISTORY = 0x42
    BAD = 0x80
    NO_LINK = 0x81  # the link is down
    NO_ANSWER = 0x82  # the link is up, the device is silent
    REFUSED = 0x83  # the device answered with an error
    BAD_ADDRESS = 0x84  # the device has no such address
    UNDECODABLE = 0x85  # the answer does not fit the declared layout
    PENDING = 0x86  # never read yet

    @property
    def word(self) -> str:
        """The quality as people and payloads read it: `Good`, `Bad.NoAnswer`."""
        return QUALITY_WORDS[self]


QUALITY_WORDS: Mapping[int, str] = {
    Quality.GOOD: "Good",
    Quality.FROM_HISTORY: "Good.FromHistory",
    Quality.UNCERTAIN: "Uncertain",
    Quality.UNKNOWN_CODE: "Uncertain.UnknownCode",
    Quality.UNCERTAIN_FROM_HISTORY: "Uncertain.FromHistory",
    Quality.BAD: "Bad",
    Quality.NO_LINK: "Bad.NoLink",
    Quality.NO_ANSWER: "Bad.NoAnswer",
    Quality.REFUSED: "Bad.Refused",
    Quality.BAD_ADDRESS: "Bad.BadAddress",
    Quality.UNDECODABLE: "Bad.Undecodable",
    Quality.PENDING: "Bad.Pending",
}
