"""The primary host: whether the application that everything is for is there. Pure."""

from __future__ import annotations

from devicemesh.sink.payload import loads


class PrimaryHost:
    """What its STATE messages say (section 5.4; payload: 6.4.27). Older news than what is known is none."""

    def __init__(self, identity: str) -> None:
        self.topic = f"spBv1.0/STATE/{identity}"
        self.online = False
        self._newest_ms = -1

    def heard(self, payload: bytes) -> bool:
        """Take a STATE; False where it is none, or old."""
        try:
            state = loads(payload)
            online, time_ms = state["online"], state["timestamp"]
        except (ValueError, RecursionError, TypeError, KeyError):
            return False
        if not isinstance(online, bool) or not isinstance(time_ms, int) or time_ms < self._newest_ms:
            return False
        self.online, self._newest_ms = online, time_ms
        return True
