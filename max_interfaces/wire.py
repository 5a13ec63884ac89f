"""Requests and outputs as bytes.

One tagged msgspec Struct a type (`mirrors`), built from the dataclass's own fields and bounds. Arrays of 64 KiB and
more travel as frames of their own, without a copy; smaller ones inline. Nothing that executes is ever decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, TypeAlias, Union, get_args

import msgspec
from msgspec import Meta

from .audio import AudioGenerationOutput, AudioGenerationRequest
from .conversion import Frame, Read, Write, conversions
from .embeddings import EmbeddingsGenerationOutput, EmbeddingsGenerationRequest
from .errors import WireError
from .lora import LoRARequest, LoRAResponse
from .mirrors import ARRAY_FRAME_BYTES, mirrors
from .per_type import PerType
from .problems import told
from .text import TextGenerationOutput, TextGenerationRequest

__all__ = [
    "ARRAY_FRAME_BYTES",
    "MAX_ITEMS",
    "AnyOutput",
    "AnyRequest",
    "Frame",
    "Payload",
    "decode_outputs",
    "decode_payload",
    "decode_request",
    "encode_payload",
]

MAX_ITEMS = 2**16

AnyRequest: TypeAlias = AudioGenerationRequest | TextGenerationRequest | EmbeddingsGenerationRequest
AnyOutput: TypeAlias = AudioGenerationOutput | TextGenerationOutput | EmbeddingsGenerationOutput
Payload: TypeAlias = AnyRequest | AnyOutput | LoRARequest | LoRAResponse
_REQUESTS, _OUTPUTS, _PAYLOADS = get_args(AnyRequest), get_args(AnyOutput), get_args(Payload)


def encode_payload(items: Sequence[Payload]) -> list[Frame]:
    """The frames of some requests or outputs: one of msgpack, then one for each large array."""
    frames: list[Frame] = [b""]
    written = []
    for item in items:  # no comprehensions on this road: in Python 3.11 each is a call, dear where caches are cold
        written.append(_writers[type(item)](item, frames))
    frames[0] = _encoder.encode(written)
    return frames


def decode_payload(frames: Sequence[Frame]) -> list[Payload]:
    """The requests or outputs in the frames. WireError for anything else, whatever the bytes."""
    payload: list[Payload] = _decoded(frames, _PAYLOADS, MAX_ITEMS)
    return payload


def decode_request(frames: Sequence[Frame]) -> AnyRequest:
    """The same where there is to be one request. Who takes them from strangers looks at nothing else.

    To decode outputs may take 192 bytes for each of theirs, many requests 30, and one request 25.
    """
    if len(requests := _decoded(frames, _REQUESTS, 1)) != 1:
        raise WireError("payload refused: it holds no request")
    request: AnyRequest = requests[0]
    return request


def decode_outputs(frames: Sequence[Frame]) -> list[AnyOutput]:
    """The same where there are to be outputs alone."""
    outputs: list[AnyOutput] = _decoded(frames, _OUTPUTS, MAX_ITEMS)
    return outputs


def _decoded(frames: Sequence[Frame], kinds: tuple[type, ...], most: int) -> list[Any]:
    if not frames:
        raise WireError("a message without its payload frame")
    try:
        items: list[Any] = _decoder(kinds, most).decode(frames[0])
        readers = _readers()
        for at, mirror in enumerate(items):
            items[at] = readers[type(mirror)](mirror, frames)
        return items
    except (ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors; nesting bombs are not
        raise WireError(f"payload refused: {told(problem)}") from None


_encoder = msgspec.msgpack.Encoder()


def _writer(kind: type) -> Write:
    if kind not in _PAYLOADS:
        raise TypeError(f"{kind.__name__} is no request or output")
    return conversions[kind].write


_writers = PerType(_writer)


@cache
def _decoder(kinds: tuple[type, ...], most: int) -> msgspec.msgpack.Decoder[Any]:
    union: Any = Union[tuple(mirrors[kind] for kind in kinds)]  # noqa: UP007
    return msgspec.msgpack.Decoder(Annotated[list[union], Meta(max_length=most)])


@cache
def _readers() -> dict[type, Read]:
    return {mirrors[kind]: conversions[kind].read for kind in _PAYLOADS}
