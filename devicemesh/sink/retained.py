"""Messages that the broker keeps: the newest payload of each, and which were not sent yet. Pure."""

from __future__ import annotations

RATE_PER_S = 1000.0  # a reconnect must not flood the broker with what it may still have

Name = tuple[str, str]
"""(device, topic below it); of the runtime itself the device is empty."""


class Retained:
    """Kept by topic and device: a string for each whole topic would take more than most payloads do."""

    def __init__(self, now_s: float) -> None:
        self._payloads: dict[str, dict[str, bytes]] = {}  # b"": to be removed
        self._unsent: dict[Name, None] = {}
        self._tokens, self._refilled_s = 0.0, now_s

    def __len__(self) -> int:
        return sum(len(each) for each in self._payloads.values())

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
        kept[device] = payload
        self._unsent.pop(name, None)
        self._unsent[name] = None
        return True

    def release(self, name: Name) -> None:
        """Know nothing of it any more."""
        self._payloads.get(name[1], {}).pop(name[0], None)
        self._unsent.pop(name, None)

    def again(self) -> None:
        """Send all of them: it is another connection."""
        self._unsent = {(device, topic): None for topic, kept in self._payloads.items() for device in kept}

    def next(self, now_s: float) -> tuple[Name, bytes] | None:
        """The next one to send, if its time has come."""
        self._tokens = min(RATE_PER_S / 5, self._tokens + (now_s - self._refilled_s) * RATE_PER_S)
        self._refilled_s = now_s
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
        kept = self._payloads.get(name[1], {})
        if name not in self._unsent and kept.get(name[0]) == b"":
            del kept[name[0]]
