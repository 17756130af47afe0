"""The C core; `reference` is its readable twin."""

from array import array
from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

@final
class Plan:
    """A compiled decode plan.

    An op is (offset, size, type, order, shift, width, scaled, scale, add); see decode.h.
    """

    def __new__(
        cls, ops: Sequence[tuple[int, int, int, int, int, int, bool, float, float]], integers: bool = False
    ) -> Plan: ...
    def decode(self, record: Buffer, /) -> tuple[array[float] | array[int], int | array[int]]:
        """Return (values, quality): quality is 0, or a column where the record is too short."""

    @property
    def reach(self) -> int:
        """Bytes that a record needs to hold every value."""
