"""What HTTP clients can ask: health, metrics, the twins of the running devices, and their commands."""

from __future__ import annotations

import contextlib
import hmac
import json
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from devicemesh.api.metrics import RuntimeCollector
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.reporter import conditions, properties
from devicemesh.runtime.runtime import Runtime
from devicemesh.sink.payload import dumps, loads
from devicemesh.store.base import Key

OPEN = {"/healthz", "/readyz"}
"""For probes, which carry no token; they say nothing of the devices but how many are well."""


class _Token:
    """Lets in only requests that carry the bearer token, but for what is open to all."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", [])).get(b"authorization", b"")
        if scope["type"] != "http" or scope["path"] in OPEN or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"error": "a bearer token is needed"}, 401)(scope, receive, send)


def application(runtime: Runtime, token: str | None = None) -> Starlette:
    """The ASGI application."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RuntimeCollector(runtime))

    async def healthz(_: Request) -> Response:
        broken = runtime.errors
        return JSONResponse(
            {"status": "failed" if broken else "ok", "errors": broken}, 503 if broken else 200
        )

    async def readyz(_: Request) -> Response:
        ready = runtime.supervisor.synced.is_set()
        body = {"ready": ready, "broker": runtime.sink.stats().up, "devices": runtime.states()}
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def devices(_: Request) -> Response:
        return JSONResponse([twin(runtime, d) for d in runtime.supervisor.devices.values()])

    async def device(request: Request) -> Response:
        key = Key("Device", request.path_params["namespace"], request.path_params["name"])
        found = runtime.supervisor.devices.get(key)
        if found is None:
            return JSONResponse({"error": f"no device {key.device} runs here"}, 404)
        return JSONResponse(twin(runtime, found))

    async def command(request: Request) -> Response:
        """Do a command of a device's model; the body has the arguments of a call."""
        where = request.path_params
        found = runtime.supervisor.find(f"{where['namespace']}/{where['name']}")
        if found is None:
            return JSONResponse({"error": f"no device {where['namespace']}/{where['name']} runs here"}, 404)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "send the arguments as application/json"}, 415)
        try:
            body = loads(await _limited(request))
        except ValueError as error:
            return JSONResponse({"state": "refused", "reason": "BadPayload", "message": str(error)}, 400)
        answer = await runtime.commands.run(found, where["command"], body)
        return Response(dumps(answer), _STATUS[answer["state"]], media_type="application/json")

    async def samples(_: Request) -> Response:
        return JSONResponse(runtime.samples())

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/api/v1/devices", devices),
            Route("/api/v1/devices/{namespace}/{name}", device),
            Route("/api/v1/devices/{namespace}/{name}/commands/{command}", command, methods=["POST"]),
            Route("/api/v1/samples", samples),
        ],
        middleware=[Middleware(_Token, token=token)] if token else [],
    )


_STATUS = {"applied": 200, "refused": 422, "failed": 502}
MAX_BODY = 64 << 10


async def _limited(request: Request) -> bytes:
    """The body. Raises ValueError where it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise ValueError(f"the payload is longer than {MAX_BODY} bytes")
    return body


def twin(runtime: Runtime, device: RunningDevice) -> dict[str, Any]:
    """A device as it is this moment, fresher than its status in the store."""
    snapshot = runtime.aggregator.snapshot(device.column)
    link = runtime.supervisor.link_of(device)
    found = conditions(device, runtime.aggregator, snapshot)
    return {
        "namespace": device.bound.key.namespace,
        "name": device.bound.key.name,
        "labels": dict(device.bound.labels),
        "protocol": link.name[0],
        "link": link.name[1],
        "conditions": [
            {"type": c.type, "status": c.status, "reason": c.reason, "message": c.message} for c in found
        ],
        "properties": json.loads(properties(device, snapshot)[0]),
    }


def server(runtime: Runtime, token: str | None) -> uvicorn.Server:
    """The server, to be given a listening socket."""
    config = uvicorn.Config(
        application(runtime, token),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: stopping is the runtime's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield
