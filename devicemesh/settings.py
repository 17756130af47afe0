"""Settings of the runtime: a file, `DEVICEMESH_*` in the environment, the command line, in rising order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from devicemesh.home import default_home

PREFIX = "DEVICEMESH_"


class Section(BaseModel):
    """A part of the settings: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SecretRef(Section):
    """A secret by name: the file `<home>/secrets/<name>/<key>`, or `DEVICEMESH_SECRET_<NAME>_<KEY>`."""

    name: str
    key: str = "password"


def _level(text: str) -> str:
    """One level of a topic."""
    if not text or len(text) > 128 or any(mark in text for mark in "+/#\0"):
        raise ValueError("an ID has 1 to 128 characters, and none of + / #")
    return text


Level = Annotated[str, AfterValidator(_level)]


def _levels(text: str) -> str:
    """The first levels of a topic."""
    if len(text) > 128 or not all(text.split("/")) or any(mark in text for mark in "+#\0"):
        raise ValueError("a prefix has 1 to 128 characters, none of + #, and no empty level")
    return text


Levels = Annotated[str, AfterValidator(_levels)]


class SparkplugSettings(Section):
    """Sparkplug B in place of JSON: this runtime is an Edge Node. See docs/sparkplug.md."""

    group: Level
    """The Group ID, as in Plant 1."""
    node: Level | None = None
    """The Edge Node ID; by default the runtime's `instance`."""
    primary_host: Level | None = None
    """A Host Application: while it is not online, readings stay in the outbox."""
    aliases: bool = False
    """Data carries a metric's number instead of its name: fewer bytes, and not every consumer reads it."""


class ThingsBoardSettings(Section):
    """ThingsBoard in place of JSON: this runtime is one of its gateways. See docs/thingsboard.md."""

    token: SecretRef | None = None
    """The gateway's access token, by reference; none: `mqtt.username` or `mqtt.cert_file` say who we are.
    In its names `{instance}` stands for the runtime's: each replica is a gateway of its own."""
    profile: str | None = Field(default=None, min_length=1, max_length=255)
    """The device profile of all devices; by default each one's is called like its model."""
    prefix: str = Field(default="", max_length=64)
    """Comes before the name of each device: at ThingsBoard a name is that of one device of a tenant."""

    def token_of(self, instance: str) -> SecretRef | None:
        """That of a runtime."""
        if self.token is None:
            return None
        name, key = (part.replace("{instance}", instance) for part in (self.token.name, self.token.key))
        return SecretRef(name=name, key=key)


def _switched(given: Any) -> Any:
    """A section that may also be `true` or `false`, be it in the environment."""
    if isinstance(given, bool | str):
        known: dict[str, Any] = {"true": {}, "false": None}
        if (word := str(given).casefold()) not in known:
            raise ValueError("it is true, false, or a section of its own")
        return known[word]
    return given


def _may_be_switched(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "boolean"})


class MqttSettings(Section):
    """The broker, and how to speak to it."""

    url: str | None = None
    """`mqtt://host:1883`, `mqtts://`, `ws://` or `wss://`; none: an embedded broker on 127.0.0.1."""
    version: Literal["5", "3.1.1"] = "5"
    """MQTT's version."""
    client_id: str | None = None
    """By default `devicemesh-<instance>`."""
    username: str | None = None
    """User name, where the broker wants one."""
    password: SecretRef | None = None
    """The user's password, by reference."""
    ca_file: Path | None = None
    """TLS: whom to trust; the system's authorities by default."""
    cert_file: Path | None = None
    """TLS: our certificate, for mutual TLS."""
    key_file: Path | None = None
    """TLS: our key."""
    root: str = "devicemesh/v1"
    """First levels of every topic."""
    topic: str = "{root}/{namespace}/{device}/{suffix}"
    """Template of device topics."""
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    """Seconds between pings."""
    inflight: int = Field(default=1000, ge=1, le=65535)
    """Publishes under way at once."""
    max_payload_bytes: int = Field(default=256 * 1024, ge=1024)
    """Of messages to us: larger ones are refused."""
    sparkplug: SparkplugSettings | None = None
    """Speak Sparkplug B: `group` is enough. `root` and `topic` then mean nothing."""
    home_assistant: bool = False
    """Home Assistant on the same broker finds each device by itself. See docs/home-assistant.md."""
    home_assistant_prefix: Levels = "homeassistant"
    """Its discovery prefix."""

    thingsboard: Annotated[ThingsBoardSettings | None, BeforeValidator(_switched)] = Field(
        default=None, json_schema_extra=_may_be_switched
    )
    """Be a gateway of ThingsBoard: `true` is enough. `root` and `topic` then mean nothing."""

    @model_validator(mode="after")
    def _one_language(self) -> Self:
        if self.home_assistant and self.sparkplug is not None:
            raise ValueError("home_assistant reads our own topics, which `sparkplug` replaces: leave one out")
        if self.thingsboard is not None and (self.home_assistant or self.sparkplug is not None):
            other = "home_assistant" if self.home_assistant else "sparkplug"
            raise ValueError(f"thingsboard replaces our own topics, and so {other}: leave one out")
        return self


class OutboxSettings(Section):
    """What is kept while the broker is away."""

    max_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Bytes on disk; beyond it the oldest readings are dropped and counted."""
    max_age: str | None = None
    """Drop what is older, as in 72h; none: only the bytes bound it."""
    sync: Literal["gentle", "strict"] = "gentle"
    """gentle: fsync only what is unacknowledged for 1 s (spares flash); strict: within 100 ms."""


class ApiSettings(Section):
    """The HTTP server."""

    host: str = "127.0.0.1"
    """Where it listens. Anything but a loopback address needs `token`."""
    port: int = Field(default=8080, ge=0, le=65535)
    """0: a free one."""
    token: SecretRef | None = None
    """Bearer token that every request must carry, by reference."""


class StoreSettings(Section):
    """Where devices are declared, and their twins kept."""

    kind: Literal["sqlite", "kubernetes"] = "sqlite"
    """sqlite: a file in the home; kubernetes: the API server, as custom resources."""
    kubeconfig: Path | None = None
    """By default the pod's service account, else $KUBECONFIG or ~/.kube/config."""
    context: str | None = None
    """A context of the kubeconfig; by default its current one."""
    conflicts: Literal["newest", "cloud", "edge"] = "newest"
    """Which desired value holds that was set differently on both sides while the API server was away."""


class ShardSettings(Section):
    """With the Kubernetes store: which devices this runtime serves, and whether others share them."""

    mode: Literal["alone", "node", "shared"] = "alone"
    """alone: all that its labels may serve; node: what names its node; shared: its share, by its Lease.
    alone and node go on while the API server is away, and nothing keeps two of them apart; shared stops."""
    node: str | None = None
    """The machine's name: what nodeSelector calls kubernetes.io/hostname."""
    labels: dict[str, str] = {}
    """What a nodeSelector may ask for beside it, as in {site: north}."""
    namespace: str | None = None
    """Of the Leases; by default that of the pod, else devicemesh."""
    lease_s: int = Field(default=8, ge=4, le=120)
    """A replica that says nothing for so long is dead. It stops by itself a fifth of it earlier."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.mode == "node" and self.node is None:
            raise ValueError("mode node needs `node`, the machine's name")
        return self


class Settings(Section):
    """All settings of the runtime."""

    home: Path = Field(default_factory=default_home)
    """Store, outbox and secrets."""
    instance: str = Field(default="main", pattern=r"^[a-z0-9]([-.a-z0-9]{0,198}[a-z0-9])?$")
    """This runtime's name, for its topics, client id and Lease; every replica needs one of its own.
    The name of a pod or of a node will do, also with dots."""
    status_interval_s: float = Field(default=5.0, ge=0.1)
    """A device's values are written to the store and to `twin/reported` at most this often.

    From 500 devices a second on less often: 10,000 devices every 20 s."""
    store: StoreSettings = StoreSettings()
    shards: ShardSettings = ShardSettings()
    mqtt: MqttSettings = MqttSettings()
    outbox: OutboxSettings = OutboxSettings()
    api: ApiSettings | None = ApiSettings()
    """None: no HTTP server."""

    @model_validator(mode="after")
    def _shareable(self) -> Self:
        if self.shards.mode != "alone" and self.store.kind == "sqlite":
            raise ValueError(f"shards.mode {self.shards.mode} needs the Kubernetes store")
        if self.shards.mode != "alone" and self.mqtt.sparkplug is not None and self.mqtt.sparkplug.node:
            raise ValueError(
                "each replica is an Edge Node, named by its `instance`: leave mqtt.sparkplug.node out"
            )
        if self.shards.mode != "alone" and self.mqtt.thingsboard is not None and not self._gateways_differ:
            raise ValueError(
                "each replica is a gateway of its own: put {instance} into mqtt.thingsboard.token.key"
            )
        return self

    @property
    def _gateways_differ(self) -> bool:
        """Whether replicas come to ThingsBoard as different gateways: of one it lets in one."""
        found = self.mqtt.thingsboard
        token = found.token if found is not None else None
        return token is not None and "{instance}" in token.name + token.key


def load(file: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Settings from a YAML file, then `DEVICEMESH_<SECTION>__<KEY>`, then `overrides`. Raises ValueError."""
    values: dict[str, Any] = {}
    if file is not None:
        import yaml

        try:
            read = _read(file) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{file} can't be read: {' '.join(str(error).split())}") from error
        if not isinstance(read, dict):
            raise ValueError(f"{file}: settings are a map of keys and values")
        values = read
    try:
        return Settings.model_validate(_merged(_merged(values, _environment()), overrides or {}))
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None  # the original shows what was given


def _read(file: Path) -> Any:
    """The file's YAML. Raises OSError and YAMLError, also where a key stands twice in one map."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.constructor.ConstructorError(
                        problem=f"`{key.value}` is given twice, line {line}"
                    )
                seen.add(getattr(key, "value", ""))
            return super().construct_mapping(node, deep)

    return yaml.load(file.read_text("utf-8"), Loader)


def _environment() -> dict[str, Any]:
    """What `DEVICEMESH_*` sets. Its library stays out (it takes a megabyte) where nothing is set."""
    ours = {PREFIX + name.upper() for name in Settings.model_fields if name != "home"}  # see default_home
    if not any(name.upper().split("__")[0] in ours for name in os.environ):
        return {}
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Environment(BaseSettings, Settings):
        model_config = SettingsConfigDict(
            env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", use_attribute_docstrings=True
        )

    return Environment().model_dump(exclude_unset=True)


def _sentence(error: ValidationError) -> str:
    """Every mistake, and never a value: it may be a password that stands where its name should."""
    findings = error.errors(include_url=False, include_input=False, include_context=False)
    said = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in findings]
    return "; ".join(f"{where}: {what}" for where, what in said)


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    out = dict(low)
    for key, value in high.items():
        below = out.get(key)
        out[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out
