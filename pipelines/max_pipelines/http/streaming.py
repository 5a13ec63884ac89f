"""Answers that end when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from .exchange import note_error
from .problems import HttpProblem, told

logger = logging.getLogger(__name__)


class Streamed:
    """An answer in pieces. What is known to be wrong before the first of them is a real status.

    `last_words` are sent for an error that comes later, where the format has a place for them; without that the
    connection is broken off, so that nobody takes half an answer for a whole one. As soon as the client is gone,
    `pieces` is closed.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        headers: Mapping[str, str] | None = None,
        last_words: Callable[[HttpProblem], bytes] | None = None,
    ) -> None:
        self._pieces = pieces
        self._headers = [(b"content-type", media_type.encode())]
        self._headers += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self._last_words = last_words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_present(receive, self._send(scope, receive, send))
        finally:
            await self._pieces.aclose()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            first = await anext(self._pieces, b"")
        except Exception as error:
            await told(error).response(scope["path"])(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await turn()
        except Exception as error:
            problem = told(error)
            if self._last_words is None:
                note_error(problem.kind)
                logger.warning("an answer is broken off: %s", problem.kind)
                return
            await send({"type": "http.response.body", "body": self._last_words(problem), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@types.coroutine
def turn() -> Generator[None, None, None]:
    """Let the loop's other work go on: neither pieces that are there nor a send that need not wait would."""
    yield


async def while_present(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do some work until it is done or the client has left."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not doing.done():
            doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
