"""A pipeline that does nothing but answer: what `maxpipe bench queue` measures the road with, and tests drive."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from max_interfaces import (
    Attempt,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    GenerationStatus,
    PipelineTask,
    RequestID,
)

from .config import Config, read_options
from .registry import ServedPipeline


class TrivialOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each request gets `chunks` chunks of `samples` float32 samples, one a step."""

    chunks: Annotated[int, Meta(ge=1, le=100_000)] = 1
    samples: Annotated[int, Meta(ge=0, le=2**20)] = 4096
    max_requests: Annotated[int, Meta(ge=1, le=2**16)] = 4096


class TrivialPipeline:
    """Counts chunks down; sample i of a request's sound is i/2**20."""

    def __init__(self, options: TrivialOptions) -> None:
        self._options = options
        self._given: dict[str, int] = {}
        self._made: dict[int, AudioGenerationOutput] = {}
        samples = np.arange(options.chunks * options.samples, dtype=np.float32) / np.float32(2**20)
        self._samples: NDArray[np.float32] = np.frombuffer(samples.tobytes(), np.float32)  # frozen: an output's own

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        """Begin, or go on where an earlier attempt stopped."""
        done = attempt.next_sample // self._options.samples if self._options.samples else 0
        self._given[attempt.request.request_id.value] = done

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[AudioGenerationOutput]]:
        """One chunk for each."""
        chunks = []
        size = self._options.samples
        for request_id in active:
            number = self._given[request_id.value]
            self._given[request_id.value] = number + 1
            output = self._made.get(number) or self._make(number)
            chunks.append(Chunk(request_id, output, (number,), number * size, size))
        return chunks

    def _make(self, number: int) -> AudioGenerationOutput:
        """Chunk `number`, which is the same for all requests: so it is made once."""
        size = self._options.samples
        last = number + 1 == self._options.chunks
        output = self._made[number] = AudioGenerationOutput(
            GenerationStatus.END_OF_SEQUENCE if last else GenerationStatus.ACTIVE,
            1,
            self._samples[number * size : (number + 1) * size],
            metadata=AudioGenerationMetadata(chunk_id=number, final_chunk=last),
        )
        return output

    def release(self, request_id: RequestID) -> None:
        """Forget it."""
        self._given.pop(request_id.value, None)


def build(config: Config) -> ServedPipeline[AudioGenerationRequest, AudioGenerationOutput]:
    """The factory behind `pipeline.kind: trivial`."""
    options = read_options("pipeline.options", config.pipeline.options, TrivialOptions)
    return ServedPipeline(
        TrivialPipeline(options),
        AudioGenerationRequest,
        PipelineTask.AUDIO_GENERATION,
        options.max_requests,
        sample_rate=24_000,
        voices=("none",),
    )
