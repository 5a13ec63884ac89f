"""The encoder of `codec.kind`: ours, a third party's, and none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from max_codecs.format import SpeechFormat
from max_codecs.layout import SpeechLayout
from max_codecs.prompt import PromptFormat, ReferenceFormat
from max_interfaces import ConfigError
from max_pipelines.config import CodecConfig, Config, ModelConfig, PipelineConfig, SpeechConfig, VoicesConfig
from max_pipelines.encoders import build_encoder
from max_pipelines.media.access import NOTHING
from max_pipelines.voices.adding import add_voice
from max_pipelines.voices.folder import folder_of
from tests.pipelines.processes import install
from tests.pipelines.test_voices import speech, wav
from tests.tiny_codecs import CODES, LEVELS, save_dac, save_encodec, save_mimi

BUZZER = '''
import numpy as np

class Buzzer:
    """One code for each 80 samples: how loud they are."""
    sample_rate, codes_per_frame = 8000, 1

    def encode(self, samples):
        whole = np.pad(samples, (0, -len(samples) % 80)).reshape(-1, 80)
        return np.minimum(63, (np.abs(whole).max(1, keepdims=True) * 64)).astype(np.int64)

def build(config):
    if config.codec.options:
        raise ValueError("wants no options")
    return Buzzer()
'''


def config(folder: Path, kind: str, levels: int, **codec: object) -> Config:
    reference = ReferenceFormat((), (), (), ())
    prompt = PromptFormat(before_text=(1,), after_text=(2,), speech=(3,), reference=reference)
    slots = tuple((level, 0) for level in range(levels))
    layout = SpeechLayout(audio_base=64, codebook_size=CODES, end_ids=(4,), prompt=prompt, slots=slots)
    return Config(
        model=ModelConfig(name="tiny"),
        pipeline=PipelineConfig(kind="speech"),
        codec=CodecConfig(kind=kind, path=str(folder), **codec),  # type: ignore[arg-type]
        speech=SpeechConfig(
            format=SpeechFormat(layout), voices=VoicesConfig(folder=str(folder / "voices"), min_sample_s=0.2)
        ),
    )


@pytest.mark.parametrize(("kind", "save"), [("mimi", save_mimi), ("dac", save_dac), ("encodec", save_encodec)])
def test_a_voice_of_each_codec(kind: str, save: Callable[[Path], Path], tmp_path: Path) -> None:
    made = config(save(tmp_path), kind, LEVELS)
    add_voice(made, "cat", wav(speech(0.3)), "a cat", NOTHING)
    voice = folder_of(made).find("cat")
    assert voice is not None
    assert made.speech is not None
    frames = made.speech.spoken.layout.frames(voice.tokens)
    encoder = build_encoder(made)
    assert encoder.codes_per_frame == frames.shape[1] == LEVELS
    assert len(frames) > 10
    with pytest.raises(ConfigError, match="cannot be read as a codec"):
        build_encoder(config(tmp_path / "nowhere", kind, LEVELS))


@pytest.fixture
def buzzer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "maxpipe_buzzer", BUZZER, "[maxpipe.encoders]\nbuzzer = maxpipe_buzzer:build\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("buzzer")
def test_a_third_partys_encoder(tmp_path: Path) -> None:
    made = config(tmp_path, "buzzer", 1)
    add_voice(made, "cat", wav(speech(0.3)), "a cat", NOTHING)
    voice = folder_of(made).find("cat")
    assert voice is not None
    assert np.ptp(voice.tokens) > 10
    with pytest.raises(
        ConfigError, match=r"slots: there are 2; the encoder of codec\.kind buzzer has 1 codes in a frame"
    ):
        build_encoder(config(tmp_path, "buzzer", 2))
    with pytest.raises(ConfigError, match=r"codec\.kind buzzer: wants no options"):
        build_encoder(config(tmp_path, "buzzer", 1, options={"loud": True}))
    with pytest.raises(
        ConfigError, match=r"codec\.kind buzer: no encoder is installed for it, so its voices can take no"
    ):
        build_encoder(config(tmp_path, "buzer", 1))
