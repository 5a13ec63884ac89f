"""vLLM's engine core in this process: started, fed, stepped, closed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# Read when vLLM is imported, or when its platform is set up. The first: no engine process of its own.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_NO_USAGE_STATS"] = "1"  # it reports to its makers otherwise
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # `workers.threads` says how many, the system says where

from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.engine.core_client import InprocClient
from vllm.v1.executor import Executor
from vllm.v1.structured_output.request import StructuredOutputRequest

from ..config import DEFAULT_KV_MEMORY
from ..log_probabilities import MOST_LIKELIEST
from .lifeline import EXTENSION, end_together
from .masking import MaskedSequence, MaskRows
from .options import VllmOptions


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a core is to be: the section `engine` of a config, and what its `model` says of the files."""

    location: str | Path
    revision: str | None
    dtype: str
    device: str
    max_batch: int
    token_budget: int | None
    kv_memory: int | None
    memory_utilization: float | None
    max_length: int | None
    prefix_caching: bool
    eager: bool
    overlap: bool | None
    options: VllmOptions


class Core:
    """The model in vLLM. ValueError for what cannot be loaded or does not fit."""

    def __init__(self, wanted: Wanted) -> None:
        if current_platform.device_type != wanted.device:
            raise ValueError(
                f"model.device = {wanted.device}: the vLLM that is installed runs on {current_platform.device_type}; "
                "write that, without a number: which devices it sees is told it by the environment"
            )
        self._config = _arguments(wanted).create_engine_config()
        self._client = InprocClient(self._config, Executor.get_class(self._config), log_stats=False)
        self._inner = self._client.engine_core
        self._inner.structured_output_manager.backend = MaskRows(self.vocab_size)
        if wanted.options.world_size > 1:
            self._inner.collective_rpc("leave_nothing")
            workers = getattr(self._inner.model_executor, "workers", ())  # Ray's are no processes of ours
            end_together([worker.proc for worker in workers if hasattr(worker, "proc")])

    @property
    def vocab_size(self) -> int:
        """Ids that the model gives scores."""
        return int(self._config.model_config.get_vocab_size())

    @property
    def max_length(self) -> int:
        """The most tokens, prompt and output, of one sequence."""
        return int(self._config.model_config.max_model_len)

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """What the model's configs name as the end."""
        model = self._config.model_config
        configs = (model.try_get_generation_config(), model.hf_config.to_dict(), model.hf_text_config.to_dict())
        values = [config.get("eos_token_id") for config in configs]
        return frozenset(id_ for value in values for id_ in ([value] if isinstance(value, int) else value or []))

    @property
    def blocks(self) -> dict[str, int]:
        """Blocks of its KV cache, and how many of them are free."""
        pool = self._inner.scheduler.kv_cache_manager.block_pool
        return {"blocks": pool.num_gpu_blocks, "free_blocks": pool.get_num_free_blocks()}

    def add(
        self,
        key: str,
        tokens: list[int],
        params: SamplingParams,
        masked: MaskedSequence | None,
        priority: int,
        salt: str,
    ) -> None:
        """Take a sequence, which goes on from `tokens`. A higher priority comes first."""
        request = EngineCoreRequest(
            request_id=key,
            prompt_token_ids=tokens,
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=salt or None,
            data_parallel_rank=None,
            priority=-priority,
        )
        prepared, wave = self._inner.preprocess_add_request(request)
        if masked is not None:  # as if it had been compiled from this text, which nobody reads
            prepared.structured_output_request = StructuredOutputRequest(StructuredOutputsParams(grammar="constraint"))
            prepared.structured_output_request.grammar = masked
        self._inner.add_request(prepared, wave)

    def step(self) -> list[EngineCoreOutput]:
        """One step of all its sequences. Whatever it raises, its state is lost."""
        outputs: list[EngineCoreOutput] = self._client.get_output().outputs
        return outputs

    def abort(self, key: str) -> None:
        """Forget a sequence, which may have ended."""
        self._client.abort_requests([key])

    def close(self) -> None:
        """End the processes of its workers."""
        self._client.shutdown()


def _arguments(wanted: Wanted) -> EngineArgs:
    """Ours as vLLM's."""
    options, on_cpu = wanted.options, wanted.device == "cpu"
    share = wanted.memory_utilization
    memory = wanted.kv_memory or (DEFAULT_KV_MEMORY if on_cpu and share is None else None)
    return EngineArgs(
        model=str(wanted.location),
        revision=wanted.revision,
        dtype=wanted.dtype,
        load_format="safetensors",  # and no pickles
        trust_remote_code=False,
        skip_tokenizer_init=True,
        generation_config="vllm",  # no defaults of the model's: a request says what it wants
        max_num_seqs=wanted.max_batch,
        max_num_batched_tokens=wanted.token_budget,
        kv_cache_memory_bytes=memory,
        max_logprobs=MOST_LIKELIEST,
        scheduling_policy="priority",
        language_model_only=True,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        worker_extension_cls=EXTENSION,
        distributed_executor_backend="uni" if options.world_size == 1 else options.distributed_executor_backend,
        enforce_eager=wanted.eager or (on_cpu and not options.compile_on_cpu),
        async_scheduling=wanted.overlap,
        enable_prefix_caching=wanted.prefix_caching,
        max_model_len=wanted.max_length,
        tensor_parallel_size=options.tensor_parallel_size,
        pipeline_parallel_size=options.pipeline_parallel_size,
        nnodes=options.nnodes,
        master_addr=options.master_addr,
        master_port=options.master_port,
        quantization=options.quantization,
        kv_cache_dtype=options.kv_cache_dtype,
        enable_expert_parallel=options.enable_expert_parallel,
        **({} if share is None else {"gpu_memory_utilization": share}),
    )
