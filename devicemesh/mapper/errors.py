"""The errors of a mapper, each because the runtime reacts differently; and secrets, which can be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from devicemesh.spec.base import Strict, first_mistake

M = TypeVar("M", bound=Strict)


class MapperError(Exception):
    """Base. A subclass exists only where the runtime reacts differently.

    `reason` is one CamelCase word for a condition's `reason` field; the message is a sentence without a
    full stop that a person can act on ("no answer from 10.0.0.5:502 unit 3 within 1 s").
    """

    default_reason = "Error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class ConfigError(MapperError):
    """The specification is wrong: set a condition, wait for an edit, never retry."""

    default_reason = "Misconfigured"


class AuthError(MapperError):
    """The credential is wrong: wait for a new secret."""

    default_reason = "Unauthorized"


class LinkError(MapperError):
    """The session is dead: its readings turn bad, the runtime backs off (0.5 s to 30 s) and reopens it.

    Name the link in the message. One silent device among others on a link is no `LinkError`.
    """

    default_reason = "NoLink"


class PointError(MapperError):
    """The peer refused, or did not answer for, these points only: the session lives on.

    It is never raised out of a reader, a subscription or `write`, but is the `error` of a bad `Batch` or of
    an `Outcome`; `trace` and `invoke` raise it.

    `again_s`: it is refused for now only (busy, out of order, a full queue), and may be taken after so many
    seconds. A desired value is then written again, as it is after `NoAnswer`; any other refusal stands until
    somebody edits it.
    """

    default_reason = "Refused"

    def __init__(self, message: str, *, reason: str | None = None, again_s: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.again_s = 0.0 if again_s is None and self.reason == "NoAnswer" else again_s

    @property
    def passes(self) -> bool:
        """Whether the same may succeed later."""
        return self.again_s is not None


class SecretRef(Strict):
    """A secret by name: never its value, and so fit for a manifest."""

    name: str
    """The secret's name: a folder in the home's `secrets`."""
    key: str = "password"
    """Which part of it: a file in that folder."""


Secrets: TypeAlias = Callable[[SecretRef], str]
"""Reads a secret now. Raises `AuthError`, which says where it was looked for."""


def no_secrets(ref: SecretRef) -> str:
    """The `Secrets` of who has none."""
    raise AuthError(f"nobody knows the secret {ref.name}/{ref.key} here", reason="SecretMissing")


def validated(model: type[M], data: Mapping[str, Any], text: str) -> M:
    """An endpoint or address out of the fields that `text` was taken apart into. Raises `ConfigError`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{text!r}: {first_mistake(error)}") from error
