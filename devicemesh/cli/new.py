"""new: a mapper of one's own, to begin with."""

from __future__ import annotations

import keyword
import re
import shlex
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from devicemesh.cli.common import PROBLEMS, WRONG_USE, fail

TEMPLATE = Path(__file__).parent.parent / "template"
"""A mapper that works, of instruments that speak SCPI: its own tests and ours run it."""
NAME = "scpi"
"""In names of the template; prose says SCPI, and stays."""
OURS = frozenset({"modbus", "opcua", "coap", "lora", "ble", "scpi"})
_PROTOCOL = re.compile(r"[a-z][a-z0-9]{0,30}")
_KEYWORDS = frozenset(keyword.kwlist) | {
    "const", "custom", "false", "function", "let", "loop", "namespace", "null", "package", "true", "var",
    "void",
}  # fmt: skip
"""What Python, or CEL in the rules of the CustomResourceDefinition, takes for something else."""


def refusal(name: str) -> str | None:
    """Say why a mapper can't be called so, or None."""
    if not _PROTOCOL.fullmatch(name):
        return f"{name!r} is no protocol's name: a lower-case letter, then letters and digits, at most 31"
    if name in _KEYWORDS:
        return f"`{name}` means something else in Python, or in the rules that Kubernetes checks devices with"
    if name in OURS - {NAME}:
        return f"`{name}` is taken: pip install devicemesh-{name}"
    from devicemesh import plugins

    found = plugins.load()
    for protocol, mapper in found.mappers.items():
        if name in (protocol, *mapper.schemes):
            return f"`{name}` is taken: the installed mapper of {protocol} has it"
    if name in {plugin.name for plugin in found.found} or find_spec(f"devicemesh_{name}") is not None:
        return f"`{name}` is taken: a package devicemesh_{name} is installed"
    return None


def files(name: str) -> dict[str, bytes]:
    """The files of a mapper of this name, by path."""
    made = {}
    for path in sorted(TEMPLATE.rglob("*")):
        parts = path.relative_to(TEMPLATE).parts
        left_by_tools = any(p == "__pycache__" or p.startswith(".") or p.endswith(".egg-info") for p in parts)
        if path.is_file() and not left_by_tools:
            text = path.read_text("utf-8").replace(NAME, name).replace(NAME.capitalize(), name.capitalize())
            made["/".join(parts).replace(NAME, name)] = text.encode()
    return made


def write(name: str, folder: Path) -> None:
    """Write the files into a folder that is not there yet: all of them, or nothing. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".devicemesh-{name}-", dir=folder.parent) as made:
        for path, content in files(name).items():
            target = Path(made, folder.name, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        shutil.move(Path(made, folder.name), folder)


@click.command("new")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="The folder to put it in.  [default: this one]",
)
def new_command(name: str, into: Path) -> None:
    """Begin a mapper of your own: NAME is the protocol's name, as in YAML.

    \b
    What it writes works as it is: a real protocol, its simulator, its tests.
    You replace a part at a time, and the tests stay green: see docs/mapper.md.
    """
    if why := refusal(name):
        fail(why, WRONG_USE, "devicemesh mappers" if "taken" in why else "devicemesh new acme")
    folder = into / f"devicemesh-{name}"
    if folder.exists():
        fail(f"{folder} is there already", WRONG_USE, f"devicemesh new {name} --into DIR")
    try:
        write(name, folder)
    except OSError as error:
        fail(
            f"{folder} can't be written: {error.strerror or error}",
            PROBLEMS,
            f"devicemesh new {name} --into DIR",
        )
    click.echo(folder)
    place = shlex.quote(str(folder))
    click.echo(
        f"A mapper of {name} that works, over TCP, with its simulator and its tests. Next:\n"
        f"  cd {place} && pip install -e '.[dev]'\n"
        "  pytest\n"
        "  devicemesh demo -f device.example.yaml\n"
        "Then replace it part by part: each file begins with what to replace. "
        "Try: less README.md",
        err=True,
    )
