"""The depth decoder: of a frame's first code and what the backbone thinks, all its other codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..attention import AttentionStep, Group, Pieces
from ..compatibility import kv_shape, unsupported
from ..fused_decoder import fused_decoder
from ..kernels import kernels_for
from ..kv_cache import KVCache, Lanes
from ..least_rows import least_rows
from ..linear import Projection
from ..loading import LoadedModel
from ..masks import MAX_BLOCK_SIZE, BlockMasks, Span

Choose: TypeAlias = Callable[[Tensor], Tensor]
STEPS_KEPT = 256  # one for each of a frame's positions and number of rows, some 10 KB each


class DepthDecoder:
    """A small language model that reads a frame: what the backbone thinks, then its codes, one at a position.

    Each row of a step has a lane of its own in a cache of one frame, which begins anew with each frame. `model` is the
    language model, whose embedding `[codebooks * size, hidden]` has the projection from the backbone's width in it;
    `projector` is that projection, and `heads[i]` scores codebook i + 1. ValueError for a model that cannot be fused.
    """

    def __init__(self, model: LoadedModel, projector: nn.Linear, heads: Sequence[nn.Linear], most_rows: int) -> None:
        decoder = fused_decoder(model.module)
        if decoder is None:
            raise unsupported(model, "has a depth decoder with rotary positions that are not known")
        self._decoder = decoder
        self._projector = projector.weight.detach()
        self._heads = [decoder.head, *(Projection(head) for head in heads[1:])]
        self._size = heads[0].out_features
        shape = kv_shape(model)
        self._lane = -(-(len(heads) + 1) // MAX_BLOCK_SIZE)  # blocks
        exact = model.dtype == torch.float32 and model.device.type == "cpu"
        self._least = least_rows() if exact else 1
        self._blocks = max(most_rows, self._least) * self._lane
        self._cache = KVCache(shape, self._blocks, MAX_BLOCK_SIZE, model.device)
        self._masks = BlockMasks(MAX_BLOCK_SIZE, shape.dtype, model.device)
        self._kernels = kernels_for(shape.dtype, model.device, shape.head_dim)
        self._step = lru_cache(STEPS_KEPT)(self._step_of)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._cache.device

    @property
    def lanes(self) -> int:
        """The most frames that it can write at once."""
        return self._blocks // self._lane

    @torch.inference_mode()
    def unroll(self, thoughts: Tensor, first: Tensor, choose: Choose) -> Tensor:
        """Frames int64 `[n, codebooks]` of the backbone's states `[n, width]` and first codes int64[n].

        `choose` makes the next codes int64[n] of scores `[n, size]`. ValueError for more frames than there are lanes.
        """
        count = len(first)
        if count > self.lanes:  # they would be written behind the cache
            raise ValueError(f"first has {count} codes: at most {self.lanes} frames are written at once")
        rows = max(count, self._least)
        frames = [first]
        try:
            self._run(linear(_filled(thoughts, rows), self._projector), 0)
            for codebook, head in enumerate(self._heads, 1):
                ids = _filled(frames[-1], rows) + (codebook - 1) * self._size
                read = self._run(self._decoder.embedding(ids), codebook)
                frames.append(choose(head(read)[:count]))
        except Exception:
            self._cache.clear(range(self._blocks))  # what is masked would still spoil others if it were NaN
            raise
        return torch.stack(frames, 1)

    def _run(self, states: Tensor, position: int) -> Tensor:
        rows = len(states)
        positions = torch.full((rows,), position, dtype=torch.int64, device=states.device)
        return self._decoder.above(states, positions, self._step(rows, position), None)

    def _step_of(self, rows: int, position: int) -> AttentionStep:
        """One token of each row, at a position of its lane."""
        lane = self._lane * MAX_BLOCK_SIZE
        slots = torch.arange(rows, device=self._cache.device) * lane + position
        if self._kernels is None:
            blocks = position // MAX_BLOCK_SIZE + 1
            span = Span((position,) * rows, 1, blocks * MAX_BLOCK_SIZE)
            group = Group(0, rows, self._cache.lanes(Lanes(0, self._lane, rows, blocks)), span)
            return AttentionStep(self._cache, self._masks, slots, [group])
        seen = torch.tensor([[1, 1, position + 1]] * rows)
        runs = torch.tensor([[row * lane, position + 1] for row in range(rows)])
        return AttentionStep(self._cache, self._masks, slots, (), Pieces(self._kernels, rows, seen, runs, position + 1))


def _filled(values: Tensor, rows: int) -> Tensor:
    """`values`, with copies of the first one up to so many rows."""
    missing = rows - len(values)
    return values if missing <= 0 else torch.cat((values, values[:1].expand(missing, *values.shape[1:])))
