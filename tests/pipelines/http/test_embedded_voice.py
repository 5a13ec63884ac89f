"""What listeners of the embedded voice get over HTTP: every format the same sound, sentences that come one by one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import pytest
from av.error import FFmpegError
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from tests.hearing import (
    Heard,
    decoded,
    lag,
    likeness,
    pauses,
    pitch,
    resampled,
    sharpest_near,
    sharpness,
)
from tests.pipelines.http.served import EMBEDDED, Served, serving_file

SPEECH = "/v1/audio/speech"
PATIENCE_S = 60.0
RATE = 16_000  # of the voice
FORMATS = ("wav", "pcm", "flac", "mp3", "opus", "aac")
PADDING_S = 0.1  # mp3 and aac: two frames and a delay, at 16 kHz
TEXT = "When the rain had stopped, we went out to look at the garden."
SENTENCES = (
    "It is late. We go home now. The old man walked slowly to the shop, and then he came back. Where is my red coat?"
)
CLIENTS = 64


def asking(text: str = TEXT, form: str = "wav", **fields: object) -> dict[str, object]:
    return {"model": "maxpipe-voice", "input": text, "response_format": form, "seed": 5} | fields


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving_file(EMBEDDED, "--port", "0") as served:
        yield served


def posted(served: Served, **fields: Any) -> bytes:
    answer = httpx2.post(served.url + SPEECH, json=asking(**fields), timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture(scope="module", autouse=True)
def blocks(served: Served) -> int:
    """How many blocks of the KV cache are free before anything was asked for."""

    async def free() -> int:
        async with httpx2.AsyncClient(base_url=served.url) as asks, asyncio.timeout(PATIENCE_S):
            while "free_blocks" not in (found := await gauges(asks)):
                await asyncio.sleep(0.05)
            return found["free_blocks"]

    return asyncio.run(free())


async def gauges(asks: httpx2.AsyncClient) -> dict[str, int]:
    """What the dispatcher and the worker count."""
    report = (await asks.get("/status")).json()
    (worker,) = report["workers"]
    return {**report["gauges"], "running": worker.get("running", 0), **worker.get("gauges", {})}


async def at_rest(asks: httpx2.AsyncClient, blocks: int) -> dict[str, int]:
    """The same, once nothing is under way and the worker has told that all its blocks are free."""
    async with asyncio.timeout(PATIENCE_S):
        while (found := await gauges(asks))["requests"] or found["running"] or found.get("free_blocks") != blocks:
            await asyncio.sleep(0.05)
    return found


# -- one sound, in every format --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Original:
    """What was spoken, and where in it, in seconds, one chunk ends and the next begins."""

    sound: Heard
    borders: list[float]


@pytest.fixture(scope="module")
def original(served: Served) -> Original:
    lines = posted(served, form="pcm", stream_format="sse").decode().split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    sizes = [len(base64.b64decode(event["audio"])) for event in events if "audio" in event]
    borders = np.cumsum(sizes[:-1]) / (2 * 24_000)
    assert len(borders) >= 3
    return Original(decoded("wav", posted(served)), borders.tolist())


def faults(original: Original, heard: Heard) -> list[str]:
    """What tells a sound from the original."""
    sound = resampled(heard, RATE)
    shift = lag(original.sound, sound)
    near = sharpest_near(sound, [border + shift / RATE for border in original.borders])
    found = {
        "length": not -0.001 <= sound.seconds - original.sound.seconds <= PADDING_S,
        "late": not 0 <= shift / RATE <= PADDING_S,
        "unlike": likeness(original.sound, sound) < 0.999,
        "pitch": abs(pitch(sound) / pitch(original.sound) - 1) > 0.01,
        "click": near > float(np.quantile(sharpness(original.sound), 0.99)),
    }
    return [name for name, wrong in found.items() if wrong]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_the_same_sound_without_a_click(form: str, served: Served, original: Original) -> None:
    heard = decoded(form, posted(served, form=form))
    assert not faults(original, heard)
    if form in ("pcm", "wav", "flac", "opus"):  # they say where sound begins and ends
        assert heard.seconds == pytest.approx(original.sound.seconds, abs=0.001)
    if form == "flac":
        np.testing.assert_allclose(heard.samples, original.sound.samples, atol=1.1 / 32768)  # who rounds is another


def clicking(original: Original, border: float) -> NDArray[np.float32]:
    """The sound with a crack at a border."""
    at = round(border * RATE)
    samples = original.sound.samples.copy()
    samples[at : at + 2] += 0.25
    return samples


def test_the_measure_finds_what_it_looks_for(original: Original) -> None:
    samples = original.sound.samples
    assert not faults(original, original.sound)
    for border in original.borders:
        assert faults(original, Heard(clicking(original, border), RATE)) == ["click"]
    assert "pitch" in faults(original, Heard(samples, round(1.03 * RATE)))
    assert "length" in faults(original, Heard(np.concatenate([samples, samples[:RATE]]), RATE))
    assert "length" in faults(original, Heard(samples[: -RATE // 10], RATE))
    assert "late" in faults(original, Heard(np.pad(samples, (RATE // 5, 0)), RATE))
    noise = np.random.default_rng(1).normal(0, 0.05, samples.size).astype(np.float32)
    assert "unlike" in faults(original, Heard(samples + noise, RATE))


@pytest.mark.parametrize("form", FORMATS)
async def test_sound_leaves_before_it_is_all_made(form: str, served: Served) -> None:
    """Not only a header: what has come can be decoded to sound while the request still runs."""
    data = b""
    async with (
        httpx2.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as asks,
        asks.stream("POST", SPEECH, json=asking(SENTENCES, form)) as answer,
    ):
        pieces = answer.aiter_raw()  # held on to: who drops it has left
        while not sounding(form, data):
            data += await anext(pieces)
        running = (await gauges(asks))["requests"]
    assert running


def sounding(form: str, data: bytes) -> bool:
    try:
        return bool(decoded(form, data).samples.any())
    except (FFmpegError, ValueError):
        return False


# -- sentence by sentence --------------------------------------------------------------------------------------------


def test_a_long_text_begins_when_its_first_sentence_does(served: Served) -> None:
    """When the first bytes come no more was asked for than that sentence, and the one that is made ahead."""

    async def asked_for() -> int:
        async with httpx2.AsyncClient(base_url=served.url, timeout=PATIENCE_S) as asks:
            before = (await gauges(asks))["admitted"]
            async with asks.stream("POST", SPEECH, json=asking(" ".join([SENTENCES] * 100))) as answer:
                pieces = answer.aiter_raw()
                await anext(pieces)
                return (await gauges(asks))["admitted"] - before

    assert asyncio.run(asked_for()) <= 2


async def conversed(served: Served, pieces: list[str]) -> Heard:
    """The sound of a text that is written in pieces."""
    sound = b""
    async with connect(served.url.replace("http", "ws") + SPEECH + "/stream", max_size=None) as socket:
        configure = {"type": "config", "response_format": "wav", "seed": 5}
        for said in (configure, *({"type": "text", "text": piece} for piece in pieces), {"type": "close"}):
            await socket.send(json.dumps(said))
        async for message in socket:
            sound += message if isinstance(message, bytes) else b""
    return decoded("wav", sound)


@pytest.mark.parametrize("way", ["post", "conversation"])
async def test_between_sentences_there_is_a_pause_that_is_neither_short_nor_long(way: str, served: Served) -> None:
    pieces = [f"{word} " for word in SENTENCES.split()]
    sound = await conversed(served, pieces) if way == "conversation" else decoded("wav", posted(served, text=SENTENCES))
    gaps = pauses(sound, 0.35)
    assert len(gaps) == 3
    assert gaps.max() < 0.61


async def test_a_first_clause_and_the_rest_of_its_sentence_are_joined_without_a_pause(served: Served) -> None:
    joined = await conversed(served, [f"{word} " for word in TEXT.split()])
    whole = decoded("wav", posted(served))
    assert not pauses(joined, 0.35).size
    assert joined.seconds == pytest.approx(whole.seconds, rel=0.15)


# -- many at once ----------------------------------------------------------------------------------------------------


async def test_sixty_four_at_once_half_of_whom_leave(served: Served, blocks: int) -> None:
    async with httpx2.AsyncClient(base_url=served.url, timeout=PATIENCE_S, limits=httpx2.Limits()) as asks:
        before = await at_rest(asks, blocks)

        async def listens(number: int) -> bytes | None:
            body = asking("Good morning.", ("wav", "mp3")[number % 2])
            async with asks.stream("POST", SPEECH, json=body) as answer:
                assert answer.status_code == 200, await answer.aread()
                if number % 4 < 2:
                    await anext(answer.aiter_raw())
                    return None
                return await answer.aread()

        heard = await asyncio.gather(*map(listens, range(CLIENTS)))
        alone = {posted(served, text="Good morning.", form=form) for form in ("wav", "mp3")}
        stayed = [data for data in heard if data is not None]
        assert len(stayed) == CLIENTS // 2
        assert set(stayed) == alone  # each as if alone
        after = await at_rest(asks, blocks)
    changing = {"admitted": before["admitted"] + CLIENTS + 2, "stale_chunks": after["stale_chunks"]}
    assert after == before | changing  # chunks of who has left may be on their way
