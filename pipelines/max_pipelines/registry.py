"""From `pipeline.kind` in YAML to a pipeline that a worker can run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from max_interfaces import (
    Adapters,
    Attempt,
    Chunk,
    Failure,
    GenerationStatus,
    Output,
    Pipeline,
    PipelineTask,
    RequestID,
    StartFailed,
)
from max_interfaces.messages import ModelInfo

from .config import Config
from .plugins import Factory, find_factory

ENTRY_POINTS = "maxpipe.pipelines"
BUILT_IN = {
    "embeddings": "max_pipelines.embeddings.build:build",
    "omni": "max_pipelines.omni.build:build",
    "speech": "max_pipelines.speech.build:build",
    "text": "max_pipelines.text.build:build",
    "trivial": "max_pipelines.trivial:build",
}

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True, eq=False)
class ServedPipeline(Generic[RequestT, OutputT]):
    """A pipeline ready to serve: which requests it takes, and what a client should know of its model.

    `max_requests` is how many it takes at once, `max_bytes` how much of them; `close` ends what it started beside
    itself. `canary` is a small request that shows that all of it works: a worker serves it before it offers itself.
    `gauges` are numbers that tell how it is, such as its free memory. With `one_step` a request needs one step only.
    `step_s` is how long the next step may take, in seconds, where the pipeline knows: one that was never that long
    before would be taken for hung.
    `adapters` can be loaded while it serves, if its generator takes any. `media` are the kinds that requests may have.
    `normalizes`, `spells` and the shortest and longest of `pause_s` are as in `ModelInfo`.
    `added_voices` are there beside `voices`, and may be others every time; None for a model that takes no samples.
    """

    pipeline: Pipeline[RequestT, OutputT]
    request_type: type[RequestT]
    task: PipelineTask
    max_requests: int = 16
    sample_rate: int = 0
    voices: tuple[str, ...] = ()
    max_words: int = 0
    max_tokens: int = 0
    close: Callable[[], None] = lambda: None
    canary: RequestT | None = None
    max_bytes: int = 2**28
    gauges: Callable[[], dict[str, int]] = dict
    one_step: bool = False
    step_s: Callable[[], float] = lambda: 0.0
    adapters: Adapters | None = None
    media: tuple[str, ...] = ()
    normalizes: bool = False
    spells: bool = False
    pause_s: tuple[float, float] = (0.4, 0.6)
    added_voices: Callable[[], tuple[str, ...]] | None = None

    @property
    def all_voices(self) -> tuple[str, ...]:
        """Its own voices, and those that are added as of now."""
        return self.voices + (self.added_voices() if self.added_voices is not None else ())

    def info(self, name: str) -> ModelInfo:
        """What clients are told."""
        return ModelInfo(
            name,
            self.task.value,
            self.sample_rate,
            self.all_voices,
            self.max_words,
            self.max_tokens,
            media=self.media,
            normalizes=self.normalizes,
            spells=self.spells,
            shortest_pause_s=self.pause_s[0],
            longest_pause_s=self.pause_s[1],
            takes_samples=self.added_voices is not None,
        )


AnyServed = ServedPipeline[Any, Any]


def build_pipeline(config: Config) -> AnyServed:
    """Load model and codec and build the pipeline. ConfigError for a kind that nobody provides."""
    factory: Factory[AnyServed] = find_factory("pipeline.kind", config.pipeline.kind, BUILT_IN, ENTRY_POINTS)
    return factory(config)


def prove(served: AnyServed) -> float:
    """Serve the canary to nobody: it must end well, with tokens, and with sound if the model makes any.

    Returns how long the longest step took, in seconds. StartFailed if something is missing. It is a warm-up, too: the
    first caller does not wait for what is done only once.
    """
    if served.canary is None:
        return 0.0
    request_id: RequestID = served.canary.request_id
    chunks: list[Chunk[Any]] = []
    longest = 0.0
    try:
        served.pipeline.admit(Attempt(served.canary))
        while not (chunks and chunks[-1].output is not None and chunks[-1].output.is_done):
            begin = time.monotonic()
            chunks += served.pipeline.execute([request_id])
            longest = max(longest, time.monotonic() - begin)
    finally:
        served.pipeline.release(request_id)
    last: Output = chunks[-1].output
    missing = (
        [] if served.task is PipelineTask.EMBEDDINGS_GENERATION or any(chunk.tokens for chunk in chunks) else ["token"]
    )
    if served.task is PipelineTask.AUDIO_GENERATION and not any(chunk.samples for chunk in chunks):
        missing.append("sound")
    if last.final_status in (GenerationStatus.FAILED, GenerationStatus.CANCELLED) or missing:
        failure = getattr(last, "failure", None)
        why = f"it gave no {' and no '.join(missing)}" if missing else f"it ended as {last.final_status}"
        why = failure.message if isinstance(failure, Failure) else why
        raise StartFailed(f"the first request, which only tries whether all works, has failed: {why}")
    return longest
