"""The outputs of several requests, as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from max_interfaces import TextGenerationOutput, TextGenerationRequest

from ..face import Face
from ..text_outputs import text_outputs

Numbered = tuple[int, TextGenerationOutput]
AHEAD = 2  # outputs of each request that may wait to be sent: what is not read, the road holds back itself


async def outputs_of(face: Face, requests: Sequence[TextGenerationRequest]) -> AsyncGenerator[Numbered, None]:
    """Each output with the number of its request. When one of them fails, or the reader leaves, all end."""
    if len(requests) == 1:  # nearly always
        async with contextlib.aclosing(text_outputs(face, requests[0])) as outputs:
            async for output in outputs:
                yield 0, output
        return
    arrived: asyncio.Queue[Numbered | Exception | None] = asyncio.Queue(AHEAD * len(requests))
    readers = [asyncio.ensure_future(_read(face, number, request, arrived)) for number, request in enumerate(requests)]
    try:
        running = len(readers)
        while running:
            item = await arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read(
    face: Face, number: int, request: TextGenerationRequest, arrived: asyncio.Queue[Numbered | Exception | None]
) -> None:
    try:
        async with contextlib.aclosing(text_outputs(face, request)) as outputs:
            async for output in outputs:
                await arrived.put((number, output))
    except Exception as problem:
        await arrived.put(problem)
    else:
        await arrived.put(None)
