"""The public names, pinned: one that goes missing breaks somebody's import."""

from __future__ import annotations

import max_interfaces

PINNED = [
    "AdapterRefused",
    "Adapters",
    "Attempt",
    "AudioCodec",
    "AudioGenerationMetadata",
    "AudioGenerationOutput",
    "AudioGenerationRequest",
    "BeamRule",
    "Chunk",
    "CodecStream",
    "ConfigError",
    "DeviceLost",
    "EmbeddingsGenerationOutput",
    "EmbeddingsGenerationRequest",
    "Failure",
    "FailureKind",
    "Feature",
    "GenerationStatistics",
    "GenerationStatus",
    "Hypothesis",
    "InvalidRequest",
    "Json",
    "LoRAOperation",
    "LoRARequest",
    "LoRAResponse",
    "LoRAStatus",
    "LogProbabilities",
    "MaxpipeError",
    "MediaContentPart",
    "MediaKind",
    "MessageRole",
    "NotServing",
    "Output",
    "Pipeline",
    "PipelineTask",
    "PromptReport",
    "PullQueue",
    "PushQueue",
    "RequestFailed",
    "RequestID",
    "RequestOptions",
    "SamplingParams",
    "SequenceStart",
    "SpeechEncoder",
    "StartFailed",
    "StreamPosition",
    "StreamStart",
    "TextContentPart",
    "TextGenerationOutput",
    "TextGenerationRequest",
    "TextGenerationRequestFunction",
    "TextGenerationRequestMessage",
    "TextGenerationRequestTool",
    "TextGenerationResponseFormat",
    "TokenConstraint",
    "TokenDelta",
    "TokenGenerator",
    "TokenTexts",
    "Tokenizer",
    "WireError",
    "WordTimestamp",
]


def test_the_public_names_are_these() -> None:
    assert max_interfaces.__all__ == PINNED


def test_they_are_sorted_and_exist() -> None:
    assert sorted(max_interfaces.__all__) == max_interfaces.__all__
    assert all(hasattr(max_interfaces, name) for name in max_interfaces.__all__)


def test_each_says_what_it_is() -> None:
    assert all(getattr(max_interfaces, name).__doc__ for name in max_interfaces.__all__)
