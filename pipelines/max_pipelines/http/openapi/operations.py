"""What can be asked for: one operation a path and method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from max_codecs.sound.formats import FORMATS
from max_interfaces.values import JsonValue

from .. import sse
from ..adapters import AdapterAnswer, LoadBody, UnloadBody
from ..captioned import LINES, Captioned, CaptionedBody
from ..health import Status
from ..metrics import MIME as METRICS
from ..openai.chat_body import ChatBody
from ..openai.completions_body import CompletionBody
from ..openai.embeddings import EmbeddingsAnswer, EmbeddingsBody
from ..speech_body import SpeechBody
from ..text_generation.answer import Answer
from ..text_generation.parameters import Asked
from ..text_generation.tokenize import Source, SourceToken, TokenizedChat

Content: TypeAlias = Mapping[str, object]  # media type -> Struct, or a schema written by hand
JSON, PLAIN, HTML = "application/json", "text/plain", "text/html"
TEXT: JsonValue = {"type": "string"}
OBJECT: JsonValue = {"type": "object"}
BYTES: JsonValue = {"type": "string", "format": "binary"}
SOUND: Content = MappingProxyType({form.mime: BYTES for form in FORMATS.values()})
# Of each event: OpenAPI 3.1 has no word for a stream of them.
EVENT: JsonValue = {"type": "object", "required": ["data"], "properties": {"data": TEXT}}
EVENTS: Content = MappingProxyType({sse.MIME: EVENT})
NOTHING: Content = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to ask for. `query` are names of its parameters with their schemas, `refused` statuses of its own."""

    method: str
    path: str
    summary: str
    answers: Content
    body: Any = None
    query: tuple[tuple[str, JsonValue], ...] = ()
    refused: tuple[str, ...] = ()
    form: JsonValue = None  # the schema of a body that is a form with files


ANSWERED = {JSON: Answer, **EVENTS}
LISTED = {JSON: list[Answer], **EVENTS, **SOUND}
CHOSEN: JsonValue = {  # its choices are of several types, which only the path tells apart
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "system_fingerprint"],
    "properties": {
        "id": TEXT,
        "object": TEXT,
        "created": {"type": "integer"},
        "model": TEXT,
        "choices": {"type": "array"},
    },
}
CHAT = {JSON: CHOSEN, **EVENTS}
ADAPTED = {JSON: AdapterAnswer}
OF_ADAPTERS = ("409", "501")
OF_VOICES = ("422", "501")
NEW_VOICE: JsonValue = {
    "type": "object",
    "required": ["audio_sample", "name", "consent", "ref_text"],
    "properties": {"audio_sample": BYTES, "name": TEXT, "consent": TEXT, "ref_text": TEXT},
}

OPERATIONS = (
    Operation("post", "/v1/audio/speech", "A text, spoken", {**SOUND, **EVENTS}, SpeechBody),
    Operation("get", "/v1/audio/voices", "The voices", {JSON: OBJECT}, query=(("legacy", {"type": "boolean"}),)),
    Operation("post", "/v1/audio/voices", "Add a voice", {JSON: OBJECT}, refused=OF_ADAPTERS, form=NEW_VOICE),
    Operation("delete", "/v1/audio/voices/{name}", "Remove a voice that was added", {JSON: OBJECT}, refused=OF_VOICES),
    Operation(
        "post",
        "/dev/captioned_speech",
        "The same, with its words' times",
        {JSON: Captioned, LINES: TEXT},
        CaptionedBody,
    ),
    Operation("post", "/v1/chat/completions", "An answer in a chat", CHAT, ChatBody),
    Operation("post", "/v1/completions", "How a text goes on", CHAT, CompletionBody),
    Operation("post", "/v1/embeddings", "The vectors of texts", {JSON: EmbeddingsAnswer}, EmbeddingsBody),
    Operation("post", "/models/{name}/v1/embeddings", "The same, of a model", {JSON: EmbeddingsAnswer}, EmbeddingsBody),
    Operation("post", "/models/{name}/v1/chat/completions", "The same, of a model", CHAT, ChatBody),
    Operation("post", "/models/{name}/v1/completions", "The same, of a model", CHAT, CompletionBody),
    Operation("post", "/v1/load_lora_adapter", "Load an adapter", ADAPTED, LoadBody, refused=OF_ADAPTERS),
    Operation("post", "/v1/unload_lora_adapter", "Unload an adapter", ADAPTED, UnloadBody, refused=OF_ADAPTERS),
    Operation("get", "/v1/models", "What is served", {JSON: OBJECT}),
    Operation("get", "/v1/models/{name}", "One served model", {JSON: OBJECT}),
    Operation("post", "/", "How a text goes on, or its sound, as the hosted API has it", LISTED, Asked),
    Operation("post", "/models/{name}", "The same, of a model", LISTED, Asked),
    Operation("post", "/generate", "How a text goes on", ANSWERED, Asked),
    Operation("post", "/generate_stream", "The same, in events", EVENTS, Asked),
    Operation("post", "/tokenize", "The tokens of a text", {JSON: list[SourceToken]}, Source),
    Operation("post", "/chat_tokenize", "The tokens of a chat", {JSON: TokenizedChat}, ChatBody),
    Operation("get", "/info", "What is served, and within what limits", {JSON: OBJECT}),
    Operation("get", "/health", "This process lives", NOTHING),
    Operation("get", "/ready", "A request would be served", {JSON: OBJECT}),
    Operation("get", "/metrics", "Numbers, for Prometheus", {METRICS: TEXT}),
    Operation("get", "/status", "Numbers of the server and its workers", {JSON: Status}),
    Operation("get", "/", "The page", {HTML: TEXT}),
    Operation("get", "/openapi.json", "This document", {JSON: OBJECT}),
)
