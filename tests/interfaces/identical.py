"""Sameness stricter than `==`: down to types, signs of zero and dtypes."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np


def identical(left: Any, right: Any) -> bool:
    """True when no observer could tell the two values apart, but by `is`."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return bool(left.dtype == right.dtype and left.shape == right.shape) and left.tobytes() == right.tobytes()
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(identical(left[key], right[key]) for key in left)
    if isinstance(left, msgspec.Struct) or dataclasses.is_dataclass(left):
        names = [field.name for field in _fields(left)]
        return all(identical(getattr(left, name), getattr(right, name)) for name in names)
    return bool(left == right)


def _fields(value: Any) -> Any:
    return msgspec.structs.fields(value) if isinstance(value, msgspec.Struct) else dataclasses.fields(value)
