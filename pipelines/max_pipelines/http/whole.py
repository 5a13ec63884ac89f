"""Answers that are sent when they are complete, and given up when the client leaves before."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .problems import told
from .streaming import while_present

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class WholeAnswer(NamedTuple):
    """JSON, and headers that go with it."""

    body: bytes
    headers: Mapping[str, str] = NO_HEADERS


class Whole:
    """An answer that is still being made. Its work is cancelled as soon as the client is gone."""

    def __init__(self, work: Coroutine[Any, Any, WholeAnswer]) -> None:
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_present(receive, self._answer(scope, receive, send))
        finally:
            self._work.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._work
        except Exception as error:
            response = told(error).response(scope["path"])
        else:
            response = Response(answer.body, headers=dict(answer.headers), media_type="application/json")
        await response(scope, receive, send)
