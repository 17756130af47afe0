"""run: the runtime in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import sys
import traceback
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devicemesh.cli.common import (
    CLUSTER,
    NOT_REACHABLE,
    PROBLEMS,
    STORE,
    WRONG_USE,
    fail,
    home_of,
    make_ours,
    settings_option,
    until_stopped,
)
from devicemesh.cli.edit import check, show_problems
from devicemesh.cli.plain import as_json, plain_lines
from devicemesh.runtime.fence import Fence
from devicemesh.runtime.reporter import stamp
from devicemesh.runtime.runtime import AlreadyRunningError, Runtime, exclusive
from devicemesh.settings import Settings, load
from devicemesh.store.base import Store, StoreUnavailableError
from devicemesh.store.lease import Leases

if TYPE_CHECKING:
    from devicemesh.store.kubernetes import KubernetesStore
    from devicemesh.store.secrets import ClusterSecrets

log = logging.getLogger("devicemesh")


class JsonLines(logging.Formatter):
    """One JSON object a line, for log collectors: its time is RFC 3339, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": stamp(round(record.created * 1e9)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            body["traceback"] = self.formatException(record.exc_info)
        return as_json(body)


class PlainLines(logging.Formatter):
    """Lines for people: what devices say can't steer their terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_lines(super().format(record))


def set_up_logging(level: str, form: str) -> None:
    """To stderr; libraries only from warnings up."""
    handler = logging.StreamHandler()
    text = PlainLines("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if form == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("devicemesh").setLevel(level.upper())
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what it says, a condition says better


@contextlib.asynccontextmanager
async def running(
    settings: Settings, redirects: Mapping[str, str] | None
) -> AsyncIterator[tuple[Runtime, str, str | None]]:
    """Broker (when none is given), store, sink, runtime, HTTP; yields the runtime and both URLs."""
    from devicemesh import plugins
    from devicemesh.sink.broker import embedded_broker
    from devicemesh.sink.mqtt import MqttSink
    from devicemesh.sink.secret import resolve

    found = plugins.load()
    for broken in (p for p in found.found if p.error):
        log.error("mapper %s of %s can't be loaded: %s", broken.name, broken.distribution, broken.error)
    async with contextlib.AsyncExitStack() as stack:
        mqtt = settings.mqtt
        if mqtt.url is None:
            url = await stack.enter_async_context(embedded_broker(settings.home / "broker"))
            mqtt = mqtt.model_copy(update={"url": url})
        store = await stack.enter_async_context(open_store(settings))
        secrets = None
        if settings.store.kind == "kubernetes":
            secrets = await stack.enter_async_context(secrets_of(store))
        fence = Fence()
        leases = leases_of(settings, store, fence)
        holds = fence.holds if leases is not None else None
        sink = await stack.enter_async_context(
            MqttSink(mqtt, settings.outbox, settings.home, settings.instance, fence=holds)
        )
        runtime = await stack.enter_async_context(
            Runtime(
                settings,
                store,
                sink,
                found.mappers,
                redirects=redirects,
                leases=leases,
                fence=fence,
                secrets=secrets,
            )
        )
        api = None
        if settings.api is not None:
            from devicemesh.api.server import serve

            token = resolve(settings.home, settings.api.token) if settings.api.token else None
            api = await stack.enter_async_context(serve(runtime, settings.api, token))
        yield runtime, str(mqtt.url), api


def open_store(settings: Settings) -> Store:
    """The store of the settings; exits where its client is not installed."""
    if settings.store.kind == "sqlite":
        from devicemesh.store.sqlite import SqliteStore

        return SqliteStore(settings.home / STORE)
    from devicemesh.store.offline import OfflineStore

    return OfflineStore(remote_store(settings), settings.home / CLUSTER, settings.store.conflicts)


def remote_store(settings: Settings) -> KubernetesStore:
    """The API server of the settings; exits where its client is not installed."""
    try:
        from devicemesh.store.kubernetes import KubernetesStore
    except ImportError as error:
        fail(f"no Kubernetes client: {error}", WRONG_USE, "pip install 'devicemesh[kubernetes]'")
    return KubernetesStore(settings.store.kubeconfig, settings.store.context)


def leases_of(settings: Settings, store: Store, fence: Fence) -> Leases | None:
    """Where replicas that share the devices keep their Leases, and the fence raised; None: nobody shares."""
    if settings.shards.mode != "shared" or settings.store.kind != "kubernetes":
        return None
    from devicemesh.store.kubernetes import KubernetesStore
    from devicemesh.store.leases import ClusterLeases, namespace
    from devicemesh.store.offline import OfflineStore

    assert isinstance(store, OfflineStore)
    assert isinstance(store.remote, KubernetesStore)
    store.remote.fence = fence.holds
    return ClusterLeases(store.remote.cluster, settings.shards.namespace or namespace())


def secrets_of(store: Store) -> ClusterSecrets:
    """The secrets of the store's cluster."""
    from devicemesh.store.kubernetes import KubernetesStore
    from devicemesh.store.offline import OfflineStore
    from devicemesh.store.secrets import ClusterSecrets

    assert isinstance(store, OfflineStore)
    assert isinstance(store.remote, KubernetesStore)
    return ClusterSecrets(store.remote.cluster)


def read_redirects(home: Path) -> dict[str, str]:
    """Where `devicemesh sim` serves the declared links; exits when none runs."""
    from devicemesh.cli.sim import living

    found = living(home)
    if found is None:
        fail("no simulator runs on this home", NOT_REACHABLE, "devicemesh sim -f DIR")
    addresses: dict[str, str] = found["addresses"]
    return addresses


@click.command("run")
@click.option(
    "-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="Apply these first."
)
@settings_option
@click.option("--mqtt", "mqtt_url", help="Broker, as in mqtt://host:1883.  [default: an embedded one]")
@click.option("--api-port", type=int, help="Port of /healthz and /metrics; 0: a free one.  [default: 8080]")
@click.option("--no-api", is_flag=True, help="No HTTP server.")
@click.option(
    "--simulated", is_flag=True, help="Speak to the running `devicemesh sim` instead of the devices."
)
@click.option("--store", type=click.Choice(["sqlite", "kubernetes"]), help="[default: sqlite]")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.pass_context
def run_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    settings_file: Path | None,
    mqtt_url: str | None,
    api_port: int | None,
    no_api: bool,
    simulated: bool,
    store: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run the runtime until it is stopped."""
    set_up_logging(log_level, log_format)
    overrides: dict[str, Any] = {"home": home_of(ctx)}
    if mqtt_url:
        overrides["mqtt"] = {"url": mqtt_url}
    if store:
        overrides["store"] = {"kind": store}
    if no_api:
        overrides["api"] = None
    elif api_port is not None:
        overrides["api"] = {"port": api_port}
    try:
        settings = load(settings_file, overrides)
        _check_mqtt(settings)
    except ValueError as error:
        fail(f"the settings are wrong: {error}", WRONG_USE, "devicemesh explain settings")
    if files and settings.store.kind != "sqlite":
        fail("-f applies to the embedded store only", WRONG_USE, f"kubectl apply -f {files[0]}")
    redirects = read_redirects(settings.home) if simulated else None
    run_guarded(_run(settings, redirects), settings, files)


def _check_mqtt(settings: Settings) -> None:
    """Raise ValueError for what the sink would refuse, before anything is applied or started."""
    from devicemesh.sink.broker_url import parse_url
    from devicemesh.sink.topics import Topics

    if settings.mqtt.url is not None:
        parse_url(settings.mqtt.url)
    Topics(settings.mqtt, settings.instance)


def apply_files(home: Path, files: tuple[Path, ...]) -> None:
    """Check and apply; exits with the problems. In a child, whose memory goes when it ends."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if code := os.waitstatus_to_exitcode(status):
            sys.exit(code)
        return
    code = PROBLEMS
    try:
        _apply(home, files)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else PROBLEMS
    except Exception:  # a bug: nobody else could tell of it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _apply(home: Path, files: tuple[Path, ...]) -> None:
    from devicemesh.store.database import Database

    try:
        store = Database(home / STORE)
        found = check(files, store)
        if found.problems:
            show_problems(found, None, "applied")
            sys.exit(PROBLEMS)
        store.apply([r.body for r in sorted(found.resources, key=lambda r: r.kind != "DeviceModel")])
        store.close()
    except StoreUnavailableError as error:
        fail(str(error), NOT_REACHABLE, "devicemesh doctor")


def use_all_descriptors() -> None:
    """A peer takes a descriptor, and the usual limit of 1,024 is there for programs of the past."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run_guarded(main: Any, settings: Settings, files: tuple[Path, ...] = ()) -> None:
    """Run a coroutine with the home held; what can go wrong at a start becomes a sentence.

    The files are applied once the home is held: a runtime that is refused has changed nothing.
    """
    from devicemesh.api.server import ExposedError
    from devicemesh.runtime.memory import one_arena
    from devicemesh.sink.broker import BrokerError
    from devicemesh.sink.secret import SecretError

    one_arena()
    use_all_descriptors()

    try:
        with exclusive(settings):
            if files:
                apply_files(settings.home, files)
            asyncio.run(main)
    except AlreadyRunningError as error:
        fail(str(error), WRONG_USE, "devicemesh --home DIR run")
    except (StoreUnavailableError, BrokerError) as error:
        fail(str(error), NOT_REACHABLE, "devicemesh doctor")
    except (ExposedError, SecretError) as error:
        fail(str(error), WRONG_USE, "devicemesh explain settings.api")
    except OSError as error:
        why = error.strerror or f"{error}"
        if isinstance(error, PermissionError) and settings.home in Path(error.filename or "").parents:
            words = f"{error.filename}: {why} for user {os.getuid()}"
            fail(words, NOT_REACHABLE, make_ours(settings.home))
        if error.filename is not None:
            fail(f"{error.filename}: {why}", NOT_REACHABLE, "devicemesh doctor")
        fail(why, NOT_REACHABLE, "devicemesh run --api-port 0")
    finally:
        main.close()


async def _run(settings: Settings, redirects: Mapping[str, str] | None) -> None:
    stopped = asyncio.create_task(
        until_stopped(), name="signals"
    )  # from the start: who is away may stay away
    await asyncio.sleep(0)  # from here on a signal ends it in good order
    async with running(settings, redirects) as (runtime, broker, api):
        synced = asyncio.create_task(runtime.supervisor.synced.wait(), name="synced")
        await asyncio.wait({synced, stopped}, return_when=asyncio.FIRST_COMPLETED)
        count = len(runtime.supervisor.devices)
        log.info(
            "%d devices on %d links   broker %s   http %s",
            count,
            len(runtime.supervisor.links),
            broker,
            api or "off",
        )
        await stopped
        synced.cancel()
        log.info("stopping: flushing what is under way")
