"""A small text model in vLLM, and what is asked of it."""

from __future__ import annotations

import msgspec

from max_interfaces import RequestID, SamplingParams, TextGenerationOutput, TextGenerationRequest
from max_pipelines.config import Config, EngineConfig
from max_pipelines.config.section import OptionValue


def on_vllm(config: Config, *, standby: int = 0, **options: OptionValue) -> Config:
    """The same model, in vLLM."""
    engine = EngineConfig(kind="vllm", kv_memory=2**27, options=options)
    workers = msgspec.structs.replace(config.workers, standby=standby)
    return msgspec.structs.replace(config, engine=engine, workers=workers)


def written(prompt: str = "the quick brown fox", **fields: object) -> TextGenerationRequest:
    """Greedy and of 40 tokens unless said otherwise."""
    params = SamplingParams(**{"temperature": 0.0, "max_new_tokens": 40, **fields})  # type: ignore[arg-type]
    return TextGenerationRequest(RequestID(), "tiny", prompt, sampling_params=params)


def essence(output: TextGenerationOutput) -> tuple[object, ...]:
    """What two engines must agree on."""
    return output.tokens, output.text, output.final_status, output.stop
