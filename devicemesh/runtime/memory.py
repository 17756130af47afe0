"""What start-up leaves behind goes back to the system: a gateway has 4 GB, and others live on it too."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

_M_ARENA_MAX = -8  # mallopt(3)


def _libc() -> Any | None:
    """The C library, if it is one that can be asked (glibc)."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None


def one_arena() -> None:
    """Before the first thread: our threads wait for the disk, they need no heap of their own each."""
    if libc := _libc():
        libc.mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """Once, when the first polls are through: what start-up made stays, and no collection visits it again."""
    gc.collect()
    gc.freeze()
    give_back()


def tidy() -> None:
    """After many devices came or went."""
    gc.collect()
    give_back()


def give_back() -> None:
    """Return free heap to the system: a millisecond."""
    if libc := _libc():
        libc.malloc_trim(0)
