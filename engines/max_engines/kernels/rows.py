"""The operations between a decoder's linear layers, and its attention (`rows.cpp`)."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..compiled import open_library

SOURCE = Path(__file__).with_suffix(".cpp")
MULTIPLE = 16  # of every width
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
MISSING = (
    "maxpipe was installed without its compiled operations: on a CPU it takes up to twice as long; install a C++ "
    "compiler (Debian: g++), and maxpipe again"
)
POINTER, INT, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class RowKernels:
    """The operations for one type. Tensors are contiguous and on the CPU; what is written is told for each."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        def bound(name: str, *arguments: type) -> ctypes._NamedFuncPointer:
            function = library[f"{name}_{NAMES[dtype]}"]
            function.argtypes = arguments
            function.restype = None
            return function

        sizes = (INT,) * 4
        self._add_norm = bound("add_norm", POINTER, POINTER, POINTER, FLOAT, POINTER, INT, INT)
        self._gate = bound("gate", POINTER, POINTER, INT, INT)
        self._rotate_store = bound("rotate_store", *(POINTER,) * 3, FLOAT, *(POINTER,) * 4, *sizes)
        self._attend = bound("attend", POINTER, INT, INT, *(POINTER,) * 3, INT, POINTER, INT, FLOAT, FLOAT, *sizes[:3])
        self._highest = bound("highest", POINTER, INT, INT, POINTER, POINTER)

    def add_norm(self, hidden: Tensor, update: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
        """Add `update` to `hidden`, both `[rows, width]`, in place; returns `hidden`'s root mean square norm."""
        rows, width = hidden.shape
        result = torch.empty_like(hidden)
        added = None if update is None else update.data_ptr()
        self._add_norm(hidden.data_ptr(), added, weight.data_ptr(), epsilon, result.data_ptr(), rows, width)
        return result

    def gate(self, gate_up: Tensor) -> Tensor:
        """silu of the first half of each row, times the second: `[rows, 2 * width]` to `[rows, width]`."""
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        result = gate_up.new_empty(rows, width)
        self._gate(gate_up.data_ptr(), result.data_ptr(), rows, width)
        return result

    def rotate_store(
        self,
        mixed: Tensor,
        norms: tuple[Tensor, Tensor] | None,
        epsilon: float,
        table: Tensor,
        positions: Tensor,
        slots: Tensor,
        store: Tensor,
        heads: int,
    ) -> None:
        """Give queries and keys their positions, the queries in place, and put keys and values into the cache.

        `mixed` `[rows, heads + 2 * kv_heads, head_dim]`: queries, keys, values; `norms` are the weights of those of
        queries and keys; `table` `[positions, 2 * head_dim]` is a `RotaryTable`'s; `store` `[slots, 2 * kv_heads,
        head_dim]` a layer's of the `KVCache`.
        """
        rows, parts, width = mixed.shape
        query_norm, key_norm = (None, None) if norms is None else (norms[0].data_ptr(), norms[1].data_ptr())
        self._rotate_store(
            mixed.data_ptr(), query_norm, key_norm, epsilon, table.data_ptr(), positions.data_ptr(),
            slots.data_ptr(), store.data_ptr(), rows, heads, (parts - heads) // 2, width,
        )  # fmt: skip

    def attend(
        self,
        query: Tensor,
        result: Tensor,
        store: Tensor,
        pieces: Tensor,
        runs: Tensor,
        window: int | None,
        scaling: float,
        softcap: float | None,
    ) -> None:
        """Attention of some sequences' tokens: `query` `[rows, heads, head_dim]`, of any strides but the last.

        Each of `pieces`, int64 `[pieces, 3]`, is successive rows of one sequence: how many, how many of `runs` are
        where its keys lie, and how many keys the first row sees; every other sees one more. `runs` is int64 `[runs,
        2]`: first slot and how many. Writes to the first rows of `result`, contiguous `[rows, heads, head_dim]`.
        """
        heads, width = query.shape[1:]
        self._attend(
            query.data_ptr(), query.stride(0), query.stride(1), result.data_ptr(), store.data_ptr(),
            pieces.data_ptr(), pieces.shape[0], runs.data_ptr(), window or 0, scaling, softcap or 0.0,
            heads, store.shape[1] // 2, width,
        )  # fmt: skip

    def highest(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The highest of each row, float32, and the first column that has it; NaN for a row with NaN."""
        rows, columns = scores.shape
        # Named in full: the defaults are the process's, and transformers changes them while it loads a model.
        best = torch.empty(rows, dtype=torch.float32, device=scores.device)
        where = torch.empty(rows, dtype=torch.int64, device=scores.device)
        self._highest(scores.data_ptr(), rows, columns, best.data_ptr(), where.data_ptr())
        return best, where


def kernels_for(dtype: torch.dtype, device: torch.device, *widths: int) -> RowKernels | None:
    """The operations for tensors of this type and device, if there are any and every width fits."""
    if device.type != "cpu" or dtype not in NAMES or torch.get_num_threads() != 1:
        return None
    return None if any(width % MULTIPLE for width in widths) else _compiled(dtype)


@cache
def rows_library() -> ctypes.CDLL | None:
    """The library for this processor; a warning, once, if there is none."""
    capability = torch.backends.cpu.get_cpu_capability().lower()
    library = open_library(SOURCE, capability) or open_library(SOURCE, "default")
    if library is None:
        warnings.warn(MISSING, stacklevel=2)
    return library


@cache
def _compiled(dtype: torch.dtype) -> RowKernels | None:
    library = rows_library()
    return None if library is None else RowKernels(library, dtype)
