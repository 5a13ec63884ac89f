"""A worker dies while it tells of images: nobody who listens can tell."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

from max_interfaces import RequestID
from max_pipelines.client import AsyncClient
from tests.engines.tiny_processors import serving_checkpoint
from tests.faults.listening import busiest, workers_of
from tests.pipelines.processes import servers
from tests.pipelines.test_media_road import mixed, params


async def test_a_killed_worker_is_not_noticed(tmp_path: Path) -> None:
    config = serving_checkpoint(tmp_path, "llava", count=2)
    asked = [replace(one, sampling_params=params(max_new_tokens=150)) for one in mixed(3)]
    async with AsyncClient.embedded(config) as client:
        expected = [(await client.generate(replace(one, request_id=RequestID()))).tokens for one in asked]
        (server,) = servers()
        begun: list[asyncio.Event] = [asyncio.Event() for _ in asked]

        async def heard(number: int) -> tuple[int, ...]:
            tokens: tuple[int, ...] = ()
            async for output in client.stream(asked[number]):
                tokens += output.tokens
                begun[number].set()
            return tokens

        listening = [asyncio.ensure_future(heard(number)) for number in range(len(asked))]
        await asyncio.gather(*(event.wait() for event in begun))
        os.kill(workers_of(server)[await busiest(client)], signal.SIGKILL)
        assert await asyncio.gather(*listening) == expected
