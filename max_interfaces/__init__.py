"""Typed requests, outputs and protocols of maxpipe. Needs numpy and msgspec, nothing else.

The names follow the published `max.interfaces` of MAX 25.7 to 26.3: code written for it moves over by changing an
import. See `protocols` for what makes maxpipe pluggable, `wire` for how these types travel.
"""

from __future__ import annotations

from .audio import (
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    StreamPosition,
    WordTimestamp,
)
from .embeddings import EmbeddingsGenerationOutput, EmbeddingsGenerationRequest
from .errors import (
    AdapterRefused,
    ConfigError,
    DeviceLost,
    InvalidRequest,
    MaxpipeError,
    NotServing,
    RequestFailed,
    StartFailed,
    WireError,
)
from .identity import RequestID
from .lora import LoRAOperation, LoRARequest, LoRAResponse, LoRAStatus
from .options import RequestOptions
from .protocols import (
    Adapters,
    Attempt,
    AudioCodec,
    Chunk,
    CodecStream,
    Feature,
    Hypothesis,
    Output,
    Pipeline,
    PromptReport,
    PullQueue,
    PushQueue,
    SequenceStart,
    SpeechEncoder,
    StreamStart,
    TokenConstraint,
    TokenDelta,
    TokenGenerator,
    Tokenizer,
)
from .sampling import BeamRule, SamplingParams
from .status import Failure, FailureKind, GenerationStatus, PipelineTask
from .text import (
    GenerationStatistics,
    LogProbabilities,
    MediaContentPart,
    MediaKind,
    MessageRole,
    TextContentPart,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestFunction,
    TextGenerationRequestMessage,
    TextGenerationRequestTool,
    TextGenerationResponseFormat,
    TokenTexts,
)
from .values import Json

__all__ = [
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
