"""What is imported, and a server that answers with known registers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from devicemesh import plugins
from devicemesh.cli.main import app
from devicemesh.mapper import Point, Quality
from devicemesh.spec.values import ValueType

Registers = Mapping[str, Sequence[Any]]


@pytest.fixture
def dm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["--home", "home", *words], prog_name="devicemesh")


@pytest.fixture
def bring(dm: Callable[..., Result]) -> Callable[..., list[Any]]:
    """The documents that files become: name -> text. They validate, too."""

    def run(**files: str) -> list[Any]:
        names = [name.replace("_", ".") for name in files]
        for name, text in zip(names, files.values(), strict=True):
            Path(name).write_text(text, "utf-8")
        made = dm("import", *names, "-o", "out.yml")
        assert made.exit_code == 0, made.output
        checked = dm("validate", "-f", "out.yml")
        assert checked.exit_code == 0, checked.output
        return list(yaml.safe_load_all(Path("out.yml").read_text("utf-8")))

    return run


@asynccontextmanager
async def _serving(units: Mapping[int, Registers]) -> AsyncIterator[int]:
    def block(values: Sequence[Any], datatype: DataType) -> list[SimData]:
        filled = [*values, *([values[0]] * (64 - len(values)))]
        return [SimData(0, values=filled, datatype=datatype)]

    devices = [
        SimDevice(
            id=unit,
            simdata=(
                block(tables.get("coil", [False]), DataType.BITS),
                block(tables.get("discrete", [False]), DataType.BITS),
                block(tables.get("holding", [0]), DataType.REGISTERS),
                block(tables.get("input", [0]), DataType.REGISTERS),
            ),
        )
        for unit, tables in units.items()
    ]
    server = ModbusTcpServer(devices, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        assert server.transport is not None
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


async def _read_all(documents: Sequence[Any], port: int) -> dict[str, dict[str, Any]]:
    mapper = plugins.load().mappers["modbus"]
    models = {one["metadata"]["name"]: one for one in documents if one["kind"] == "DeviceModel"}
    found: dict[str, dict[str, Any]] = {}
    for device in documents:
        if device["kind"] != "Device":
            continue
        declared = mapper.endpoint_type.model_validate(device["spec"]["endpoint"]["modbus"])
        endpoint = declared.redirect(f"127.0.0.1:{port}").model_copy(update={"transport": None})
        properties = models[device["spec"]["modelRef"]["name"]]["spec"]["properties"]
        points = [
            Point(
                slot, device["metadata"]["name"], one["name"], ValueType(one["type"]), endpoint,
                mapper.address_type.model_validate(one["address"]["modbus"]),
            )
            for slot, one in enumerate(properties)
        ]  # fmt: skip
        values = found[device["metadata"]["name"]] = {}
        async with mapper.open(endpoint) as session:
            async for batch in session.reader(points)():
                for index, slot in enumerate(batch.slot):
                    quality = batch.quality if isinstance(batch.quality, int) else batch.quality[index]
                    name = properties[slot]["name"]
                    values[name] = batch.value[index] if quality == int(Quality.GOOD) else batch.error
    return found


@pytest.fixture
def values() -> Callable[..., dict[str, dict[str, Any]]]:
    """What our runtime reads of imported devices: device -> property -> value."""

    def read(documents: Sequence[Any], units: Mapping[int, Registers]) -> dict[str, dict[str, Any]]:
        async def run() -> dict[str, dict[str, Any]]:
            async with _serving(units) as port:
                return await _read_all(documents, port)

        return asyncio.run(run())

    return read
