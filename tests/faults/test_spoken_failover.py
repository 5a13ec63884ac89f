"""A worker is killed in the middle of a text's sound: who reads and listens cannot tell."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from max_interfaces import RequestID, SamplingParams, TextGenerationRequest
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, Limits, PipelineConfig
from tests.engines.tiny_processors import save_speaking, serving
from tests.faults.listening import standby_is_ready, workers_of
from tests.pipelines.processes import servers

TEXTS = ((1, "Chelsie"), (2, "Ethan"), (14, "Ethan"), (0, None))  # with these seeds the talker says much
TOKENS = 40
OPTIONS: dict[str, Any] = {"temperature": 3, "top_p": 1.0, "steps": 4}


@dataclass
class Heard:
    """What came of one text."""

    tokens: tuple[int, ...] = ()
    text: str = ""
    sound: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def samples(self) -> NDArray[np.float32]:
        """All of its sound."""
        return np.concatenate([np.zeros(0, np.float32), *self.sound])


class Listeners:
    """Ask for a text in each voice, and for one that is not spoken, and can wait until sound has come."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._news = asyncio.Event()
        self._ended = False
        self._heard = [Heard() for _ in TEXTS]

    async def all(self) -> list[Heard]:
        """Everything, to its end."""
        asked = (self._listen(heard, *text) for heard, text in zip(self._heard, TEXTS, strict=True))
        try:
            await asyncio.gather(*asked)
        finally:
            self._ended = True
            self._news.set()
        return self._heard

    async def until(self, pieces: int) -> None:
        """Return when each spoken text has had so many pieces of its sound, or all is over."""
        while not self._ended and min(len(heard.sound) for heard in spoken(self._heard)) < pieces:
            self._news.clear()
            await self._news.wait()

    async def _listen(self, heard: Heard, seed: int, voice: str | None) -> None:
        params = SamplingParams(temperature=1.0, max_new_tokens=TOKENS, ignore_eos=True, seed=seed)
        prompt = f"{seed}: the quick brown fox"
        request = TextGenerationRequest(RequestID(), "tiny", prompt, sampling_params=params, voice=voice)
        async for output in self._client.stream(request):
            heard.tokens += output.tokens
            heard.text += output.text
            if output.audio_data is not None and output.audio_data.size:
                heard.sound.append(output.audio_data)
            self._news.set()


def spoken(heard: list[Heard]) -> list[Heard]:
    """Those of texts with a voice."""
    return [one for one, (_, voice) in zip(heard, TEXTS, strict=True) if voice is not None]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """One worker that works, and one that stands by."""
    serves = serving(save_speaking(tmp_path_factory.mktemp("omni")))
    workers = msgspec.structs.replace(serves.workers, count=1, standby=1)
    return msgspec.structs.replace(
        serves,
        pipeline=PipelineConfig(kind="omni", options=OPTIONS),
        workers=workers,
        limits=Limits(silence_s=60),  # who takes over on a busy core has much to decode
    )


@pytest.fixture(scope="module")
def undisturbed(config: Config) -> list[Heard]:
    """What is heard when nothing happens."""

    async def listen() -> list[Heard]:
        async with AsyncClient.embedded(config) as client:
            return await Listeners(client).all()

    heard = asyncio.run(listen())
    assert all(len(one.sound) >= 5 and np.abs(one.samples).max() > 0.01 for one in spoken(heard))
    return heard


@pytest.mark.parametrize("pieces", [pytest.param(1, marks=pytest.mark.soak), 3])
async def test_a_worker_killed_in_the_middle_of_a_sound(config: Config, undisturbed: list[Heard], pieces: int) -> None:
    async with AsyncClient.embedded(config) as client:
        (server,) = servers()
        await standby_is_ready(client)
        worker = next(worker for worker in (await client.report()).workers if not worker.standby)
        listeners = Listeners(client)
        listening = asyncio.ensure_future(listeners.all())
        await listeners.until(pieces)
        os.kill(workers_of(server)[worker.name], signal.SIGKILL)
        heard = await listening
        gauges = (await client.report()).gauges
        assert gauges["lost_workers"] == 1
        assert gauges["resumed"] >= 1
    for one, other in zip(heard, undisturbed, strict=True):
        assert (one.tokens, one.text) == (other.tokens, other.text)
        assert np.array_equal(one.samples, other.samples)
