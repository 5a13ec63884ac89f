"""One forward pass over the tokens of a step, packed one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .adapters import adapted_step
from .attention import AttentionStep, Group, Pieces
from .decode_graphs import DecodeGraphs, Recorder
from .fused_decoder import fused_decoder
from .grouping import apart, decode_groups, held, pieces, placed_groups, staged
from .kernels import kernels_for
from .kv_cache import KVCache
from .launched import Launched
from .least_rows import least_rows
from .masks import BlockMasks, JointSpan, Span
from .rows import Rows, kept_rows, rows_of
from .scheduler import Chunk


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a step computes: `sampled` `[rows, vocabulary]` of the chunks that sample, in the order of `chunks`.

    `prompts[i]` `[tokens, vocabulary]` are those of chunk i's prompt, if it asked for them, and `hidden[i]` `[tokens,
    hidden]` its hidden states, if its sequence has somebody who reads them.
    """

    chunks: Sequence[Chunk]
    sampled: Tensor
    prompts: dict[int, Tensor]
    hidden: dict[int, Tensor]


class ModelRunner:
    """Runs a transformers model whose attention is `attention.paged_attention`, or its fused twin."""

    def __init__(self, module: PreTrainedModel, cache: KVCache) -> None:
        self._module = module
        self._cache = cache
        self._device = module.device
        self._masks = BlockMasks(cache.block_size, cache.shape.dtype, self._device)
        self._exact = cache.shape.dtype == torch.float32 and self._device.type == "cpu"
        self._kernels = kernels_for(module.dtype, module.device, cache.shape.head_dim)
        self._graphs: DecodeGraphs | None = None

    def record_decode(self, recorder: Recorder, lanes: int, lane_blocks: int, longest: int | None = None) -> None:
        """Record decode steps of up to `lanes` sequences in lanes of `lane_blocks`, if the decoder is a fused one.

        Those of more than `longest` keys are not recorded.
        """
        decoder = fused_decoder(self._module)
        if decoder is not None:
            self._graphs = DecodeGraphs(decoder, self._cache, self._masks, lanes, lane_blocks, recorder, longest)
            self._graphs.record_all()

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk], earlier: Launched | None = None, replays: bool = True) -> Scores:
        """Compute `chunks`, and write their keys and values. Tokens that nobody has read yet come from `earlier`.

        Without `replays` nothing recorded is used, and a sequence reads no block but its own.
        """
        plain, windowed, quantised = apart(chunks)
        ordered, groups, compiled = self._attended(plain)
        stored = sum(chunk.count for chunk in plain) + sum(chunk.count for chunk in windowed)
        if windowed or quantised:
            start = stored - sum(chunk.count for chunk in windowed)
            groups = groups + placed_groups([*windowed, *quantised], start, self._cache, self._masks.span)
            ordered = [*ordered, *windowed, *quantised]
        rows = rows_of(ordered)
        kept = kept_rows(ordered)
        wanted = None if len(kept) == len(rows.tokens) else kept + kept[:1] * (self._least_rows - len(kept))
        padding = max(0, self._least_rows - len(rows.tokens))
        rows.pad(padding)
        step = AttentionStep(
            self._cache,
            self._masks,
            self._tensor(self._slots(ordered, stored) + [self._cache.padding_slot] * (0 if quantised else padding)),
            groups,
            compiled,
            staged(quantised, stored, self._cache),
            rows.longest,
        )
        ids = self._ids(rows, ordered, earlier)
        wanted_rows = None if wanted is None else self._tensor(wanted)
        with adapted_step(self._module, ordered, len(ids), self._least_product) as adapted:
            places = self._places(rows.positions, rows.turned)
            if any(chunk.sequence.listener is not None for chunk in ordered):
                logits, hidden = self._both(ids, places, step, wanted_rows)
                return _scores(ordered, logits, hidden)
            replayed = ordered if replays and not adapted else ()
            logits = self._compute(ids, places, step, wanted_rows, replayed)
        return _scores(ordered, logits)

    @cached_property
    def _least_rows(self) -> int:
        """How many rows a step needs for their number not to change a row's last bits."""
        fused = fused_decoder(self._module)
        return least_rows() if self._exact and (fused is None or not fused.row_by_row) else 1

    @cached_property
    def _least_product(self) -> int:
        """The same for the product of an adapter, which is of its own rows alone."""
        return least_rows() if self._exact and self._kernels is None else 1

    def _attended(self, chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[Group], Pieces | None]:
        """`chunks` in the order of the step's rows, those of one token first, and how these rows are attended to."""
        if self._kernels is None:
            ordered, groups = decode_groups(chunks, self._cache)
            return ordered, groups + self._prompt_groups(ordered, sum(chunk.single for chunk in ordered)), None
        ordered = sorted(chunks, key=_kind)
        # Bit equality takes one and the same attention for prefill and decode.
        compiled = sum([chunk.joint is None if self._exact else chunk.single for chunk in ordered])
        groups = self._prompt_groups(ordered, compiled)
        return ordered, groups, pieces(ordered[:compiled], self._cache, self._kernels) if compiled else None

    def _compute(
        self, ids: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None, chunks: Sequence[Chunk]
    ) -> Tensor:
        """Scores of `rows`, None for all; what is recorded serves if it fits `chunks`, of which there must be some."""
        replayed = (
            None if self._graphs is None or not chunks else self._graphs.replay(ids, positions, step.slots, chunks)
        )
        return self._forward(ids, positions, step, rows) if replayed is None else replayed

    def _forward(self, ids: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None) -> Tensor:
        fused = fused_decoder(self._module)
        if fused is not None:
            return fused(ids, positions, step, rows)
        output = self._module(
            input_ids=ids[None],
            position_ids=positions[None] if positions.dim() == 1 else positions[:, None],
            use_cache=False,  # transformers' cache, that is
            logits_to_keep=0 if rows is None else rows,
            attention_step=step,
        )
        logits: Tensor = output.logits[0]
        return logits

    def _both(self, ids: Tensor, positions: Tensor, step: AttentionStep, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores of `rows`, None for all, and the hidden states `[tokens, hidden]` of all."""
        fused = fused_decoder(self._module)
        if fused is not None:
            hidden = fused.hidden(ids, positions, step, None)
            return fused.head(hidden if rows is None else hidden.index_select(0, rows)), hidden
        found: list[Tensor] = []
        head = self._module.get_decoder()  # type: ignore[no-untyped-call]
        handle = head.register_forward_hook(lambda _, inputs, output: found.append(output[0][0]))
        try:
            return self._forward(ids, positions, step, rows), found[0]
        finally:
            handle.remove()

    def _prompt_groups(self, ordered: Sequence[Chunk], skipped: int) -> list[Group]:
        """The groups of all but the first `skipped` chunks; the step's rows are those of `ordered`."""
        groups: list[Group] = []
        start = sum(chunk.count for chunk in ordered[:skipped])
        for chunk in ordered[skipped:]:
            groups.extend(self._spans(chunk, start))
            start += chunk.count
        return groups

    def _spans(self, chunk: Chunk, start: int) -> list[Group]:
        """The chunk's queries, whose first is row `start` of the step, in groups."""
        size, block_size = self._masks.span, self._cache.block_size
        groups: list[Group] = []
        first, joint = chunk.first, chunk.joint
        while first < chunk.last:
            last = min(chunk.last, (first // size + 1) * size)
            blocks = -(-(last if joint is None else joint) // block_size)
            view = self._cache.table(chunk.sequence.blocks[:blocks])
            span = Span(tuple(range(first, last)), last - first, blocks * block_size)
            if joint is not None:
                span = JointSpan(span.positions, span.queries, span.keys, joint)
            groups.append(Group(start, start + last - first, view, span))
            start += last - first
            first = last
        return groups

    def _ids(self, rows: Rows, ordered: Sequence[Chunk], earlier: Launched | None) -> Tensor:
        """The tokens int64 `[rows]`; those that nobody has read come from the `earlier` step."""
        ids = self._tensor(rows.tokens)
        if rows.unread and earlier is not None and earlier.sampled is not None:
            sources = [earlier.rows[chunk.sequence] for chunk in ordered if chunk.last > chunk.sequence.known]
            ids[self._tensor(rows.unread)] = earlier.sampled.tokens[self._tensor(sources)]
        return ids

    def _slots(self, ordered: Sequence[Chunk], stored: int) -> list[int]:
        """Where in the cache the keys and values of the first `stored` rows go."""
        slots: list[int] = []
        for chunk in ordered:
            if len(slots) == stored:
                break
            slots.extend(self._slots_of(chunk))
        return slots

    def _slots_of(self, chunk: Chunk) -> list[int]:
        size, blocks = self._cache.block_size, chunk.sequence.blocks
        if chunk.sequence.dropped:
            return [held(chunk.sequence, p // size) * size + p % size for p in range(chunk.first, chunk.last)]
        if chunk.count == 1:
            return [blocks[chunk.first // size] * size + chunk.first % size]
        return [blocks[p // size] * size + p % size for p in range(chunk.first, chunk.last)]

    def _places(self, positions: list[int], turned: Sequence[tuple[int, Tensor]]) -> Tensor:
        """Rotary positions int64 `[tokens]`, or `[3, tokens]` if some rows, from the first named on, are `turned`."""
        places = self._tensor(positions)
        if turned:
            places = places.repeat(3, 1)
            for row, own in turned:
                places[:, row : row + own.shape[1]] = own.to(self._device)
        return places

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _kind(chunk: Chunk) -> int:
    """One token first, then several, and those that see each other last."""
    return 2 if chunk.joint is not None else chunk.last - chunk.first > 1


def _scores(chunks: Sequence[Chunk], logits: Tensor, hidden: Tensor | None = None) -> Scores:
    """`logits` `[rows, vocabulary]` of `kept_rows`, sorted by what they are for, and `hidden` of all rows."""
    sampled: list[int] = []
    prompts: dict[int, Tensor] = {}
    listened: dict[int, Tensor] = {}
    row = start = 0
    for index, chunk in enumerate(chunks):
        if hidden is not None and chunk.sequence.listener is not None:
            listened[index] = hidden[start : start + chunk.count]
        start += chunk.count
        if chunk.scored:
            prompts[index] = logits[row : row + chunk.scored]
            row += chunk.scored
        if chunk.samples:
            sampled.append(row)
            row += 1
    wanted = logits[: len(sampled)] if not prompts else logits[sampled]
    return Scores(chunks, wanted, prompts, listened)
