"""Logits processors that are functions: known to the worker while a call runs, if it is a thread of this process."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .sampling import SamplingParams


@contextmanager
def registered(params: Sequence[SamplingParams], *, shared: bool) -> Iterator[dict[int, tuple[str, ...]]]:
    """The names of each parameters' processors, by its `id`. ValueError for a function that the worker cannot share."""
    from max_engines.processors import register, unregister  # torch takes seconds to import

    made: list[str] = []
    names: dict[int, tuple[str, ...]] = {}
    try:
        for one in params:
            own: list[str] = []
            for processor in one.logits_processors or ():
                if isinstance(processor, str):
                    own.append(processor)
                    continue
                if not shared:
                    raise ValueError(
                        "SamplingParams.logits_processors: a function needs the worker in this process; "
                        'make it LLM(…, transport="thread")'
                    )
                own.append(f"llm:{uuid.uuid4().hex}")
                register(own[-1], _with_prompt(processor))
                made.append(own[-1])
            names[id(one)] = tuple(own)
        yield names
    finally:
        for name in made:
            unregister(name)


def _with_prompt(processor: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM has two kinds: with the prompt's ids and without."""
    try:
        count = len(inspect.signature(processor).parameters)
    except (TypeError, ValueError):  # written in C
        count = 2
    if count >= 3:
        return lambda prompt, output, scores: processor(list(prompt), list(output), scores)
    return lambda prompt, output, scores: processor(list(output), scores)
