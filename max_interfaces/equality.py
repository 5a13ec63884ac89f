"""Comparison of frozen dataclasses that hold numpy arrays, for which `==` has no single truth value."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


def same_fields(left: object, right: object) -> bool:
    """True when both are of one dataclass and every field is equal; arrays compare by dtype, shape and value."""
    if type(left) is not type(right):
        return False
    fields = dataclasses.fields(left)  # type: ignore[arg-type]
    return all(_same(getattr(left, f.name), getattr(right, f.name)) for f in fields)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        both = isinstance(left, np.ndarray) and isinstance(right, np.ndarray)
        return both and left.dtype == right.dtype and np.array_equal(left, right)
    return bool(left == right)
