"""Rotary position embeddings from a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

FIRST_ROWS = 1024
FIXED = ("default", "linear", "llama3", "yarn")  # kinds whose angles depend on the position alone


class RotaryTable:
    """Cosines and sines of all positions so far, made by the model's own rotary module.

    A table that has become too short is kept: a recorded step goes on reading the one that it was recorded with.

    With x rolled by half a head, x * cos + rolled * sin is the embedding: the sines of the first half are negative.
    """

    def __init__(self, module: nn.Module, like: Tensor) -> None:
        self._module = module
        self._like = like
        self._tables = [self._rows(FIRST_ROWS)]

    @staticmethod
    def knows(model: PreTrainedModel) -> bool:
        """True if the model's angles depend on the position alone."""
        rotary = model.get_submodule("model").get_submodule("rotary_emb")
        return getattr(rotary, "rope_type", "default") in FIXED

    def at(self, positions: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[tokens, 1, head_dim]` of the positions int64[tokens], all of them below `longest`."""
        if longest > self._tables[-1].shape[0]:
            self._tables.append(self._rows(1 << (longest - 1).bit_length()))
        cos, sin = self._tables[-1].index_select(0, positions)[:, None].chunk(2, -1)
        return cos, sin

    @torch.inference_mode()
    def _rows(self, count: int) -> Tensor:
        positions = torch.arange(count, device=self._like.device)[None]
        cos, sin = self._module(self._like, positions)
        first, second = sin[0].chunk(2, -1)
        return torch.cat((cos[0], -first, second), -1)
