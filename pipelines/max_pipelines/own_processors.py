"""Logits processors that are functions: known to a worker that is a thread of this process, while a call runs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from max_engines.processors import LogitsProcessor

Given: TypeAlias = "str | Callable[..., Any]"


@contextmanager
def registered(
    given: Sequence[Given], adapted: Callable[[Callable[..., Any]], LogitsProcessor], *, shared: bool
) -> Iterator[tuple[str, ...]]:
    """The names of some processors; `adapted` makes of the caller's kind of function ours.

    ValueError for a function if the worker is not `shared`, a thread of this process.
    """
    if not any(callable(one) for one in given):
        yield tuple(str(one) for one in given)
        return
    if not shared:
        raise ValueError('logits_processors: a function needs the worker in this process; give transport="thread"')
    from max_engines.processors import register, unregister  # torch takes seconds to import

    made: list[str] = []
    names: list[str] = []
    try:
        for one in given:
            if isinstance(one, str):
                names.append(one)
                continue
            names.append(f"own:{uuid.uuid4().hex}")
            register(names[-1], adapted(one))
            made.append(names[-1])
        yield tuple(names)
    finally:
        for name in made:
            unregister(name)
