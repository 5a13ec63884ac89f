"""What comes back, with mlx-vlm's fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GIGABYTE = 1e9


@dataclass
class GenerationResult:
    """One token's text and all figures so far; from `generate`, the whole text and the last figures.

    `logprobs` float32[vocab_size] are those of `token`'s place; `peak_memory` is in gigabytes (10⁹ bytes), of the
    process that runs the model, or of its GPU. `finish_reason` is "stop" or "length" with the last token, else None.
    """

    text: str = ""
    token: int | None = None
    logprobs: NDArray[np.float32] | None = None
    prompt_tokens: int = 0
    generation_tokens: int = 0
    total_tokens: int = 0
    prompt_tps: float = 0.0
    generation_tps: float = 0.0
    peak_memory: float = 0.0
    cached_tokens: int = 0
    finish_reason: str | None = None


@dataclass
class BatchStats:
    """What a batch cost: tokens, seconds, tokens a second, gigabytes.

    Prompts and answers are worked on side by side: `prompt_time` is what passed until the last prompt had been read,
    `generation_time` what passed after the first.
    """

    prompt_tokens: int = 0
    prompt_tps: float = 0.0
    prompt_time: float = 0.0
    generation_tokens: int = 0
    generation_tps: float = 0.0
    generation_time: float = 0.0
    peak_memory: float = 0.0


@dataclass
class BatchResponse:
    """The text for each prompt, in their order. `image_sizes` (height, width) if they were tracked."""

    texts: list[str]
    stats: BatchStats
    image_sizes: Sequence[tuple[int, int] | None] | None = None


def told(figures: GenerationResult | BatchStats) -> tuple[str, str, str]:
    """Three lines for people."""
    return (
        f"Prompt: {figures.prompt_tokens} tokens, {figures.prompt_tps:.3f} tokens-per-sec",
        f"Generation: {figures.generation_tokens} tokens, {figures.generation_tps:.3f} tokens-per-sec",
        f"Peak memory: {figures.peak_memory:.3f} GB",
    )
