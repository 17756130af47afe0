"""OPC UA as we write it, for those who read how others do. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from devicemesh.foreign.tree import Branch
from devicemesh.table import words

_POLICIES = ("None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
_MODES = {"sign": "Sign", "signandencrypt": "SignAndEncrypt", "none": "None"}
_WITHDRAWN = ("basic128rsa15", "basic256")
_INDEX = re.compile(r"ns=([1-9]\d*);")


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


def tell_indices(at: Branch, node: str) -> None:
    """Say that an index says nothing without the list of the server."""
    if found := _INDEX.search(node):
        at.tell(
            f"ns={found[1]} is a place in the server's list: say which namespace it is, "
            f"in `endpoint.opcua.namespaces: {{{found[1]}: URI}}`"
        )
