"""Declared binary layouts: bytes of one answer -> columns, through a C decode plan.

A `Field` says where a value lies in a record and how to read it. A `Layout` compiles the fields of one
record (a block of registers, a characteristic, a payload) once; `Layout.decode` then turns each answer
into at most three batches (floats, 64-bit integers, objects) with no Python per number. `encode` is the
inverse.
"""

from devicemesh.layout.decoding import Layout
from devicemesh.layout.encoding import encode, nearest
from devicemesh.layout.field import MAX_OFFSET, Field, Order, problem

__all__ = ["MAX_OFFSET", "Field", "Layout", "Order", "encode", "nearest", "problem"]
