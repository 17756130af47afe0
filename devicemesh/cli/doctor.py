"""doctor: what is there, what is missing, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from devicemesh.cli.common import (
    CLUSTER,
    PROBLEMS,
    STORE,
    home_of,
    make_ours,
    of_a_cluster,
    paint,
    running_pid,
    settings_option,
)
from devicemesh.cli.sim import living

if TYPE_CHECKING:
    from devicemesh.settings import SecretRef, Settings

PATIENCE_S = 5.0
BROKER = "apt install mosquitto, or: pip install 'devicemesh[broker]', or set mqtt.url"


class Check(NamedTuple):
    """One thing looked at; `mend` is what to try where it is not good."""

    name: str
    good: bool
    found: str
    mend: str = ""


@click.command("doctor")
@settings_option
@click.option("-o", "--output", type=click.Choice(["json"]))
@click.pass_context
def doctor_command(ctx: click.Context, settings_file: Path | None, output: str | None) -> None:
    """Check this installation, and with --settings what they name: broker, store, secrets."""
    checks = list(_checks(home_of(ctx), settings_file))
    if output:
        names = ("check", "ok", "found", "try")
        click.echo(json.dumps([dict(zip(names, one, strict=True)) for one in checks], indent=2))
    else:
        for name, good, found, mend in checks:
            mark = paint("ok  ", "green") if good else paint("FAIL", "red")
            click.echo(f"{mark}  {name:<12} {found}" + (f"\n      Try: {mend}" if not good and mend else ""))
    if not all(one.good for one in checks):
        sys.exit(PROBLEMS)


def _checks(home: Path, file: Path | None) -> Iterator[Check]:
    from devicemesh.settings import load

    yield from _installation()
    try:
        settings = load(file, {"home": home})
    except ValueError as error:
        yield Check("settings", False, str(error), "devicemesh explain settings")
        return
    if file is not None:
        yield Check("settings", True, str(file))
    yield from _secrets(settings)
    yield _broker(settings)
    yield _cluster(settings) if settings.store.kind == "kubernetes" else _store(home)
    yield _disk(home)
    pid = running_pid(home)
    yield Check("runtime", True, f"running, pid {pid}" if pid else "not running")
    if settings.store.kind != "kubernetes" and not of_a_cluster(home) and living(home) is None:
        for place in _listened(home):
            yield _port(*place, running=bool(pid))


def _installation() -> Iterator[Check]:
    from devicemesh import plugins

    yield Check("python", sys.version_info >= (3, 11), platform.python_version(), "Python 3.11 or newer")
    try:
        from devicemesh import aggregate  # noqa: F401 - its import is the check

        yield Check("C core", True, "loaded")
    except ImportError as error:
        yield Check("C core", False, str(error), "pip install --force-reinstall devicemesh")
    found = plugins.load()
    broken = [f"{p.name}: {p.error}" for p in found.found if p.error]
    names = ", ".join(found.mappers) or "none"
    well = bool(found.mappers) and not broken
    yield Check("mappers", well, "; ".join(broken) or names, "pip install devicemesh-modbus")


def _secrets(settings: Settings) -> Iterator[Check]:
    """Those that the settings name: whether they are there, never what they are."""
    from devicemesh.sink.secret import SecretError, resolve

    named = {
        "mqtt.password": settings.mqtt.password,
        "mqtt.thingsboard.token": _thingsboard_token(settings),
        "api.token": settings.api.token if settings.api else None,
    }
    for what, ref in named.items():
        if ref is None:
            continue
        try:
            resolve(settings.home, ref)
            yield Check("secret", True, f"{ref.name}/{ref.key}, for {what}")
        except SecretError as error:
            yield Check("secret", False, f"{what}: {error}", f"put it into that file, or mend {what}")


def _thingsboard_token(settings: Settings) -> SecretRef | None:
    found = settings.mqtt.thingsboard
    return found.token_of(settings.instance) if found is not None else None


def _broker(settings: Settings) -> Check:
    """The broker of the settings, as far as TCP and TLS; else what there is to embed."""
    if settings.mqtt.url is None:
        wheel = "the iotcore wheel" if find_spec("iotcore") is not None else ""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        found = program or wheel
        return Check("broker", bool(found), found or "no broker to embed", BROKER)
    from devicemesh.sink.broker_url import in_words, parse_url, tls_context

    try:
        url = parse_url(settings.mqtt.url)
    except ValueError as error:
        return Check("broker", False, str(error), "devicemesh explain settings.mqtt")
    try:
        with socket.create_connection((url.host, url.port), PATIENCE_S) as connection:
            if url.tls:
                tls_context(settings.mqtt).wrap_socket(connection, server_hostname=url.host).close()
    except OSError as error:
        mend = "devicemesh explain settings.mqtt; or what lets this machine through to it"
        return Check("broker", False, in_words(error, url), mend)
    return Check("broker", True, f"{url} answers")


def _store(home: Path) -> Check:
    from devicemesh.store.base import StoreUnavailableError
    from devicemesh.store.database import Database

    if of_a_cluster(home):
        return Check("store", False, f"{home / CLUSTER}: devices are on an API server", "--settings FILE")
    try:
        store = Database(home / STORE)
        count = len(store.list("Device"))
        store.close()
    except StoreUnavailableError as error:
        return Check("store", False, str(error), f"look at the rights of {home}")
    return Check("store", True, f"{home / STORE}: {count} devices")


def _listened(home: Path) -> list[tuple[str, str, int]]:
    """Where devices that are declared here dial in, or send to."""
    from devicemesh import plugins
    from devicemesh.store.base import StoreUnavailableError
    from devicemesh.store.database import Database

    mappers, found = plugins.load().mappers, set()
    with contextlib.suppress(StoreUnavailableError), contextlib.closing(Database(home / STORE)) as store:
        for device in store.list("Device"):
            protocol, raw = next(iter(device.spec["endpoint"].items()))
            with contextlib.suppress(KeyError, ValueError):  # said by `validate`
                if (place := mappers[protocol].endpoint_type.model_validate(raw).listens()) is not None:
                    found.add(place)
    return sorted(found)


def _port(kind: str, host: str, port: int, *, running: bool) -> Check:
    """Whether devices find us there: the port is free, or our runtime has it."""
    shown = f"{kind} {f'[{host}]' if ':' in host else host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if kind == "tcp" else 0)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                mend = "devicemesh get devices -o wide; mend `listen` of those devices"
                return Check("listen", False, f"{shown}: {error.strerror}", mend)
            if running:
                return Check("listen", True, f"{shown}: in use, as it should be while the runtime runs")
            mend = f"ss -lnp 'sport = :{port}' says who, or declare another port in `listen`"
            return Check("listen", False, f"{shown}: another program has this port", mend)
    if running:
        return Check("listen", False, f"{shown}: the runtime does not listen there", "devicemesh get devices")
    return Check("listen", True, f"{shown}: free; whatever stands before this machine must let it through")


def _cluster(settings: Settings) -> Check:
    """The API server of the settings: whether it answers, and lets us list devices."""
    from devicemesh.cli.run import remote_store
    from devicemesh.store.base import StoreUnavailableError

    async def count() -> str:
        async with remote_store(settings) as store:
            async with asyncio.timeout(PATIENCE_S):
                devices = await store.list("Device")
            return f"{store.cluster.host}: {len(devices)} devices"

    try:
        return Check("store", True, asyncio.run(count()))
    except TimeoutError:
        return Check("store", False, "no answer from the API server", "the network of this machine")
    except StoreUnavailableError as error:
        return Check("store", False, str(error), "kubectl get devices; deploy/base/rbac.yaml has the rights")


def _disk(home: Path) -> Check:
    """Whether the home can be written, and what room there is."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        return Check("disk", False, f"{there} can't be written by user {os.getuid()}", make_ours(home))
    room = shutil.disk_usage(there).free >> 20
    mend = "make room, or set outbox.max_bytes"
    return Check("disk", room > 256, f"{room} MiB free for the outbox", mend)
