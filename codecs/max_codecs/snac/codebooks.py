"""Codes to latents: the quantizer of SNAC, as far as decoding needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..slots import Slot
from .config import SnacConfig


class Codebooks:
    """All levels at once: a latent step is the sum over the levels of projection(codebook[code]) of the code above it.

    `state` holds the folded parameters `quantizers.<level>.codebook.weight` [codes, dim] and
    `quantizers.<level>.out_proj.weight` [latent, dim, 1] and `.bias`; `slots` says which code of a frame is which.
    """

    def __init__(self, state: Mapping[str, Tensor], config: SnacConfig, slots: Sequence[Slot]) -> None:
        levels = range(len(config.vq_strides))
        shape = (config.codebook_size, config.codebook_dim)
        tables = [of_shape(state, f"quantizers.{k}.codebook.weight", shape) for k in levels]
        weights = [
            of_shape(state, f"quantizers.{k}.out_proj.weight", (config.latent, config.codebook_dim, 1))[:, :, 0].t()
            for k in levels
        ]
        biases = [of_shape(state, f"quantizers.{k}.out_proj.bias", (config.latent,)) for k in levels]
        self._table = torch.cat(tables)
        self._weight = torch.cat(weights)
        self._bias = torch.stack(biases).sum(0)
        # Latent step t of a frame takes, at each level, the code in this column; levels lie one after another in table.
        columns = [[slots.index((k, t // config.vq_strides[k])) for k in levels] for t in range(config.vq_strides[0])]
        self._columns = torch.tensor(columns, device=self._table.device)
        self._offsets = torch.tensor([k * config.codebook_size for k in levels], device=self._table.device)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self._table.device

    def latents(self, frames: Tensor) -> Tensor:
        """Frames int64[n, codes] to latents float[n * latents_per_frame, latent]; codes must be in range."""
        rows = frames.to(self._table.device)[:, self._columns] + self._offsets
        vectors = functional.embedding(rows, self._table).flatten(2).flatten(0, 1)
        return torch.addmm(self._bias, vectors, self._weight)


def of_shape(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """A quantizer's parameter. ValueError if it is missing, or of another shape."""
    if name not in state:
        raise ValueError(f"the weights lack quantizer.{name}")
    if tuple(state[name].shape) != shape:
        raise ValueError(f"quantizer.{name} has shape {list(state[name].shape)}, the configuration wants {list(shape)}")
    return state[name]
