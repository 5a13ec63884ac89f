"""How well the embedded voice is understood, over the whole road: client, dispatcher, worker, engine, streaming codec.

    python benchmarks/voice_wer.py [--json FILE] [--show]

The 100 sentences were written before any training and are never filtered. The judge is pocketsphinx, and hears the
teacher (Debian's flite, `apt-get install flite libflite1`) on the same list. An utterance is a runaway if it lasts more
than 1.6 times as long as the teacher's, cut if less than 0.6 times, empty if nothing in it can be heard.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from max_interfaces import AudioGenerationRequest, GenerationStatus, RequestID, SamplingParams
from max_pipelines.client import AsyncClient
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.evaluate import audible, teacher_sounds
from max_voices.recipe.judge import Judge, word_error_rate
from max_voices.text import spell

SEEDS = (1, 2, 3)
RUNAWAY, CUT = 1.6, 0.6  # times the teacher's own duration
AT_ONCE = 8
Sound = NDArray[np.float32]


async def spoken(client: AsyncClient, texts: list[str], seed: int, bar: tqdm) -> list[tuple[Sound, bool]]:  # type: ignore[type-arg]
    """Each text's sound, and whether it ended by itself."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(text: str) -> tuple[Sound, bool]:
        params = SamplingParams(seed=seed)
        async with slots:
            whole = await client.generate(
                AudioGenerationRequest(RequestID(), client.model().name, text, sampling_params=params)
            )
        bar.update()
        return whole.audio_data, whole.final_status is GenerationStatus.END_OF_SEQUENCE

    return await asyncio.gather(*(one(text) for text in texts))


async def all_spoken(config: Path, texts: list[str]) -> dict[int, list[tuple[Sound, bool]]]:
    """The sounds of every seed."""
    with tqdm(total=len(texts) * len(SEEDS), desc="speaking") as bar:
        async with AsyncClient.embedded(config) as client:
            return {seed: await spoken(client, texts, seed, bar) for seed in SEEDS}


def main() -> None:
    """Speak, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "speech.yaml")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--show", action="store_true", help="print what was heard wrongly")
    options = parser.parse_args()
    texts = list(everyday_sentences())
    sounds = asyncio.run(all_spoken(options.config, texts))
    teacher, judge = teacher_sounds([spell(text) for text in texts]), Judge()
    heard = [judge.hear(spell(text), sound) for text, sound in zip(texts, tqdm(teacher, "teacher"), strict=True)]
    figures: dict[str, float] = {"teacher.wer": word_error_rate(heard)}
    runaway = cut = empty = 0
    for seed, utterances in sounds.items():
        heard = [
            judge.hear(spell(text), sound) for text, (sound, _) in zip(texts, tqdm(utterances, "voice"), strict=True)
        ]
        figures[f"voice.seed_{seed}.wer"] = word_error_rate(heard)
        if options.show:
            print(*(f"{seed}: {one.said!r} -> {one.heard!r}" for one in heard if one.errors), sep="\n")
        for other, (sound, ended) in zip(teacher, utterances, strict=True):
            runaway += not ended or sound.size > RUNAWAY * other.size
            cut += sound.size < CUT * other.size
            empty += not audible(sound)
    figures["voice.wer"] = float(np.mean([figures[f"voice.seed_{seed}.wer"] for seed in SEEDS]))
    figures |= {"voice.above_teacher": figures["voice.wer"] - figures["teacher.wer"]}
    figures |= {"voice.runaway": runaway, "voice.cut": cut, "voice.empty": empty}
    for name, value in figures.items():
        print(f"{name:<22}{value:>8.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
