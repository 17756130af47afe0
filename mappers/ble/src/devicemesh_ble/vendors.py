"""Other vendors' advertisements, by parsers of Home Assistant's community (`devicemesh-ble[vendors]`).

Each has the one interface of `bluetooth-sensor-state-data`: an advertisement in, values by name out. A parser
remembers what it has heard, so that a device has one of its own. They are imported when a device needs them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from devicemesh.mapper import ConfigError
from devicemesh.spec.values import Scalar
from devicemesh_ble.advert import Advert, AdvertError, Values

PARSERS = {
    "bluemaestro": "bluemaestro_ble:BlueMaestroBluetoothDeviceData",
    "govee": "govee_ble:GoveeBluetoothDeviceData",
    "inkbird": "inkbird_ble:INKBIRDBluetoothDeviceData",
    "mopeka": "mopeka_iot_ble:MopekaIOTBluetoothDeviceData",
    "qingping": "qingping_ble:QingpingBluetoothDeviceData",
    "sensirion": "sensirion_ble:SensirionBluetoothDeviceData",
    "sensorpush": "sensorpush_ble:SensorPushBluetoothDeviceData",
    "thermobeacon": "thermobeacon_ble:ThermoBeaconBluetoothDeviceData",
    "thermopro": "thermopro_ble:ThermoProBluetoothDeviceData",
    "xiaomi": "xiaomi_ble:XiaomiBluetoothDeviceData",
}
"""Format -> module and class. Of these only Xiaomi's takes a key."""
KEYED = "xiaomi"
SIGNAL_STRENGTH = "signal_strength"
INSTALL = "pip install 'devicemesh-ble[vendors]'"


class Vendor:
    """One device's advertisements of one vendor's format."""

    def __init__(self, format_: str, key: Callable[[], bytes] | None) -> None:
        self.format = format_
        self._key = key
        self._parser: Any = None
        self._info: Any = None

    def _made(self) -> Any:
        if self._parser is None:
            module, _, name = PARSERS[self.format].partition(":")
            try:
                from habluetooth import BluetoothServiceInfo

                found = getattr(importlib.import_module(module), name)
            except ImportError as error:
                message = f"{self.format} needs a parser that is not installed: {INSTALL}"
                raise ConfigError(message, reason="NotInstalled") from error
            key = self._key if self.format == KEYED else None
            self._parser = found(bindkey=key()) if key is not None else found()
            self._info = BluetoothServiceInfo
        return self._parser

    def values(self, advert: Advert) -> Values | None:
        """What an advertisement says; None where it is not of this format.

        Raises AdvertError; AuthError where the key is missing, ConfigError where the parser is.
        """
        parser = self._made()
        info = self._info(
            name=advert.name or "", address=advert.address, rssi=advert.rssi,
            manufacturer_data=dict(advert.manufacturer), service_data=dict(advert.service_data),
            service_uuids=list(advert.services), source="",
        )  # fmt: skip
        try:
            update = parser.update(info)
        except Exception as error:  # of a library that no device may bring down
            raise AdvertError(f"its parser fails: {type(error).__name__}: {error}") from error
        said: dict[str, Scalar | None] = {}
        for entries in (update.entity_values, update.binary_entity_values):
            for key, entry in entries.items():
                said[name_of(key.key, key.device_id)] = _scalar(entry.native_value)
        for key, event in update.events.items():
            said[name_of(key.key, key.device_id)] = _scalar(event.event_type)
        said.pop(SIGNAL_STRENGTH, None)  # parsers add it to whatever they hear
        if not said:
            self._check_encryption()
        return said or None

    def _check_encryption(self) -> None:
        scheme = getattr(self._parser, "encryption_scheme", None)
        if scheme is not None and scheme.value != "none" and not self._parser.bindkey_verified:
            missing = self._key is None
            raise AdvertError(
                "it is encrypted: give its `key`" if missing else "it was not encrypted with this key"
            )


def said_by_any(advert: Advert) -> dict[str, Values]:
    """What an advertisement says in the formats whose parsers are installed, by format."""
    found: dict[str, Values] = {}
    for format_ in PARSERS:
        try:
            said = Vendor(format_, None).values(advert)
        except (AdvertError, ConfigError):
            continue
        if said:
            found[format_] = said
    return found


def name_of(key: str, device_id: str | None) -> str:
    """A field's name: `temperature`, or `temperature_probe_2` where a device has several."""
    text = key if device_id is None else f"{key}_{device_id}"
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _scalar(value: Any) -> Scalar | None:
    return value if value is None or isinstance(value, bool | int | float | str | bytes) else str(value)
