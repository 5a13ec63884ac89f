"""Callers as they are: fast and slow, patient and not. What became of each request is counted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

from max_interfaces import AudioGenerationOutput, FailureKind, RequestFailed, RequestOptions
from max_interfaces.wire import AnyOutput, AnyRequest

from ..client import AsyncClient
from .asking import random_request
from .waiting import happens

CLIENTS, CALLERS = 4, 4  # so many connections, and so many that use each
THINK_S = 0.1  # at most, between two requests of a caller
PAUSES_S = (0.0, 0.0, 0.005, 0.05)  # of readers, after each output
ABORTED, MOST_OUTPUTS = 0.4, 40  # the share of requests that are left, and after how many outputs at most
HURRIED, HURRY_S = 0.1, 0.5  # the share of requests with a deadline that most miss
DEADLINE_S = 600.0
PATIENCE_S = 120.0  # for the next output: who waits longer has lost his request
MOST_TOLD = 20  # lost requests that are described
EXPECTED = frozenset({FailureKind.OVERLOADED, FailureKind.CANCELLED})  # and a missed deadline of who was in a hurry


class Load:
    """`run` makes some for a time. `ends` counts how requests ended, `lost` says which did not as they should."""

    def __init__(
        self, connect: Callable[[], AsyncClient], chance: random.Random, patience_s: float = PATIENCE_S
    ) -> None:
        self._connect = connect
        self._chance = chance
        self._patience_s = patience_s
        self._over = asyncio.Event()
        self.ends: Counter[str] = Counter()
        self.lost: list[str] = []

    async def run(self, seconds: float) -> None:
        """Clients come, call and leave; returns once all have left."""
        self._over = asyncio.Event()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._connect()) for _ in range(CLIENTS)]
            timer = asyncio.get_running_loop().call_later(seconds, self._over.set)
            try:
                await asyncio.gather(*(self._call(client) for client in clients for _ in range(CALLERS)))
            finally:
                timer.cancel()

    async def _call(self, client: AsyncClient) -> None:
        while not self._over.is_set():
            await self._request(client)
            await self._pause(self._chance.random() * THINK_S)

    async def _request(self, client: AsyncClient) -> None:
        request = random_request(client.model(), self._chance)
        hurried = self._chance.random() < HURRIED
        options = RequestOptions(deadline_s=(0.01 + self._chance.random()) * HURRY_S if hurried else DEADLINE_S)
        try:
            async with aclosing(client.stream(request, options)) as stream:
                end = await self._read(client, request, stream)
        except RequestFailed as problem:
            end = problem.failure.kind.value
            if problem.failure.kind not in EXPECTED and not (end == FailureKind.DEADLINE_EXCEEDED and hurried):
                self._lose(request, str(problem))
        except TimeoutError:
            end = "no answer"
            self._lose(request, f"nothing came for {self._patience_s:g} s")
        self.ends[end] += 1

    async def _read(self, client: AsyncClient, request: AnyRequest, stream: AsyncIterator[AnyOutput]) -> str:
        """How the stream ended."""
        chance = self._chance
        # As often among the first six outputs as after them: many answers are short.
        leaves = int(MOST_OUTPUTS ** chance.random()) - 1 if chance.random() < ABORTED else -1
        asks, pause_s = chance.random() < 0.5, chance.choice(PAUSES_S)
        count, asked = 0, False
        while True:
            output = await asyncio.wait_for(anext(stream, None), self._patience_s)
            if output is None:
                self._lose(request, "its outputs ended without an end")
                return "no end"
            if output.is_done:
                return output.final_status.value
            if isinstance(output, AudioGenerationOutput) and output.metadata.chunk_id not in (None, count):
                self._lose(request, f"output {output.metadata.chunk_id} came where {count} was due")
                return "out of order"
            count += 1
            if not asked and (count > leaves >= 0 or self._over.is_set()):
                if not asks:
                    return "left"
                client.cancel(request.request_id)
                asked = True
            await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        """Let time pass, but not beyond the end of the load."""
        if seconds:
            await happens(self._over, seconds)

    def _lose(self, request: AnyRequest, why: str) -> None:
        if len(self.lost) < MOST_TOLD:
            self.lost.append(f"request {request.request_id}: {why}")
