"""Products with a weight in float32 (`panels.h`), in which a row's results depend on that row alone."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from .rows import rows_library

PANEL = 32  # outputs; what the last panel lacks is filled up with zeros


class PanelledWeight:
    """A weight float32 `[outputs, depth]`, laid out in panels, and a bias."""

    def __init__(self, library: ctypes.CDLL, weight: Tensor, bias: Tensor | None) -> None:
        self._outputs, self._depth = weight.shape
        missing = -self._outputs % PANEL
        self._panels = pad(weight, (0, 0, 0, missing)).view(-1, PANEL, self._depth).transpose(1, 2).contiguous()
        self._bias = None if bias is None else pad(bias, (0, missing))
        self._linear = library["linear_float32"]
        self._linear.argtypes = (ctypes.c_void_p,) * 4 + (ctypes.c_int64,) * 3
        self._linear.restype = None

    def multiply(self, values: Tensor) -> Tensor:
        """`[rows, depth]` to `[rows, outputs]`."""
        values = values.contiguous()
        rows = values.shape[0]
        result = values.new_empty(rows, self._outputs)
        bias = None if self._bias is None else self._bias.data_ptr()
        self._linear(
            values.data_ptr(), self._panels.data_ptr(), bias, result.data_ptr(), rows, self._depth, self._outputs
        )
        return result


def panelled_weight(weights: Sequence[Tensor], bias: Tensor | None) -> PanelledWeight | None:
    """Weights `[outputs, depth]` that read the same input, as one; None where there is no such product for them."""
    first = weights[0]
    fits = first.device.type == "cpu" and first.dtype == torch.float32 and torch.get_num_threads() == 1
    library = rows_library() if fits else None
    return None if library is None else PanelledWeight(library, torch.cat(list(weights)), bias)
