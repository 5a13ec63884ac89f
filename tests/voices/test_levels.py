"""Gains of an exported model's voices: whoever speaks, it is as loud."""

import shutil
from pathlib import Path

import pytest

from max_codecs.sound.loudness import TARGET_LUFS, amplified, loudness
from max_voices import FOLDER, load_voice
from max_voices.recipe.export import write_format
from max_voices.recipe.flite import SAMPLE_RATE
from max_voices.recipe.generate import Speaker
from max_voices.recipe.levels import level, with_gains


def test_voices_are_made_equally_loud(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(FOLDER, folder)
    write_format(with_gains(load_voice(folder), {}), folder)
    level(folder, count=3)
    speaker = Speaker(folder)
    for voice in speaker.form.layout.prompt.voices:
        (said,) = speaker.write(["this is another sentence."], 5, voice.name)
        sound = amplified(speaker.sound(said.audio_ids), voice.gain_db)
        assert loudness(sound, SAMPLE_RATE) == pytest.approx(TARGET_LUFS, abs=2)
    assert load_voice(folder) == speaker.form
