"""What stands before the first row and behind the last one of a convolution's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional

Mode = Literal["constant", "reflect", "replicate"]


@dataclass(frozen=True, slots=True)
class Padding:
    """`left` and `right` rows: zeros, the rows next to the border mirrored, or the outermost one again."""

    left: int
    right: int
    mode: Mode = "constant"

    @property
    def reach(self) -> int:
        return self.left + self.right

    @property
    def wanted(self) -> int:
        """How many rows must be there before what stands to the left of them is known."""
        return {"constant": 0, "reflect": self.left + 1, "replicate": 1}[self.mode] if self.left else 0

    def before(self, rows: Tensor) -> Tensor:
        """The first `wanted` rows float[n, channels] or more, with what stands before them."""
        return _padded(rows, self.left, 0, self.mode)

    def behind(self, rows: Tensor) -> Tensor:
        """The last rows, at least `reach` of them, with what stands behind them."""
        return _padded(rows, 0, self.right, self.mode)

    def around(self, rows: Tensor) -> Tensor:
        """A whole input. One that is too short to be mirrored is filled up with zeros first, as EnCodec does."""
        missing = max(self.left + 1 - rows.shape[0], 0) if self.mode == "reflect" else 0
        filled = _padded(rows, 0, missing, "constant")
        padded = _padded(filled, self.left, self.right, self.mode)
        return padded[: padded.shape[0] - missing]


def _padded(rows: Tensor, left: int, right: int, mode: Mode) -> Tensor:
    return functional.pad(rows.t()[None], (left, right), mode)[0].t() if left or right else rows
