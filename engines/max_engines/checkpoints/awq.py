"""AWQ: https://arxiv.org/abs/2306.00978, in AutoAWQ's layout "gemm".

`qweight` int32 `[inputs, outputs / 8]` and `qzeros` int32 `[groups, outputs / 8]` have 8 outputs of 4 bits in a word,
in an order that suits a kernel; `scales` are `[groups, outputs]`.
"""

from __future__ import annotations

from torch import Tensor

from .scheme import Parts, Scheme
from .words import unpacked

BITS = 4
PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # where in a word its first, second … output is


def _floats(parts: Parts) -> Tensor:
    levels, zeros = (_in_order(unpacked(parts[name], BITS)) for name in (".qweight", ".qzeros"))
    scales = parts[".scales"].float()
    size = len(levels) // len(scales)
    return ((levels - zeros.repeat_interleave(size, 0)) * scales.repeat_interleave(size, 0)).t()


def _in_order(columns: Tensor) -> Tensor:
    return columns.view(len(columns), -1, len(PLACES))[..., PLACES].flatten(1)


AWQ = Scheme((".qweight", ".qzeros", ".scales"), (), ".weight", _floats)
