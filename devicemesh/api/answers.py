"""Questions and answers: parameters that are checked, JSON that is sent only where it has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from devicemesh.sink.payload import dumps, loads
from devicemesh.spec.words import suggest

JSON = "application/json"
MAX_BODY = 64 << 10


class RefusedError(Exception):
    """The answer to a request that can't be answered otherwise."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(body)
        self.status, self.body = status, body


def refused(status: int, why: str) -> RefusedError:
    """An answer of one sentence."""
    return RefusedError(status, {"error": why})


def answer(request: Request, body: Mapping[str, Any] | bytes) -> Response:
    """JSON, or 304 where the asker has it already."""
    return tagged(request, body if isinstance(body, bytes) else dumps(body), JSON)


def tagged(request: Request, body: bytes, kind: str) -> Response:
    """A body, or 304 where the asker has it already.

    What it has is known by its content alone, so a restart of the runtime makes no difference.
    """
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=kind)


class Query:
    """The parameters of a request. Raises RefusedError (400) for what is unknown or makes no sense."""

    def __init__(self, request: Request, known: Collection[str]) -> None:
        self._given = request.query_params
        for name in self._given:
            if name not in known:
                hint = suggest(name, known) or f"there are {', '.join(known)}"
                raise refused(400, f"there is no parameter `{name[:64]}`: {hint}")

    def __bool__(self) -> bool:
        return bool(self._given)

    def text(self, name: str) -> str:
        """The last one given; empty where there is none."""
        return self._given.get(name, "")

    def many(self, name: str) -> list[str]:
        """All that were given."""
        return self._given.getlist(name)

    def words(self) -> list[str]:
        """What is searched for: all of these."""
        return self.text("q").casefold().split()

    def flag(self, name: str) -> bool | None:
        """`true` or `false`; None where it is not given."""
        text = self._given.get(name)
        if text not in (None, "true", "false"):
            raise refused(400, f"`{name}` is true or false, not {text[:64]!r}")
        return None if text is None else text == "true"

    def number(self, name: str, default: int, most: int) -> int:
        """From 0 to `most`."""
        text = self._given.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > most:
            raise refused(400, f"`{name}` is a number from 0 to {most}, not {text[:64]!r}")
        return int(text)


async def posted(request: Request) -> Any:
    """The JSON that was sent. Raises RefusedError.

    Its type is demanded: a form of another site can send bytes that look like JSON, but not call them so.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise refused(415, f"send it as {JSON}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise _bad(f"the payload is longer than {MAX_BODY} bytes")
    try:
        return loads(body)
    except ValueError as error:
        raise _bad(str(error)) from None


def _bad(why: str) -> RefusedError:
    return RefusedError(400, {"state": "refused", "reason": "BadPayload", "message": why})
