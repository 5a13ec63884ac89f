"""From `pipeline.kind` in YAML to a pipeline that a worker can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from max_interfaces import Attempt, Output, Pipeline, PipelineTask, RequestID
from max_interfaces.messages import ModelInfo

from .config import Config
from .plugins import Factory, find_factory

ENTRY_POINTS = "maxpipe.pipelines"
BUILT_IN = {
    "speech": "max_pipelines.speech.build:build",
    "text": "max_pipelines.text.build:build",
    "trivial": "max_pipelines.trivial:build",
}

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")
WarmOutputT = TypeVar("WarmOutputT", bound=Output)


@dataclass(frozen=True, slots=True, eq=False)
class ServedPipeline(Generic[RequestT, OutputT]):
    """A pipeline ready to serve: which requests it takes, and what a client should know of its model.

    `max_requests` is how many it takes at once; `close` ends what it started beside itself.
    """

    pipeline: Pipeline[RequestT, OutputT]
    request_type: type[RequestT]
    task: PipelineTask
    max_requests: int = 16
    sample_rate: int = 0
    voices: tuple[str, ...] = ()
    max_words: int = 0
    close: Callable[[], None] = lambda: None

    def info(self, name: str) -> ModelInfo:
        """What clients are told."""
        return ModelInfo(name, self.task.value, self.sample_rate, self.voices, self.max_words)


AnyServed = ServedPipeline[Any, Any]


def build_pipeline(config: Config) -> AnyServed:
    """Load model and codec and build the pipeline. ConfigError for a kind that nobody provides."""
    factory: Factory[AnyServed] = find_factory("pipeline.kind", config.pipeline.kind, BUILT_IN, ENTRY_POINTS)
    return factory(config)


def warm_up(pipeline: Pipeline[RequestT, WarmOutputT], request: RequestT, request_id: RequestID) -> None:
    """Serve a request to its end for nobody: the first caller is not to wait for what is done only once."""
    pipeline.admit(Attempt(request))
    try:
        while not any(chunk.output.is_done for chunk in pipeline.execute([request_id])):
            pass
    finally:
        pipeline.release(request_id)
