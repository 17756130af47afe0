"""Keys out of secrets."""

from __future__ import annotations

import re

from devicemesh.mapper import AuthError, SecretRef, Secrets
from devicemesh_lora.endpoint import LoraEndpoint, stand_in_key
from devicemesh_lora.node import Keys, Node
from devicemesh_lora.store import Kept, Store, identity


def key(ref: SecretRef, secrets: Secrets) -> bytes:
    """A key of 32 hexadecimal digits; blanks, colons and 0x are left out. Raises AuthError."""
    text = re.sub(r"[\s:,-]|0x", "", secrets(ref))
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise AuthError(
            f"the secret {ref.name}/{ref.key} is no LoRaWAN key: 32 hexadecimal digits, most significant "
            "byte first",
            reason="SecretMalformed",
        )
    return found


def node(endpoint: LoraEndpoint, secrets: Secrets, store: Store) -> Node:
    """A device with its keys, and what is kept of it. Raises AuthError."""
    keys = Keys()
    if endpoint.abp is not None:
        keys.session = key(endpoint.abp.nwk_s_key, secrets), key(endpoint.abp.app_s_key, secrets)
        keys.dev_addr = int(endpoint.abp.dev_addr, 16)
        root = keys.session[0]
    else:
        root = stand_in_key(endpoint.eui) if endpoint.otaa is None else key(endpoint.otaa.app_key, secrets)
        keys.app_key = root
    name = identity(endpoint.eui, root)
    kept: Kept = store.load(name)
    return Node(endpoint, name, keys, kept)
