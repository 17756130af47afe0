"""SunSpec: solar inverters, meters and batteries that say by themselves which registers they have.

`models` are the published definitions, `walk` finds their points in what a device holds (pure), `compose`
makes a DeviceModel and a Device of them (pure), `look` asks the device.
"""
