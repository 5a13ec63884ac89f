"""Products with a weight, by tile registers (`tiles.cpp`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..compiled import open_library

SOURCE = Path(__file__).with_suffix(".cpp")
NEEDED = ("amx_tile", "amx_bf16", "avx512_bf16", "avx512_bw", "avx512_vl", "avx512_dq")
DEPTH, OUTPUTS = 32, 32  # multiples of these, the second filled up with zeros


class TiledWeight:
    """A weight bfloat16 `[outputs, depth]`, laid out in tiles, and a bias."""

    def __init__(self, library: ctypes.CDLL, weight: Tensor, bias: Tensor | None) -> None:
        self._outputs, self._depth = weight.shape
        missing = -self._outputs % OUTPUTS
        whole = pad(weight, (0, 0, 0, missing))
        tiles = whole.view(-1, 2, 16, self._depth // DEPTH, 16, 2).permute(0, 3, 1, 4, 2, 5)
        self._tiles = tiles.contiguous()
        self._bias = None if bias is None else pad(bias.float(), (0, missing))
        self._linear = library["linear"]
        self._linear.argtypes = (ctypes.c_void_p,) * 4 + (ctypes.c_int64,) * 3
        self._linear.restype = None

    def multiply(self, values: Tensor) -> Tensor:
        """`[rows, depth]` to `[rows, outputs]`."""
        values = values.contiguous()
        rows = values.shape[0]
        result = values.new_empty(rows, self._outputs)
        bias = None if self._bias is None else self._bias.data_ptr()
        self._linear(
            values.data_ptr(), self._tiles.data_ptr(), bias, result.data_ptr(), rows, self._depth, self._outputs
        )
        return result


def tiled_weight(weights: Sequence[Tensor], bias: Tensor | None) -> TiledWeight | None:
    """Weights `[outputs, depth]` that read the same input, as one; None where there are no tiles for them."""
    first = weights[0]
    fits = first.device.type == "cpu" and first.dtype == torch.bfloat16 and first.shape[1] % DEPTH == 0
    library = _library() if fits and torch.get_num_threads() == 1 else None
    return None if library is None else TiledWeight(library, torch.cat(list(weights)), bias)


@cache
def _library() -> ctypes.CDLL | None:
    """The library, where the processor has tiles and the system lets us use them."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if not all(capabilities.get(name, False) for name in NEEDED):
        return None
    library = open_library(SOURCE, "amx")
    return library if library is not None and library.permit() == 0 else None
