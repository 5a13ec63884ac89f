"""What a call's prompts came to: one that fails raises, of several each fails alone."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..many import WINDOW, Bar, run_all

ResultT = TypeVar("ResultT")


async def settled(
    jobs: Sequence[Callable[[], Awaitable[ResultT]]],
    single: bool,
    bar: Bar,
    measure: Callable[[ResultT], tuple[int, int]],
    window: int = WINDOW,
) -> list[ResultT | Exception]:
    """The results of all, in their order, or why there is none, of which a warning tells. A `single` one raises."""
    results = await run_all(jobs, bar, measure, "prompts", window)
    broken = [result for result in results if isinstance(result, Exception)]
    if single and broken:
        raise broken[0]
    if broken:
        warnings.warn(f"{len(broken)} of {len(jobs)} prompts failed: {broken[0]}", stacklevel=2)
    return results
