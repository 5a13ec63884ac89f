"""compressed-tensors' "pack-quantized": integers of 4 or 8 bits, stored from 0 on instead of with a sign.

`weight_packed` int32 `[outputs, inputs * bits / 32]`, `weight_shape` int64 `[2]`, `weight_scale` `[outputs, groups]`;
`weight_zero_point` int32 `[outputs * bits / 32, groups]` is packed along outputs; `weight_g_idx` int32 `[inputs]`.
Source: the package compressed-tensors, `compressors/pack_quantized`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .scheme import Parts, Scheme
from .words import unpacked


def _floats(parts: Parts) -> Tensor:
    words, scales = parts[".weight_packed"], parts[".weight_scale"].float()
    outputs, inputs = parts[".weight_shape"].tolist()
    bits = 4 if words.shape[1] == -(-inputs // 8) else 8
    middle = 1 << bits - 1
    levels = unpacked(words, bits)[:, :inputs] - middle
    groups = parts.get(".weight_g_idx", torch.arange(inputs) // (inputs // scales.shape[1]))
    zeros = parts.get(".weight_zero_point")
    if zeros is not None:
        levels = levels - (unpacked(zeros.t(), bits).t()[:outputs] - middle)[:, groups]
    return levels * scales[:, groups]


PACKED = Scheme(
    (".weight_packed", ".weight_scale", ".weight_shape"),
    (".weight_zero_point", ".weight_g_idx"),
    ".weight",
    _floats,
)
