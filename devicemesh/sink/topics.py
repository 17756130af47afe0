"""The topics of MQTT: built from checked names, and read back without trust. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Protocol

from devicemesh.settings import MqttSettings

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_FIELDS = {"root", "namespace", "device", "suffix"}
_MAX_BYTES = 65535  # MQTT 5, section 1.5.4


class Addresses(Protocol):
    """Topics, as records and retained messages need them."""

    @property
    def gap(self) -> str:
        """Where consumers are told what they will never see."""
        ...

    def device(self, device: str, suffix: str) -> str:
        """The topic of a device ("namespace/name"). Raises ValueError for what makes none."""
        ...

    def retained(self, device: str, suffix: str) -> str:
        """That of a retained message of a device; without a device it is the runtime's own."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a topic that we subscribed to speaks of: `kind` as in `Command`."""

    kind: str
    device: str  # "namespace/name"
    name: str  # the command's; else empty


class Topics:
    """All topics of one runtime. Raises ValueError for settings that make no valid topics."""

    def __init__(self, settings: MqttSettings, instance: str) -> None:
        fields = [name for _, name, _, _ in Formatter().parse(settings.topic) if name is not None]
        if sorted(fields) != sorted(_FIELDS - {"root"} | (set(fields) & {"root"})):
            raise ValueError(
                f"mqtt.topic {settings.topic!r} must have {{namespace}}, {{device}} and {{suffix}}, each once"
            )
        levels = settings.topic.split("/")
        for field in ("{namespace}", "{device}"):
            if field not in levels:
                raise ValueError(f"mqtt.topic {settings.topic!r}: {field} must be a level of its own")
        self._template, self._root = settings.topic, settings.root
        runtime = f"{settings.root}/_runtime/{instance}"
        for topic in (runtime, self._render("n", "d", "telemetry")):
            _check(topic)
        self.runtime_status = f"{runtime}/status"
        self.gap = f"{runtime}/gap"
        self._desired = self._pattern("twin/desired")
        self._command = self._pattern("command/", rf"(?P<name>{_WORD.pattern})")

    def _render(self, namespace: str, device: str, suffix: str) -> str:
        return self._template.format(root=self._root, namespace=namespace, device=device, suffix=suffix)

    def device(self, device: str, suffix: str) -> str:
        """The topic of a device ("namespace/name"). Raises ValueError for what could leave its level."""
        topic = self._render(*parts_of(device), suffix)
        _check(topic)
        return topic

    def retained(self, device: str, suffix: str) -> str:
        """That of a retained message of a device; without a device it is the runtime's own."""
        return self.device(device, suffix) if device else self.runtime_status

    def _pattern(self, suffix: str, tail: str = "") -> re.Pattern[str]:
        rendered = re.escape(self._render("\x01", "\x02", suffix + "\x03"))
        for mark, pattern in (
            ("\x01", f"(?P<namespace>{_LABEL.pattern})"),
            ("\x02", f"(?P<device>{_LABEL.pattern})"),
            ("\x03", tail),
        ):
            rendered = rendered.replace(re.escape(mark), pattern)
        return re.compile(rendered)

    @property
    def subscriptions(self) -> Sequence[str]:
        """Filters for what clients ask of devices."""
        return [self._render("+", "+", suffix) for suffix in ("twin/desired", "command/+")]

    def parse(self, topic: str) -> Incoming | None:
        """Read a topic that a message came on; None for those that are not ours to answer."""
        if found := self._desired.fullmatch(topic):
            return Incoming("desired", f"{found['namespace']}/{found['device']}", "")
        if found := self._command.fullmatch(topic):
            return Incoming("command", f"{found['namespace']}/{found['device']}", found["name"])
        return None


def parts_of(device: str) -> tuple[str, str]:
    """(namespace, name) of a device. Raises ValueError for what could leave its level of a topic."""
    namespace, _, name = device.partition("/")
    if not (_LABEL.fullmatch(namespace) and _LABEL.fullmatch(name)):
        raise ValueError(f"{device!r} is no device: namespace/name, both as in RFC 1123")
    return namespace, name


def identity(device: str) -> str:
    """A device ("namespace/name") where there are no namespaces: one but `default` comes before a colon.

    Raises ValueError for what is no device.
    """
    namespace, name = parts_of(device)
    return name if namespace == "default" else f"{namespace}:{name}"


def device_of(identity_: str) -> str:
    """The device of an `identity`. Raises ValueError."""
    namespace, colon, name = identity_.rpartition(":")
    device = f"{namespace if colon else 'default'}/{name}"
    parts_of(device)
    return device


def _check(topic: str) -> None:
    if any(mark in topic for mark in "+#\0") or not 0 < len(topic.encode()) <= _MAX_BYTES:
        raise ValueError(f"{topic[:80]!r} is no topic to publish to: it has +, # or NUL, or is too long")
    if topic[0] in "$/" or "//" in topic:
        raise ValueError(f"{topic[:80]!r} is no topic of ours: it has an empty level, or starts with $")
