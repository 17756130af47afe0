"""On which birth a broker hangs up: it does not say, so that it has to be found out. Pure.

Births of a session go at once. When the broker hangs up before it has answered for them, those go first
the next time, in smaller groups and then alone; one on which it hangs up again and again is left out, so
that the others are told. Sizes are learned as of other packets: see `Suspects`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from devicemesh.sink.suspects import LEARNED_S, Suspects

_GROUP = 64


class Trial:
    """Births under way, by the name of the device, and those that are in doubt."""

    def __init__(self) -> None:
        self._suspects = Suspects()
        self._number = 0
        self._under_way: dict[str, tuple[int, int]] = {}  # (a number of its own, bytes)
        self._doubtful: list[str] = []
        self._left_out: dict[str, float] = {}  # until when

    def is_left_out(self, name: str, now_s: float) -> bool:
        """Whether the broker is known to hang up on this one."""
        return now_s < self._left_out.get(name, 0.0)

    def too_large(self, size: int, now_s: float) -> bool:
        """Whether the broker is known to hang up on packets of so many bytes."""
        return self._suspects.too_large(size, now_s)

    def forget(self, name: str) -> None:
        """Its next birth is another one."""
        self._left_out.pop(name, None)

    @property
    def careful(self) -> bool:
        """Whether all else has to wait until those in doubt are answered for."""
        return bool(self._doubtful)

    def turn(self, unborn: Collection[str]) -> Sequence[str]:
        """Whose births may be sent now, in this order."""
        self._doubtful = [name for name in self._doubtful if name in unborn or name in self._under_way]
        if not self._doubtful:
            return [name for name in unborn if name not in self._under_way]
        group = _GROUP if len(self._doubtful) > _GROUP else 1
        names = [name for name in self._doubtful if name not in self._under_way]
        return names[: max(0, group - len(self._under_way))]

    def sent(self, name: str, size: int) -> None:
        """A birth of so many bytes, as a packet, is under way."""
        self._number += 1
        self._under_way[name] = self._number, size
        self._suspects.sent(self._number, size)

    @property
    def under_way(self) -> Sequence[str]:
        """Those whose answer is awaited."""
        return tuple(self._under_way)

    def answered(self, names: Iterable[str], now_s: float) -> None:
        """The broker has these births."""
        for name in names:
            number, _ = self._under_way.pop(name, (0, 0))
            self._suspects.answered(number, (name, ""), 0, now_s)
            if name in self._doubtful:
                self._doubtful.remove(name)

    def disconnected(self, now_s: float, *, hung_up: bool) -> str | None:
        """Begin anew; returns whose birth is left out from now on. `hung_up`: the broker ended it."""
        under_way, self._under_way = self._under_way, {}
        self._suspects.disconnected()
        if not hung_up:
            self._suspects.clear()
            return None
        guilty = self._suspects.hung_up([(name, "") for name in under_way])
        if guilty is None:
            self._doubtful = list(under_way) or self._doubtful
            return None
        (name,) = under_way
        self._suspects.not_taken(under_way[name][1], now_s)
        self._left_out[name] = now_s + LEARNED_S
        self._doubtful.clear()
        return name
