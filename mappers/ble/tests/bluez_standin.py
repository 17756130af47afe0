"""A stand-in for BlueZ's daemon on a private D-Bus: an adapter, and one device with a small GATT table.

`python bluez_standin.py` serves on the system bus, says `ready`, and ends when its input does.
"""

# D-Bus signatures stand where types would: dbus-fast reads them, so annotations are not put off
# mypy: ignore-errors
# ruff: noqa: F722, F821, N802
import asyncio
import sys

from dbus_fast import BusType, DBusError, NameFlag, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

READ = PropertyAccess.READ
ADAPTER = "/org/bluez/hci0"
ADDRESS = "F0:F1:F2:F3:F4:F5"
DEVICE = f"{ADAPTER}/dev_{ADDRESS.replace(':', '_')}"
SERVICE = f"{DEVICE}/service0010"
BASE = "0000{}-0000-1000-8000-00805f9b34fb"


class Adapter(ServiceInterface):
    def __init__(self, bus):
        super().__init__("org.bluez.Adapter1")
        self.bus, self.discovering, self.device = bus, False, Device(bus)
        self.advertising = None

    @dbus_property(access=READ)
    def Address(self) -> "s":
        return "00:11:22:33:44:55"

    @dbus_property(access=READ)
    def Name(self) -> "s":
        return "stand-in"

    @dbus_property(access=READ)
    def Powered(self) -> "b":
        return True

    @dbus_property(access=READ)
    def Discovering(self) -> "b":
        return self.discovering

    @dbus_method()
    def SetDiscoveryFilter(self, filter_: "a{sv}"):
        pass

    @dbus_method()
    def StartDiscovery(self):
        self.discovering = True
        self.emit_properties_changed({"Discovering": True})
        self.advertising = asyncio.get_running_loop().create_task(self.device.advertise())

    @dbus_method()
    def StopDiscovery(self):
        self.discovering = False
        self.emit_properties_changed({"Discovering": False})
        self.advertising.cancel()

    @dbus_method()
    def RemoveDevice(self, device: "o"):
        pass


class Device(ServiceInterface):
    def __init__(self, bus):
        super().__init__("org.bluez.Device1")
        self.bus, self.connected, self.resolved, self.rssi, self.shown = bus, False, False, -60, False
        self.table = [
            (SERVICE, GattService()),
            (f"{SERVICE}/char0011", Characteristic("2a19", ["read", "write", "notify"], b"\x4d")),
            (f"{SERVICE}/char0014", Characteristic("fff1", ["read"], None)),
        ]

    async def advertise(self):
        if not self.shown:
            self.shown = True
            self.bus.export(DEVICE, self)
        while True:
            await asyncio.sleep(0.05)
            self.rssi = -61 if self.rssi == -60 else -60
            self.emit_properties_changed({"RSSI": self.rssi, "ServiceData": self.ServiceData})

    @dbus_property(access=READ)
    def Address(self) -> "s":
        return ADDRESS

    @dbus_property(access=READ)
    def AddressType(self) -> "s":
        return "random"

    @dbus_property(access=READ)
    def Name(self) -> "s":
        return "Thermo"

    @dbus_property(access=READ)
    def Alias(self) -> "s":
        return "Thermo"

    @dbus_property(access=READ)
    def Adapter(self) -> "o":
        return ADAPTER

    @dbus_property(access=READ)
    def Paired(self) -> "b":
        return False

    @dbus_property(access=READ)
    def Connected(self) -> "b":
        return self.connected

    @dbus_property(access=READ)
    def ServicesResolved(self) -> "b":
        return self.resolved

    @dbus_property(access=READ)
    def UUIDs(self) -> "as":
        return [BASE.format("180f")]

    @dbus_property(access=READ)
    def RSSI(self) -> "n":
        return self.rssi

    @dbus_property(access=READ)
    def ServiceData(self) -> "a{sv}":
        return {BASE.format("fcd2"): Variant("ay", bytes.fromhex("4002ca0903bf13"))}

    @dbus_method()
    def Connect(self):
        self.connected = True
        self.emit_properties_changed({"Connected": True})
        for path, one in self.table:
            self.bus.export(path, one)
        self.resolved = True
        self.emit_properties_changed({"ServicesResolved": True})

    @dbus_method()
    def Disconnect(self):
        for path, one in reversed(self.table):
            self.bus.unexport(path, one)
        self.connected = self.resolved = False
        self.emit_properties_changed({"ServicesResolved": False, "Connected": False})


class GattService(ServiceInterface):
    def __init__(self):
        super().__init__("org.bluez.GattService1")

    @dbus_property(access=READ)
    def UUID(self) -> "s":
        return BASE.format("180f")

    @dbus_property(access=READ)
    def Device(self) -> "o":
        return DEVICE

    @dbus_property(access=READ)
    def Primary(self) -> "b":
        return True


class Characteristic(ServiceInterface):
    def __init__(self, number, flags, value):
        super().__init__("org.bluez.GattCharacteristic1")
        self.number, self.flags, self.value, self.notifying = number, flags, value, False

    @dbus_property(access=READ)
    def UUID(self) -> "s":
        return BASE.format(self.number)

    @dbus_property(access=READ)
    def Service(self) -> "o":
        return SERVICE

    @dbus_property(access=READ)
    def Flags(self) -> "as":
        return self.flags

    @dbus_property(access=READ)
    def Value(self) -> "ay":
        return self.value or b""

    @dbus_property(access=READ)
    def Notifying(self) -> "b":
        return self.notifying

    @dbus_property(access=READ)
    def MTU(self) -> "q":
        return 247

    @dbus_method()
    def ReadValue(self, options: "a{sv}") -> "ay":
        if self.value is None:
            raise DBusError("org.bluez.Error.Failed", "Operation failed with ATT error: 0x0e")
        return self.value

    @dbus_method()
    def WriteValue(self, value: "ay", options: "a{sv}"):
        self.value = bytes(value)
        if self.notifying:
            self.emit_properties_changed({"Value": self.value})

    @dbus_method()
    def StartNotify(self):
        self.notifying = True
        self.emit_properties_changed({"Notifying": True})

    @dbus_method()
    def StopNotify(self):
        self.notifying = False
        self.emit_properties_changed({"Notifying": False})


async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.export(ADAPTER, Adapter(bus))
    await bus.request_name("org.bluez", NameFlag.DO_NOT_QUEUE)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
