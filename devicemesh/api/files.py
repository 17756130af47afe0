"""The page's files: a few, read once, and sent only where a browser has not got them."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from devicemesh.api.answers import refused, tagged

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"


class Files:
    """Read when the first is asked for; nothing but what was there then is ever sent, whatever its name."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    async def index(self, request: Request) -> Response:
        """The page."""
        return self._send(request, INDEX)

    async def file(self, request: Request) -> Response:
        """What the page asks for."""
        return self._send(request, request.path_params["file"])

    def _send(self, request: Request, name: str) -> Response:
        if not self._bodies:
            self._bodies = {one.name: one.read_bytes() for one in PAGE.iterdir() if one.suffix in TYPES}
        body = self._bodies.get(name)
        if body is None:
            raise refused(404, f"the page has no file {name[:64]}")
        return tagged(request, body, TYPES[Path(name).suffix])
