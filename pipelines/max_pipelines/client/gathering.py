"""Many jobs at once, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def gathered(jobs: Sequence[Callable[[], Awaitable[ResultT]]], window: int) -> list[ResultT]:
    """The results of all jobs, in their order. When one fails, or the caller leaves, all end; raises what it raised."""
    room = asyncio.Semaphore(window)

    async def run(job: Callable[[], Awaitable[ResultT]]) -> ResultT:
        async with room:
            return await job()

    tasks = [asyncio.ensure_future(run(job)) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
