"""From YAML to an embeddings pipeline that is warm."""

from __future__ import annotations

import time

import msgspec

from max_engines.embedding.encoder import Encoder, load_encoder
from max_engines.embedding.pooling import Pooling
from max_interfaces import (
    ConfigError,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    PipelineTask,
    RequestID,
)

from ..config import Config
from ..engines import build_tokenizer
from ..registry import ServedPipeline
from .pipeline import EmbeddingsPipeline

STEP_S = 0.1  # how long a batch may make the next one wait
MEASURED_TOKENS = 256
LARGEST_BUDGET = 16384
CPU_BUDGET = 512  # more is no quicker there: a layer's values no longer fit in the cache
MOST_WAITING = 1024  # texts that a worker takes: from so many, batches of like length are found


class EmbeddingsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How vectors are pooled, and whether they have length 1, whatever the checkpoint says of it."""

    pooling: Pooling | None = None
    normalize: bool | None = None


def build(config: Config) -> ServedPipeline[EmbeddingsGenerationRequest, EmbeddingsGenerationOutput]:
    """Load everything. `engine.token_budget` bounds a batch; without it, what is computed in some 0.1 s."""
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
        )
    except ValueError as problem:
        raise ConfigError(f"model {model.name}: {problem}") from problem
    tokenizer = build_tokenizer(model)
    budget = config.engine.token_budget or measured_budget(encoder)
    return ServedPipeline(
        EmbeddingsPipeline(encoder, tokenizer, budget),
        EmbeddingsGenerationRequest,
        PipelineTask.EMBEDDINGS_GENERATION,
        MOST_WAITING,
        max_tokens=encoder.max_tokens,
        canary=EmbeddingsGenerationRequest(RequestID(), model.name, "hello"),
        one_step=True,
    )


def measured_budget(encoder: Encoder) -> int:
    """Tokens that are embedded in `STEP_S`."""
    length = min(32, encoder.max_tokens)
    texts = [[1] * length] * max(1, MEASURED_TOKENS // length)
    encoder.embed(texts)  # the first of its size pays for more than its tokens
    begin = time.perf_counter()
    encoder.embed(texts).sum().item()
    affordable = int(MEASURED_TOKENS * STEP_S / max(1e-6, time.perf_counter() - begin))
    most = CPU_BUDGET if encoder.module.device.type == "cpu" else LARGEST_BUDGET
    return max(MEASURED_TOKENS, min(most, affordable))
