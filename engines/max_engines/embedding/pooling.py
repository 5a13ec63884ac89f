"""From a vector for each token to one for the text."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

Pooling: TypeAlias = Literal["mean", "last", "cls"]


def pooled(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """float32 `[texts, width]` of `hidden` `[texts, longest, width]`, padded on the right, and `lengths` `[texts]`.

    `mean` of all tokens, the `last`, or the first (`cls`), special tokens included.
    """
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), lengths - 1].float()
    there = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    return (hidden.float() * there[:, :, None]).sum(1) / lengths[:, None]


def cut(vectors: Tensor, dimensions: int | None, *, normalized: bool) -> Tensor:
    """The first `dimensions` of each vector, None for all, of length 1 if they are `normalized`."""
    kept = vectors if dimensions is None else vectors[..., :dimensions]
    return normalize(kept, dim=-1) if normalized else kept
