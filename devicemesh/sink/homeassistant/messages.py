"""Discovery messages: of a device, and of the runtime that serves it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from devicemesh import __version__
from devicemesh.settings import MqttSettings
from devicemesh.sink.base import Declaration
from devicemesh.sink.homeassistant.entities import Place, entities
from devicemesh.sink.topics import Incoming, Topics, parts_of

SUFFIX = "home-assistant"
"""What stands for a discovery message where topics below a device stand."""
WRITE = "twin/desired/now"
"""As `twin/desired`, from somebody who acts: what is wanted already is written again. Never retained."""
_ALIVE = (
    "{{ 'online' if (value_json|default({})).state|default('') in ('Ready', 'Degraded') else 'offline' }}"
)
_RUNTIME = "{{ (value_json|default({})).state|default('offline') }}"
_ORIGIN = {"name": "DeviceMesh", "sw_version": __version__}


class DiscoveryTopics(Topics):
    """With those that Home Assistant listens to. Raises ValueError as `Topics` does."""

    def __init__(self, settings: MqttSettings, instance: str) -> None:
        super().__init__(settings, instance)
        self._prefix = settings.home_assistant_prefix
        self._ours, self._instance = settings.root, instance
        self.birth = f"{self._prefix}/status"
        """Where Home Assistant says that it has started."""
        self._now = self._pattern(WRITE)

    @property
    def subscriptions(self) -> Sequence[str]:
        return [*super().subscriptions, self._render("+", "+", WRITE), self.birth]

    def parse(self, topic: str) -> Incoming | None:
        if found := self._now.fullmatch(topic):
            return Incoming("write", f"{found['namespace']}/{found['device']}", "")
        return super().parse(topic)

    def identity(self, device: str) -> str:
        """What Home Assistant knows a device by, or without one the runtime. Raises ValueError."""
        whole = "/".join((self._ours, *(parts_of(device) if device else ("_runtime", self._instance))))
        return re.sub(r"[^A-Za-z0-9-]", "_", whole)

    def retained(self, device: str, suffix: str) -> str:
        if suffix == SUFFIX:
            return f"{self._prefix}/device/{self.identity(device)}/config"
        return super().retained(device, suffix)


def device_message(
    device: str, declaration: Declaration, topics: DiscoveryTopics, gone: Iterable[str] = ()
) -> dict[str, Any]:
    """What a device is and has; `gone`: keys of components that it had. Raises ValueError for no device."""
    identity, namespace, name = topics.identity(device), *parts_of(device)
    place = Place(
        topics.device(device, "twin/reported"),
        topics.device(device, WRITE),
        lambda command: topics.device(device, f"command/{command}"),
        (
            {"topic": topics.device(device, "status"), "value_template": _ALIVE},
            {"topic": topics.runtime_status, "value_template": _RUNTIME},
        ),
    )
    about = {
        "identifiers": [identity],
        "name": name if namespace == "default" else f"{namespace}/{name}",
        "model": declaration.model,
        "manufacturer": declaration.manufacturer,
        "via_device": topics.identity(""),
    }
    # that one key has another platform from now on can't be said: so the platform is a part of it
    components: dict[str, Mapping[str, Any]] = {key: {"platform": key.partition("/")[0]} for key in gone}
    for platform, what, entity in entities(declaration, place):
        unique = {"platform": platform, "unique_id": f"{identity}_{what}"}
        components[f"{platform}/{what}"] = {**unique, **entity}
    return {
        "device": {key: value for key, value in about.items() if value},
        "origin": _ORIGIN,
        "availability": place.available,
        "availability_mode": "all",
        "state_topic": place.reported,
        "command_topic": place.write,
        "qos": 1,
        "components": components,
    }


def runtime_message(instance: str, topics: DiscoveryTopics) -> dict[str, Any]:
    """The runtime, as a device of its own: whether it has a connection."""
    identity = topics.identity("")
    about = {
        "identifiers": [identity],
        "name": f"DeviceMesh {instance}",
        "model": "runtime",
        "manufacturer": "DeviceMesh",
        "sw_version": __version__,
    }
    connected = {
        "platform": "binary_sensor",
        "unique_id": f"{identity}_status",
        "name": "status",
        "device_class": "connectivity",
        "state_topic": topics.runtime_status,
        "value_template": _RUNTIME,
        "payload_on": "online",
        "payload_off": "offline",
    }
    return {"device": about, "origin": _ORIGIN, "qos": 1, "components": {"binary_sensor/status": connected}}
