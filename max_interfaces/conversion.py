"""How each value becomes what msgspec encodes, and back: worked out once a type, from the fields' annotations."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from .arrays import ArrayOf, freeze
from .bounds import Bounded
from .identity import RequestID
from .mirrors import ARRAY_FRAME_BYTES, UNIONS, ArrayMirror, mirrors, stand_in
from .per_type import PerType, values_of
from .values import FrozenMapping, Json

Frame: TypeAlias = bytes | memoryview
Write: TypeAlias = Callable[[Any, list[Frame]], Any]  # (value, frames to append to) -> what msgspec encodes
Read: TypeAlias = Callable[[Any, Sequence[Frame]], Any]  # (what msgspec decoded, all frames) -> value


class Conversion(NamedTuple):
    """There and back. `kind` is the type of the value, `mirror` the type of what msgspec decodes it to."""

    kind: type
    mirror: type
    write: Write
    read: Read


def _of_class(kind: type) -> Conversion:
    """A dataclass: field by field, None as it is, and nothing for a default that all instances share."""
    hints = get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    values = values_of([field.name for field in fields])
    mirror, make = mirrors[kind], unchecked(kind)
    writes: list[tuple[int, Write, object, object]] = []  # field, how, its default, what travels for that
    # field, how, what travels for its default, that or what makes it
    reads: list[tuple[int, Read, object, Any, bool]] = []
    for at, field in enumerate(fields):
        conversion = _of(hints[field.name], f"{kind.__name__}.{field.name}")
        if conversion is not None:
            writes.append((at, conversion.write, field.default, stand_in(field)))
            makes = field.default_factory is not dataclasses.MISSING
            default = field.default_factory if makes else field.default
            reads.append((at, conversion.read, stand_in(field), default, makes))
        elif stand_in(field) is msgspec.UNSET:
            raise TypeError(f"{kind.__name__}.{field.name}: the default {field.default!r} cannot travel")

    def write(value: Any, frames: list[Frame]) -> Any:
        given = list(values(value))
        for at, convert, default, instead in writes:
            if given[at] is default:
                given[at] = instead
            elif given[at] is not None:
                given[at] = convert(given[at], frames)
        return mirror(*given)

    def read(value: Any, frames: Sequence[Frame]) -> Any:
        given = list(msgspec.structs.astuple(value))
        for at, convert, instead, default, makes in reads:
            if given[at] is instead:
                given[at] = default() if makes else default
            elif given[at] is not None:
                given[at] = convert(given[at], frames)
        return make(given)

    return Conversion(kind, mirror, write, read)


conversions = PerType(_of_class)
"""`conversions[kind]` is the conversion of a dataclass."""


def unchecked(kind: type) -> Callable[[Sequence[Any]], Any]:
    """The constructor, from all fields in order.

    Fields of a Bounded class are not checked once more: msgspec has just decoded each by the same bounds, and `read`
    has frozen what msgspec does not. That is two thirds of the time of a chunk.
    """
    if not issubclass(kind, Bounded):
        return lambda values: kind(*values)
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]  # it is a dataclass
    setters = [getattr(kind, field.name).__set__ for field in fields]  # the slots
    has_rules = kind.check_rules is not Bounded.check_rules

    def make(values: Sequence[Any]) -> Any:
        instance: Any = object.__new__(kind)
        for setter, value in zip(setters, values, strict=True):
            setter(instance, value)
        if has_rules:
            instance.check_rules()
        return instance

    return make


def _of(hint: Any, where: str) -> Conversion | None:
    """The conversion for an annotation; None where msgspec takes and gives the value as it is."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        bound = next((extra for extra in extras if isinstance(extra, ArrayOf)), None)
        return _array(bound, where) if bound else _of(inner, where)
    if origin in UNIONS:
        return _union([arm for arm in get_args(hint) if arm is not type(None)], where)
    if origin is tuple:
        return _tuple(_of(get_args(hint)[0], where))
    if origin is Mapping:
        return _mapping(_of(get_args(hint)[1], where))
    if hint is RequestID or hint is Json:
        make = unchecked(hint)
        given = attrgetter(dataclasses.fields(hint)[0].name)
        return Conversion(hint, str, lambda value, frames: given(value), lambda text, frames: make((text,)))
    return conversions[hint] if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None


def _union(arms: list[Any], where: str) -> Conversion | None:
    """By the type of what is there: the field is known to hold one of the arms."""
    parts = [part for arm in arms if (part := _of(arm, where))]
    if len(arms) == 1 or not parts:
        return parts[0] if parts else None
    writes = {part.kind: part.write for part in parts}
    reads = {part.mirror: part.read for part in parts}

    def write(value: Any, frames: list[Frame]) -> Any:
        convert = writes.get(type(value))
        return convert(value, frames) if convert else value

    def read(value: Any, frames: Sequence[Frame]) -> Any:
        convert = reads.get(type(value))
        return convert(value, frames) if convert else value

    return Conversion(object, object, write, read)


def _tuple(item: Conversion | None) -> Conversion | None:
    if item is None:
        return None
    write_item, read_item = item.write, item.read
    return Conversion(
        tuple,
        tuple,
        lambda value, frames: tuple([write_item(part, frames) for part in value]),
        lambda value, frames: tuple([read_item(part, frames) for part in value]),
    )


def _mapping(item: Conversion | None) -> Conversion:
    if item is None:
        return Conversion(
            FrozenMapping, dict, lambda value, frames: dict(value), lambda value, frames: FrozenMapping(value)
        )
    write_item, read_item = item.write, item.read
    return Conversion(
        FrozenMapping,
        dict,
        lambda value, frames: {key: write_item(part, frames) for key, part in value.items()},
        lambda value, frames: FrozenMapping({key: read_item(part, frames) for key, part in value.items()}),
    )


def _array(bound: ArrayOf, where: str) -> Conversion:
    """An array travels as the dtype that its field is stored as, whatever it was before it came into the field.

    That floats are finite is checked where they are made, and not again here: it is the dearest step of a chunk's way
    to a reader that slept. Only outputs hold any (a test says so), and whoever sends those could send any other noise.
    """
    dtype = bound.dtype.newbyteorder("<")
    name, itemsize = dtype.str, dtype.itemsize
    ranged = bound.ge is not None or bound.le is not None

    def write(array: NDArray[Any], frames: list[Frame]) -> ArrayMirror:
        """Frozen arrays are contiguous already, and nearly everywhere little-endian."""
        little = array if sys.byteorder == "little" else array.astype(dtype)
        if little.nbytes < ARRAY_FRAME_BYTES:
            return ArrayMirror(name, little.shape, little.data)  # type: ignore[arg-type]
        frames.append(little.reshape(-1).view(np.uint8).data)
        return ArrayMirror(name, little.shape, len(frames) - 1)  # type: ignore[arg-type]

    def read(value: ArrayMirror, frames: Sequence[Frame]) -> NDArray[Any]:
        """A view into the message, which it keeps alive: a copy of each chunk would double the time of decoding it."""
        inline = isinstance(value.data, memoryview)
        data = memoryview(value.data if isinstance(value.data, memoryview) else _frame(frames, value.data))
        size = math.prod(value.shape)
        if value.dtype != name or len(value.shape) != bound.ndim or size > bound.max_size:
            raise ValueError(f"{where} of shape {value.shape} and dtype {value.dtype}")
        if data.nbytes != size * itemsize or (inline and data.nbytes > ARRAY_FRAME_BYTES):
            raise ValueError(f"{where} of shape {value.shape} and dtype {value.dtype} in {data.nbytes} bytes")
        array = np.frombuffer(data.toreadonly(), dtype)
        if sys.byteorder != "little":
            array = freeze(array, bound.dtype)
        if ranged:
            bound.check_range(where, array)
        return array if bound.ndim == 1 else array.reshape(value.shape)

    return Conversion(np.ndarray, ArrayMirror, write, read)


def _frame(frames: Sequence[Frame], index: int) -> Frame:
    if not 1 <= index < len(frames):
        raise ValueError(f"an array in frame {index} of {len(frames)}")
    return frames[index]
