"""From YAML to a text pipeline that is warm."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

from max_interfaces import (
    PipelineTask,
    RequestID,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
)

from ..config import Config, ModelConfig
from ..engines import ServedGenerator, build_generator, build_tokenizer
from ..registry import ServedPipeline
from .perceiving import Perceiver
from .pipeline import TextPipeline

WARM_UP_TOKENS = 8  # a prompt and some decode steps: every code path has been taken once


def build(config: Config) -> ServedPipeline[TextGenerationRequest, TextGenerationOutput]:
    """Load everything."""
    return serving(config, build_generator(config), canary_of(config.model))


def serving(
    config: Config, served: ServedGenerator, canary: TextGenerationRequest
) -> ServedPipeline[TextGenerationRequest, TextGenerationOutput]:
    """A text pipeline over a generator. Its canary writes a little, so that no caller waits for first-time costs."""
    tokenizer = build_tokenizer(config.model)
    perceiver = Perceiver.of(config, takes_media=served.media)
    pipeline = TextPipeline(served, tokenizer, _peak_memory(config.model.device), perceiver)
    pipeline.start()

    def close() -> None:
        pipeline.close()
        served.close()

    return ServedPipeline(
        pipeline,
        TextGenerationRequest,
        PipelineTask.TEXT_GENERATION,
        config.engine.max_batch,
        sample_rate=served.sample_rate,
        voices=served.voices,
        max_tokens=served.max_length,
        close=close,
        canary=canary,
        gauges=served.gauges,
        adapters=served.adapters,
        media=perceiver.kinds,
        step_s=pipeline.step_s,
    )


def canary_of(model: ModelConfig) -> TextGenerationRequest:
    """A small request, for which every path of the code is taken once."""
    params = SamplingParams(max_new_tokens=WARM_UP_TOKENS, ignore_eos=True)
    prompt = (0,) if model.tokenizer == "none" else "hello"
    return TextGenerationRequest(RequestID(), model.name, prompt, sampling_params=params)


def _peak_memory(device: str) -> Callable[[], int]:
    """Bytes: of the device where it has memory of its own, else of this process."""
    if device.startswith("cuda"):
        import torch

        return lambda: int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
