"""The short forms that a person types: endpoints as URIs, addresses as `holding:100:float32`."""

from __future__ import annotations

import re
from typing import Any, get_args
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from pydantic import BaseModel

from devicemesh.mapper import ConfigError, validated
from devicemesh.spec.values import ValueType
from devicemesh_modbus.endpoint import ModbusEndpoint, Serial, Tls, Transport
from devicemesh_modbus.model import ModbusAddress, Table

SCHEMES: dict[str, Transport] = {
    "modbus": "tcp",
    "modbus+tcp": "tcp",
    "modbus+tls": "tls",
    "modbus+udp": "udp",
    "modbus+rtu": "rtuovertcp",
    "modbus+ascii": "asciiovertcp",
    "modbus+serial": "serial",
}
LISTENING = "modbus+listen"
EXAMPLES = "modbus://10.0.0.5:502/1, modbus+rtu://10.0.0.5:502/1 or modbus+serial:///dev/ttyUSB0?baudrate=9600&unit=1"
_ADDRESS = re.compile(
    r"(?P<table>[a-z]+):(?P<offset>0x[0-9a-f]+|\d+)(?:\.(?P<bit>\d+))?(?::(?P<type>\w+))?(?::(?P<length>\d+))?"
)
_MODICON = re.compile(r"(?P<table>[0134])(?P<number>\d{4,5})")
_MODICON_TABLES: dict[str, Table] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_PARTS: dict[str, type[BaseModel]] = {"serial": Serial, "tls": Tls}


def parse_endpoint(uri: str) -> tuple[ModbusEndpoint, bool]:
    """Read an endpoint, and whether the URI says which unit. Raises `ConfigError`.

    Query parameters are the fields of the endpoint, of `serial` and of `tls`: `?timeout=2s&baudrate=9600`.
    """
    try:
        parts = urlsplit(uri)
        data = _listening(parts) if parts.scheme == LISTENING else _place(parts, SCHEMES[parts.scheme])
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{uri!r} is not a Modbus URI: write it like {EXAMPLES}") from error
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        part = next((name for name, model in _PARTS.items() if key in _names(model) and key != "port"), None)
        if part is None:
            data[key] = value
        else:
            data.setdefault(part, {})[key] = int(value) if value.isdigit() else value
    return validated(ModbusEndpoint, data, uri), "unit" in data


def _place(parts: SplitResult, transport: Transport) -> dict[str, Any]:
    if transport == "serial":
        if parts.netloc or not parts.path.strip("/"):
            raise ValueError(parts.netloc)
        return {"serial": {"port": parts.path}}
    data: dict[str, Any] = {"host": parts.hostname, "transport": transport}
    if parts.hostname is None:
        raise ValueError(parts.netloc)
    if parts.port is not None:
        data["port"] = parts.port
    if unit := parts.path.strip("/"):
        data["unit"] = unit
    return data


def _listening(parts: SplitResult) -> dict[str, Any]:
    unit = parts.path.strip("/")
    return {"listen": parts.netloc, **({"unit": unit} if unit else {})}


def _names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def format_endpoint(endpoint: ModbusEndpoint, unit: int | None) -> str:
    """The URI of a unit behind an endpoint, None: of no certain one; `parse_endpoint` reads it back."""
    if endpoint.listen is not None:
        fields = {"registration": endpoint.registration, "transport": endpoint.transport}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        path = f"/{unit}" if unit is not None else ""
        return f"{LISTENING}://{endpoint.listen}{path}" + (f"?{query}" if query else "")
    scheme = next(s for s, t in SCHEMES.items() if t == endpoint.kind)
    if endpoint.serial is not None:
        fields = endpoint.serial.model_dump(by_alias=True, exclude_unset=True, exclude={"port"})
        return f"{scheme}://{quote(endpoint.serial.port)}?{urlencode({**fields, 'unit': unit})}"
    tls = endpoint.tls.model_dump(by_alias=True, exclude_unset=True) if endpoint.tls else {}
    return f"{scheme}://{endpoint.link()}/{unit}" + (f"?{urlencode(tls)}" if tls else "")


def parse_address(text: str) -> ModbusAddress:
    """Read `holding:100`, `holding:100:float32`, `holding:7.3`, `input:20:string:8`, `coil:3` or `40101`.

    The last is Modicon's way: the first digit is the table, and counting begins at 1. Raises `ConfigError`.
    """
    if modicon := _MODICON.fullmatch(text):
        table, number = _MODICON_TABLES[modicon["table"]], int(modicon["number"])
        return validated(ModbusAddress, {"table": table, "offset": number - 1}, text)
    found = _ADDRESS.fullmatch(text)
    if found is None:
        tables = ", ".join(f"{table}:0" for table in get_args(Table))
        raise ConfigError(
            f"{text!r} is not a Modbus address: write a table and an offset ({tables}), "
            "then if need be a type and a length in registers, as in holding:100:float32 or input:20:string:8"
        )
    data: dict[str, Any] = {key: value for key, value in found.groupdict().items() if value is not None}
    data["offset"] = int(data["offset"], 16 if data["offset"].startswith("0x") else 10)
    if data.get("type") not in (None, *ValueType):
        raise ConfigError(f"{text!r}: `{data['type']}` is not a type: {', '.join(ValueType)}")
    return validated(ModbusAddress, data, text)


def format_address(table: Table, offset: int) -> str:
    """`holding:100`."""
    return f"{table}:{offset}"
