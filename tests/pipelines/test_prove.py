"""The canary: a worker that cannot serve a small request offers itself to nobody."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from max_interfaces import (
    Attempt,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    DeviceLost,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    Failure,
    FailureKind,
    GenerationStatus,
    Output,
    PipelineTask,
    RequestID,
    StartFailed,
    TextGenerationOutput,
    TextGenerationRequest,
)
from max_pipelines.registry import ServedPipeline, prove

ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE
CANARY = RequestID("canary")
SOUND = np.full(4, 0.5, np.float32)
SPOKEN = AudioGenerationRequest(CANARY, "voice", "Hello.")
SLOW_S = 0.03
FAILED = AudioGenerationOutput(
    GenerationStatus.FAILED, 0, failure=Failure(FailureKind.WORKER_ERROR, "the codec is upside down")
)


@dataclass
class Tried:
    """A pipeline whose steps the test has written down: chunks, an exception, or that it takes `SLOW_S` longer."""

    steps: list[list[Chunk[Any]] | Exception | None]
    admitted: list[Attempt[Any]] = field(default_factory=list)
    released: list[RequestID] = field(default_factory=list)

    def admit(self, attempt: Attempt[Any]) -> None:
        self.admitted.append(attempt)

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[Any]]:
        assert list(active) == [CANARY]
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if step is None:
            end = time.monotonic() + SLOW_S
            while time.monotonic() < end:
                pass
        return step or []

    def release(self, request_id: RequestID) -> None:
        self.released.append(request_id)


def chunk(output: Output | None, *tokens: int, samples: int = 0) -> Chunk[Any]:
    return Chunk(CANARY, output, tokens, 0, samples)


def spoken(status: GenerationStatus, *tokens: int, samples: int = 4) -> Chunk[Any]:
    return chunk(AudioGenerationOutput(status, 1, SOUND[:samples]), *tokens, samples=samples)


def voice(pipeline: Tried) -> ServedPipeline[Any, Any]:
    """A speech model."""
    task = PipelineTask.AUDIO_GENERATION
    return ServedPipeline(pipeline, AudioGenerationRequest, task, sample_rate=24_000, canary=SPOKEN)


def proved(pipeline: Tried) -> float:
    """How long the longest step took; whatever happens, nothing of the request is kept."""
    try:
        return prove(voice(pipeline))
    finally:
        assert [attempt.request for attempt in pipeline.admitted] == [SPOKEN]
        assert pipeline.released == [CANARY]


def test_a_request_that_ends_well_is_proof() -> None:
    pipeline = Tried([[], [chunk(None, 1, 2)], [spoken(ACTIVE, 3)], [spoken(DONE, samples=0)], RuntimeError("too far")])
    proved(pipeline)
    assert len(pipeline.steps) == 1


def test_notes_alone_are_tokens_enough() -> None:
    proved(Tried([[chunk(None, 1), spoken(DONE)]]))


@pytest.mark.parametrize("status", [GenerationStatus.MAXIMUM_LENGTH, DONE])
def test_any_end_that_a_caller_may_want_is_a_good_one(status: GenerationStatus) -> None:
    proved(Tried([[spoken(status, 1)]]))


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([spoken(ACTIVE), spoken(DONE)], "it gave no token"),
        ([spoken(ACTIVE, 1, samples=0), spoken(DONE, 2, samples=0)], "it gave no sound"),
        ([spoken(DONE, samples=0)], "it gave no token and no sound"),
        ([spoken(GenerationStatus.CANCELLED, samples=0)], "it gave no token"),
        ([spoken(ACTIVE, 1), chunk(FAILED)], "the codec is upside down"),
    ],
)
def test_what_is_missing_is_said(chunks: list[Chunk[Any]], says: str) -> None:
    with pytest.raises(StartFailed, match=f"only tries whether all works, has failed: {says}"):
        proved(Tried([[one] for one in chunks]))


@pytest.mark.parametrize("problem", [RuntimeError("no memory"), DeviceLost("an illegal access")])
def test_a_step_that_raises_says_why_itself(problem: Exception) -> None:
    with pytest.raises(type(problem), match=str(problem)):
        proved(Tried([[spoken(ACTIVE, 1)], problem]))


def test_the_longest_step_is_told() -> None:
    """The first caller's step may take as long as the first of all steps, which is slow: nobody takes it for hung."""
    begin = time.monotonic()
    longest = proved(Tried([[], None, [spoken(ACTIVE, 1)], None, [spoken(DONE)]]))
    whole = time.monotonic() - begin
    assert SLOW_S <= longest <= whole - SLOW_S


def test_a_text_needs_no_sound_and_an_embedding_no_tokens() -> None:
    text = Tried([[chunk(TextGenerationOutput(CANARY, (1,), DONE, text="a"), 1)]])
    prove(
        ServedPipeline(
            text, TextGenerationRequest, PipelineTask.TEXT_GENERATION, canary=TextGenerationRequest(CANARY, "m", "a")
        )
    )
    embedding = Tried([[chunk(EmbeddingsGenerationOutput(np.ones(3, np.float32)))]])
    task = PipelineTask.EMBEDDINGS_GENERATION
    asked = EmbeddingsGenerationRequest(CANARY, "m", "a")
    prove(ServedPipeline(embedding, EmbeddingsGenerationRequest, task, canary=asked))
    assert text.released == embedding.released == [CANARY]


def test_who_brings_no_canary_need_prove_nothing() -> None:
    pipeline = Tried([])
    assert prove(ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION)) == 0.0
    assert not pipeline.admitted
