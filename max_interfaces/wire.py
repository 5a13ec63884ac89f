"""Requests and outputs as bytes: one tagged msgspec Struct a type, built from the dataclass's own fields.

msgspec takes no union of dataclasses and accepts unknown fields in them, so each dataclass has a mirror: a Struct with
the same fields and the same bounds, that forbids unknown fields. Arrays of `ARRAY_FRAME_BYTES` and more travel as
frames of their own, without a copy; smaller ones inline. Nothing that executes is ever decoded.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .audio import AudioGenerationOutput, AudioGenerationRequest
from .bounds import ArrayOf
from .embeddings import EmbeddingsGenerationOutput, EmbeddingsGenerationRequest
from .errors import WireError
from .identity import MAX_ID_LENGTH, RequestID
from .lora import LoRARequest, LoRAResponse
from .per_type import PerType
from .text import TextGenerationOutput, TextGenerationRequest
from .values import MAX_JSON_LENGTH, Json

ARRAY_FRAME_BYTES = 64 * 1024  # below it one frame more costs more than the copy

Payload: TypeAlias = (
    AudioGenerationRequest
    | TextGenerationRequest
    | EmbeddingsGenerationRequest
    | LoRARequest
    | AudioGenerationOutput
    | TextGenerationOutput
    | EmbeddingsGenerationOutput
    | LoRAResponse
)
Frame: TypeAlias = bytes | memoryview
Dtype = Literal["<f4", "<f8", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1", "<f2"]


class ArrayMirror(msgspec.Struct, forbid_unknown_fields=True, array_like=True):
    """An array: its bytes inline, or the index of the frame that holds them."""

    dtype: Dtype
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=4)]
    data: memoryview | Annotated[int, Meta(ge=0, le=2**16)]


def encode_payload(items: Sequence[Payload]) -> list[Frame]:
    """The frames of some requests or outputs: one of msgpack, then one for each large array."""
    frames: list[Frame] = [b""]
    written = [_writers[type(item)](item, frames) for item in items]
    frames[0] = _encoder.encode(written)
    return frames


def decode_payload(frames: Sequence[Frame]) -> list[Payload]:
    """The requests or outputs in the frames. WireError for anything else, whatever the bytes."""
    if not frames:
        raise WireError("a message without its payload frame")
    try:
        decoded = _decoder().decode(frames[0])
        return [_readers[type(mirror)](mirror, frames) for mirror in decoded]
    except (ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors; nesting bombs are not
        raise WireError(f"payload refused: {problem}") from None


_encoder = msgspec.msgpack.Encoder()
MAX_ITEMS = 2**16


@cache
def _decoder() -> msgspec.msgpack.Decoder[Any]:
    union: Any = Union[tuple(mirrors[kind] for kind in get_args(Payload))]  # noqa: UP007
    return msgspec.msgpack.Decoder(Annotated[list[union], Meta(max_length=MAX_ITEMS)])


def _mirror(kind: type) -> type[msgspec.Struct]:
    hints = get_type_hints(kind, include_extras=True)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        annotation = _mirror_hint(hints[field.name])
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            fields.append((field.name, annotation))
        else:  # a default need not travel
            fields.append((field.name, annotation | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(
        kind.__name__ + "Mirror",
        fields,
        tag_field="$type",
        tag=kind.__name__,
        forbid_unknown_fields=True,
        kw_only=True,
        namespace={"stands_for": kind},
    )


mirrors = PerType(_mirror)
"""The Struct that stands for each dataclass on the wire: the same names and bounds, as `mirrors[kind]`."""


def _mirror_hint(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        if any(isinstance(extra, ArrayOf) for extra in extras):
            return ArrayMirror
        meta = next((extra for extra in extras if isinstance(extra, Meta)), None)
        return Annotated[_mirror_hint(inner), meta] if meta else _mirror_hint(inner)
    if origin in (Union, types.UnionType):
        return Union[tuple(_mirror_hint(arm) for arm in get_args(hint))]  # noqa: UP007
    if origin is tuple:
        return tuple.__class_getitem__((_mirror_hint(get_args(hint)[0]), ...))
    if origin is Mapping:
        key, value = get_args(hint)
        return dict.__class_getitem__((_mirror_hint(key), _mirror_hint(value)))
    if hint is RequestID:
        return Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    if hint is Json:
        return Annotated[str, Meta(max_length=MAX_JSON_LENGTH)]
    return mirrors[hint] if dataclasses.is_dataclass(hint) and isinstance(hint, type) else hint


Writer = Callable[[Any, list[Frame]], Any]  # (value, frames to append to) -> what msgspec encodes
Reader = Callable[[Any, Sequence[Frame]], Any]  # (what msgspec decoded, all frames) -> value


def _writer(kind: type) -> Writer:
    mirror = mirrors[kind]
    defaults = _cheap_defaults(kind)
    names = [field.name for field in dataclasses.fields(kind)]

    def write(value: Any, frames: list[Frame]) -> Any:
        given = {}
        for name in names:
            part = getattr(value, name)
            if name in defaults and type(part) is type(defaults[name]) and part == defaults[name]:
                continue
            given[name] = _write(part, frames)
        return mirror(**given)

    return write


_writers = PerType(_writer)


def _cheap_defaults(kind: type) -> dict[str, Any]:
    """Plain defaults, which need not travel. A default that a factory makes always travels."""
    return {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}


def _write(value: Any, frames: list[Frame]) -> Any:
    if value is None or isinstance(value, bool | int | float | str | bytes | Enum):
        return value
    if isinstance(value, np.ndarray):
        return _write_array(value, frames)
    if isinstance(value, RequestID):
        return value.value
    if isinstance(value, Json):
        return value.text
    if isinstance(value, tuple):
        return value if not value or isinstance(value[0], int) else tuple(_write(part, frames) for part in value)
    if isinstance(value, Mapping):
        return {key: _write(part, frames) for key, part in value.items()}
    return _writers[type(value)](value, frames)


def _write_array(array: NDArray[Any], frames: list[Frame]) -> ArrayMirror:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    view = memoryview(little.reshape(-1).view(np.uint8).data)  # a view of bytes also of an empty array
    if view.nbytes < ARRAY_FRAME_BYTES:
        return ArrayMirror(little.dtype.str, array.shape, view)  # type: ignore[arg-type]
    frames.append(view)
    return ArrayMirror(little.dtype.str, array.shape, len(frames) - 1)  # type: ignore[arg-type]


def _reader_of(mirror: type) -> Reader:
    kind: type = mirror.stands_for  # type: ignore[attr-defined]
    hints = get_type_hints(kind, include_extras=True)
    readers = [(field.name, _reader(hints[field.name])) for field in dataclasses.fields(kind)]

    def read(value: Any, frames: Sequence[Frame]) -> Any:
        given = {}
        for name, reader in readers:
            part = getattr(value, name)
            if part is not msgspec.UNSET:
                given[name] = reader(part, frames) if reader else part
        return kind(**given)

    return read


_readers = PerType(_reader_of)


def _reader(hint: Any) -> Reader | None:
    """How to turn a decoded field back; None where it is already what the constructor takes."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _reader(get_args(hint)[0]) if not _is_array(hint) else _read_array
    if origin in (Union, types.UnionType):
        arms = [arm for arm in get_args(hint) if arm is not type(None)]
        readers = [reader for reader in map(_reader, arms) if reader]
        return _optional(readers[0]) if readers and len(arms) == 1 else _read_any if readers else None
    if origin is tuple:
        return _read_any if _reader(get_args(hint)[0]) else None
    if origin is Mapping:
        return _read_any if _reader(get_args(hint)[1]) else None
    if hint is RequestID:
        return lambda value, frames: RequestID(value)
    if hint is Json:
        return lambda value, frames: Json(value)
    return _read_any if dataclasses.is_dataclass(hint) else None


def _optional(reader: Reader) -> Reader:
    return lambda value, frames: None if value is None else reader(value, frames)


def _is_array(hint: Any) -> bool:
    return any(isinstance(extra, ArrayOf) for extra in get_args(hint)[1:])


def _read_any(value: Any, frames: Sequence[Frame]) -> Any:
    """Read by what msgspec made of it: it has already checked that the field may hold this."""
    if isinstance(value, ArrayMirror):
        return _read_array(value, frames)
    if isinstance(value, msgspec.Struct):
        return _readers[type(value)](value, frames)
    if isinstance(value, tuple):
        return tuple(_read_any(part, frames) for part in value)
    if isinstance(value, dict):
        return {key: _read_any(part, frames) for key, part in value.items()}
    return value


def _read_array(value: ArrayMirror, frames: Sequence[Frame]) -> NDArray[Any]:
    data: Frame = value.data if isinstance(value.data, memoryview) else _frame(frames, value.data)
    dtype = np.dtype(value.dtype)
    if len(data) != math.prod(value.shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {value.shape} and dtype {value.dtype} in {len(data)} bytes")
    array = np.frombuffer(data, dtype=dtype).reshape(value.shape)
    array.flags.writeable = False
    return array


def _frame(frames: Sequence[Frame], index: int) -> Frame:
    if not 1 <= index < len(frames):
        raise ValueError(f"an array in frame {index} of {len(frames)}")
    return frames[index]
