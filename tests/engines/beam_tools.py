"""What transformers' own beam search says, and what the engine's does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from max_interfaces.protocols import Hypothesis, SequenceStart, TokenGenerator
from tests.engines.tiny_models import run, start

Texts: TypeAlias = list[tuple[tuple[int, ...], float]]  # ids and score, the best first


@cache
def plain(folder: Path) -> PreTrainedModel:
    """The checkpoint as transformers has it."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def by_transformers(folder: Path, prompt: Sequence[int], width: int, count: int, ends: list[int], **how: Any) -> Texts:
    """All `width` texts of transformers' search; each is cut behind its end."""
    module = plain(folder)
    module.generation_config.eos_token_id = ends or None
    ids = torch.tensor([list(prompt)])
    found: Any = module.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=count,
        return_dict_in_generate=True,
        output_scores=True,
        **how,
    )
    texts: Texts = []
    for text, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
        said = text[len(prompt) :]
        end = next((at for at, token in enumerate(said) if token in ends), len(said) - 1)
        texts.append((tuple(said[: end + 1]), score))
    return texts


def searching(prompt: Sequence[int], width: int, count: int, ends: Sequence[int] = (), **params: Any) -> SequenceStart:
    """A search that gives all its texts."""
    return start(prompt, eos=ends, **{"beam_width": width, "n": width, "max_new_tokens": count, **params})


def found(engine: TokenGenerator, searches: Sequence[SequenceStart]) -> list[tuple[Hypothesis, ...]]:
    """What each search finds; all run together."""
    return [deltas[-1].hypotheses for deltas in run(engine, searches)]


def texts(hypotheses: Sequence[Hypothesis]) -> Texts:
    """Ids and scores."""
    return [(one.tokens, one.score) for one in hypotheses]
