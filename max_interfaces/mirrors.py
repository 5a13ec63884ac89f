"""The Struct that stands for each dataclass on the wire: the same fields, bounds and defaults.

msgspec takes no union of dataclasses and accepts unknown fields in them, so each dataclass has a mirror that
forbids unknown fields and is told apart by a tag. A default need not travel.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from .arrays import ArrayOf
from .identity import MAX_ID_LENGTH, RequestID
from .per_type import PerType
from .values import MAX_JSON_LENGTH, Json

Dtype = Literal["<f4", "<i8", "|u1"]  # what array fields are stored as
UNIONS = (Union, types.UnionType)
ARRAY_FRAME_BYTES = 64 * 1024  # from here on a frame more costs less than the copy


class ArrayMirror(msgspec.Struct, forbid_unknown_fields=True, array_like=True, gc=False):
    """An array: its bytes inline, or the index of the frame that holds them."""

    dtype: Dtype
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=4)]
    data: memoryview | Annotated[int, Meta(ge=0, le=2**16)]


def stand_in(field: dataclasses.Field[Any]) -> object:
    """What travels for a field's default: a plain one as it is, else UNSET; MISSING for a field without one."""
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return dataclasses.MISSING
    plain = field.default is None or isinstance(field.default, bool | int | float | str | tuple)
    return field.default if plain else msgspec.UNSET


def _mirror(kind: type) -> type[msgspec.Struct]:
    hints = get_type_hints(kind, include_extras=True)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        annotation, default = mirrored(hints[field.name]), stand_in(field)
        if default is dataclasses.MISSING:
            fields.append((field.name, annotation))
        elif default is msgspec.UNSET:
            fields.append((field.name, annotation | msgspec.UnsetType, default))
        else:
            fields.append((field.name, annotation, default))
    return msgspec.defstruct(
        kind.__name__ + "Mirror",
        fields,
        tag_field="$type",
        tag=kind.__name__,
        forbid_unknown_fields=True,
        omit_defaults=True,
        gc=False,  # it lives for one message and holds no cycle
    )


mirrors = PerType(_mirror)
"""`mirrors[kind]` is the Struct of a dataclass."""


def mirrored(hint: Any) -> Any:
    """The annotation by which msgspec decodes what a field of this annotation holds."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        if any(isinstance(extra, ArrayOf) for extra in extras):
            return ArrayMirror
        meta = next((extra for extra in extras if isinstance(extra, Meta)), None)
        return Annotated[mirrored(inner), meta] if meta else mirrored(inner)
    if origin in UNIONS:
        return Union[tuple(mirrored(arm) for arm in get_args(hint))]  # noqa: UP007
    if origin is tuple:
        return tuple.__class_getitem__((mirrored(get_args(hint)[0]), ...))
    if origin is Mapping:
        key, value = get_args(hint)
        return dict.__class_getitem__((mirrored(key), mirrored(value)))
    if hint is RequestID:
        return Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    if hint is Json:
        return Annotated[str, Meta(max_length=MAX_JSON_LENGTH)]
    return mirrors[hint] if dataclasses.is_dataclass(hint) and isinstance(hint, type) else hint
