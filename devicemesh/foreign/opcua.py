"""OPC UA as we write it, for those who read how others do. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign.things import Thing
from devicemesh.foreign.tree import Branch
from devicemesh.table import words

_POLICIES = ("None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
_MODES = {"sign": "Sign", "signandencrypt": "SignAndEncrypt", "none": "None"}
_WITHDRAWN = ("basic128rsa15", "basic256")
_INDEX = re.compile(r"(?:^ns=|^|/)(\d{1,5})(?:;|:)")


@dataclass(frozen=True, slots=True)
class Security:
    """How a client shows itself, in anybody's words; empty is what nobody said."""

    policy: str = ""
    mode: str = ""
    certificate: str = ""
    key: str = ""
    user: str = ""
    secret: str = ""  # whose secret: the device's or connection's name
    user_certificate: str = ""
    user_key: str = ""

    @property
    def secret_name(self) -> str:
        return words.resource_name(self.secret) or "opcua"


def endpoint(url: Branch, security: Security, **more: Any) -> dict[str, Any]:
    """An endpoint. `more`: fields as in YAML; what is None is left out."""
    policy = _policy(url, security.policy)
    fields: dict[str, Any] = {"url": url.raw}
    if policy not in (None, "None"):
        fields["securityPolicy"] = policy
        mode = _MODES.get(security.mode.casefold())
        if mode == "Sign":
            fields["securityMode"] = mode
        if security.certificate and security.key:
            fields |= {"certificate": security.certificate, "privateKey": security.key}
    if security.user:
        password = {"name": security.secret_name, "key": "password"}
        fields["identity"] = {"userName": security.user, "password": password}
    elif security.user_certificate and security.user_key:
        fields["identity"] = {"certificate": security.user_certificate, "privateKey": security.user_key}
    return {**fields, **{key: value for key, value in more.items() if value is not None}}


def _policy(url: Branch, text: str) -> str | None:
    word = re.sub("[^a-z0-9]", "", text.casefold())
    if word in ("", "auto"):
        if word:
            url.tell("a security policy `auto` is none here: say `securityPolicy`")
        return None
    if word in _WITHDRAWN:
        url.tell(f"the security policy {text} is withdrawn, and Basic256Sha256 is asked for")
        return "Basic256Sha256"
    for one in _POLICIES:
        if word == re.sub("[^a-z0-9]", "", one.casefold()):
            return one.replace("_", "")
    raise url.problem(f"{text!r} is not a security policy", f"known: {', '.join(_POLICIES)}", "unknown-word")


def name_spaces(thing: Thing, uris: Mapping[int, str]) -> None:
    """Say what the indices of a device's addresses stand for, as far as somebody has told us."""
    texts = [text for one in thing.signals for text in one.address.values() if isinstance(text, str)]
    used = sorted({int(index) for text in texts for index in _INDEX.findall(text)} - {0})
    if named := {index: uris[index] for index in used if index in uris}:
        thing.endpoint["namespaces"] = named
    if left := [index for index in used if index not in uris]:
        shown = ", ".join(f"ns={index}" for index in left)
        are = "is a place" if len(left) == 1 else "are places"
        thing.at.tell(
            f"{shown} {are} in the server's list: say what is there, with --namespace-uri {left[0]}=URI"
        )
