"""What HTTP clients can ask of a runtime: see docs/http.md. The page in the browser is one of them."""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devicemesh.api import facts
from devicemesh.api.answers import JSON, Query, RefusedError, answer, posted, refused
from devicemesh.api.files import Files
from devicemesh.api.guard import Guard
from devicemesh.api.metrics import RuntimeCollector
from devicemesh.api.twins import PARAMETERS, Twins
from devicemesh.runtime.device import RunningDevice
from devicemesh.runtime.runtime import Runtime
from devicemesh.sink.payload import dumps
from devicemesh.store.base import Key

_DEVICE = "/api/v1/devices/{namespace}/{name}"
_STATUS = {"applied": 200, "accepted": 202, "waiting": 202, "refused": 422, "failed": 502}


def application(runtime: Runtime, token: str | None = None) -> Starlette:
    """The ASGI application."""
    ask, do, files = _Questions(runtime), _Orders(runtime), Files()
    return Starlette(
        routes=[
            Route("/", files.index),
            Route("/page/{file}", files.file),
            Route("/healthz", ask.healthz),
            Route("/readyz", ask.readyz),
            Route("/metrics", ask.metrics),
            Route("/api/v1/devices", ask.devices),
            Route(_DEVICE, ask.device),
            Route(f"{_DEVICE}/desired/{{property}}", do.desire, methods=["PUT"]),
            Route(f"{_DEVICE}/desired/{{property}}", do.take_back, methods=["DELETE"]),
            Route(f"{_DEVICE}/commands/{{command}}", do.command, methods=["POST"]),
            Route("/api/v1/models/{namespace}/{name}", ask.model),
            Route("/api/v1/links", ask.links),
            Route("/api/v1/alarms", ask.alarms),
            Route("/api/v1/samples", ask.samples),
            Route("/api/v1/runtime", ask.runtime),
        ],
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={RefusedError: _refusal, HTTPException: _mistake},
    )


class _Questions:
    """What is asked and changes nothing."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._twins = Twins(runtime)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(RuntimeCollector(runtime))

    async def healthz(self, _: Request) -> Response:
        broken = self._runtime.errors
        return JSONResponse(
            {"status": "failed" if broken else "ok", "errors": broken}, 503 if broken else 200
        )

    async def readyz(self, _: Request) -> Response:
        ready = self._runtime.supervisor.synced.is_set()
        body = {"ready": ready, "broker": self._runtime.sink.stats().up, "devices": self._runtime.states()}
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})

    async def devices(self, request: Request) -> Response:
        query = Query(request, PARAMETERS)
        return answer(request, self._twins.page(query) if query else self._twins.all())

    async def device(self, request: Request) -> Response:
        where = request.path_params
        return answer(request, self._twins.one(Key("Device", where["namespace"], where["name"])))

    async def model(self, request: Request) -> Response:
        where = request.path_params
        return answer(request, facts.model(self._runtime, where["namespace"], where["name"]))

    async def links(self, request: Request) -> Response:
        return answer(request, facts.links(self._runtime, Query(request, facts.LINK_PARAMETERS)))

    async def alarms(self, request: Request) -> Response:
        return answer(request, facts.alarms(self._runtime, Query(request, facts.ALARM_PARAMETERS)))

    async def samples(self, request: Request) -> Response:
        return answer(request, self._runtime.samples())

    async def runtime(self, request: Request) -> Response:
        return answer(request, facts.about(self._runtime))


class _Orders:
    """What is asked of devices: the same as by MQTT, with the same answers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def desire(self, request: Request) -> Response:
        """Set a desired value; `null` takes it back."""
        device = self._device(request)
        return await self._desire(request, device, await posted(request))

    async def take_back(self, request: Request) -> Response:
        """Want nothing of a property any more."""
        return await self._desire(request, self._device(request), None)

    async def command(self, request: Request) -> Response:
        """Do a command of a device's model; the body has the arguments of a call."""
        device = self._device(request)
        done = await self._runtime.commands.run(device, request.path_params["command"], await posted(request))
        return Response(dumps(done), _STATUS[done["state"]], media_type=JSON)

    async def _desire(self, request: Request, device: RunningDevice, value: Any) -> Response:
        prop = request.path_params["property"]
        done = (await self._runtime.commands.desire(device, {prop: value}, "http"))[prop]
        key = device.bound.key
        body = {"property": prop, **done, "follow": _DEVICE.format(namespace=key.namespace, name=key.name)}
        status = 503 if done.get("reason") == "StoreUnavailable" else _STATUS[done["state"]]
        return Response(dumps(body), status, media_type=JSON)

    def _device(self, request: Request) -> RunningDevice:
        where = request.path_params
        found = self._runtime.supervisor.find(f"{where['namespace']}/{where['name']}")
        if found is None:
            raise refused(404, f"no device {where['namespace']}/{where['name']} runs here")
        if self._runtime.fenced:
            raise refused(503, "this replica has lost its Lease: another may serve the device by now")
        return found


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return JSONResponse(dict(error.body), error.status)


async def _mistake(request: Request, error: Exception) -> Response:
    """No such path, or no such method there."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    why = f"{what}: {HTTPStatus(error.status_code).phrase.lower()}; docs/http.md has all that can be asked"
    return JSONResponse({"error": why}, error.status_code, error.headers)


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
