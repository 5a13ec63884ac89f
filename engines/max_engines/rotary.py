"""Rotary position embeddings from a table."""

from __future__ import annotations

from functools import cached_property

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

    def at(self, positions: Tensor, longest: int) -> Rotation:
        """The rotation of the positions int64 `[tokens]` or `[3, tokens]`, all of them below `longest`.

        Of three dimensions each column follows one, and has what the table has for its position.
        """
        if longest > self._tables[-1].shape[0]:
            self._tables.append(self._rows(1 << (longest - 1).bit_length()))
        table = self._tables[-1]
        if positions.dim() == 1:
            return Rotation(table, positions)
        rows = table.gather(0, positions.index_select(0, self._dimensions).t())
        return Rotation(rows, torch.arange(len(rows), device=rows.device))

    @cached_property
    def _dimensions(self) -> Tensor:
        """Which dimension each column of the table follows, asked of the module: one that is not 0 at a time."""
        trial = torch.eye(3, dtype=torch.int64, device=self._like.device)[:, None]
        _, sin = self._module(self._like, trial)
        dimensions: Tensor = sin[0].abs().argmax(0).repeat(2)
        return dimensions

    @torch.inference_mode()
    def _rows(self, count: int) -> Tensor:
        positions = torch.arange(count, device=self._like.device)[None]
        cos, sin = self._module(self._like, positions)
        first, second = sin[0].chunk(2, -1)
        return torch.cat((cos[0], -first, second), -1)


class Rotation:
    """The embeddings of one step's positions, in every layer the same."""

    def __init__(self, table: Tensor, positions: Tensor) -> None:
        self.table = table
        self.positions = positions
        self._half = table.shape[1] // 4

    @cached_property
    def cos_sin(self) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines `[tokens, 1, head_dim]`."""
        cos, sin = self.table.index_select(0, self.positions)[:, None].chunk(2, -1)
        return cos, sin

    def apply(self, heads: Tensor) -> None:
        """Rotate `[tokens, heads, head_dim]` in place."""
        cos, sin = self.cos_sin
        rolled = heads.roll(self._half, -1)
        heads.mul_(cos).addcmul_(rolled, sin)
