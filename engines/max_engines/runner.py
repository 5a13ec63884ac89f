"""One forward pass over the tokens of a step, packed one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .attention import AttentionStep, BlockMasks, Span
from .kv_cache import KVCache
from .scheduler import Chunk

LEAST_ROWS = 2  # MKL multiplies a single row by another kernel, whose last bits differ


class ModelRunner:
    """Runs a transformers model whose attention is `attention.paged_attention`."""

    def __init__(self, module: nn.Module, cache: KVCache) -> None:
        self._module = module
        self._cache = cache
        self._device = next(module.parameters()).device
        self._masks = BlockMasks(cache.block_size, cache.shape.dtype, self._device)

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute `chunks`, and write their keys and values; logits `[rows, vocabulary]` of those that sample."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        spans: list[Span] = []
        sampled: list[int] = []
        for chunk in chunks:
            spans.extend(self._spans(chunk, len(tokens)))
            tokens.extend(chunk.sequence.tokens(chunk.first, chunk.last))
            positions.extend(range(chunk.first, chunk.last))
            slots.extend(self._slots(chunk))
            if chunk.samples:
                sampled.append(len(tokens) - 1)
        padding = max(0, LEAST_ROWS - len(tokens))
        attention = AttentionStep(
            self._cache, self._masks, self._tensor(slots + [self._cache.padding_slot] * padding), spans
        )
        rows = sampled * LEAST_ROWS if len(sampled) == 1 else sampled
        output = self._module(
            input_ids=self._tensor(tokens + [0] * padding)[None],
            position_ids=self._tensor(positions + [0] * padding)[None],
            use_cache=False,  # transformers' cache, that is
            logits_to_keep=self._tensor(rows),
            attention_step=attention,
        )
        logits: Tensor = output.logits[0, : len(sampled)]
        return logits

    def _spans(self, chunk: Chunk, start: int) -> list[Span]:
        """The chunk's queries, whose first is row `start` of the step, cut where a block ends."""
        size = self._cache.block_size
        spans: list[Span] = []
        first = chunk.first
        while first < chunk.last:
            blocks = first // size + 1
            last = min(chunk.last, blocks * size)
            view = chunk.sequence.view(self._cache, blocks)
            spans.append(Span(start, start + last - first, first % size, view, blocks * size))
            start += last - first
            first = last
        return spans

    def _slots(self, chunk: Chunk) -> list[int]:
        """Where in the cache the chunk's keys and values go."""
        size, blocks = self._cache.block_size, chunk.sequence.blocks
        return [blocks[p // size] * size + p % size for p in range(chunk.first, chunk.last)]

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
