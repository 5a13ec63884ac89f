"""Integers of a few bits that were packed into words of 32."""

from __future__ import annotations

import torch
from torch import Tensor


def unpacked(words: Tensor, bits: int) -> Tensor:
    """int32 `[..., words]` as `[..., words * 32 / bits]` from 0 to 2**bits - 1, the lowest bits of a word first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return ((words[..., None] >> shifts) & (1 << bits) - 1).flatten(-2)
