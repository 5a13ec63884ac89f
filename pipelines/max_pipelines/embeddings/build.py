"""From YAML to an embeddings pipeline that is warm."""

from __future__ import annotations

import msgspec

from max_engines.embedding.encoder import load_encoder
from max_engines.embedding.pooling import Pooling
from max_interfaces import (
    ConfigError,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    PipelineTask,
    RequestID,
)

from ..config import Config, EngineConfig, ModelConfig
from ..engines import build_tokenizer
from ..registry import ServedPipeline
from .batching import batching
from .pipeline import EmbeddingsPipeline

HEEDED = frozenset({"token_budget", "max_length"})  # of the section `engine`
FOR_TEXT = "is for models that write; leave it out"
MOST_WAITING = 1024  # texts that a worker takes: from so many, batches of like length are found


class EmbeddingsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How vectors are pooled, and whether they have length 1, whatever the checkpoint says of it."""

    pooling: Pooling | None = None
    normalize: bool | None = None


def build(config: Config) -> ServedPipeline[EmbeddingsGenerationRequest, EmbeddingsGenerationOutput]:
    """Load everything. `engine.token_budget` bounds a batch; without it, what is computed in some 0.1 s.

    `engine.max_length` bounds a text. ConfigError for what is wrong, or asked for in vain.
    """
    _check(config)
    try:
        options = msgspec.convert(config.pipeline.options, EmbeddingsOptions)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"pipeline.options: {problem}") from None
    model = config.model
    try:
        encoder = load_encoder(
            model.location,
            dtype=model.dtype,
            device=model.device,
            revision=model.revision,
            pooling=options.pooling,
            normalized=options.normalize,
            max_tokens=config.engine.max_length,
        )
    except ValueError as problem:
        raise ConfigError(f"model {model.name}: {problem}") from problem
    tokenizer = build_tokenizer(model)
    pipeline = EmbeddingsPipeline(encoder, tokenizer, batching(encoder, config.engine.token_budget))
    return ServedPipeline(
        pipeline,
        EmbeddingsGenerationRequest,
        PipelineTask.EMBEDDINGS_GENERATION,
        MOST_WAITING,
        max_tokens=encoder.max_tokens,
        canary=_canary(model),
        one_step=True,
        step_s=pipeline.step_s,
    )


def _check(config: Config) -> None:
    for name, value in msgspec.structs.asdict(EngineConfig()).items():
        if name not in HEEDED and getattr(config.engine, name) != value:
            raise ConfigError(f"engine.{name}: {FOR_TEXT}")
    if config.model.quantization != "none" or config.model.cpu_offload_gb:
        raise ConfigError(f"model.quantization, model.cpu_offload_gb: {FOR_TEXT}")


def _canary(model: ModelConfig) -> EmbeddingsGenerationRequest:
    text = (0,) if model.tokenizer == "none" else "hello"
    return EmbeddingsGenerationRequest(RequestID(), model.name, text, truncate=True)
