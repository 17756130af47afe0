"""A codec's text: where it is had from, whether it has changed, and whether it is fit to be called."""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass
from pathlib import Path

from devicemesh.mapper import PointError, default_home
from devicemesh_lora.declared_codec import Codec

log = logging.getLogger("devicemesh.lora")
MOST_SOURCE = 1 << 20
"""Characters of a codec; published ones have 200 kB at most."""
STRIKES = 3
"""Calls in a row that hang, or fill the memory, after which a codec is put aside."""
ASIDE_S, MOST_ASIDE_S = 1.0, 300.0
FORGIVEN = 0.02
"""Of a strike, by a call that ends."""
LOOK_AGAIN_S = 5.0
"""How often it is looked whether a codec's file has changed."""
HARMS = frozenset({"CodecTimeout", "CodecMemory", "CodecDied"})


class CodecError(PointError):
    """A codec made nothing of a call; `reason` and message say why."""


@dataclass(eq=False)
class Source:
    """A codec. Devices that name the same one share what is known of it."""

    number: int
    codec: Codec
    text: str = ""
    wrong: CodecError | None = None  # it can't be had
    stamp: tuple[int, int] = (0, 0)  # of the file
    looked: float = -1e9
    cost_us: float = 100.0
    strikes: float = 0.0
    aside_until: float = -1e9
    why: str = ""

    def look(self, now: float) -> bool:
        """Read it, if that is due; whether it is another one now."""
        if now - self.looked < LOOK_AGAIN_S:
            return False
        self.looked, before = now, self.text
        try:
            if self.codec.source is not None:
                self.text = self.codec.source
                return False
            if (stamp := self._stamp()) == self.stamp:
                return False
            self.text, self.wrong = self.path.read_text(), None
            self.stamp = stamp
        except OSError as error:
            why = f"can't read the codec {self.path}: {error.strerror}"
            self.text, self.stamp = "", (0, 0)
            self.wrong = CodecError(why, reason="CodecMissing")
        except ValueError as error:  # too large, or no UTF-8
            self.text, self.stamp = "", (0, 0)
            self.wrong = CodecError(f"the codec {self.path} is of no use: {error}", reason="CodecMissing")
        if self.text != before:
            self.strikes, self.aside_until = 0.0, -1e9
        return self.text != before

    @property
    def path(self) -> Path:
        return default_home() / "codecs" / Path(self.codec.file or "").expanduser()

    def _stamp(self) -> tuple[int, int]:
        """What tells whether the file has changed. Raises OSError and ValueError."""
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file")
        if found.st_size > MOST_SOURCE:
            raise ValueError(f"it has {found.st_size} bytes, {MOST_SOURCE} at most")
        return found.st_mtime_ns, found.st_size

    def refusal(self, now: float) -> CodecError | None:
        """Why it can't be called now."""
        if self.wrong is not None:
            return self.wrong
        if now < self.aside_until:
            why = f"put aside for {self.aside_until - now:.0f} s: {self.why}, {STRIKES} times or more"
            return CodecError(f"the codec {self.codec.name} is {why}", reason="CodecAside")
        return None

    def judge(self, reason: str, why: str, now: float) -> None:
        """Count a call against it, or for it."""
        if reason not in HARMS:
            self.strikes = max(0.0, self.strikes - FORGIVEN)
            return
        self.strikes += 1
        if self.strikes >= STRIKES:
            self.why = why
            self.aside_until = now + min(MOST_ASIDE_S, ASIDE_S * 2 ** int(self.strikes - STRIKES))
            log.warning("codec %s is put aside: %s", self.codec.name, why)
