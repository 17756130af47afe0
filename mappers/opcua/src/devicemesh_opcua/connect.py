"""From an endpoint to an activated session: security, identity, and what renews it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from asyncua.crypto import security_policies, uacrypto
from cryptography.hazmat.primitives.serialization import Encoding

from devicemesh.mapper import AuthError, ConfigError, SecretRef, Secrets, default_home
from devicemesh.spec.values import duration_ns
from devicemesh_opcua import certificates
from devicemesh_opcua.channel import Connection, explained, ua
from devicemesh_opcua.model import OpcUaEndpoint

CLOSE_S = 1.0
"""How long a server may take to close a session; after that it is left to its timeout."""


def pki(endpoint: OpcUaEndpoint) -> Path:
    """The folder of certificates."""
    return Path(endpoint.pki).expanduser() if endpoint.pki else default_home() / "pki" / "opcua"


def _opener(ref: SecretRef | None, secrets: Secrets) -> str | None:
    return secrets(ref) if ref is not None else None


@contextlib.asynccontextmanager
async def connected(endpoint: OpcUaEndpoint, secrets: Secrets) -> AsyncIterator[Connection]:
    """A connection with an activated session; its channel is renewed. Raises MapperError."""
    connection = Connection(endpoint)
    connection.session_timeout = duration_ns(endpoint.session_timeout) // 10**6
    try:
        if endpoint.security_policy != "None":
            await _secure(connection, endpoint, secrets)
        await _open(connection, endpoint, secrets)
    except Exception as error:
        raise explained(endpoint, error) from error
    renewal = asyncio.create_task(_renew(connection), name=f"renew {endpoint.link()}")
    try:
        yield connection
    finally:
        renewal.cancel()
        await asyncio.wait({renewal})
        await _close(connection)


async def endpoints(endpoint: OpcUaEndpoint) -> list[Any]:
    """What the server offers; asked without security. Raises MapperError."""
    connection = Connection(endpoint)
    try:
        found: list[Any] = await connection.connect_and_get_server_endpoints()
        return found
    except Exception as error:
        raise explained(endpoint, error) from error
    finally:
        await _settled(connection)


async def _secure(connection: Connection, endpoint: OpcUaEndpoint, secrets: Secrets) -> None:
    policy = getattr(security_policies, f"SecurityPolicy{endpoint.security_policy}")
    mode = getattr(ua.MessageSecurityMode, endpoint.security)
    offered = await endpoints(endpoint)
    one = next((o for o in offered if o.SecurityPolicyUri == policy.URI and o.SecurityMode == mode), None)
    if one is None or not one.ServerCertificate:
        raise ConfigError(
            f"{endpoint.link()} does not offer {endpoint.security_policy} {endpoint.security}; it offers "
            + (", ".join(sorted({_words(o) for o in offered})) or "nothing"),
            reason="SecurityNotOffered",
        )
    shown = _first(one.ServerCertificate)
    certificates.check(endpoint.link(), pki(endpoint), shown, one.Server.ApplicationUri, endpoint.address[0])
    certificate, key = _ours(endpoint)
    password = _opener(endpoint.private_key_password, secrets)
    ours = uacrypto.CertProperties(certificates.load(certificate).public_bytes(Encoding.DER), "der")
    try:
        await connection.set_security(policy, ours, _key(key, password), None, shown, mode)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"can't use the certificate {certificate} with its key {key}: {error}") from error


def _ours(endpoint: OpcUaEndpoint) -> tuple[Path, Path]:
    if endpoint.certificate and endpoint.private_key:
        return _path(endpoint.certificate), _path(endpoint.private_key)
    return certificates.own(pki(endpoint), endpoint.application_uri)


def _path(text: str | None) -> Path:
    return Path(text or "").expanduser()


def _key(path: Path, password: str | None) -> uacrypto.CertProperties:
    """A private key, PEM or DER."""
    raw = path.read_bytes()
    return uacrypto.CertProperties(raw, "pem" if b"-----BEGIN" in raw else "der", password)


def _first(chain: bytes) -> bytes:
    """The server's own certificate, which leads its chain: its DER says its length."""
    return chain[: int.from_bytes(chain[2:4], "big") + 4]


def _words(offered: Any) -> str:
    return f"{str(offered.SecurityPolicyUri).rpartition('#')[2]} {offered.SecurityMode.name}".replace(
        "None_", "None"
    )


async def _open(connection: Connection, endpoint: OpcUaEndpoint, secrets: Secrets) -> None:
    """Connect, and leave nothing behind where that fails."""
    try:
        await connection.connect_socket()
        await connection.send_hello()
        await connection.open_secure_channel()
        await connection.create_session()
        await _activate(connection, endpoint, secrets)
    except BaseException:
        await _close(connection)
        raise


async def _activate(connection: Connection, endpoint: OpcUaEndpoint, secrets: Secrets) -> None:
    who = endpoint.identity
    if who is None:
        await connection.activate_session()
    elif who.user_name is not None:
        password = _opener(who.password, secrets) or ""
        if password and not who.allow_plain_password:
            _guard_password(connection, endpoint)
        await connection.activate_session(who.user_name, password)
    else:
        opened = _opener(who.private_key_password, secrets)
        try:
            user = certificates.load(_path(who.certificate))
            mine = _key(_path(who.private_key), opened)
            connection.user_private_key = await uacrypto.load_private_key(
                mine.path_or_content, mine.password, mine.extension
            )
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"can't use the identity's {who.private_key}: {error}") from error
        await connection.activate_session(certificate=user)


def _guard_password(connection: Connection, endpoint: OpcUaEndpoint) -> None:
    """Raise where the password could be read by others on its way, or by a server that nobody trusts."""
    if endpoint.security == "SignAndEncrypt":
        return
    policy = connection.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri
    if not policy or policy == security_policies.SecurityPolicyNone.URI:
        raise AuthError(
            f"{endpoint.link()} wants the password unencrypted: use a `securityPolicy`, or, where nobody can"
            " listen, `allowPlainPassword: true`",
            reason="PlainPassword",
        )
    if endpoint.security == "None":
        shown = connection.security_policy.peer_certificate or b""
        certificates.check(endpoint.link(), pki(endpoint), shown, None, endpoint.address[0])


async def _renew(connection: Connection) -> None:
    """Ask for a new security token after three quarters of the old one's life (Part 4, 5.5.2.1)."""
    while True:
        await asyncio.sleep(connection.secure_channel_timeout * 0.75 / 1000)
        try:
            await connection.open_secure_channel(renew=True)
        except Exception as error:
            connection.channel.fail(f"did not renew the secure channel: {error or type(error).__name__}")
            return
        connection.uaclient.revolve_security_token()


async def _close(connection: Connection) -> None:
    """Close the session, if the server listens, and the connection in any case."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_S):
            if connection.channel.lost is None:
                await connection.close_session()
                await connection.close_secure_channel()
    await _settled(connection)


async def _settled(connection: Connection) -> None:
    """Abort what is left of the connection and let the loop notice."""
    transport = connection.uaclient.protocol.transport if connection.uaclient.protocol else None
    connection.disconnect_socket()
    if transport is not None:
        transport.abort()
    await asyncio.sleep(0)
