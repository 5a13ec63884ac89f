"""What the layers of a streaming decoder have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

EVERYTHING = 2**40  # rows: how far back a recurrent layer looks, which is farther than any sound is long


class NoiseSource(Protocol):
    """Where the noise blocks take their noise from."""

    def __call__(self, layer: int, first: int, like: Tensor) -> Tensor:
        """Standard normals [batch, 1, T] for `like` [batch, channels, T], whose first sample is number `first`.

        `layer` counts the noise blocks from the latent side; `first` is absolute at that layer's own rate.
        """
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a stage begins: at the row of its input with this number; and the stream's noise, if it wants any."""

    row: int
    noise: NoiseSource | None


class Stage(ABC):
    """One layer. Built once as a prototype; `open` gives the copy that serves one stream and shares the weights.

    Row r of the input becomes the rows of the output from r * `rate` on.
    """

    rate = 1

    def open(self, opening: Opening) -> Self:
        """A stage for a new stream, as if nothing came before its first row. One without state may give itself."""
        return self

    def needs(self, row: int) -> int:
        """The first row of the input that the output depends on from `row` on; it may lie before the beginning."""
        return row

    def awaits(self, row: int) -> int:
        """The last row of the input that row `row` of the output depends on, once a stream is under way."""
        return row

    @abstractmethod
    def step(self, x: Tensor, last: bool) -> Tensor:
        """Rows float[n, in], the next of the stream, to rows float[m, out], those now certain; n and m may be 0.

        With `last` the input has ended: pad it, and return the rest.
        """


class Skip(Stage):
    """Leaves the first rows out. For one stream: it is made anew, not opened."""

    def __init__(self, count: int) -> None:
        self._count = count

    def step(self, x: Tensor, last: bool) -> Tensor:
        left_out = min(self._count, x.shape[0])
        self._count -= left_out
        return x[left_out:]
