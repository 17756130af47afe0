"""HTTP to an API server: the only file that knows the Kubernetes client. Imported where one is used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.rest import RESTClientObject

from devicemesh.store.base import StoreUnavailableError

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"
BRIEF = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"
"""What is answered to a write whose answer nobody needs: neither side makes the whole object."""
CONNECT_S, READ_S = 5.0, 30.0
WATCH_S = 55
"""How long one watch is asked for; it is renewed where it ended. A dead network is known after SILENCE_S."""
SILENCE_S = WATCH_S + READ_S
"""A server that says nothing for so long is gone: a network that drops everything tells nobody."""

CLOSING_TURNS = 100
"""Turns of the loop that closed connections have to end."""


class ApiError(Exception):
    """The server answered with an error: `status` is HTTP's, the message the server's."""

    def __init__(self, status: int, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


def has_proxy(url: str) -> bool:
    """Whether the environment (HTTPS_PROXY, NO_PROXY, ...) has a proxy for a server."""
    server = urlsplit(url)
    return server.scheme in getproxies() and not proxy_bypass(server.hostname or "")


class Connections(RESTClientObject):
    """The client's connections: closed means that their sockets are."""

    def __init__(self, configuration: client.Configuration) -> None:
        super().__init__(configuration)
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=self._socket)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def close(self) -> None:
        """Close all, also what waits for the server's farewell.

        A TLS connection that was left (a watch, a request called off) would wait half a minute for it, which
        may be longer than the loop lives.
        """
        await super().close()
        for left in self._sockets:
            with contextlib.suppress(OSError):
                left.shutdown(socket.SHUT_RDWR)
        for _ in range(CLOSING_TURNS):
            if all(left.fileno() < 0 for left in self._sockets):
                return
            await asyncio.sleep(0)


class Cluster:
    """A connection with the credentials of the pod, or of a kubeconfig file."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Without a file: the pod's service account, else $KUBECONFIG or ~/.kube/config."""
        self._kubeconfig = kubeconfig
        self._context = context
        self.requests: dict[str, int] = {}  # counted by verb

    async def __aenter__(self) -> Self:
        configuration = client.Configuration()
        try:
            if self._kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                file = str(self._kubeconfig) if self._kubeconfig else None
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    file, context=self._context, client_configuration=configuration, persist_config=False
                )
        except (config.ConfigException, OSError) as error:
            raise StoreUnavailableError(f"no way to an API server: {error}") from error
        self.host: str = configuration.host
        # the client looks for a proxy in a thread, for every request: where there is none, it need not
        configuration.client_session_kwargs = {"trust_env": has_proxy(self.host)}
        self._api = client.ApiClient(configuration)
        self._api.rest_client = Connections(configuration)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def _call(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any],
        body: Any,
        content: str,
        read_s: float = READ_S,
        accept: str = JSON,
    ) -> Any:
        self.requests[verb] = self.requests.get(verb, 0) + 1
        headers = {"Accept": accept, "Content-Type": content}
        try:
            parts = await self._api.param_serialize(
                verb,
                path,
                query_params=list(query.items()),
                header_params=headers,
                auth_settings=["BearerToken"],
            )
            method, url, header_params, *_ = parts
            patience = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=read_s)
            answer = await self._api.call_api(method, url, header_params, body, _request_timeout=patience)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.away(error) from error
        return answer.response

    def away(self, error: Exception) -> StoreUnavailableError:
        """What a connection's failure is to a store."""
        return StoreUnavailableError(f"{self.host} can't be reached: {error or type(error).__name__}")

    async def request(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        content: str = JSON,
    ) -> dict[str, Any]:
        """One request and its answer. Raises ApiError and StoreUnavailableError."""
        response = await self._call(verb, path, query or {}, body, content)
        return self._checked(response, await self._text(response))

    async def send(
        self,
        verb: str,
        path: str,
        body: Any,
        *,
        query: Mapping[str, Any] | None = None,
        content: str = JSON,
    ) -> None:
        """One request whose answer says nothing new. Raises ApiError and StoreUnavailableError."""
        response = await self._call(verb, path, query or {}, body, content, accept=BRIEF)
        text = await self._text(response)
        if response.status >= 400:
            self._checked(response, text)

    async def _text(self, response: Any) -> str:
        try:
            text: str = await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.away(error) from error
        finally:
            response.release()
        return text

    def _checked(self, response: Any, text: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(text)
        except ValueError:
            answer = {"message": text.strip()[:500]}
        if response.status < 400:
            return answer
        after = response.headers.get("Retry-After", "")
        message = answer.get("message") or f"{self.host} answered {response.status}"
        reason = answer.get("reason") or str(response.reason)
        raise ApiError(response.status, reason, message, float(after) if after.isdigit() else None)

    async def watch(
        self, path: str, version: str, only: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Events (`type`, `object`) since a resource version, until the server ends the watch."""
        query = {
            **(only or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH_S,
        }
        response = await self._call("GET", path, query, None, JSON, SILENCE_S)
        try:
            if response.status >= 400:
                self._checked(response, await response.text())
            rest = b""
            async for chunk in response.content.iter_any():  # lines may be longer than aiohttp's own limit
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise self.away(error) from error
        finally:
            response.close()
