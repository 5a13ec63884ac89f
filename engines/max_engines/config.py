"""How much an engine takes on at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .device_memory import check_memory_size, memory_size, share_left
from .kv_cache import KVShape
from .masks import MAX_BLOCK_SIZE
from .rules import Watermark

EXACT_BUDGET = 128
MEASURED_TOKENS = 256
PACED_TOKENS = 32  # where the budget is given: enough to tell the pace, and soon computed
DEFAULT_KV_MEMORY = 2**30  # bytes, if max_batch whole contexts are not less


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How much the engine takes on at a time.

    `max_batch` sequences hold memory at once; a step computes at most `token_budget` tokens, None for as many as take
    some 0.2 s, which is measured at the start. The KV cache has `num_blocks` blocks of `block_size` tokens, or as many
    as fit in `kv_memory`: bytes, or a fraction of what is free on the device; with neither, enough for `max_batch`
    whole contexts, but no more than 1 GiB. `overlap` computes a step while the one before is read, None where that
    pays: on a GPU. `watermark` is what requests get that ask for one. On a GPU `memory_utilization` is the share of all
    its memory that the process may take, weights and activations included. No sequence has more than `max_length`
    tokens. Without `prefix_caching` every prompt is computed. `graphs` records decode steps of up to `longest_graph`
    keys. `max_adapters` can be loaded at a time, each of a rank of up to `max_adapter_rank`. ValueError names the field
    and its bound.

    In float32 on a CPU a step is never measured and has 128 tokens: above, MKL may take another kernel for wide layers,
    and a result its last bit from it.
    """

    max_batch: int = 16
    token_budget: int | None = None
    block_size: int = 32
    num_blocks: int | None = None
    kv_memory: float | None = None
    overlap: bool | None = None
    watermark: Watermark | None = None
    memory_utilization: float | None = None
    max_length: int | None = None
    prefix_caching: bool = True
    graphs: bool = True
    longest_graph: int | None = None
    max_adapters: int = 8
    max_adapter_rank: int = 64

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"EngineConfig.max_batch = {self.max_batch}: must be at least 1")
        if self.token_budget is not None and self.token_budget < self.max_batch:
            raise ValueError(
                f"EngineConfig.token_budget = {self.token_budget}: must be at least max_batch = {self.max_batch}"
            )
        if not 1 <= self.block_size <= MAX_BLOCK_SIZE:
            raise ValueError(f"EngineConfig.block_size = {self.block_size}: must be from 1 to {MAX_BLOCK_SIZE}")
        for name in ("max_adapters", "max_adapter_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"EngineConfig.{name} = {getattr(self, name)}: must be at least 1")
        if self.num_blocks is not None and self.num_blocks < 1:
            raise ValueError(f"EngineConfig.num_blocks = {self.num_blocks}: must be at least 1")
        if self.kv_memory is not None:
            check_memory_size(self.kv_memory)
        sizes = (self.num_blocks, self.kv_memory, self.memory_utilization)
        if sum(size is not None for size in sizes) > 1:
            raise ValueError("EngineConfig: give one of num_blocks, kv_memory and memory_utilization")
        if self.memory_utilization is not None and not 0 < self.memory_utilization <= 1:
            raise ValueError(f"EngineConfig.memory_utilization = {self.memory_utilization}: must be in (0, 1]")
        if self.max_length is not None and self.max_length < 2:
            raise ValueError(f"EngineConfig.max_length = {self.max_length}: must be at least 2")

    def blocks_for(self, shape: KVShape, context_length: int, device: torch.device) -> int:
        """The number of blocks of the KV cache. ValueError if the memory does not hold one."""
        if self.num_blocks is not None:
            return self.num_blocks
        block_bytes = shape.bytes_per_token * self.block_size
        memory = self._memory(device)
        useful = self.max_batch * -(-context_length // self.block_size)
        count = min(useful, memory // block_bytes)
        if count < 1:
            field = "kv_memory" if self.memory_utilization is None else "memory_utilization"
            raise ValueError(
                f"EngineConfig.{field} leaves {memory} bytes: one block of this model takes {block_bytes} bytes"
            )
        return count

    def _memory(self, device: torch.device) -> int:
        """Bytes that the KV cache may have."""
        if self.memory_utilization is not None:
            return share_left(self.memory_utilization, device)
        return memory_size(DEFAULT_KV_MEMORY if self.kv_memory is None else self.kv_memory, device)

    def first_budget(self, exact: bool) -> int:
        """Tokens a step before anything is measured, or for good if `exact` results are promised."""
        return self.token_budget or max(self.max_batch, EXACT_BUDGET if exact else MEASURED_TOKENS)

    def overlaps(self, device: torch.device) -> bool:
        """True if steps overlap."""
        return device.type == "cuda" if self.overlap is None else self.overlap
