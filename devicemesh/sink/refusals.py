"""What to do when the broker answers a publish with an error: wait, try again, harm no other topic. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devicemesh.sink.suspects import STRIKES

_WORDS = {  # MQTT 5, section 3.4.2.1
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
}
_TOPIC_CODES = (0x87, 0x90, 0x99)  # of one topic; the others are of everything
_FIRST_S, _PAUSE_S, _BLOCK_S = 0.5, 30.0, 600.0


@dataclass(slots=True)
class _Blocked:
    position: int  # of the first record that was refused
    retry_at: float
    delay_s: float
    probe: int | None = None  # position under way, to see whether the topic is accepted again
    hung_up: bool = False  # the broker did not say no: it hangs up on the first record, be it for its topic
    beyond: bool = False  # probe with the record after the first one next time
    strikes: int | None = None  # that one was accepted: how often the broker hung up on the first one since

    def failed(self, now: float) -> None:
        """The probe was not accepted."""
        self.probe, self.delay_s = None, min(_BLOCK_S, 2 * self.delay_s)
        self.retry_at = now + self.delay_s
        if self.strikes is not None:
            self.strikes += 1
        self.beyond = self.hung_up and not self.beyond and self.strikes is None


class Refusals:
    """Which topics are not accepted, and until when nothing is to be sent at all."""

    def __init__(self) -> None:
        self.count = 0
        self.paused_until = 0.0
        self.rewind_to: int | None = None  # once nothing is under way, go on from here
        self._pause_s = _FIRST_S
        self._blocked: dict[str, _Blocked] = {}
        self._words: str | None = None

    @property
    def words(self) -> str | None:
        """What is refused and why, for people; None while nothing is."""
        return self._words

    @property
    def blocked(self) -> bool:
        return bool(self._blocked)

    def is_blocked(self, topic: str) -> bool:
        return topic in self._blocked

    def refused(self, topic: str, position: int, code: int, now: float) -> None:
        """A record was refused: its topic, or for a broker in trouble everything, waits."""
        self.count += 1
        self._words = f"the broker refuses {topic}: {_WORDS.get(code, hex(code))}"
        if code not in _TOPIC_CODES:
            if now >= self.paused_until:  # the others of the same burst do not count again
                self.paused_until = now + self._pause_s
                self._pause_s = min(_PAUSE_S, 2 * self._pause_s)
            self._rewind(position)
            return
        known = self._blocked.get(topic)
        if known is None:
            self._blocked[topic] = _Blocked(position, now + _FIRST_S, _FIRST_S)
            return
        known.position = min(known.position, position)
        if known.probe == position:
            known.failed(now)

    def hung_up(self, topic: str, position: int, now: float) -> None:
        """The broker hangs up on a record: its topic waits."""
        self.count += 1
        self._words = f"the broker hangs up on what is sent to {topic}"
        self._blocked[topic] = _Blocked(position, now + _FIRST_S, _FIRST_S, hung_up=True)

    def probe_hung_up(self, now: float) -> bool:
        """The broker has hung up; whether a probe was under way, which is to blame then."""
        probing = [each for each in self._blocked.values() if each.probe is not None]
        for each in probing:
            each.failed(now)
        return bool(probing)

    @property
    def guilty(self) -> Sequence[tuple[str, int]]:
        """Records that the broker hangs up on though it takes others of their topic: (topic, position)."""
        found = self._blocked.items()
        return [(topic, each.position) for topic, each in found if (each.strikes or 0) >= STRIKES]

    def accepted(self, topic: str, position: int, now: float) -> None:
        """A record was accepted: its topic, if it was blocked, takes up where it was."""
        self._pause_s = _FIRST_S
        known = self._blocked.get(topic)
        if known is not None and known.hung_up and known.position < position:
            known.probe, known.beyond = None, False
            known.strikes, known.delay_s, known.retry_at = known.strikes or 0, _FIRST_S, now
        else:
            self.forget(topic)

    def forget(self, topic: str) -> None:
        """Nothing speaks against this topic any more."""
        known = self._blocked.pop(topic, None)
        if known is not None:
            self._rewind(known.position)
        if not self._blocked:
            self._words = None

    def skipped(self, topic: str, position: int) -> None:
        """A record of a blocked topic was passed over."""
        known = self._blocked[topic]
        known.position = min(known.position, position)

    def due(self, now: float) -> tuple[str, int, bool] | None:
        """A blocked topic to try again, the position of its first record, whether to try the one after it."""
        for topic, each in self._blocked.items():
            if each.probe is None and now >= each.retry_at:
                return topic, each.position, each.beyond
        return None

    def probing(self, topic: str, position: int) -> None:
        """Note that a record is under way to see whether its topic is accepted again."""
        self._blocked[topic].probe = position

    def reconnected(self) -> None:
        """Everything begins anew, but for blocked topics: some brokers hang up on who uses one."""
        self.rewind_to, self.paused_until = None, 0.0
        for each in self._blocked.values():
            each.probe = None

    def _rewind(self, position: int) -> None:
        self.rewind_to = position if self.rewind_to is None else min(self.rewind_to, position)
