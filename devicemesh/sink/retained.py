"""Messages that the broker keeps: the newest payload of each, and which were not sent yet. Pure."""

from __future__ import annotations

RATE_PER_S = 1000.0  # a reconnect must not flood the broker with what it may still have
_FIRST_S, _LAST_S = 30.0, 3600.0  # before another try of what the broker hangs up on

Name = tuple[str, str]
"""(device, topic below it); of the runtime itself the device is empty."""


class Retained:
    """Kept by topic and device: a string for each whole topic would take more than most payloads do."""

    def __init__(self, now_s: float) -> None:
        self._payloads: dict[str, dict[str, bytes]] = {}  # b"": to be removed
        self._unsent: dict[Name, None] = {}
        self._deferred: dict[Name, float] = {}  # until when
        self._delays: dict[Name, float] = {}
        self._tokens, self._refilled_s = 0.0, now_s
        self.version = 0  # of `devices`

    def devices(self) -> set[str]:
        """Those of which the broker keeps something, or may still."""
        return {device for kept in self._payloads.values() for device in kept if device}

    def __len__(self) -> int:
        return sum(len(each) for each in self._payloads.values())

    def keeps(self, topic: str) -> bool:
        """Whether the broker keeps some of this kind, or may still."""
        return bool(self._payloads.get(topic))

    @property
    def unsent(self) -> bool:
        """Whether there is something to send."""
        return bool(self._unsent)

    def is_unsent(self, name: Name) -> bool:
        """Whether this one is to be sent."""
        return name in self._unsent

    def put(self, name: Name, payload: bytes) -> bool:
        """Take the newest payload, b"" to remove the message; False where that is no news."""
        device, topic = name
        kept = self._payloads.setdefault(topic, {})
        if kept.get(device) == payload and name not in self._unsent:
            return False
        self.version += device not in kept
        kept[device] = payload
        if payload and name in self._deferred:
            return False
        self._deferred.pop(name, None)
        self._unsent.pop(name, None)
        self._unsent[name] = None
        return True

    def release(self, name: Name) -> None:
        """Know nothing of it any more."""
        self.version += 1
        self._payloads.get(name[1], {}).pop(name[0], None)
        for each in (self._unsent, self._deferred, self._delays):
            each.pop(name, None)

    def again(self, first: object = None) -> None:
        """Send all of them, this one before the others: it is another connection."""
        names = [(device, topic) for topic, kept in self._payloads.items() for device in kept]
        names.sort(key=lambda name: name != first)
        self._unsent = {name: None for name in names if name not in self._deferred}

    def repeat(self, topic: str) -> None:
        """Send those of one kind again: whoever reads them may have lost them."""
        names = [(device, topic) for device in self._payloads.get(topic, ())]
        self._unsent.update((name, None) for name in names if name not in self._deferred)

    def defer(self, name: Name, now_s: float) -> None:
        """The broker hangs up on it: try it much later, the later the oftener."""
        self._unsent.pop(name, None)
        self._delays[name] = min(_LAST_S, 2 * self._delays.get(name, _FIRST_S / 2))
        self._deferred[name] = now_s + self._delays[name]

    def next(self, now_s: float) -> tuple[Name, bytes] | None:
        """The next one to send, if its time has come."""
        self._tokens = min(RATE_PER_S / 5, self._tokens + (now_s - self._refilled_s) * RATE_PER_S)
        self._refilled_s = now_s
        if self._deferred:
            for name in [each for each, until_s in self._deferred.items() if until_s <= now_s]:
                del self._deferred[name]
                self._unsent[name] = None
        if not self._unsent or self._tokens < 1:
            return None
        name = next(iter(self._unsent))
        return name, self._payloads[name[1]][name[0]]

    def sent(self, name: Name) -> None:
        """It is on its way."""
        del self._unsent[name]
        self._tokens -= 1

    def given_up(self, name: Name) -> None:
        """It can't be sent as it is."""
        del self._unsent[name]

    def accepted(self, name: Name) -> None:
        """The broker has it; what was to be removed is."""
        self._delays.pop(name, None)
        kept = self._payloads.get(name[1], {})
        if name not in self._unsent and kept.get(name[0]) == b"":
            del kept[name[0]]
            self.version += 1
