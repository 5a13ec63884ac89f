"""Many utterances of 1 to 25 words: how many babble on, are cut short, or say nothing.

    python benchmarks/utterances.py [--count 500] [--config FILE] [--voice NAME] [--json FILE]

The texts are runs of the 100 test sentences' words, often broken off within a sentence, a third of them without an end
mark, a fifth with a number in them. An utterance babbles if it lasts longer than a slow reader would take, or does not
end by itself; it is cut if it is shorter than a fast one's, or if its tail is loud up to the last sample; it is empty
if nothing can be heard in it. Each result is a line of `--log`, so that a run that was interrupted goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from max_codecs.sound.loudness import loudness
from max_codecs.sound.silence import quiet_before, quiet_behind
from max_interfaces import AudioGenerationOutput, AudioGenerationRequest, GenerationStatus, RequestID, SamplingParams
from max_pipelines.client import AsyncClient
from max_voices.recipe.corpus import everyday_sentences
from max_voices.text import spell

AT_ONCE = 8
SLOW_S, FAST_S = 0.17, 0.025  # for a letter: people take 0.04 to 0.1
SPARE_S = 0.9  # for the shortest texts, whose ends weigh most
TAIL_S = 0.005


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance: what was wrong with it, and figures in seconds and LUFS."""

    number: int
    text: str
    voice: str | None
    seconds: float
    leading_s: float
    lufs: float
    babble: bool
    cut: bool
    empty: bool


def text_of(number: int) -> str:
    """The text of an utterance, the same in every run: every third has no end mark, every fifth a number in it."""
    chance = random.Random(number)
    wanted = 1 + number % 25
    words: list[str] = []
    while len(words) < wanted:
        words += chance.choice(everyday_sentences()).split()
    words = words[:wanted]
    if number % 5 == 0:
        words[chance.randrange(wanted)] = chance.choice(("42", "3rd", "$5.20", "10:30", "7%"))
    text = " ".join(words).rstrip(".,?!")
    return text if number % 3 == 0 else f"{text}."


def judged(number: int, text: str, voice: str | None, rate: int, whole: AudioGenerationOutput) -> Heard:
    """What there is to say of an utterance."""
    samples, letters = whole.audio_data, len(spell(text))
    seconds = samples.size / rate
    empty = quiet_before(samples) == samples.size
    return Heard(
        number,
        text,
        voice,
        round(seconds, 3),
        round(quiet_before(samples) / rate, 3),
        -99.0 if empty else round(loudness(samples, rate), 1),
        babble=whole.final_status is not GenerationStatus.END_OF_SEQUENCE or seconds > SPARE_S + SLOW_S * letters,
        cut=not empty and (seconds < FAST_S * letters or quiet_behind(samples) < TAIL_S * rate),
        empty=empty,
    )


async def speak(options: argparse.Namespace, done: set[int]) -> None:
    """All that is not in the log yet, into it."""
    todo = [number for number in range(options.count) if number not in done]
    slots = asyncio.Semaphore(AT_ONCE)
    async with AsyncClient.embedded(options.config) as client:
        model = client.model()
        voices = (options.voice,) if options.voice else model.voices or (None,)
        with options.log.open("a", encoding="utf-8") as log, tqdm(total=len(todo), desc="speaking") as bar:

            async def one(number: int) -> None:
                text, voice = text_of(number), voices[number % len(voices)]
                params = SamplingParams(seed=number)
                request = AudioGenerationRequest(
                    RequestID(), model.name, text, sampling_params=params, voice=voice, streaming=False
                )
                async with slots:
                    whole = await client.generate(request)
                heard = judged(number, text, voice, model.sample_rate, whole)
                print(json.dumps(asdict(heard)), file=log, flush=True)
                bar.update()

            await asyncio.gather(*(one(number) for number in todo))


def figures(heard: list[Heard]) -> dict[str, float]:
    """The table."""
    leading = [one.leading_s for one in heard if not one.empty]
    lufs = [one.lufs for one in heard if not one.empty]
    return {
        "utterances": len(heard),
        "babble": sum(one.babble for one in heard),
        "cut": sum(one.cut for one in heard),
        "empty": sum(one.empty for one in heard),
        "leading_silence_s.median": float(np.median(leading)),
        "leading_silence_s.longest": max(leading),
        "loudness_lufs.median": float(np.median(lufs)),
        "loudness_lufs.spread": float(np.std(lufs)),
        "seconds_a_letter.median": float(np.median([one.seconds / len(spell(one.text)) for one in heard])),
    }


def main() -> None:
    """Speak, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "speech.yaml")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--voice", help="one voice; without it all take turns")
    parser.add_argument("--log", type=Path, default=Path("utterances.jsonl"), help="where results are kept")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    lines = options.log.read_text(encoding="utf-8").splitlines() if options.log.exists() else []
    asyncio.run(speak(options, {Heard(**json.loads(line)).number for line in lines}))
    heard = [Heard(**json.loads(line)) for line in options.log.read_text(encoding="utf-8").splitlines()]
    for one in heard:
        wrong = [name for name in ("babble", "cut", "empty") if getattr(one, name)]
        if wrong:
            print(f"{one.number}: {', '.join(wrong)}, {one.seconds} s: {one.text}")
    table = figures(heard)
    for name, value in table.items():
        print(f"{name:<28}{value:>9.3f}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
