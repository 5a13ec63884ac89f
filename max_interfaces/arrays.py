"""Arrays as values: bounded, read-only, and nobody else's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problems import WrongType, fail


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """The bound of an array field: which kinds of dtype, how many dimensions and elements, what the values may be.

    `kinds` are numpy's one-letter kinds ("f", "iu"); `dtype`, if given, is what the field is stored as. Values of
    floats must be finite.
    """

    kinds: str
    ndim: int
    max_size: int
    dtype: str | None = None
    ge: int | None = None
    le: int | None = None

    def check(self, where: str, value: object) -> NDArray[Any]:
        """`value` frozen; ValueError, naming the field `where`, the value and the bound, if it is out of bounds."""
        if not isinstance(value, np.ndarray):
            raise WrongType(where, value, "must be a numpy array")
        if value.dtype.kind not in self.kinds:
            raise fail(where, value.dtype.name, f"its dtype must be of kind {' or '.join(self.kinds)}")
        if value.ndim != self.ndim:
            raise fail(where, value.shape, f"must have {self.ndim} dimension(s)")
        if value.size > self.max_size:
            raise fail(where, value.shape, f"may have at most {self.max_size} elements")
        if value.dtype.kind == "f":  # converted first: what is finite in float64 may not be so in float32
            frozen = freeze(value, self.dtype)
            self._check_values(where, frozen)
            return frozen
        self._check_values(where, value)  # before: a uint64 beyond int64 must not become a negative number
        return freeze(value, self.dtype)

    def _check_values(self, where: str, array: NDArray[Any]) -> None:
        if not array.size:
            return
        if array.dtype.kind == "f" and not _all_finite(array):
            raise fail(where, array, "values must be finite")
        if self.ge is not None and (low := array.min()) < self.ge:
            raise fail(where, low.item(), f"values must be at least {self.ge}")
        if self.le is not None and (high := array.max()) > self.le:
            raise fail(where, high.item(), f"values must be at most {self.le}")


def freeze(array: NDArray[Any], dtype: str | None = None) -> NDArray[Any]:
    """A C-contiguous array that nobody can write, ever: the same one if it is already so, otherwise a copy.

    The copy looks into `bytes`; a flag alone could be set back by anyone who holds the array.
    """
    wanted = np.dtype(dtype) if dtype else array.dtype.newbyteorder("=")
    if array.dtype == wanted and array.flags.c_contiguous and _is_frozen(array):
        return array
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused for that
        data = array.astype(wanted, copy=False).tobytes()
    frozen = np.frombuffer(data, wanted)
    return frozen if array.ndim == 1 else frozen.reshape(array.shape)


def _is_frozen(array: NDArray[Any]) -> bool:
    """True when no one can write: read-only, down to an immutable buffer."""
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return isinstance(base, bytes) or (isinstance(base, memoryview) and base.readonly)


def _all_finite(array: NDArray[Any]) -> bool:
    """The sum of squares is finite for every sound and takes a third of the time; a large value needs the long way."""
    flat = array.reshape(-1)
    return math.isfinite(np.dot(flat, flat)) or bool(np.isfinite(flat).all())
