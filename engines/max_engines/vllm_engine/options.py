"""What `engine.options` in YAML may say to vLLM."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Size = Annotated[int, Meta(ge=1, le=1024)]
Word = Annotated[str, Meta(min_length=1, max_length=256)]


class VllmOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """vLLM's own names and meanings, for what it is asked for here. Source: `vllm.engine.arg_utils.EngineArgs`, 0.32.

    A model is split over `tensor_parallel_size` x `pipeline_parallel_size` devices, by processes of this host (`mp`)
    or by a Ray cluster (`ray`); with `nnodes`, `mp` spans hosts, of which this one is the first and has `master_addr`.
    `max_model_len` None is the model's own. `enforce_eager` None compiles on a GPU and not on a CPU.
    """

    tensor_parallel_size: Size = 1
    pipeline_parallel_size: Size = 1
    distributed_executor_backend: Literal["mp", "ray"] = "mp"
    nnodes: Size = 1
    master_addr: Word = "127.0.0.1"
    master_port: Annotated[int, Meta(ge=1, le=65535)] = 29501
    gpu_memory_utilization: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_model_len: Annotated[int, Meta(ge=2, le=2**24)] | None = None
    quantization: Word | None = None
    kv_cache_dtype: Word = "auto"
    enable_expert_parallel: bool = False
    enforce_eager: bool | None = None

    @property
    def world_size(self) -> int:
        """Devices that one model takes."""
        return self.tensor_parallel_size * self.pipeline_parallel_size
