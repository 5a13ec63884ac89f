"""Which types are public, what they are made of, and which of their fields have no bound."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

import max_interfaces
from max_interfaces.arrays import ArrayOf


def public_dataclasses() -> list[type]:
    """Every dataclass that `max_interfaces` exports."""
    exported = [getattr(max_interfaces, name) for name in max_interfaces.__all__]
    return [kind for kind in exported if isinstance(kind, type) and dataclasses.is_dataclass(kind)]


def structs_of(module: types.ModuleType) -> list[type]:
    """Every Struct that a module, or a package below it, defines and exports."""
    return [kind for kind in vars(module).values() if _is_struct(kind) and kind.__module__.startswith(module.__name__)]


def parts_of(kinds: Iterable[Any]) -> list[type]:
    """The dataclasses and Structs among `kinds`, and all those in their fields."""
    found: dict[type, None] = {}
    waiting = list(kinds)
    while waiting:
        hint = waiting.pop(0)
        if _has_fields(hint) and hint not in found:
            found[hint] = None
            waiting += get_type_hints(hint, include_extras=True).values()
        waiting += [part for part in get_args(hint) if not isinstance(part, str)]
    return list(found)


def arrays_of(kind: type) -> list[ArrayOf]:
    """The bounds of all arrays in the fields of a dataclass or Struct."""
    found: list[ArrayOf] = []
    waiting: list[Any] = list(get_type_hints(kind, include_extras=True).values())
    while waiting:
        hint = waiting.pop()
        found += [part for part in get_args(hint) if isinstance(part, ArrayOf)]
        waiting += get_args(hint)
    return found


def unbounded_fields(kind: type) -> list[str]:
    """The fields, as `Class.field: what`, in which a value may be as long or as large as it likes."""
    hints = get_type_hints(kind, include_extras=True)
    names = [f.name for f in (msgspec.structs.fields(kind) if _is_struct(kind) else dataclasses.fields(kind))]
    return [f"{kind.__name__}.{name}: {what}" for name in names for what in _unbounded(hints[name], ())]


def _unbounded(hint: Any, bounds: tuple[Any, ...]) -> list[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _unbounded(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return [what for arm in arguments for what in _unbounded(arm, ())]
    metas = [bound for bound in bounds if isinstance(bound, msgspec.Meta)]
    if hint is int or hint is float:
        low = any(meta.ge is not None or meta.gt is not None for meta in metas)
        high = any(meta.le is not None or meta.lt is not None for meta in metas)
        return [] if low and high else [hint.__name__]
    if origin is np.ndarray:
        return [] if any(isinstance(bound, ArrayOf) for bound in bounds) else ["array"]
    if _is_finite(hint, origin):
        return []
    parts = [what for part in arguments if part is not Ellipsis for what in _unbounded(part, ())]
    if origin is tuple and Ellipsis not in arguments:
        return parts
    if origin in (tuple, list, frozenset, Mapping, dict, Sequence) or hint in (str, bytes):
        return parts if any(meta.max_length is not None for meta in metas) else [str(hint), *parts]
    return [f"{hint} is not known to have a bound"]


def _is_finite(hint: Any, origin: Any) -> bool:
    """Types that are finite, or that are walked for themselves (`parts_of`), or that never leave a process."""
    if origin is Literal or isinstance(hint, TypeVar) or hint in (bool, type(None), msgspec.UnsetType):
        return True
    if hint is memoryview:  # a part of a message, and no longer than that
        return True
    return _has_fields(hint) or (isinstance(hint, type) and (issubclass(hint, Enum) or Protocol in hint.__mro__))


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _has_fields(hint: Any) -> bool:
    return _is_struct(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint))
