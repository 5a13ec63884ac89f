"""A model that costs nothing, and whose memory can be read: a fake runner for the scheduler and the KV cache."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from max_engines.blocks import BlockPool
from max_engines.kv_cache import KVCache, KVShape, PackedRows
from max_engines.kv_format import PINNED
from max_engines.scheduler import Chunk, Scheduler
from max_engines.sequence import Sequence as EngineSequence
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart

_DIGITS = 5  # of 4 bits, which every format keeps: behind a 0 and a 15 the scale is that of whole numbers
_MOST = 16**_DIGITS
_WIDTH = 16


def digest(tokens: Sequence[int], before: int = 1) -> list[int]:
    """For each token a number that depends on it and on all before it: what stands in its slot."""
    numbers: list[int] = []
    for token in tokens:
        before = (before * 31 + token + 7) % _MOST
        numbers.append(before)
    return numbers


def said(start: SequenceStart) -> tuple[int, ...]:
    """What the model says in answer to a whole sequence, computed without any memory."""
    tokens = list(start.prompt + start.accepted)
    numbers = digest(tokens)
    while len(tokens) < len(start.prompt) + (start.sampling_params.max_new_tokens or 0):
        tokens.append(numbers[-1] % 97)
        numbers.extend(digest(tokens[-1:], numbers[-1]))
    return tuple(tokens[len(start.prompt) :])


def written(numbers: Sequence[int]) -> Tensor:
    """Keys and values `[tokens, 2, width]` that stand for numbers."""
    digits = [[0, 15, *(number >> 4 * place & 15 for place in range(_DIGITS))] for number in numbers]
    values = torch.tensor([row + [0] * (_WIDTH - len(row)) for row in digits], dtype=torch.float32)
    return values[:, None].expand(-1, 2, -1)


def read(values: Tensor) -> list[int]:
    """The numbers that keys `[tokens, width]` stand for."""
    digits = values[:, 2 : 2 + _DIGITS].round().int().tolist()
    return [sum(digit << 4 * place for place, digit in enumerate(row)) for row in digits]


class WrittenMemory:
    """A scheduler whose steps write each token's `digest` into its slot, and read all slots that it sees.

    With `overlap` a step is read when the next one has been launched. `computed` counts the tokens computed so far. A
    chunk that finds anything but its own past fails the test.
    """

    def __init__(
        self, num_blocks: int, block_size: int = 4, max_batch: int = 8, token_budget: int = 32, overlap: bool = False
    ) -> None:
        self.cache = KVCache(KVShape(1, 1, _WIDTH, torch.float32), num_blocks, block_size, torch.device("cpu"))
        self.scheduler = Scheduler(self.cache, BlockPool(num_blocks, max_batch), max_batch, token_budget)
        self.computed = 0
        self._overlap = overlap
        self._under_way: list[tuple[list[Chunk], list[int]]] = []
        self._unread: dict[EngineSequence, int] = {}  # tokens that only the device knows

    def add(self, start: SequenceStart) -> EngineSequence:
        """Take a sequence."""
        sequence = EngineSequence(start, start.sampling_params.max_new_tokens or 0)
        self.scheduler.add(sequence)
        return sequence

    def fork(self, start: SequenceStart) -> EngineSequence:
        """Take the same sequence under another name."""
        return self.add(replace(start, request_id=RequestID()))

    def step(self, active: Collection[RequestID], fails: bool = False) -> list[Chunk]:
        """One step; what was launched. With `fails` it writes, and is undone, like all that is under way."""
        chunks = self.scheduler.schedule(active)
        assert sum(chunk.count for chunk in chunks) <= self.scheduler.token_budget
        numbers = [self._compute(chunk) for chunk in chunks]
        self.scheduler.launched(chunks)
        self._under_way.append((chunks, numbers))
        if fails:
            for failed, _ in reversed(self._under_way):
                self.scheduler.undo(failed)
            self._under_way.clear()
            return []
        self._unread.update({c.sequence: number % 97 for c, number in zip(chunks, numbers, strict=True) if c.samples})
        while len(self._under_way) > (self._overlap and bool(chunks)):
            self._read(*self._under_way.pop(0))
        self.computed += sum(chunk.count for chunk in chunks)
        return chunks

    def run(self, sequences: Sequence[EngineSequence], most: int = 10_000) -> int:
        """Steps until all are done, and how many there were."""
        for steps in range(most):
            active = [s.request_id for s in sequences if not s.status.is_done]
            if not active:
                return steps
            idle = not self._under_way
            assert self.step(active) or not idle, "no progress"
        raise AssertionError("no end")

    def _read(self, chunks: Sequence[Chunk], numbers: Sequence[int]) -> None:
        """Book a step, as `Engine` does it."""
        for chunk, number in zip(chunks, numbers, strict=True):
            sequence = chunk.sequence
            self.scheduler.commit(chunk)
            gone = self.scheduler.sequences.get(sequence.request_id) is not sequence
            if chunk.samples and not gone and not sequence.status.is_done:
                sequence.accept(number % 97)
                if sequence.status.is_done:
                    self.scheduler.retire(sequence)

    def _compute(self, chunk: Chunk) -> int:
        """Check the past of a chunk, write its digests, and return the last."""
        sequence, size = chunk.sequence, chunk.sequence.block_size
        true = digest(sequence.tokens(0, chunk.first))
        recent = max(PINNED, sequence.kv_format.first_seen(chunk.first))
        seen = [place for place in range(chunk.first) if place < PINNED or place >= recent]
        for index, places in groupby(seen, lambda place: place // size):
            block = sequence.block(index)
            assert block is not None, "a slot is gone that should be seen"
            keys, _ = self.cache.table([block], sequence.kv_format).layer(0)
            held = read(keys[0, 0])
            for place in places:
                assert held[place % size] == true[place], "a slot does not hold what it should"
        tokens = sequence.tokens(chunk.first, chunk.last)
        if len(tokens) < chunk.count:
            tokens.append(self._unread[sequence])
        numbers = digest(tokens, true[-1] if true else 1)
        given = [(sequence.block(place // size), place % size) for place in range(chunk.first, chunk.last)]
        blocks = torch.tensor([block for block, _ in given], dtype=torch.int64)
        offsets = torch.tensor([offset for _, offset in given])
        bits, group = sequence.kv_format.bits, sequence.kv_format.group
        if bits is None:
            self.cache.write(0, blocks * size + offsets, written(numbers))
        else:
            PackedRows(self.cache.packed(bits, group), blocks, offsets).write(0, written(numbers))
        return numbers[-1]
