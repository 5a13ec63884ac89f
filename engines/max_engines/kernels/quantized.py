"""Products with a weight of integers (`quantized.h`), in which a row's results depend on that row alone."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from .rows import INT, NAMES, POINTER, rows_library


def multiply_quantized(
    values: Tensor, words: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None, outputs: int
) -> Tensor:
    """`values` `[rows, depth]` to `[rows, outputs]`.

    The weight is a `QuantizedWeight`'s, `bias` float32, filled up to whole panels. For types that
    `multiplies_quantized` alone.
    """
    values = values.contiguous()
    rows, depth = values.shape
    result = values.new_empty(rows, outputs)
    group, bits = depth // scales.shape[1], 32 * words.shape[1] // depth
    _product(values.dtype)(
        values.data_ptr(), words.data_ptr(), scales.data_ptr(), zeros.data_ptr(),
        None if bias is None else bias.data_ptr(), result.data_ptr(), rows, depth, outputs, group, bits,
    )  # fmt: skip
    return result


def multiplies_quantized(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there is such a product for values of this type; also on several threads, of which it uses one."""
    return device.type == "cpu" and dtype in NAMES and rows_library() is not None


@cache
def _product(dtype: torch.dtype) -> ctypes._NamedFuncPointer:
    library = rows_library()
    if library is None:
        raise RuntimeError("maxpipe was installed without its compiled operations")
    product = library[f"linear_quantized_{NAMES[dtype]}"]
    product.argtypes = (POINTER,) * 6 + (INT,) * 5
    product.restype = None
    return product
