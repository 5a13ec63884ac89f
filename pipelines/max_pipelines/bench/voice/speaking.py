"""`maxpipe bench voice`, first half: sentences go over the whole road.

They are listened to when the road is gone: the judge keeps Python's lock for seconds, in which our client would be
taken for dead, and its work would be in the figures for speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from max_codecs.sound.resampler import Resampler
from max_interfaces import AudioGenerationRequest, GenerationStatus, RequestID, SamplingParams
from max_interfaces.messages import ModelInfo
from max_voices.hearing.spectra import RATE, Sound
from max_voices.recipe.corpus import everyday_sentences
from max_voices.text import spell

from ...client import AsyncClient
from ...client.speaking import check_speaks, check_voice
from ..speech import Run, timed

AT_ONCE = 8
TIMED = 10  # sentences that are said once more, one after the other
ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class VoiceBench:
    """What is to be measured; no voice means all that the model has."""

    voices: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)
    sentences: int = 100

    def __post_init__(self) -> None:
        most = len(everyday_sentences())
        if not 1 <= self.sentences <= most:
            raise ValueError(f"sentences = {self.sentences}: there are {most}; ask for 1 to {most}")
        if not self.seeds:
            raise ValueError("seeds = : give at least one")
        for seed in self.seeds:
            SamplingParams(seed=seed)  # it has the bounds
        for name, values in (("voices", self.voices), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} = {' '.join(map(str, values))}: name each once")


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """One sentence as it came, at 16 kHz, and whether it ended by itself."""

    sound: Sound
    ended: bool


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """What a voice said: the sentences, spelled, a round of all of them for each seed, and some that were timed."""

    voice: str
    texts: tuple[str, ...]
    rounds: tuple[tuple[Said, ...], ...]
    runs: tuple[Run, ...]


async def speak(client: AsyncClient, bench: VoiceBench) -> list[Spoken]:
    """What each voice says. InvalidRequest for a voice that there is not, or a model that speaks no text."""
    async with client:
        info = client.model()
        check_speaks(info)
        for voice in bench.voices:
            check_voice(info, voice)
        short = [text for text in everyday_sentences() if not info.max_words or len(text.split()) <= info.max_words]
        texts = spread(short, bench.sentences)
        voices = bench.voices or info.voices or (None,)
        return [await _Speaker(client, info, voice).speak(texts, bench.seeds) for voice in voices]


def spread(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """So many of them, evenly from first to last, in their order; all if there are no more."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


class _Speaker:
    """One voice."""

    def __init__(self, client: AsyncClient, info: ModelInfo, voice: str | None) -> None:
        self._client, self._info, self._voice = client, info, voice
        self._name = voice or info.name

    async def speak(self, texts: list[str], seeds: Sequence[int]) -> Spoken:
        """A round for each seed, then a few sentences by themselves, for their times."""
        rounds = [await self._round(texts, seed) for seed in seeds]
        few = tqdm(spread(texts, TIMED), f"{self._name}: times", leave=False, disable=None)
        rate = self._info.sample_rate
        runs = [await timed(self._client, self._request(text, seeds[0]), rate) for text in few]
        return Spoken(self._name, tuple(map(spell, texts)), tuple(rounds), tuple(runs))

    async def _round(self, texts: list[str], seed: int) -> tuple[Said, ...]:
        slots = asyncio.Semaphore(AT_ONCE)
        with tqdm(total=len(texts), desc=f"{self._name}: seed {seed}", leave=False, disable=None) as bar:

            async def one(text: str) -> Said:
                async with slots:
                    whole = await self._client.generate(self._request(text, seed))
                bar.update()
                resampler = Resampler(self._info.sample_rate, RATE)
                sound = np.concatenate([resampler.push(whole.audio_data), resampler.flush()])
                return Said(sound, whole.final_status is GenerationStatus.END_OF_SEQUENCE)

            return tuple(await asyncio.gather(*map(one, texts)))

    def _request(self, text: str, seed: int) -> AudioGenerationRequest:
        params = SamplingParams(seed=seed)
        return AudioGenerationRequest(RequestID(), self._info.name, text, sampling_params=params, voice=self._voice)
