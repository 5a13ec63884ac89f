"""`maxpipe bench speech`: how soon a voice is heard, and how much faster than its own sound it is made.

ttfa       from the request to the first chunk with samples
audible    to the first sample that can be heard, if playing begins with the first chunk
rtf        seconds of work for a second of sound, one stream
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tqdm import tqdm

from max_codecs.sound.silence import quiet_before
from max_interfaces import AudioGenerationRequest, RequestID, SamplingParams

from ..client import AsyncClient
from .figures import Figures, spread

SENTENCES = {
    5: "We will meet you there.",
    10: "The train to the city leaves at half past nine.",
    20: "When the rain had stopped at last, the children ran out into the garden and looked for the little cat.",
}
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Run:
    """One utterance: times in seconds, its sound, and the sampling rate."""

    first: float
    audible: float
    total: float
    sound: float


async def bench_speech(client: AsyncClient, runs: int) -> Figures:
    """Every sentence `runs` times, in turn, so that all meet the same noise."""
    done: dict[int, list[Run]] = {words: [] for words in SENTENCES}
    async with client:
        model = client.model()
        for seed in tqdm(range(-WARM_UP, runs), "speaking", leave=False, disable=None):
            for words, text in SENTENCES.items():
                params = SamplingParams(seed=abs(seed))
                request = AudioGenerationRequest(RequestID(), model.name, text, sampling_params=params)
                run = await timed(client, request, model.sample_rate)
                if seed >= 0:
                    done[words].append(run)
    figures: Figures = {}
    for words, measured in done.items():
        figures |= spread(f"ttfa.words_{words}", [run.first for run in measured])
        figures |= spread(f"audible.words_{words}", [run.audible for run in measured])
    every = [run for measured in done.values() for run in measured]
    return figures | {"rtf": sum(run.total for run in every) / sum(run.sound for run in every)}


async def timed(client: AsyncClient, request: AudioGenerationRequest, rate: int) -> Run:
    """One utterance, timed. `audible` is 0 if nothing of it can be heard."""
    begin = time.perf_counter()
    first = audible = 0.0
    heard = 0
    async for output in client.stream(request):
        now = time.perf_counter() - begin
        if not output.audio_data.size:
            continue
        first = first or now
        quiet = quiet_before(output.audio_data)
        if quiet < output.audio_data.size and not audible:
            audible = max(now, first + (heard + quiet) / rate)
        heard += output.audio_data.size
    return Run(first, audible, time.perf_counter() - begin, heard / rate)
