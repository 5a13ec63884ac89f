"""Arrays as values: bounded, read-only, and nobody else's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problems import WrongType, fail

FLOAT32: np.dtype[np.float32] = np.dtype(np.float32)
INT64: np.dtype[np.int64] = np.dtype(np.int64)
UINT8: np.dtype[np.uint8] = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """The bound of an array field: which kinds of dtype, how many dimensions and elements, what the values may be.

    `kinds` are numpy's one-letter kinds ("f", "iu"); `dtype` is what the field is stored as. Values of floats must be
    finite.
    """

    kinds: str
    ndim: int
    max_size: int
    dtype: np.dtype[Any]
    ge: int | None = None
    le: int | None = None

    def check(self, where: str, value: object) -> NDArray[Any]:
        """`value` frozen; ValueError, naming the field `where`, the value and the bound, if it is out of bounds."""
        if not isinstance(value, np.ndarray):
            raise WrongType(where, value, "must be a numpy array")
        value = np.asarray(value)  # a subclass may hold more, which nobody has frozen
        kind = value.dtype.kind
        if kind not in self.kinds:
            raise fail(where, value.dtype.name, f"its dtype must be of kind {' or '.join(self.kinds)}")
        if value.ndim != self.ndim:
            raise fail(where, value.shape, f"must have {self.ndim} dimension(s)")
        if value.size > self.max_size:
            raise fail(where, value.shape, f"may have at most {self.max_size} elements")
        if kind == "f":  # converted first: what is finite in float64 may not be so in float32
            frozen = freeze(value, self.dtype)
            if not _all_finite(frozen):
                raise fail(where, frozen, "values must be finite")
            return frozen
        self.check_range(where, value)  # before: a uint64 beyond int64 must not become a negative number
        return freeze(value, self.dtype)

    def check_range(self, where: str, array: NDArray[Any]) -> None:
        """ValueError for an element below or above the bound."""
        if self.ge is not None and array.size and (low := array.min()) < self.ge:
            raise fail(where, low.item(), f"values must be at least {self.ge}")
        if self.le is not None and array.size and (high := array.max()) > self.le:
            raise fail(where, high.item(), f"values must be at most {self.le}")


def freeze(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A C-contiguous array that nobody can write, ever: the same one if it is already so, otherwise a copy.

    The copy looks into `bytes`; a flag alone could be set back by anyone who holds the array.
    """
    if array.dtype != dtype:
        with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused for that
            array = array.astype(dtype)
    elif _is_frozen(array):
        return array
    frozen = np.frombuffer(array.tobytes(), dtype)
    return frozen if array.ndim == 1 else frozen.reshape(array.shape)


def _is_frozen(array: NDArray[Any]) -> bool:
    """True when no one can write: read-only, down to `bytes`. A view may be read-only and its owner not."""
    if not array.flags.c_contiguous:
        return False
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, bytes)


def _all_finite(array: NDArray[Any]) -> bool:
    """The sum of squares is finite for every sound and takes half of the time; a large value needs the long way.

    `dot` would warn of the large value, which is none of the caller's mistakes.
    """
    flat = array if array.ndim == 1 else array.reshape(-1)
    return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(flat).all())
