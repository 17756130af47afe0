"""Writes a configuration of thingsboard-gateway 3.8.5: range reads, tuned for throughput.

Arguments: folder devices registers period_ms modbus_port mqtt_port
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def write(
    folder: Path, devices: int, registers: int, period_ms: int, modbus_port: int, mqtt_port: int
) -> None:
    """Its fastest form: one range read a device, report strategy and statistics off, large packs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    value = {
        "tag": "r${address}", "type": "16int", "functionCode": 3, "objectsCount": 1,
        "address": f"0-{registers - 1}", "maxRegistersPerRequest": 124,
    }  # fmt: skip
    slaves = [
        {
            "host": "127.0.0.1", "port": modbus_port + n, "type": "tcp", "method": "socket", "unitId": 1,
            "deviceName": f"dev{n}", "deviceType": "default", "timeout": 35, "byteOrder": "BIG",
            "wordOrder": "BIG", "retries": True, "pollPeriod": period_ms, "connectAttemptTimeMs": 5000,
            "connectAttemptCount": 5, "waitAfterFailedAttemptsMs": 300000, "attributes": [],
            "timeseries": [value], "attributeUpdates": [], "rpc": [],
        }
        for n in range(devices)
    ]  # fmt: skip
    limits = (
        "rateLimits",
        "dpRateLimits",
        "messagesRateLimits",
        "deviceMessagesRateLimits",
        "deviceRateLimits",
        "deviceDpRateLimits",
    )
    broker: dict[str, Any] = {
        "host": "127.0.0.1", "port": mqtt_port, "remoteShell": False, "remoteConfiguration": False,
        "latencyDebugMode": False, "statistics": {"enable": False}, "maxPayloadSizeBytes": 65536,
        "deviceFiltering": {"enable": False, "filterFile": "list.json"}, "minPackSendDelayMS": 10,
        "minPackSizeToSend": 500, "checkConnectorsConfigurationInSeconds": 3600, "handleDeviceRenaming": True,
        "security": {"type": "accessToken", "accessToken": "bench"}, "qos": 1,
        "reportStrategy": {"type": "DISABLED"}, "syncDevicesSharedAttributesOnConnect": False,
        "checkingDeviceActivity": {"checkDeviceInactivity": False}, **dict.fromkeys(limits, "0:0,"),
    }  # fmt: skip
    storage = {"type": "memory", "read_records_count": 1000, "max_records_count": 100000}
    connectors = [{"type": "modbus", "name": "Modbus", "configuration": "modbus.json"}]
    whole = {"thingsboard": broker, "storage": storage, "grpc": {"enabled": False}, "connectors": connectors}
    modbus = {
        "name": "Modbus",
        "master": {"slaves": slaves},
        "logLevel": "ERROR",
        "enableRemoteLogging": False,
    }
    quiet = {"handlers": ["console"], "level": "ERROR", "propagate": False}
    names = ("database", "service", "connector", "converter", "tb_connection", "storage", "extension")
    logs = {
        "version": 1, "disable_existing_loggers": False, "formatters": {"plain": {"format": "%(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "loggers": dict.fromkeys(names, quiet), "root": {"level": "ERROR", "handlers": ["console"]},
    }  # fmt: skip
    for name, body in {"tb_gateway": whole, "modbus": modbus, "logs": logs}.items():
        (folder / f"{name}.json").write_text(json.dumps(body))


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:7]))
