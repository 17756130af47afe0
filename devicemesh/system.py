"""What Linux has and others have otherwise: gateways run Linux, but a laptop may be a Mac."""

from __future__ import annotations

import fcntl
import os
import socket
import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # a Mac's goes on while it sleeps


def boottime() -> float:
    """Seconds since the boot: they pass while the process is stopped, and while the machine sleeps."""
    return time.clock_gettime(_BOOTTIME)


def sync_data(descriptor: int) -> None:
    """Return when what was written to a file is on the disk. Raises OSError.

    A Mac's fsync() leaves it in the disk's own memory (fsync(2), F_FULLFSYNC).
    """
    if hasattr(fcntl, "F_FULLFSYNC"):
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def forget_cached(descriptor: int) -> None:
    """Nobody reads a file soon: the memory may hold something else."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def limit_unacknowledged(tcp: socket.socket, timeout_s: int) -> None:
    """A peer that acknowledges no bytes for so long is gone, where the system can tell. Raises OSError."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_s * 1000)
