"""OSCORE: messages protected end to end, over any channel (RFC 8613); the cryptography is aiocoap's.

A sequence number must never be used twice with a key. Those in use are reserved in steps, in a file of
`<home>/coap/oscore`, before the first of them is sent; what a crash leaves unused is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import filelock
from aiocoap import error as errors
from aiocoap import oscore

from devicemesh.mapper import AuthError, ConfigError, PointError, SecretRef, Secrets, default_home
from devicemesh_coap.channel import Channel, Notify
from devicemesh_coap.foreign import from_aiocoap, received, to_aiocoap
from devicemesh_coap.message import GET, UNAUTHORIZED, Message, MessageError, Option, succeeded, words
from devicemesh_coap.model import CoapEndpoint, Oscore
from devicemesh_coap.udp import WELL_KNOWN


def folder(context: Oscore, secret: bytes) -> Path:
    """Where a context's sequence numbers are kept: one place for each key and sender."""
    parts = (context.sender_id, context.recipient_id, context.id_context or "", context.algorithm)
    mark = hashlib.sha256(b"devicemesh oscore\0" + secret + "\0".join(parts).lower().encode()).hexdigest()
    return default_home() / "coap" / "oscore" / mark[:32]


class _Context(oscore.FilesystemSecurityContext):  # type: ignore[misc]
    """A context whose folder holds its sequence numbers only; keys come from secrets."""

    def __init__(self, context: Oscore, place: Path, secret: bytes, salt: bytes) -> None:
        self._declared, self._secret, self._salt = context, secret, salt
        try:
            super().__init__(str(place))
        except BaseException:
            held: Any = self.__dict__.pop("lockfile", None)
            self.lockfile = None  # else it would be "destroyed", half made, later
            if held is not None:
                held.release()
            raise

    def _load(self) -> None:
        declared = self._declared
        self.alg_aead = oscore.algorithms[declared.algorithm]
        self.hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
        self.sender_id = bytes.fromhex(declared.sender_id)
        self.recipient_id = bytes.fromhex(declared.recipient_id)
        if max(len(self.sender_id), len(self.recipient_id)) > self.alg_aead.iv_bytes - 6:
            raise self.LoadError("a sender or recipient ID is too long for this algorithm")
        self.id_context = None if declared.id_context is None else bytes.fromhex(declared.id_context)
        self.derive_keys(self._salt, self._secret)
        self.recipient_replay_window = oscore.ReplayWindow(
            oscore.DEFAULT_WINDOWSIZE, self._replay_window_changed
        )
        self.recipient_replay_window.initialize_empty()
        self.replay_window_persisted = True
        try:
            held = json.loads((Path(self.basedir) / "sequence.json").read_text())
            self.sender_sequence_number = int(held["next-to-send"])
        except FileNotFoundError:
            self.sender_sequence_number = 0
        except (ValueError, KeyError, TypeError) as error:
            raise self.LoadError(f"{self.basedir}/sequence.json is damaged: agree on new keys") from error


def _key(ref: SecretRef | None, secrets: Secrets) -> bytes:
    if ref is None:
        return b""
    try:
        return bytes.fromhex(secrets(ref).strip())
    except ValueError as error:
        raise ConfigError(f"the secret {ref.name}/{ref.key} is no key: write it in hexadecimal") from error


@contextlib.contextmanager
def _opened(endpoint: CoapEndpoint, declared: Oscore, secrets: Secrets) -> Any:
    """The security context; nobody else may use it meanwhile. Raises ConfigError, AuthError."""
    secret = _key(declared.secret, secrets)
    place = folder(declared, secret)
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        context = _Context(declared, place, secret, _key(declared.salt, secrets))
    except filelock.Timeout as error:
        raise ConfigError(
            f"{endpoint.link()}: another link uses these OSCORE keys (lock in {place}): each needs its own"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{endpoint.link()}: can't use its OSCORE context: {error}") from error
    try:
        yield context
    finally:
        context._destroy()  # writes how far the numbers went, and unlocks


class OscoreChannel(Channel):
    """Protects what another channel carries."""

    def __init__(self, inner: Channel, context: Any) -> None:
        self.link = inner.link
        self._inner = inner
        self._context = context

    @property
    def last_heard(self) -> float:  # type: ignore[override]
        return self._inner.last_heard

    @property
    def lost(self) -> Any:  # type: ignore[override]
        return self._inner.lost

    async def request(self, message: Message) -> Message:
        protected, number = self._protected(message)
        answer = self._plain(await self._inner.request(protected), number)
        if answer.code == UNAUTHORIZED and (echo := answer.option(Option.ECHO)) is not None:
            again = Message(message.code, message.having((Option.ECHO, echo)), message.payload)
            protected, number = self._protected(again)  # the device checks how fresh we are (appendix B.1.2)
            answer = self._plain(await self._inner.request(protected), number)
        return answer

    async def observe(self, message: Message, notify: Notify, token: bytes = b"") -> tuple[Message, bytes]:
        protected, number = self._protected(message)

        def notified(outer: Message) -> None:
            try:
                notify(self._plain(outer, number))
            except PointError as error:
                notify(Message(outer.code, outer.options, flaw=str(error)))

        first, made = await self._inner.observe(protected, notified, token)
        answer = self._plain(first, number)
        if answer.code == UNAUTHORIZED and (echo := answer.option(Option.ECHO)) is not None:
            again = Message(message.code, message.having((Option.ECHO, echo)), message.payload)
            return await self.observe(again, notify, token)
        return answer, made

    def forget(self, token: bytes, message: Message) -> None:
        protected, _ = self._protected(
            Message(message.code, message.having((Option.OBSERVE, b"\x01")), message.payload)
        )
        self._inner.forget(token, protected)

    async def ping(self) -> None:
        await self._inner.ping()

    async def verify(self) -> None:
        """Find out whether the device has the same keys. Raises AuthError, LinkError."""
        try:
            await self.request(Message(GET, WELL_KNOWN))
        except PointError as error:
            if error.reason == "NotProtected":
                raise AuthError(str(error), reason="OscoreFailed") from error

    def _protected(self, message: Message) -> tuple[Message, Any]:
        try:
            protected, number = self._context.protect(to_aiocoap(message))
        except errors.Error as error:
            raise PointError(f"{self.link}: OSCORE: {error}", reason="NotProtected") from error
        return from_aiocoap(protected), number

    def _plain(self, outer: Message, number: Any) -> Message:
        """The answer inside; what is not protected is not believed. Raises PointError."""
        if outer.option(Option.OSCORE) is None:
            told = outer.payload[:80].decode("utf-8", "replace") if not succeeded(outer.code) else ""
            said = words(outer.code) + (f" ({told})" if told and told.isprintable() else "")
            raise PointError(
                f"{self.link} answers without OSCORE: {said}; compare keys, IDs and salt with the device's",
                reason="NotProtected",
            )
        try:
            made = self._context.unprotect(received(outer), number)[0]
            order, made.opt.observe = made.opt.observe, None
            answer = from_aiocoap(made)
        except (errors.Error, MessageError, ValueError) as error:
            why = f"its answer is not protected by these keys: {error or type(error).__name__}"
            raise PointError(f"{self.link}: OSCORE: {why}", reason="NotProtected") from error
        if order is None:
            return answer
        count = (order + 1 & 0xFFFFFF).to_bytes(3, "big").lstrip(b"\0")  # RFC 8613, 4.1.3.5.2
        return Message(answer.code, answer.having((Option.OBSERVE, count)), answer.payload, flaw=answer.flaw)


@contextlib.asynccontextmanager
async def protected(
    inner: Channel, endpoint: CoapEndpoint, declared: Oscore, secrets: Secrets
) -> AsyncIterator[OscoreChannel]:
    """A channel on top of another one. Raises ConfigError, AuthError, LinkError."""
    with _opened(endpoint, declared, secrets) as context:
        channel = OscoreChannel(inner, context)
        await channel.verify()
        yield channel
