"""Writes: the right function for each place, the echo checked, the value read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from devicemesh.layout import Field, Layout, encode
from devicemesh.mapper import Batch, Outcome, PointError, Scalar, ValueType, Write
...
