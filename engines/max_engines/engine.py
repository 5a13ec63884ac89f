"""The engine: continuous batching over any causal LM of transformers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta
from max_interfaces.sampling import SamplingParams

from .attention import MAX_BLOCK_SIZE
from .blocks import BlockPool
from .compatibility import kv_shape, take_over_attention
from .kv_cache import KVCache, KVShape
from .loading import LoadedModel
from .runner import ModelRunner
from .sampler import Sampler
from .sampling_row import check_start
from .scheduler import Chunk, Scheduler
from .sequence import Sequence

DEFAULT_KV_MEMORY = 2**30  # bytes, if max_batch whole contexts are not less


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How much the engine takes on at a time.

    `max_batch` sequences hold memory at once; a step computes at most `token_budget` tokens. The KV cache has
    `num_blocks` blocks of `block_size` tokens, or as many as fit in `kv_memory` bytes; with neither, enough for
    `max_batch` whole contexts, but no more than 1 GiB. Above 128 tokens a step, MKL may take another kernel for wide
    layers, and a float32 result its last bit from it. ValueError names the field and its bound.
    """

    max_batch: int = 16
    token_budget: int = 128
    block_size: int = 32
    num_blocks: int | None = None
    kv_memory: int | None = None

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"EngineConfig.max_batch = {self.max_batch}: must be at least 1")
        if self.token_budget < self.max_batch:
            raise ValueError(
                f"EngineConfig.token_budget = {self.token_budget}: must be at least max_batch = {self.max_batch}"
            )
        if not 1 <= self.block_size <= MAX_BLOCK_SIZE:
            raise ValueError(f"EngineConfig.block_size = {self.block_size}: must be from 1 to {MAX_BLOCK_SIZE}")
        for name in ("num_blocks", "kv_memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"EngineConfig.{name} = {value}: must be at least 1")
        if self.num_blocks is not None and self.kv_memory is not None:
            raise ValueError("EngineConfig: give num_blocks or kv_memory, not both")

    def blocks_for(self, shape: KVShape, context_length: int) -> int:
        """The number of blocks of the KV cache. ValueError if the memory does not hold one."""
        if self.num_blocks is not None:
            return self.num_blocks
        block_bytes = shape.bytes_per_token * self.block_size
        memory = DEFAULT_KV_MEMORY if self.kv_memory is None else self.kv_memory
        useful = self.max_batch * -(-context_length // self.block_size)
        count = min(useful, memory // block_bytes)
        if count < 1:
            raise ValueError(f"EngineConfig.kv_memory = {memory}: one block of this model takes {block_bytes} bytes")
        return count


class Engine:
    """A `TokenGenerator` (see `max_interfaces.protocols`): many sequences, one packed forward pass a step.

    The model's attention is the engine's from now on; nobody else may call the module. In float32 on a CPU a
    sequence's tokens are the same alone, in any batch, and after a resume. ValueError, by its name, for an
    architecture that the engine cannot run.
    """

    def __init__(self, model: LoadedModel, config: EngineConfig | None = None) -> None:
        self.config = EngineConfig() if config is None else config
        self._model = model
        shape = kv_shape(model)
        blocks = self.config.blocks_for(shape, model.context_length)
        cache = KVCache(shape, blocks, self.config.block_size, model.device)
        self._scheduler = Scheduler(cache, BlockPool(blocks), self.config.max_batch, self.config.token_budget)
        self._runner = ModelRunner(model.module, cache)
        self._sampler = Sampler()
        take_over_attention(model, self._trial, self._scheduler.capacity - 1)

    @property
    def free_blocks(self) -> int:
        """Blocks of the KV cache that nobody holds."""
        return self._scheduler.pool.free

    @property
    def max_length(self) -> int:
        """The most tokens, prompt and output, that one sequence can have."""
        return min(self._model.context_length, self._scheduler.capacity)

    def add(self, start: SequenceStart) -> None:
        """Take a sequence. ValueError, naming the field, for what it cannot do or could never fit."""
        check_start(start, self._model.vocab_size)
        if start.request_id in self._scheduler.sequences:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        room = self.max_length - len(start.prompt)
        if room < 1:
            raise ValueError(
                f"SequenceStart.prompt has {len(start.prompt)} tokens: at most {self.max_length - 1} fit "
                f"(context {self._model.context_length}, memory {self._scheduler.capacity} tokens)"
            )
        wanted = start.sampling_params.max_new_tokens
        limit = room if wanted is None else min(wanted, room)
        self._scheduler.sequences[start.request_id] = Sequence(start, limit)

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """Move the sequences named by `active` one step; the contract is `TokenGenerator.step`'s.

        A sequence in the midst of its prompt has a delta without tokens. KeyError for an unknown id, SequenceError
        (with the sequence's name) if no token can follow one of them.
        """
        chunks = self._scheduler.schedule(active)
        logits = self._runner.run(chunks) if chunks else None
        tokens = self._sample(chunks, logits)
        return self._commit(active, chunks, tokens)

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its memory. Safe between steps, also for an unknown id."""
        self._scheduler.release(request_id)

    def _sample(self, chunks: list[Chunk], logits: Tensor | None) -> list[int]:
        rows = [chunk.sequence.row for chunk in chunks if chunk.samples]
        return self._sampler.sample(logits, rows) if rows and logits is not None else []

    def _commit(
        self, active: Collection[RequestID], chunks: list[Chunk], tokens: list[int]
    ) -> dict[RequestID, TokenDelta]:
        """Book what a step has computed. Nothing before this point has changed a sequence."""
        deltas: dict[RequestID, TokenDelta] = {}
        sampled = iter(tokens)
        for chunk in chunks:
            sequence = chunk.sequence
            new = (next(sampled),) if chunk.samples else ()
            sequence.computed += chunk.count
            for token in new:
                sequence.accept(token)
            deltas[sequence.request_id] = TokenDelta(new, sequence.status)
        for request_id in active:
            sequence = self._scheduler.sequences[request_id]
            if sequence.status.is_done and not sequence.reported:
                # One that was accepted complete ends here, without a token of this worker's.
                deltas.setdefault(request_id, TokenDelta((), sequence.status))
                self._scheduler.retire(sequence)
        return deltas

    def _trial(self, tokens: list[int]) -> Tensor:
        """The logits `[vocabulary]` after some tokens, through the engine's own path."""
        start = SequenceStart(RequestID("trial"), tuple(tokens), SamplingParams(), seed=0)
        self.add(start)
        try:
            return self._runner.run(self._scheduler.schedule([start.request_id]))[0]
        finally:
            self.release(start.request_id)
