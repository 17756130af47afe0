"""The mapper contract: with `devicemesh.layout` and `devicemesh.testing`, all that a mapper may import.

A mapper is stateless. It opens a session per *link* (the part of an endpoint that peers share: a TCP
socket, a serial line); the runtime owns that session in one task. A session's base classes are its
capabilities. Readings leave a session as `Batch`es of columns, so that a value costs nothing in Python.
"""

from devicemesh.home import default_home  # mappers keep state there
from devicemesh.mapper.address import A, Address, E, Endpoint, listening_at
from devicemesh.mapper.data import (
    Batch,
    Found,
    Gap,
    Invocation,
    Notification,
    Notifier,
    Occurrence,
    OccurrenceState,
    Outcome,
    Point,
    Reader,
    Severity,
    Trace,
    Write,
)
from devicemesh.mapper.errors import (
    AuthError,
    ConfigError,
    LinkError,
    MapperError,
    PointError,
    SecretRef,
    Secrets,
    no_secrets,
    validated,
)
from devicemesh.mapper.protocol import Hooks, Mapper, hookimpl, hookspec
from devicemesh.mapper.quality import QUALITY_WORDS, Quality
from devicemesh.mapper.session import (
    Historical,
    Invocable,
    Notifying,
    Readable,
    Session,
    Subscribable,
    Traceable,
    Writable,
)

__all__ = [
    "QUALITY_WORDS",
    "A",
    "Address",
    "AuthError",
    "Batch",
    "ConfigError",
    "E",
    "Endpoint",
    "Found",
    "Gap",
    "Historical",
    "Hooks",
    "Invocable",
    "Invocation",
    "LinkError",
    "Mapper",
    "MapperError",
    "Notification",
    "Notifier",
    "Notifying",
    "Occurrence",
    "OccurrenceState",
    "Outcome",
    "Point",
    "PointError",
    "Quality",
    "Readable",
    "Reader",
    "SecretRef",
    "Secrets",
    "Session",
    "Severity",
    "Subscribable",
    "Trace",
    "Traceable",
    "Writable",
    "Write",
    "default_home",
    "hookimpl",
    "hookspec",
    "listening_at",
    "no_secrets",
    "validated",
]
