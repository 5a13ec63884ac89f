"""Text that is still being written, and long text, spoken over HTTP by the embedded voice.

    python benchmarks/arriving_text.py [--runs 20] [--words 3000] [--json FILE]

A text is written at 5 words/s into the WebSocket: how long after its first clause is complete does sound come? Then a
long text, by POST and over the WebSocket: when does sound begin, how long is nothing heard between its sentences, and
by how much do face and worker grow from when 500 words were spoken to when all were? `--words 0` leaves that out. A
text of a thousand words goes before, so that the memory is mapped which the KV cache has anyway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
from websockets.asyncio.client import connect

from max_pipelines.speech.splitting import split_text
from max_voices.recipe.corpus import everyday_sentences
from tests.hearing import AUDIBLE, Heard, decoded, pauses
from tests.pipelines.http.served import EMBEDDED, Served, serving_file

WORDS_PER_S = 5.0
TEXT = "When the rain had stopped, we went out to look at the garden. It was still wet."
BETWEEN_SENTENCES_S = 0.35  # more than is silent within one
CLAUSE = 5  # words of it are its first clause
EARLY_WORDS = 500  # when memory is looked at first
WARM_UP_WORDS = 1000  # each lane of the KV cache has held a long sentence then
STRIDE = 37  # from one sentence to the next of the list, which is sorted by length
MB = 2**20


def memory_mb(served: Served) -> dict[str, float]:
    """The resident memory of a server's face and of its worker."""
    pages = {
        name: int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        for name, pid in (("face", served.face), ("worker", served.worker))
    }
    return {name: count * os.sysconf("SC_PAGE_SIZE") / MB for name, count in pages.items()}


@dataclass(slots=True)
class Listener:
    """Takes a sound as it comes, and what else was to be seen then."""

    served: Served
    begun: float = field(default_factory=time.perf_counter)
    first_s: float = 0.0  # until the first bytes came
    data: bytearray = field(default_factory=bytearray)
    memory: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # after so many bytes

    def take(self, data: bytes) -> None:
        """The next bytes."""
        self.first_s = self.first_s or time.perf_counter() - self.begun
        self.data += data
        if not self.memory or len(self.data) - self.memory[-1][0] > MB:
            self.memory.append((len(self.data), memory_mb(self.served)))

    def heard(self) -> Heard:
        """The sound, which is wav."""
        return decoded("wav", bytes(self.data))

    def grown_mb(self, share: float) -> dict[str, float]:
        """By how much memory has grown since a share of the sound was there."""
        early = next((memory for size, memory in self.memory if size >= share * len(self.data)), self.memory[-1][1])
        last = memory_mb(self.served)
        return {name: last[name] - early[name] for name in early}


async def post(served: Served, text: str, seed: int = 1) -> Listener:
    """A text that is there as a whole."""
    body = {"model": "maxpipe-voice", "input": text, "response_format": "wav", "seed": seed}
    listener = Listener(served)
    async with (
        httpx2.AsyncClient(base_url=served.url, timeout=600) as client,
        client.stream("POST", "/v1/audio/speech", json=body) as answer,
    ):
        answer.raise_for_status()
        async for piece in answer.aiter_raw():
            listener.take(piece)
    return listener


async def converse(
    served: Served, pieces: list[str], *, pause_s: float = 0.0, clause: int = 1, seed: int = 1
) -> Listener:
    """A text that is being written, a piece each `pause_s`; the clock begins when `clause` pieces are sent."""
    listener = Listener(served)
    async with connect(served.url.replace("http", "ws") + "/v1/audio/speech/stream", max_size=None) as socket:

        async def write() -> None:
            for number, piece in enumerate(pieces, 1):
                await socket.send(json.dumps({"type": "text", "text": piece}))
                if number == clause:
                    listener.begun = time.perf_counter()
                if pause_s:
                    await asyncio.sleep(pause_s)
            await socket.send(json.dumps({"type": "close"}))

        await socket.send(json.dumps({"type": "config", "response_format": "wav", "seed": seed}))
        writing = asyncio.ensure_future(write())
        async for message in socket:
            if isinstance(message, bytes):
                listener.take(message)
            elif '"error"' in message:
                raise RuntimeError(message)
        await writing
    return listener


def long_text(words: int) -> str:
    """Everyday sentences, over and over, of so many words in all or a few more."""
    chosen: list[str] = []
    left = words
    sentences = everyday_sentences()
    while left > 0:
        chosen.append(sentences[len(chosen) * STRIDE % len(sentences)])
        left -= len(chosen[-1].split())
    return " ".join(chosen)


def audible_s(sound: Heard) -> float:
    """Where in it something can be heard first."""
    return float(np.flatnonzero(np.abs(sound.samples) > AUDIBLE)[0]) / sound.rate


async def first_sounds(served: Served, runs: int) -> dict[str, float]:
    """From the end of the first clause to sound, in seconds, and for comparison from a POST of that clause."""
    figures: dict[str, float] = {}
    words = TEXT.split()
    for name, form in (("space_after", "{} "), ("space_before", " {}")):
        pieces = [form.format(word) for word in words]
        heard = [
            await converse(served, pieces, pause_s=1 / WORDS_PER_S, clause=CLAUSE, seed=seed) for seed in range(runs)
        ]
        figures |= _waits(f"clause.{name}", heard)
    return figures | _waits("post.sentence", [await post(served, TEXT, seed) for seed in range(runs)])


async def long_texts(served: Served, words: int) -> dict[str, float]:
    """First sound, gaps and memory of a long text, by both ways."""
    figures: dict[str, float] = {}
    text = long_text(words)
    await post(served, long_text(min(words, WARM_UP_WORDS)))
    sentences = len(split_text(text, 0))
    for name in ("post", "websocket"):
        listener = await (post(served, text) if name == "post" else converse(served, [text]))
        sound = listener.heard()
        gaps = pauses(sound, BETWEEN_SENTENCES_S)
        figures |= {f"{name}.long.first_s": listener.first_s, f"{name}.long.seconds": sound.seconds}
        figures |= {f"{name}.long.borders": float(sentences - 1), f"{name}.long.gaps": float(gaps.size)}
        shares = {"shortest": 0.0, "median": 0.5, "longest": 1.0}
        figures |= {f"{name}.long.gap_s.{word}": float(np.quantile(gaps, share)) for word, share in shares.items()}
        grown = listener.grown_mb(min(1.0, EARLY_WORDS / words))
        figures |= {f"{name}.long.grown_mb.{process}": value for process, value in grown.items()}
    return figures


def _waits(name: str, heard: list[Listener]) -> dict[str, float]:
    firsts = [listener.first_s for listener in heard]
    audible = [listener.first_s + audible_s(listener.heard()) for listener in heard]
    return {
        f"{name}.first_s.p50": float(np.median(firsts)),
        f"{name}.first_s.worst": max(firsts),
        f"{name}.audible_s.p50": float(np.median(audible)),
    }


async def measured(runs: int, words: int) -> dict[str, float]:
    """All figures."""
    with serving_file(EMBEDDED, "--port", "0") as served:
        await post(served, TEXT)
        figures = await first_sounds(served, runs)
        return figures | (await long_texts(served, words) if words else {})


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--words", type=int, default=3000)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    figures = asyncio.run(measured(options.runs, options.words))
    for name, value in figures.items():
        print(f"{name:<32}{value:>10.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
