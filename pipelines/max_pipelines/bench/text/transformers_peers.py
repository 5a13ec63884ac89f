"""What transformers itself offers: `generate` with a whole batch, and `generate_batch`, its continuous batching."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    __version__,
)
from transformers.generation.streamers import BaseStreamer

from .device import used_memory
from .messages import Answer, Facts, Job, Setup

PAGE = 32  # tokens: faster here than the default of 256


class Generate:
    """`generate`: DynamicCache, scaled-dot-product attention, one batch from beginning to end."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        self._device = setup.device
        self._module = _load(setup)

    def facts(self) -> Facts:
        """Its version."""
        return Facts(f"transformers {__version__}")

    def run(self, job: Job) -> Answer:
        """All prompts of a job have one length, so that none is padded."""
        begin = time.perf_counter()
        clock = _Clock(begin)
        ids = torch.tensor(job.prompts, device=self._device)
        with torch.inference_mode():
            self._module.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=_greedy(job.new_tokens),
                streamer=clock,
            )
        return Answer([clock.times] * len(job.prompts), used_memory(self._device))


class GenerateBatch:
    """Continuous batching: the manager that `generate_batch` starts for each call, started once for all jobs."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        self._device = setup.device
        module = _load(setup)
        pages = setup.requests * -(-setup.longest // PAGE)
        config = ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=pages + setup.requests, max_requests_per_batch=setup.requests
        )
        self._manager = module.init_continuous_batching(
            generation_config=_greedy(setup.longest), continuous_batching_config=config
        )
        self._manager.start()

    def facts(self) -> Facts:
        """Its version."""
        return Facts(f"transformers {__version__}")

    def run(self, job: Job) -> Answer:
        """Its own time stamps, which are `time.perf_counter`'s."""
        begin = time.perf_counter()
        self._manager.add_requests(job.prompts, max_new_tokens=job.new_tokens, record_timestamps=True)
        arrivals: list[list[float]] = []
        while len(arrivals) < len(job.prompts):
            output = self._manager.get_result(timeout=1)
            if output is None and not self._manager.is_running():
                raise RuntimeError("the manager of continuous batching has ended")
            if output is not None and output.is_finished():
                arrivals.append([stamp - begin for stamp in output.timestamps or ()])
        return Answer(arrivals, used_memory(self._device))


class _Clock(BaseStreamer):
    """Notes when each step's tokens come; the prompts come first."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._prompts_seen = False
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        if self._prompts_seen:
            self.times.append(time.perf_counter() - self._begin)
        self._prompts_seen = True

    def end(self) -> None:
        """Nothing is held back."""


def _load(setup: Setup) -> Any:  # PreTrainedModel, most of whose methods have no types
    module = AutoModelForCausalLM.from_pretrained(
        setup.model, dtype=getattr(torch, setup.dtype), attn_implementation="sdpa", use_safetensors=True
    )
    module.generation_config.eos_token_id = None
    return module.train(False).to(setup.device)


def _greedy(new_tokens: int) -> GenerationConfig:
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
