"""Whether an address is of this machine alone."""

from __future__ import annotations

import ipaddress


def loopback(host: str) -> bool:
    """Whether it names this machine, for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
