"""GPTQ: https://arxiv.org/abs/2210.17323, in AutoGPTQ's layout.

`qweight` int32 `[inputs * bits / 32, outputs]` is packed along inputs, `qzeros` int32 `[groups, outputs * bits / 32]`
along outputs; `scales` are `[groups, outputs]`; `g_idx` int32 `[inputs]` says which group an input is of, in any order
(`desc_act`); without it inputs are in order. Zeros were stored less one in the first version of the format.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .scheme import Parts, Scheme
from .words import unpacked


def gptq_scheme(bits: int, zeros_less_one: bool) -> Scheme:
    """Weights of `bits`, 2, 4 or 8; a weight with a `g_idx` may have others."""
    floats = partial(_floats, bits=bits, zeros_less_one=zeros_less_one)
    return Scheme((".qweight", ".qzeros", ".scales"), (".g_idx",), ".weight", floats)


def _floats(parts: Parts, bits: int, zeros_less_one: bool) -> Tensor:
    words, scales = parts[".qweight"], parts[".scales"].float()
    groups = parts.get(".g_idx")
    if groups is None:
        inputs = words.shape[0] * 32 // bits
        groups = torch.arange(inputs) // (inputs // len(scales))
    bits = 32 * words.shape[0] // len(groups)
    levels = unpacked(words.t(), bits)
    zeros = unpacked(parts[".qzeros"], bits)
    if zeros_less_one:
        zeros = (zeros + 1) & (1 << bits) - 1
    return (levels - zeros.t()[:, groups]) * scales.t()[:, groups]
