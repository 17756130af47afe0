"""Who is let in: a bearer token where there is one; else this machine alone, and no page of another site."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devicemesh.api.loopback import loopback

OPEN = {"/", "/healthz", "/readyz"}
"""For probes, and for people who have yet to give the token. Of devices they tell how many are well."""
FILES = "/page/"
"""Below it the files of the page, which are the same for everybody."""
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of every answer. With trusted types a browser refuses text as HTML, also where a script of ours errs."""
_READS = {"GET", "HEAD"}


class Guard:
    """Refuses what must not come in, and puts the headers on what goes out."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, dressed)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if self._expected is None:
            return _foreign(scope)
        path = scope["path"]
        given = dict(scope["headers"]).get(b"authorization", b"")
        if path in OPEN or path.startswith(FILES) or hmac.compare_digest(given, self._expected):
            return None
        return _no("a bearer token is needed", 401, {"www-authenticate": "Bearer"})


def _foreign(scope: Scope) -> JSONResponse | None:
    """Without a token the browser of this machine is trusted, but not each page that it shows.

    A page elsewhere may give its own name our address (DNS rebinding: then `Host` tells), and may send
    what it can't read the answer of (then `Origin` tells).
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or not loopback(_name(hosts[0])):
        return _no(
            "without a token only this machine is answered: ask http://127.0.0.1, or set api.token", 403
        )
    if scope["method"] in _READS:
        return None
    for name, value in scope["headers"]:
        if name == b"origin" and value.decode("latin-1") != f"{scope['scheme']}://{hosts[0]}":
            return _no("a page of another site may not write", 403)
    return None


def _name(host: str) -> str:
    """The name in `name:port`."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _no(why: str, status: int, headers: Mapping[str, Any] | None = None) -> JSONResponse:
    return JSONResponse({"error": why}, status, headers)
