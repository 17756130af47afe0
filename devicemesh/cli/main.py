"""The entry: a group whose commands are imported only when they are used, so that `--help` is quick."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from devicemesh.home import VARIABLE

# name -> (module, what `--help` says). The order is the order of use.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Simulated devices, a broker and the runtime, live in this terminal."),
    "run": ("run", "Run the runtime: connect, read, keep twins, publish."),
    "apply": ("edit", "Declare the resources of YAML files."),
    "get": ("show", "List resources."),
    "describe": ("show", "Everything known of one device."),
    "set": ("edit", "Set desired values of a device."),
    "call": ("call", "Run a command of a device, once."),
    "delete": ("edit", "Remove resources."),
    "validate": ("edit", "Check YAML files, all mistakes at once."),
    "read": ("wire", "Read one address, with no file at all."),
    "trace": ("wire", "The way of one value from bytes to number."),
    "import": ("table", "A table of signals (CSV) to a model and a device in YAML."),
    "discover": ("wire", "Look for devices, or what is inside one."),
    "sim": ("sim", "Serve every declared device, simulated."),
    "fault": ("sim", "Switch a fault of a simulated device."),
    "mappers": ("about", "Installed protocol mappers."),
    "new": ("new", "Begin a mapper of your own."),
    "crd": ("about", "Print the CustomResourceDefinitions of the installed mappers."),
    "explain": ("about", "What a field, or an error, means."),
    "doctor": ("doctor", "Check this installation."),
    "outbox": ("about", "Look into what waits for the broker."),
    "version": ("about", "Print the version."),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"devicemesh.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, 1, 0.6)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `devicemesh get | head` has what it wanted; click would exit with 1
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is still to be flushed has no reader
            sys.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar=VARIABLE,
    help="Where state lives (store, outbox, secrets).  [default: ~/.local/share/devicemesh]",
)
@click.pass_context
def app(ctx: click.Context, home: Path | None) -> None:
    """Device twins and protocol mappers for the edge.

    Declare devices in YAML; they are read, kept as twins and streamed to MQTT.

    \b
    Try: devicemesh demo
    """
    ctx.obj = home
    if home is not None:
        os.environ[VARIABLE] = str(home)  # mappers keep state there, too


def main() -> None:
    """Exit codes: 0 well, 1 problems found, 2 wrong use, 3 not reachable."""
    try:
        app(prog_name="devicemesh")
    except Exception as error:
        from devicemesh.cli.common import NOT_REACHABLE, PROBLEMS, fail
        from devicemesh.store.base import NotFoundError, StoreUnavailableError

        if isinstance(error, NotFoundError):  # it was deleted meanwhile
            fail(str(error), PROBLEMS, "devicemesh get devices")
        if isinstance(error, StoreUnavailableError):
            fail(str(error), NOT_REACHABLE, "devicemesh doctor")
        raise
