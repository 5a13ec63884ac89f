"""How loud each voice is: the gains of ``voice.json``, from utterances of the voices themselves."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from tqdm import tqdm

from max_codecs.format import SpeechFormat
from max_codecs.sound.loudness import voice_gain_db
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.export import write_format
from max_voices.recipe.flite import SAMPLE_RATE
from max_voices.recipe.generate import Speaker
from max_voices.text import spell

_COUNT, _SEED = 25, 1  # sentences of each voice; of what is sampled


def with_gains(form: SpeechFormat, gains: Mapping[str, float]) -> SpeechFormat:
    """The format with the gain of each voice in dB; 0 for those that are not named."""
    prompt = form.layout.prompt
    voices = tuple(msgspec.structs.replace(voice, gain_db=gains.get(voice.name, 0.0)) for voice in prompt.voices)
    layout = msgspec.structs.replace(form.layout, prompt=msgspec.structs.replace(prompt, voices=voices))
    return msgspec.structs.replace(form, layout=layout)


def level(folder: Path, count: int = _COUNT) -> None:
    """Lets each voice of an exported model say ``count`` sentences, and writes the gains that make them as loud."""
    torch.set_num_threads(1)
    sentences = everyday_sentences()
    model, said = Speaker(folder), [spell(text) for text in sentences[:: max(1, len(sentences) // count)]][:count]
    gains = dict[str, float]()
    for voice in tqdm(model.form.layout.prompt.voices, "loudness"):
        sounds = (model.sound(one.audio_ids) for one in model.write(said, _SEED, voice.name))
        gains[voice.name] = round(voice_gain_db(sounds, SAMPLE_RATE), 1)
    write_format(with_gains(model.form, gains), folder)
