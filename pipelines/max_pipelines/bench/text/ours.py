"""Our engine, in the process that asks."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import cast

import torch
from transformers import PreTrainedModel

from max_engines.compatibility import kv_shape
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import DType, load_model
from max_interfaces import RequestID, SamplingParams
from max_interfaces.protocols import SequenceStart

from .device import copy_bandwidth, used_memory
from .messages import Answer, Facts, Job, Setup


class Ours:
    """Steps the engine until all requests are done."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        self._device = setup.device
        self._model = load_model(setup.model, dtype=cast(DType, setup.dtype), device=setup.device)
        self._weight_bytes = _read_in_a_step(self._model.module)  # before the engine joins and moves weights
        blocks = setup.requests * (-(-setup.longest // EngineConfig().block_size) + 1)
        self._engine = Engine(self._model, EngineConfig(max_batch=setup.requests, num_blocks=blocks))

    def facts(self) -> Facts:
        """Also what a step of decoding has to read, for the share of the memory bandwidth."""
        return Facts(
            version=f"maxpipe {version('maxpipe')}",
            weight_bytes=self._weight_bytes,
            kv_token_bytes=kv_shape(self._model).bytes_per_token,
            copy_bytes_per_s=copy_bandwidth(self._device) if self._device.startswith("cuda") else None,
        )

    def run(self, job: Job) -> Answer:
        """A step at a time; a token has come when the step that gave it returns."""
        params = SamplingParams(temperature=0, max_new_tokens=job.new_tokens, ignore_eos=True)
        begin = time.perf_counter()
        arrivals: dict[RequestID, list[float]] = {}
        for prompt in job.prompts:
            start = SequenceStart(RequestID(), tuple(prompt), params, seed=0)
            self._engine.add(start)
            arrivals[start.request_id] = []
        active = set(arrivals)
        while active:
            deltas = self._engine.step(active)
            now = time.perf_counter() - begin
            for request_id, delta in deltas.items():
                arrivals[request_id].extend([now] * len(delta.tokens))
                if delta.status.is_done:
                    active.discard(request_id)
                    self._engine.release(request_id)
        return Answer(list(arrivals.values()), used_memory(self._device))


def _read_in_a_step(module: PreTrainedModel) -> int:
    """Bytes of all weights, but for an embedding that is not the output layer as well: a step reads few rows of it."""
    weights = sum({p.data_ptr(): p.nbytes for p in module.parameters()}.values())
    embedding, head = module.get_input_embeddings(), module.get_output_embeddings()  # type: ignore[no-untyped-call]
    tied = head is None or head.weight is embedding.weight
    return weights if tied else weights - sum(p.nbytes for p in embedding.parameters())
