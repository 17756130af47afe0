"""DeviceMesh: device twins and protocol mappers for the edge."""

__version__ = "0.1.0"
