"""What `engine.options` in YAML may say to vLLM."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Size = Annotated[int, Meta(ge=1, le=1024)]
Word = Annotated[str, Meta(min_length=1, max_length=256)]


class VllmOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What only vLLM has, by vLLM's own names. Source: `vllm.engine.arg_utils.EngineArgs`, 0.32.

    A model is split over `tensor_parallel_size` x `pipeline_parallel_size` devices, by processes of this host (`mp`)
    or by a Ray cluster (`ray`); with `nnodes`, `mp` spans hosts, of which this one is the first and has `master_addr`.
    On a CPU `compile_on_cpu` makes it up to twice as fast, for a start of a minute and a C++ compiler.
    """

    tensor_parallel_size: Size = 1
    pipeline_parallel_size: Size = 1
    distributed_executor_backend: Literal["mp", "ray"] = "mp"
    nnodes: Size = 1
    master_addr: Word = "127.0.0.1"
    master_port: Annotated[int, Meta(ge=1, le=65535)] = 29501
    quantization: Word | None = None
    kv_cache_dtype: Word = "auto"
    enable_expert_parallel: bool = False
    compile_on_cpu: bool = False

    @property
    def world_size(self) -> int:
        """Devices that one model takes."""
        return self.tensor_parallel_size * self.pipeline_parallel_size
