"""Weights of a byte, float8 (e4m3) or int8, beside which there is a scale by which they are to be multiplied.

The scale is one number, or one for each output `[outputs, 1]`, for groups of inputs `[outputs, groups]`, or for blocks
of both; int8 may have zeros of the same shape. Scales of activations are left out: activations stay floats here.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

from torch import Tensor

from .scheme import Parts, Scheme

Block: TypeAlias = tuple[int, int]


def scaled_schemes(block: Block | None) -> tuple[Scheme, ...]:
    """A weight's name is that of its scale without its ending. `block` is how many outputs and inputs share a scale."""
    return tuple(
        Scheme(("", scale), ("_zero_point",), "", partial(_floats, scale=scale, block=block))
        for scale in ("_scale_inv", "_scale")
    )


def _floats(parts: Parts, scale: str, block: Block | None) -> Tensor:
    weight = parts[""].float()
    if "_zero_point" in parts:
        weight = weight - _spread(parts["_zero_point"].float(), weight, block)
    return weight * _spread(parts[scale].float(), weight, block)


def _spread(scale: Tensor, weight: Tensor, block: Block | None) -> Tensor:
    """A number for each of the weight's. Only the last block of a row or a column may be smaller than the others."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() < weight.dim():
        scale = scale[..., None]
    for dimension in (-2, -1):
        size, count = weight.shape[dimension], scale.shape[dimension]
        length = -(-size // count) if block is None else block[dimension]
        if -(-size // length) != count:
            raise ValueError(f"a scale {list(scale.shape)} does not fit a weight {list(weight.shape)}")
        scale = scale.repeat_interleave(length, dimension).narrow(dimension, 0, size)
    return scale
