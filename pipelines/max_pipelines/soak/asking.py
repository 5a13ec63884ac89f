"""Requests that nobody would think of: random texts for whatever is served."""

from __future__ import annotations

import random

from max_interfaces import (
    AudioGenerationRequest,
    EmbeddingsGenerationRequest,
    PipelineTask,
    RequestID,
    SamplingParams,
    TextGenerationRequest,
)
from max_interfaces.messages import ModelInfo
from max_interfaces.wire import AnyRequest

EVERYDAY = (
    "a and bell but calm day did every far garden green had house it light little long many morning never no old on "
    "over people quiet rain river said see seven ship so some stone that the then there three tree under very was "
    "water we were when white wind with would year you"
)
WORDS = EVERYDAY.split()
MOST_WORDS = 30
MOST_TOKENS = 48
STRANGE = "äßéñ中文語かな한글русскийעבריت😀✈️\t\n{}[]<|>\\\"'0123456789"  # for models that take any text


def random_text(chance: random.Random, most_words: int) -> str:
    """A sentence of everyday words."""
    words = chance.choices(WORDS, k=chance.randint(1, most_words))
    return " ".join(words).capitalize() + chance.choice(".!?")


def random_request(info: ModelInfo, chance: random.Random) -> AnyRequest:
    """A request for what this model does."""
    text = random_text(chance, min(MOST_WORDS, info.max_words or MOST_WORDS))
    if info.task == PipelineTask.AUDIO_GENERATION:
        params = SamplingParams(seed=chance.getrandbits(60))
        voice = chance.choice(info.voices) if info.voices else None
        return AudioGenerationRequest(RequestID(), info.name, text, sampling_params=params, voice=voice)
    if chance.random() < 0.5:
        text += "".join(chance.choices(STRANGE, k=chance.randint(1, 60)))
    if info.task == PipelineTask.EMBEDDINGS_GENERATION:
        return EmbeddingsGenerationRequest(RequestID(), info.name, text)
    params = SamplingParams(
        temperature=chance.choice((0.0, 1.0)),
        max_new_tokens=chance.randint(1, MOST_TOKENS),
        seed=chance.getrandbits(60),
        n=chance.choice((1, 1, 1, 3)),
    )
    return TextGenerationRequest(RequestID(), info.name, text, sampling_params=params)
