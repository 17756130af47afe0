"""What the commands share: homes, stores, failing with a reason and one thing to try, output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from devicemesh.cli.plain import as_json, plain, plain_lines
from devicemesh.home import default_home
from devicemesh.store.base import StoreUnavailableError
from devicemesh.store.database import Database

PROBLEMS, WRONG_USE, NOT_REACHABLE = 1, 2, 3
STORE, CLUSTER = "store.db", "cluster.db"
"""In the home: what is declared here, and what an API server said last."""


def fail(message: str, code: int, try_: str | None = None) -> NoReturn:
    """Say why, and one thing to do about it; results stay on stdout, talk goes to stderr."""
    click.echo(f"{paint('Error:', 'red', sys.stderr)} {plain_lines(message)}", err=True)
    if try_:
        click.echo(f"Try: {plain_lines(try_)}", err=True)
    sys.exit(code)


def home_of(ctx: click.Context) -> Path:
    """The home that was asked for, or the default one."""
    return Path(ctx.obj) if ctx.obj is not None else default_home()


def of_a_cluster(home: Path) -> bool:
    """Whether the runtime of a home has its devices from an API server."""
    return (home / CLUSTER).exists() and not (home / STORE).exists()


def running_pid(home: Path) -> int | None:
    """The process that holds this home, if any."""
    import fcntl

    try:
        with (home / "runtime.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read().strip() or 0) or os.getpid()
    except (OSError, ValueError):
        return None
    return None


def make_ours(home: Path) -> str:
    """The command that gives us a home which is another's, as a mounted folder mostly is."""
    return f"chown -R {os.getuid()}:{os.getgid()} {home}"


def settings_option(command: Any) -> Any:
    """`--settings`; a pod has it in its environment, so that all that is run there looks at the same."""
    return click.option(
        "--settings",
        "settings_file",
        type=click.Path(path_type=Path, exists=True),
        envvar="DEVICEMESH_SETTINGS",
        show_envvar=True,
        help="Settings (YAML).",
    )(command)


def database(ctx: click.Context) -> Database:
    """The store of the home; exits when it can't be opened."""
    if of_a_cluster(home_of(ctx)):
        fail(f"the devices of {home_of(ctx)} are on an API server", WRONG_USE, "kubectl get devices -A")
    try:
        return Database(home_of(ctx) / STORE)
    except StoreUnavailableError as error:
        fail(str(error), NOT_REACHABLE, "devicemesh doctor")


def colourful(stream: Any) -> bool:
    """Whether to use colour on a stream (no-color.org)."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def paint(text: str, colour: str, stream: Any = None) -> str:
    """Text in a colour, where the stream takes colours. Colour is never the only sign."""
    return click.style(text, fg=colour) if colourful(stream or sys.stdout) else text


def ago(stamp: str | None, now: datetime | None = None) -> str:
    """How long since an RFC 3339 time: `0s`, `154s`, `12m`, `5h`, `3d`; `-` for never."""
    if not stamp:
        return "-"
    seconds = max(0.0, ((now or datetime.now(UTC)) - datetime.fromisoformat(stamp)).total_seconds())
    return span(seconds)


def span(seconds: float) -> str:
    """A duration in one or two units."""
    if seconds < 180:
        return f"{seconds:.0f}s"
    if seconds < 3 * 3600:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.0f}h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f}d"


def emit(value: Any, output: str) -> None:
    """JSON or YAML on stdout."""
    if output == "json":
        click.echo(as_json(value, indent=2))
        return
    from devicemesh.spec.places import dump

    click.echo(plain_lines(dump(value if isinstance(value, list) else [value])), nl=False)


def output_option(*extra: str) -> Callable[[Any], Any]:
    """`-o json|yaml|...`."""
    return click.option(
        "-o", "--output", type=click.Choice(["json", "yaml", *extra]), help="Print it as data."
    )


def namespace_option(command: Any) -> Any:
    """`-n`."""
    return click.option("-n", "--namespace", default="default", show_default=True, help="Namespace.")(command)


Row = Sequence[str]


def table(
    columns: Sequence[tuple[str, int]], rows: Sequence[Row], tint: Callable[[Row], str | None] | None = None
) -> str:
    """Aligned text. Each column has a rank: on a narrow terminal the highest ranks go first, 0 never goes."""
    cells = [[title for title, _ in columns], *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shown = list(range(len(columns)))
    room = _columns()
    while sum(widths[c] for c in shown) + 3 * (len(shown) - 1) > room:
        victim = max(shown, key=lambda c: columns[c][1])
        if columns[victim][1] == 0:
            break
        shown.remove(victim)
    form = "   ".join(f"{{{c}:<{widths[c]}}}" for c in shown).format
    lines = [form(*row).rstrip() for row in cells]
    if tint is not None and colourful(sys.stdout):
        for index, row in enumerate(rows, 1):
            if colour := tint(row):
                lines[index] = click.style(lines[index], fg=colour)
    return "\n".join(lines)


def _columns() -> float:
    """The room for a line. A terminal that does not know its width (a serial console) says 0."""
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdecimal() else 0
    if not width and sys.stdout.isatty():
        with contextlib.suppress(OSError):
            width = os.get_terminal_size(sys.stdout.fileno()).columns
    return width or float("inf")


async def until_stopped() -> None:
    """Until SIGINT or SIGTERM."""
    import asyncio  # takes long: most commands have no loop
    import signal

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
