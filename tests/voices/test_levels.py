"""Gains of an exported model's voices: whoever speaks, it is as loud."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from max_codecs.sound.loudness import TARGET_LUFS, amplified, loudness
from max_voices import load_voice
from max_voices.recipe import levels
from max_voices.recipe.export import speech_format, write_format
from max_voices.recipe.flite import SAMPLE_RATE
from max_voices.recipe.generate import Spoken
from max_voices.recipe.layout import AUDIO

LOUD = {"slt": 0.2, "kal16": 0.02}  # amplitudes


class Speakers:
    """In place of the model: each voice hums as loud as it is, but for one utterance that is much louder."""

    def __init__(self, folder: Path) -> None:
        self.form = load_voice(folder)

    def write(self, texts: Sequence[str], seed: int, speaker: str) -> list[Spoken]:
        voice = AUDIO + list(LOUD).index(speaker)
        return [Spoken((voice, AUDIO + (number == 0)), True) for number in range(len(texts))]

    def sound(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        speaker, louder = (ids - AUDIO).tolist()
        time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        amplitude = list(LOUD.values())[speaker] * (4 if louder else 1)
        return np.asarray(amplitude * np.sin(2 * np.pi * 300 * time), np.float32)


def test_voices_are_made_equally_loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "Speaker", Speakers)
    write_format(speech_format(tuple(LOUD)), tmp_path)
    levels.level(tmp_path, count=5)
    form = load_voice(tmp_path)
    for number, voice in enumerate(form.layout.prompt.voices):
        hum = Speakers(tmp_path).sound(np.array([AUDIO + number, AUDIO]))
        assert loudness(amplified(hum, voice.gain_db), SAMPLE_RATE) == pytest.approx(TARGET_LUFS, abs=0.2)
    gains = {voice.name: voice.gain_db for voice in form.layout.prompt.voices}
    assert form == levels.with_gains(speech_format(tuple(LOUD)), gains)
    assert gains["kal16"] - gains["slt"] == pytest.approx(20, abs=0.2)
