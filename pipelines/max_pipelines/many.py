"""Many requests of one call at once: in a window, with a progress bar, each failing alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from tqdm import tqdm

from max_interfaces import FailureKind, InvalidRequest, RequestFailed, RequestOptions

from .client.gathering import gathered

NO_DEADLINE = RequestOptions(deadline_s=86_400.0)  # a batch takes as long as it takes; the most that there is
WINDOW = 256  # requests on their way at once: enough for any batch, and few beside what a server takes
ResultT = TypeVar("ResultT")
Bar: TypeAlias = bool | Callable[..., "tqdm[object]"]


async def run_all(
    jobs: Sequence[Callable[[], Awaitable[ResultT]]],
    bar: Bar,
    measure: Callable[[ResultT], tuple[int, int]],
    what: str,
    window: int = WINDOW,
) -> list[ResultT | Exception]:
    """The result of each job, in their order, or why there is none. Cancelled, it cancels them all.

    `measure` counts the tokens that a result has read and written, for the bar; `window` are at work at once.
    """
    with _Progress(len(jobs), bar, what) as progress:

        async def run(job: Callable[[], Awaitable[ResultT]]) -> ResultT | Exception:
            try:
                result = await job()
            except (RequestFailed, ValueError) as problem:
                progress.advance(0, 0)
                return as_asked(problem)
            progress.advance(*measure(result))
            return result

        return await gathered([partial(run, job) for job in jobs], window)


def as_asked(problem: Exception) -> Exception:
    """What could never be served is a ValueError, as in vLLM."""
    if isinstance(problem, RequestFailed) and problem.failure.kind is FailureKind.INVALID_REQUEST:
        return InvalidRequest(problem.failure.message)
    return problem


class _Progress:
    """A bar of finished prompts, with the speeds of reading and writing."""

    def __init__(self, total: int, bar: Bar, what: str) -> None:
        make = bar if callable(bar) else tqdm
        self._bar = make(total=total, desc=f"Processed {what}", dynamic_ncols=True, disable=not bar)
        self._read = self._written = 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, read: int, written: int) -> None:
        self._read += read
        self._written += written
        if not self._bar.disable:
            seconds = max(1e-6, self._bar.format_dict["elapsed"])
            speeds = f"input: {self._read / seconds:.2f} toks/s, output: {self._written / seconds:.2f} toks/s"
            self._bar.set_postfix_str(speeds, refresh=False)
        self._bar.update(1)
