"""A text pipeline that says what the last message says: so a test writes what the model would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest

from max_interfaces import (
    Attempt,
    Chunk,
    Failure,
    FailureKind,
    GenerationStatus,
    PipelineTask,
    RequestID,
    TextGenerationOutput,
    TextGenerationRequest,
    TokenTexts,
)
from max_pipelines import registry
from max_pipelines.config import Config, EngineConfig, HttpConfig, Limits, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.registry import ServedPipeline
from tests.fakes import Shelf
from tests.pipelines.http.facing import Facing, facing

FAILS, CANCELS, FOR_EVER = "!fail", "!cancel", "!ever"  # a text that ends in one of these
ADAPTER = "{adapter}"  # in a text: what the request names
STRIDE = 3  # characters a step
ACTIVE = GenerationStatus.ACTIVE


class Parrot:
    """Every step some characters of each text, as one token; `n` of them, one behind the other."""

    def __init__(self) -> None:
        self._said: dict[RequestID, tuple[str, count[int]]] = {}

    def admit(self, attempt: Attempt[TextGenerationRequest]) -> None:
        request = attempt.request
        last = request.messages[-1].flatten_content() if request.messages else str(request.prompt)
        self._said[request.request_id] = last.replace(ADAPTER, str(request.adapter_id)), count()

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[TextGenerationOutput]]:
        return [self._next(request_id) for request_id in active]

    def _next(self, request_id: RequestID) -> Chunk[TextGenerationOutput]:
        text, steps = self._said[request_id]
        begin = next(steps) * STRIDE
        fails, cancels = text.endswith(FAILS), text.endswith(CANCELS)
        done = begin + STRIDE >= len(text) and not text.endswith(FOR_EVER)
        status, failure = (GenerationStatus.END_OF_SEQUENCE if done else ACTIVE), None
        if done and fails:
            status, failure = GenerationStatus.FAILED, Failure(FailureKind.WORKER_ERROR, "it has failed")
        elif done and cancels:
            status = GenerationStatus.CANCELLED
        piece = text[begin : begin + STRIDE] or "…"
        output = TextGenerationOutput(
            request_id,
            (begin,),
            status,
            text=piece,
            failure=failure,
            sequence_status=status,
            num_prompt_tokens=1,
            token_texts=TokenTexts((piece,)),
        )
        return Chunk(request_id, output, (begin,))

    def release(self, request_id: RequestID) -> None:
        self._said.pop(request_id, None)


def build(config: Config) -> ServedPipeline[TextGenerationRequest, TextGenerationOutput]:
    adapters = Shelf("given") if config.engine.adapter_folder is not None else None
    return ServedPipeline(Parrot(), TextGenerationRequest, PipelineTask.TEXT_GENERATION, adapters=adapters)


@asynccontextmanager
async def parrot(
    limits: Limits | None = None, *, adapter_folder: str | None = None, http: HttpConfig | None = None
) -> AsyncIterator[Facing]:
    """A face before it. The name is known to this process alone, whose threads serve it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BUILT_IN, "parrot", "tests.pipelines.http.parrot:build")
        config = Config(
            model=ModelConfig(name="tiny"),
            pipeline=PipelineConfig(kind="parrot"),
            workers=WorkersConfig(transport="thread"),
            limits=limits or Limits(),
            engine=EngineConfig(adapter_folder=adapter_folder),
        )
        async with facing(config, http) as served:
            yield served
