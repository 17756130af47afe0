"""Sparkplug B 3.0 (Eclipse Foundation): the runtime as an Edge Node, its devices as Sparkplug devices.

`wire` is the protocol buffer, `metrics` what a device has, `told` how JSON becomes metrics, `births` the
certificates, `host` the primary host, `topics` where it is said, `link` sequence numbers and
acknowledgements, `node` the whole.
"""
