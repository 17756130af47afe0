"""What a person writes about OPC UA: how to reach a server, and where a property lives on it."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from devicemesh import layout
from devicemesh.mapper import Address, Endpoint, Point, SecretRef
from devicemesh.spec.base import Strict
from devicemesh.spec.values import Duration, Interval, Scalar, ValueType, duration_ns
from devicemesh_opcua.nodeid import BrowseName, NodeName, is_index_range, parse_node, parse_path

Policy = Literal["None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"]
SecurityMode = Literal["None", "Sign", "SignAndEncrypt"]
Attribute = Literal[
    "Value", "BrowseName", "DisplayName", "Description", "NodeClass", "DataType", "ValueRank",
    "AccessLevel", "MinimumSamplingInterval", "Historizing", "EventNotifier", "Executable",
]  # fmt: skip
DEFAULT_PORT = 4840
OBJECTS, SERVER = "i=85", "i=2253"
"""The folder in which a server's objects are, and the one that is the server (Part 5, 8.2.4, 8.3.2)."""


class Identity(Strict):
    """Who we are to the server: a user with a password, or a certificate of a user."""

    user_name: str | None = Field(default=None, min_length=1)
    """The user."""
    password: SecretRef | None = None
    """The user's password, by reference."""
    certificate: str | None = Field(default=None, min_length=1)
    """Instead of a user name: file of the user's certificate (PEM or DER)."""
    private_key: str | None = Field(default=None, min_length=1)
    """File of the key of `certificate`."""
    private_key_password: SecretRef | None = None
    """What opens `privateKey`, by reference."""
    allow_plain_password: bool = False
    """Send the password unencrypted where the server takes it no other way. Who listens has it."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.user_name is None) == (self.certificate is None):
            raise ValueError("an identity is either a `userName` or a `certificate`")
        if self.password is not None and self.user_name is None:
            raise ValueError("a `password` belongs to a `userName`")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("a `certificate` and its `privateKey` go together")
        return self


class OpcUaEndpoint(Endpoint):
    """How to reach a server. Devices that name the same URL share a session."""

    url: str
    """Of the server, as in opc.tcp://10.0.0.5:4840 or opc.tcp://plc.local:4840/path."""
    security_policy: Policy = "None"
    """How messages are signed and encrypted; the server must offer it."""
    security_mode: SecurityMode | None = None
    """By default SignAndEncrypt, and None with securityPolicy None."""
    certificate: str | None = Field(default=None, min_length=1)
    """File of our certificate (PEM or DER). By default one is made, once, in `<pki>/own`."""
    private_key: str | None = Field(default=None, min_length=1)
    """File of its key."""
    private_key_password: SecretRef | None = None
    """What opens `privateKey`, by reference."""
    pki: str | None = Field(default=None, min_length=1)
    """Folder of `own`, `trusted` (servers' certificates, and authorities), `crl` and `rejected`.

    By default `<home>/pki/opcua`.
    """
    identity: Identity | None = None
    """Who we are to the server; by default anonymous."""
    application_uri: str = Field(default="urn:devicemesh", min_length=1)
    """Of this client; our certificate must bear it."""
    timeout: Interval = "5s"
    """How long to wait for an answer."""
    session_timeout: Interval = "60s"
    """How long the server keeps the session of a client that is silent."""
    root: str = OBJECTS
    """NodeId of the device's own object: browse paths begin there. By default the Objects folder."""
    namespaces: dict[int, str] = {}
    """What a namespace index in this device's addresses stands for, as in {2: "urn:plant"}."""
    mode: Literal["subscribe", "poll"] = "subscribe"
    """subscribe: the server sends changes; poll: it is asked at each sampling interval."""
    publishing_interval: Interval | None = None
    """How often the server sends changes. By default the shortest sampling interval (at least 100ms)."""
    history: Duration = "1h"
    """How far back a gap after an outage is filled from what the server keeps of a node; 0s: never."""
    timestamps: Literal["source", "server", "arrival"] = "source"
    """Whose time a value bears: of the value's source, of the server, or of its arrival here."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = split_url(url)
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials do not belong into a URL: use `identity`")
        return url

    @field_validator("root")
    @classmethod
    def _is_node(cls, root: str) -> str:
        parse_node(root)
        return root

    @field_validator("namespaces")
    @classmethod
    def _no_standard(cls, namespaces: dict[int, str]) -> dict[int, str]:
        for index in namespaces:
            if not 0 < index <= 0xFFFF:
                raise ValueError(f"namespace index {index} can't be given a meaning: 1 to 65535 can")
        return namespaces

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.security_mode is not None and (self.security_policy == "None") != (
            self.security_mode == "None"
        ):
            raise ValueError(
                f"securityPolicy {self.security_policy} does not go with securityMode {self.security_mode}"
            )
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("a `certificate` and its `privateKey` go together")
        return self

    @property
    def security(self) -> SecurityMode:
        """The security mode, derived where it is not given."""
        return self.security_mode or ("None" if self.security_policy == "None" else "SignAndEncrypt")

    @property
    def timeout_s(self) -> float:
        return duration_ns(self.timeout) / 1e9

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = split_url(self.url)
        return parts.hostname or "", parts.port or DEFAULT_PORT

    @property
    def full_url(self) -> str:
        """The URL as it is sent, with its port."""
        host, port = self.address
        return f"opc.tcp://{_bracketed(host)}:{port}{split_url(self.url).path}"

    def link(self) -> str:
        host, port = self.address
        return f"{_bracketed(host)}:{port}{split_url(self.url).path.rstrip('/')}"

    def text(self) -> str:
        return self.link() if self.root == OBJECTS else f"{self.link()} {self.root}"

    def redirect(self, address: str) -> Self:
        """`host:port`; the path stays, and so do the namespaces. A stand-in has no security."""
        keep = self.model_dump(exclude_unset=True)
        for name in ("security_policy", "security_mode", "certificate", "private_key", "identity"):
            keep.pop(name, None)
        path = split_url(self.url).path
        return self.model_validate({**keep, "url": f"opc.tcp://{address}{path}"})

    def conflict(self, other: OpcUaEndpoint) -> str | None:
        """Say on what two endpoints of one session disagree ("timeout 5s and 1s"), or None."""
        mine, theirs = self._link_part(), other._link_part()
        for name, value in mine.items():
            if value != theirs[name]:
                return f"{name} differs" if isinstance(value, dict) else f"{name} {value} and {theirs[name]}"
        return None

    def _link_part(self) -> dict[str, Any]:
        own = {"url", "root", "namespaces", "mode", "publishing_interval", "history", "timestamps"}
        part: dict[str, Any] = self.model_dump(by_alias=True, exclude=own)
        return {**part, "securityMode": self.security}


def split_url(url: str) -> SplitResult:
    """The parts of a server's URL. Raises ValueError."""
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"{url!r}: a port is a number up to 65535, as in opc.tcp://10.0.0.5:4840") from None
    if parts.scheme != "opc.tcp" or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not the URL of a server: write it like opc.tcp://10.0.0.5:4840")
    return parts


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class OpcUaAddress(Address):
    """Where a property lives: a node, or a way to one from the device's `root`."""

    node: str | None = None
    """NodeId: nsu=urn:plant;s=Pump.Speed, nsu=urn:plant;i=7, ...;g=GUID, ...;b=BASE64, or i=2258."""
    browse_path: str | None = Field(default=None, min_length=1)
    """Names from the endpoint's `root` downwards, as in Motor/Speed; `2:Speed` uses `namespaces`."""
    namespace: str | None = Field(default=None, min_length=1)
    """URI of the namespace of a `node` or of names that say no other."""
    attribute: Attribute = "Value"
    """Which attribute of the node."""
    index_range: str | None = None
    """Which part of an array: 3, 0:9, or 0:1,2:3. One element alone is delivered as a plain value."""
    type: ValueType | None = None
    """The node's data type, if otherwise than the property's: a float64 may lie in a Float, float32."""
    deadband_percent: float = Field(default=0, ge=0, le=100)
    """Changes up to this percentage of the node's EURange are not sent (Part 8, 7.2)."""

    @field_validator("index_range")
    @classmethod
    def _is_range(cls, text: str | None) -> str | None:
        if text is not None and not is_index_range(text):
            raise ValueError(f"{text!r} is not an index range: write 3, 0:9 or 0:1,2:3")
        return text

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.node is None) == (self.browse_path is None):
            raise ValueError("give either `node` or `browsePath`")
        if self.attribute != "Value" and (self.index_range is not None or self.deadband_percent):
            raise ValueError(f"the attribute {self.attribute} has no `indexRange` and no `deadbandPercent`")
        self.place()
        return self

    def place(self) -> NodeName | tuple[BrowseName, ...]:
        """The node, or the way to it."""
        if self.node is not None:
            return parse_node(self.node, self.namespace)
        return parse_path(self.browse_path or "", self.namespace)

    @property
    def single(self) -> bool:
        """Whether the index range is one element."""
        return self.index_range is not None and "," not in self.index_range and ":" not in self.index_range

    @property
    def text(self) -> str:
        """For people."""
        where = self.node or self.browse_path or ""
        where += f"[{self.index_range}]" if self.index_range else ""
        return where if self.attribute == "Value" else f"{where} {self.attribute}"

    def refusal(self, type_: ValueType, access: str) -> str | None:
        if self.attribute != "Value" and access != "ReadOnly":
            return f"the attribute {self.attribute} can only be read"
        if self.deadband_percent and not type_.is_number:
            return f"a {type_} has no deadband"
        wire = self.type
        if wire is None or wire == type_:
            return None
        if wire.is_number and type_.is_number:
            return None if type_.is_float or wire.is_integer else f"a {wire} does not fit {_an(type_)}"
        return f"{_an(wire)} is not {_an(type_)}"

    def nearest(self, type_: ValueType, value: Scalar) -> Scalar:
        wire = self.type or type_
        if not wire.is_number or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if wire.is_integer and value != int(value):
            raise ValueError(f"{value!r} is not an integer")
        held: Scalar = layout.nearest(layout.Field(0, wire), value)
        if type_.is_float and isinstance(held, int | float):
            return float(held)
        return int(held) if wire.is_integer and isinstance(held, float) else held


OpcUaPoint: TypeAlias = Point[OpcUaEndpoint, OpcUaAddress]


class OpcUaMethod(Strict):
    """Where a command lives: a method, and the object that it is called on."""

    object: str | None = None
    """NodeId of the object. By default the endpoint's `root`; of a path, what its last name lies in."""
    node: str | None = None
    """NodeId of the method."""
    browse_path: str | None = Field(default=None, min_length=1)
    """Names from `object`, or else from the endpoint's `root`, downwards, as in Motor/Reset."""
    namespace: str | None = Field(default=None, min_length=1)
    """URI of the namespace of ids and names that say no other."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.node is None) == (self.browse_path is None):
            raise ValueError("give either `node` or `browsePath`")
        if self.object is not None:
            _node(self.object, self.namespace)
        self.place()
        return self

    def place(self) -> NodeName | tuple[BrowseName, ...]:
        """The method, or the way to it."""
        if self.node is not None:
            return _node(self.node, self.namespace)
        return parse_path(self.browse_path or "", self.namespace)

    def owner(self) -> NodeName | tuple[BrowseName, ...] | None:
        """The object, or the way to it; None: the endpoint's root."""
        place = self.place()
        if isinstance(place, tuple) and len(place) > 1:
            return place[:-1]
        return self.base()

    def base(self) -> NodeName | None:
        """Where a path begins; None: at the endpoint's root."""
        return _node(self.object, self.namespace) if self.object is not None else None

    @property
    def text(self) -> str:
        """For people."""
        return self.node or self.browse_path or ""


class OpcUaEvents(Strict):
    """Where a device tells of alarms and events: a node whose EventNotifier says so (Part 3, 5.5.1)."""

    node: str = SERVER
    """NodeId of the notifier. By default the Server object, which tells of all that the server does."""
    namespace: str | None = Field(default=None, min_length=1)
    """URI of the namespace of a `node` that says no other."""
    source_name: str | None = Field(default=None, min_length=1)
    """Only what has this SourceName: for devices whose notifier is that of the whole server."""
    least_severity: int = Field(default=1, ge=1, le=1000)
    """Only what is as severe, and ends of conditions. Up to 333 is info, to 666 warning (Part 5, 6.4.2)."""

    @model_validator(mode="after")
    def _is_node(self) -> Self:
        self.place()
        return self

    def place(self) -> NodeName:
        """The notifier."""
        return _node(self.node, self.namespace)


def _node(text: str, namespace: str | None) -> NodeName:
    """A NodeId, in `namespace` where it says none. Ids of the standard's own are numbers alone: `i=2253`."""
    bare = not text.startswith(("ns=", "nsu=", "i="))
    return parse_node(text, namespace if bare else None)


def _an(type_: ValueType) -> str:
    return f"an {type_}" if type_.startswith("i") else f"a {type_}"
