"""How far a request is, what kind of work it asks for, and why it failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from .bounds import Bounded


class GenerationStatus(StrEnum):
    """Where a request stands. Every member but ACTIVE is final."""

    ACTIVE = "active"
    END_OF_SEQUENCE = "end_of_sequence"
    MAXIMUM_LENGTH = "maximum_length"
    STOP_SEQUENCE = "stop_sequence"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"

    @property
    def is_done(self) -> bool:
        """True when nothing more will come."""
        return self is not GenerationStatus.ACTIVE


class PipelineTask(StrEnum):
    """The kind of work a pipeline does; names as in MAX."""

    TEXT_GENERATION = "text_generation"
    EMBEDDINGS_GENERATION = "embeddings_generation"
    AUDIO_GENERATION = "audio_generation"
    SPEECH_TOKEN_GENERATION = "speech_token_generation"


class FailureKind(StrEnum):
    """Why a request failed, in words that a program can branch on."""

    INVALID_REQUEST = "invalid_request"
    UNKNOWN_MODEL = "unknown_model"
    DUPLICATE_ID = "duplicate_id"
    OVERLOADED = "overloaded"
    WORKER_DIED = "worker_died"
    WORKER_ERROR = "worker_error"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    SHUTTING_DOWN = "shutting_down"
    CONNECTION_LOST = "connection_lost"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Failure(Bounded):
    """The reason that rides on a terminal output. `retry_after` is in seconds, None when a retry is no use."""

    kind: FailureKind
    message: Annotated[str, Meta(max_length=4096)]
    retry_after: Annotated[float, Meta(ge=0, le=3600)] | None = None
