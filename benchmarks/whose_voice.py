"""Whose voice speaks behind a sample? Each text in the voices of four samples; nearest by pitch and spectrum.

    python benchmarks/whose_voice.py [--texts 10] [--config FILE] [--json FILE]

The samples are sentences as flite's speakers read them (`apt-get install flite libflite1`). Each is added as `maxpipe
voices add` does it, in a folder that is thrown away, and a text is said in it: nothing else tells whose voice it is to
be. What is heard is held against the profiles of flite's speakers, from sentences that are neither samples nor said.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tqdm import tqdm

from max_interfaces import AudioGenerationRequest, RequestID, SamplingParams
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, load_config
from max_pipelines.media.access import NOTHING
from max_pipelines.media.items import Sound as Recording
from max_pipelines.voices.adding import add_voice
from max_voices.hearing.profile import nearest, profile
from max_voices.hearing.spectra import RATE, Sound
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.flite import SPEAKERS
from max_voices.recipe.reading import read_aloud
from max_voices.text import spell

SAMPLE_WORDS = range(7, 13)  # 1.6 to 3.2 s


@dataclass(frozen=True, slots=True)
class Asked:
    """A voice that is added: whose it is, what it says in the sample, and what it is to say."""

    voice: str
    speaker: str
    words: str
    text: str


def everything(texts: int) -> tuple[list[Asked], list[str]]:
    """What is asked for, texts of all speakers one after the other; and the sentences of which none is in it."""
    sentences = [spell(text) for text in everyday_sentences()]
    fit = [text for text in sentences if len(text.split()) in SAMPLE_WORDS]
    if not 1 <= texts <= len(fit) // (len(SPEAKERS) + 2):
        raise SystemExit(f"--texts {texts}: there are sentences for 1 to {len(fit) // (len(SPEAKERS) + 2)}")
    said, words, others = fit[:texts], fit[texts : texts * (len(SPEAKERS) + 1)], fit[texts * (len(SPEAKERS) + 1) :]
    pairs = [(speaker, text) for text in said for speaker in SPEAKERS]
    asked = [Asked(f"sample-{number}", speaker, words[number], text) for number, (speaker, text) in enumerate(pairs)]
    return asked, others


def in_folder(config: Config, folder: str) -> Config:
    """The config with its added voices there."""
    if config.speech is None:
        raise SystemExit("--config: is not that of a voice")
    voices = msgspec.structs.replace(config.speech.voices, folder=folder)
    return msgspec.structs.replace(config, speech=msgspec.structs.replace(config.speech, voices=voices))


async def speak(config: Config, asked: list[Asked]) -> list[Sound]:
    """What is said in each voice, at 16 kHz."""
    sounds: list[Sound] = []
    async with AsyncClient.embedded(config) as client:
        model = client.model()
        if model.sample_rate != RATE:
            raise SystemExit(f"--config: is of a voice at {model.sample_rate} Hz; profiles are of {RATE} Hz")
        for number, one in enumerate(tqdm(asked, "speaking")):
            params = SamplingParams(seed=number)
            request = AudioGenerationRequest(
                RequestID(), model.name, one.text, voice=one.voice, sampling_params=params, streaming=False
            )
            sounds.append((await client.generate(request)).audio_data)
    return sounds


def main() -> None:
    """Add, speak, listen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "configs" / "speech.yaml")
    parser.add_argument("--texts", type=int, default=10, help="each is said in four voices")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    asked, others = everything(options.texts)
    profiles = {speaker: profile(list(read_aloud(speaker, others))) for speaker in SPEAKERS}
    with tempfile.TemporaryDirectory() as folder:
        config = in_folder(load_config(options.config), folder)
        for one in tqdm(asked, "adding"):
            (sample,) = read_aloud(one.speaker, [one.words])
            add_voice(config, one.voice, Recording(sample, RATE), one.words, NOTHING)
        sounds = asyncio.run(speak(config, asked))
    heard = [nearest(sound, profiles) for sound in sounds]
    for one, speaker in zip(asked, heard, strict=True):
        if speaker != one.speaker:
            print(f"{one.speaker}'s sample, heard as {speaker}: {one.text}")
    right = sum(speaker == one.speaker for one, speaker in zip(asked, heard, strict=True))
    print(f"{right} of {len(asked)} are nearest to the voice of their sample")
    if options.json:
        options.json.write_text(json.dumps({"right": right, "of": len(asked)}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
