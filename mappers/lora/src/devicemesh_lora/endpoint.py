"""How LoRaWAN devices and gateways are reached: directly, or through a network server's broker."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator

from devicemesh.mapper import Endpoint, SecretRef, listening_at
from devicemesh.spec.base import Strict
from devicemesh.spec.values import Interval, duration_ns
from devicemesh_lora.declared_codec import Codec
from devicemesh_lora.regions import REGIONS

EUI = r"^[0-9a-fA-F]{16}$"
RegionName = Literal["EU868", "US915", "AU915", "AS923", "CN470", "IN865"]
EXAMPLE = "lora://0.0.0.0:1700/70b3d57ed0000001?secret=NAME"
_TOPIC = r"^[^+#\x00]*$"


class Otaa(Strict):
    """Activation over the air: the device joins, and its session keys are made then."""

    app_key: SecretRef
    """The AppKey, 32 hexadecimal digits, most significant byte first, by reference."""
    join_eui: str | None = Field(default=None, pattern=EUI)
    """The JoinEUI (AppEUI); a join request with another one is refused. By default any."""


class Abp(Strict):
    """Activation by personalisation: the session is written into the device."""

    dev_addr: str = Field(pattern=r"^[0-9a-fA-F]{8}$")
    """The device address, 8 hexadecimal digits, most significant byte first."""
    nwk_s_key: SecretRef
    """The NwkSKey, 32 hexadecimal digits, by reference."""
    app_s_key: SecretRef
    """The AppSKey, 32 hexadecimal digits, by reference."""


class ServerTls(Strict):
    """Who we are to gateways, and whom of them we let in."""

    cert_file: str | None = None
    """PEM file of our certificate, with those between it and its authority."""
    key_file: str | None = None
    """PEM file of its key; by default it is in `certFile`."""
    certificate: SecretRef | None = None
    """Instead of `certFile`: the certificate (PEM) by reference, as tls.crt of a Kubernetes secret."""
    private_key: SecretRef | None = None
    """With `certificate`: its key (PEM), by reference; by default it is in `certificate`."""
    client_ca_file: str | None = None
    """PEM file of the authority of gateways' certificates, without which none is let in."""

    @model_validator(mode="after")
    def _one_certificate(self) -> Self:
        if (self.cert_file is None) == (self.certificate is None):
            raise ValueError("give either `certFile` or `certificate`: who we are to gateways")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("`keyFile` goes with `certFile`")
        if self.private_key is not None and self.certificate is None:
            raise ValueError("`privateKey` goes with `certificate`")
        return self


class Station(Strict):
    """A gateway that speaks LoRa Basics Station (LNS): it connects by websocket to `listen`, by TCP."""

    token: SecretRef | None = None
    """What it must send as its header Authorization, by reference; `Bearer` in front may be left away."""
    tls: ServerTls | None = None
    """With it gateways connect by wss, else by ws. Equal for all of one `listen`."""
    sub_band: int | None = Field(default=None, ge=1, le=12)
    """Which eight channels it is to hear: 1 to 8 in US915 and AU915 (default 2), 1 to 12 in CN470 (11)."""


class BrokerTls(Strict):
    """How a broker is verified (mqtts), and who we are to it."""

    ca_file: str | None = None
    """PEM file of whom to trust; by default the system's authorities."""
    cert_file: str | None = None
    """PEM file of our certificate, where the broker wants one."""
    key_file: str | None = None
    """PEM file of its key; by default it is in `certFile`."""


class _Server(Strict):
    """A network server's broker."""

    broker: str
    """Where it is: mqtts://host:8883, or mqtt://host:1883 without TLS."""
    application: str = Field(min_length=1, max_length=100, pattern=r"^[^+#/\x00]+$")
    """The application's id."""
    tls: BrokerTls | None = None
    """With mqtts: whom to trust, and our certificate."""

    @field_validator("broker")
    @classmethod
    def _is_broker(cls, broker: str) -> str:
        broker_place(broker)
        return broker

    @model_validator(mode="after")
    def _tls_or_not(self) -> Self:
        if self.tls is not None and not self.secure:
            raise ValueError("`tls` goes with a broker mqtts://")
        return self

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return broker_place(self.broker)

    @property
    def secure(self) -> bool:
        return self.broker.startswith("mqtts:")


class ChirpStack(_Server):
    """An application of ChirpStack v4, by its MQTT integration (JSON)."""

    topic_prefix: str = Field(default="", max_length=200, pattern=_TOPIC)
    """What stands before application/ in its topics, where that was configured."""
    region_prefix: str = Field(default="", max_length=200, pattern=_TOPIC)
    """What stands before gateway/ in the topics of gateways, as in eu868."""
    user_name: str | None = None
    """The user of the broker."""
    password: SecretRef | None = None
    """The user's password, by reference."""


class ThingsStack(_Server):
    """An application of The Things Stack v3, by its MQTT server."""

    tenant: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    """The tenant, as in ttn; The Things Stack Open Source has none."""
    api_key: SecretRef
    """An API key of the application with rights to read uplinks and write downlinks, by reference."""

    @property
    def user(self) -> str:
        """The application as topics and the user name have it."""
        return f"{self.application}@{self.tenant}" if self.tenant else self.application


_OF_LISTEN = ("otaa", "abp", "sender", "station", "region", "skip_counter_check", "codec", "deduplication")


class LoraEndpoint(Endpoint):
    """Where gateways send to or which network server they belong to, and who the device is."""

    listen: str | None = None
    """Where gateways send to, as in 0.0.0.0:1700: packet forwarders by UDP, stations by TCP."""
    chirpstack: ChirpStack | None = None
    """Instead of `listen`: the application of a ChirpStack v4 that the device or gateway belongs to."""
    things_stack: ThingsStack | None = None
    """Instead of `listen`: the application of a The Things Stack v3 that the device belongs to."""
    region: RegionName = "EU868"
    """With `listen`: the channel plan."""
    dev_eui: str | None = Field(default=None, pattern=EUI)
    """Of a device: its DevEUI, 16 hexadecimal digits, most significant byte first, as on its label."""
    device_id: str | None = Field(default=None, pattern=r"^[a-z0-9](-?[a-z0-9]){1,35}$")
    """With `thingsStack`: the device's id there. By default that of its uplinks, before them eui-<devEui>."""
    gateway: str | None = Field(default=None, pattern=EUI)
    """Of a gateway, instead of `devEui`: its EUI. Gateways that are not declared are not listened to."""
    station: Station | None = None
    """With `gateway`: it speaks LoRa Basics Station, not the packet forwarder's protocol."""
    sender: str | None = None
    """With `gateway`: the address or network that it sends from, as in 10.0.0.7 or 10.0.0.0/24."""
    otaa: Otaa | None = None
    """How the device is activated: over the air."""
    abp: Abp | None = None
    """How the device is activated: by personalisation."""
    lifetime: Interval = "24h"
    """After this silence the values of the device, or gateway, turn bad."""
    skip_counter_check: bool = False
    """Take a counter that goes back, as of a device by ABP that forgets it. Replays are then not noticed."""
    confirmed: bool = False
    """Whether downlinks ask the device for an acknowledgement, without which a write is not done."""
    write_timeout: Interval = "10s"
    """How long a write waits for the device to be heard; it stays queued, and is asked for again later."""
    codec: Codec | None = None
    """Of a device: the JavaScript codec of its payloads; needs pip install devicemesh-lora[codecs]."""
    deduplication: Interval = "200ms"
    """How long copies of an uplink from other gateways are waited for."""
    _simulated: bool = PrivateAttr(default=False)

    @field_validator("listen")
    @classmethod
    def _is_place(cls, listen: str | None) -> str | None:
        if listen is not None:
            listening_at(listen)
        return listen

    @field_validator("sender")
    @classmethod
    def _is_network(cls, sender: str | None) -> str | None:
        if sender is not None:
            ipaddress.ip_network(sender, strict=False)
        return sender

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ways = (self.listen, self.chirpstack, self.things_stack)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of `listen`, `chirpstack` and `thingsStack`: where gateways send to")
        if (self.dev_eui is None) == (self.gateway is None):
            raise ValueError("give either `devEui`, of a device, or `gateway`, the EUI of a gateway")
        if self.gateway is not None and (self.otaa is not None or self.abp is not None):
            raise ValueError("`otaa` and `abp` go with `devEui`: a gateway has no keys here")
        if self.gateway is not None and self.codec is not None:
            raise ValueError("`codec` goes with `devEui`: a gateway decodes nothing")
        if self.dev_eui is not None and (self.sender is not None or self.station is not None):
            raise ValueError("`sender` and `station` go with `gateway`")
        if self.device_id is not None and (self.things_stack is None or self.dev_eui is None):
            raise ValueError("`deviceId` goes with `thingsStack` and `devEui`")
        return self._direct() if self.listen is not None else self._served()

    def _direct(self) -> Self:
        if self.dev_eui is not None and (self.otaa is None) == (self.abp is None):
            raise ValueError("give either `otaa` or `abp`: how the device is activated")
        if not 0 < duration_ns(self.deduplication) <= 700_000_000:
            raise ValueError("`deduplication` is 1ms to 700ms: a device listens 1 s after its uplink")
        sub_band = self.station.sub_band if self.station is not None else None
        if sub_band is not None and sub_band > (most := REGIONS[self.region].sub_bands):
            raise ValueError(f"{self.region} has {most if most > 1 else 'no'} sub-bands")
        return self

    def _served(self) -> Self:
        given = [name for name in _OF_LISTEN if name in self.model_fields_set]
        if given:
            name = type(self).model_fields[given[0]].alias or given[0]
            raise ValueError(f"`{name}` goes with `listen`: a network server has its own")
        return self

    @property
    def eui(self) -> str:
        """The device's or the gateway's EUI, in lower case."""
        return (self.dev_eui or self.gateway or "").lower()

    @property
    def address(self) -> tuple[str, int]:
        """Where to listen, or where the broker is."""
        server = self.server
        return listening_at(self.listen or "") if server is None else server.place

    @property
    def server(self) -> ChirpStack | ThingsStack | None:
        """The network server; None: we are that ourselves."""
        return self.chirpstack or self.things_stack

    @property
    def lifetime_s(self) -> float:
        return duration_ns(self.lifetime) / 1e9

    @property
    def simulated(self) -> bool:
        """Whether a simulator stands in for this device or gateway: only `redirect` makes it so."""
        return self._simulated

    def link(self) -> str:
        if self.chirpstack is not None:
            return f"chirpstack {_host(self.chirpstack)} {self.chirpstack.application}"
        if self.things_stack is not None:
            return f"thingsStack {_host(self.things_stack)} {self.things_stack.user}"
        host, port = self.address
        return f"listen {bracketed(host)}:{port}"

    def text(self) -> str:
        return f"{self.link()} {self.eui}"

    def listens(self) -> tuple[Literal["tcp", "udp"], str, int] | None:
        if self.listen is None:
            return None
        return ("tcp" if self.station is not None else "udp", *listening_at(self.listen))

    def redirect(self, address: str) -> Self:
        """`host:port`. A stand-in joins with a key that everybody can work out (`stand_in_key`).

        Its stations send no token, its brokers ask for no user, and neither speaks TLS.
        """
        change: dict[str, object]
        if self.server is not None:
            bare: dict[str, object] = {"broker": f"mqtt://{address}", "tls": None}
            broker_place(f"mqtt://{address}")
            if isinstance(self.server, ChirpStack):
                bare |= {"user_name": None, "password": None}
                change = {"chirpstack": self.server.model_copy(update=bare)}
            else:
                change = {"things_stack": self.server.model_copy(update=bare)}
        else:
            listening_at(address)
            bare = {"token": None, "tls": None}
            station = self.station and self.station.model_copy(update=bare)
            change = {"listen": address, "otaa": None, "abp": None, "sender": None, "station": station}
        made = self.model_copy(update=change)
        made._simulated = True
        return made

    def conflict(self, other: LoraEndpoint) -> str | None:
        for name in ("region", "deduplication"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} {mine} and {theirs}"
        if self.server != other.server:
            return "what they say of the broker"
        if self.station is not None and other.station is not None and self.station.tls != other.station.tls:
            return "the `tls` of their stations"
        if self.eui == other.eui and self != other:
            return f"what they say of {self.eui}"
        return None


def _host(server: _Server) -> str:
    host, port = server.place
    return f"{bracketed(host)}:{port}"


def stand_in_key(eui: str) -> bytes:
    """The AppKey of a simulated device: no secret, and so none of a real one."""
    return hashlib.sha256(f"devicemesh simulated {eui}".encode()).digest()[:16]


def broker_place(broker: str) -> tuple[str, int]:
    """Host and port of a broker's URL. Raises ValueError."""
    try:
        parts = urlsplit(broker)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into a URL: a secret is given by reference")
    good = parts.scheme in ("mqtt", "mqtts") and host and re.fullmatch(r"/?", parts.path) and not parts.query
    if not good:
        raise ValueError(f"{broker!r} is no broker: write it like mqtts://host:8883 or mqtt://host:1883")
    return host, port or (8883 if parts.scheme == "mqtts" else 1883)


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
