"""From `pipeline.kind` in YAML to a pipeline that a worker can run."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from max_interfaces import ConfigError, Pipeline, PipelineTask
from max_interfaces.messages import ModelInfo

from .config import Config

ENTRY_POINTS = "maxpipe.pipelines"
BUILT_IN = {
    "speech": "max_pipelines.speech.build",
    "text": "max_pipelines.text.build",
    "trivial": "max_pipelines.trivial",
}

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")


@dataclass(frozen=True, slots=True, eq=False)
class ServedPipeline(Generic[RequestT, OutputT]):
    """A pipeline ready to serve: which requests it takes, and what a client should know of its model.

    `max_requests` is how many it takes at once.
    """

    pipeline: Pipeline[RequestT, OutputT]
    request_type: type[RequestT]
    task: PipelineTask
    max_requests: int = 16
    sample_rate: int = 0
    voices: tuple[str, ...] = ()
    max_words: int = 0

    def info(self, name: str) -> ModelInfo:
        """What clients are told."""
        return ModelInfo(name, self.task.value, self.sample_rate, self.voices, self.max_words)


AnyServed = ServedPipeline[Any, Any]
PipelineFactory = Callable[[Config], AnyServed]


def build_pipeline(config: Config) -> AnyServed:
    """Load model and codec and build the pipeline. ConfigError for a kind that nobody provides."""
    kind = config.pipeline.kind
    if kind in BUILT_IN:
        factory: PipelineFactory = import_module(BUILT_IN[kind]).build
        return factory(config)
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if kind not in found:
        known = sorted({*BUILT_IN, *found})
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"pipeline.kind: no pipeline `{kind}` is installed; {hint}")
    served: AnyServed = found[kind].load()(config)
    return served
