"""Running a command's coroutine so that signals end it tidily."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")
ENDING = (signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """`asyncio.run`. SIGTERM and SIGHUP cancel the work, as SIGINT does, and end in SystemExit(128 + number).

    A handler that raises is no way: where Python ignores exceptions, as in some callbacks of an import, the signal
    would be lost. And a server that the same signal has ended is no reason to say that it failed.
    """
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        return asyncio.run(_heeding(work, came))
    except (Exception, asyncio.CancelledError):
        if came:
            raise SystemExit(128 + came[0]) from None
        raise
    finally:
        for number, handler in handlers.items():  # the loop has put the system's there, which tidies nothing up
            if handler is not None:
                signal.signal(number, handler)


async def _heeding(work: Coroutine[Any, Any, ResultT], came: list[int]) -> ResultT:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end(number: int) -> None:
        if not came and task is not None:  # one that comes while it tidies up changes nothing
            task.cancel()
        came.append(number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is below nohup
            loop.add_signal_handler(number, end, number)
    return await work
