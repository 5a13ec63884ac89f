"""From a `kind` in YAML to the function that builds it: our own by name, a third party's by its entry point."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeAlias, TypeVar

from max_interfaces import ConfigError

from .config import Config

BuiltT = TypeVar("BuiltT")
Factory: TypeAlias = Callable[[Config], BuiltT]


def find_point(key: str, kind: str, built_in: Mapping[str, str], group: str) -> EntryPoint:
    """Where the factory of `kind` is: what `built_in` names as `module:function`, or else an entry point of `group`.

    `key` is where in YAML the kind stands. ConfigError, with the nearest name, for a kind that nobody provides.
    """
    known = {point.name: point for point in entry_points(group=group)}
    known |= {name: EntryPoint(name, value, group) for name, value in built_in.items()}
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(sorted(known))}"
        raise ConfigError(f"{key}: no {key.partition('.')[0]} `{kind}` is installed; {hint}")
    return known[kind]


def find_factory(key: str, kind: str, built_in: Mapping[str, str], group: str) -> Factory[BuiltT]:
    """The factory of `kind`, imported; parameters and errors are those of `find_point`."""
    factory: Factory[BuiltT] = find_point(key, kind, built_in, group).load()
    return factory
