"""`codec.kind` in YAML: ours, and a third party's over the real road."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from max_codecs.layout import SpeechLayout
from max_codecs.snac.codec import SnacCodec
from max_codecs.streaming.codec import StreamingCodec
from max_interfaces import AudioGenerationRequest, ConfigError, RequestFailed, RequestID, StreamStart
from max_pipelines.client import Client
from max_pipelines.codecs import build_codec
from max_pipelines.config import CodecConfig, Config, SpeechConfig, load_config
from tests.pipelines.processes import install
from tests.tiny_codecs import CODES, LEVELS, save_dac, save_encodec, save_mimi

EXAMPLES = Path(__file__).parents[2] / "examples"
TONES = EXAMPLES / "tones" / "tones.yaml"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install ./examples/echo ./examples/tones` does, for this process and those started from here on."""
    for name in ("echo", "tones"):
        folder = EXAMPLES / name
        points = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
        install(tmp_path, f"maxpipe_{name}", (folder / f"maxpipe_{name}.py").read_text(), "".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)


def with_codec(config: Config, **fields: object) -> Config:
    return msgspec.structs.replace(config, codec=msgspec.structs.replace(config.codec, **fields))


@pytest.mark.usefixtures("installed")
def test_a_third_partys_codec_speaks() -> None:
    codes = (0, 12, 7, 1023)
    with Client.embedded(TONES) as client:
        outputs = list(client.stream(AudioGenerationRequest(RequestID(), "tones", prompt=codes)))
        sound = np.concatenate([output.audio_data for output in outputs])
        stream = build_codec(load_config(TONES)).open(StreamStart())
        np.testing.assert_array_equal(sound, stream.push(np.array(codes)[:, None]))
        assert len(outputs) > 1
        assert outputs[0].metadata.sample_rate == 8000
        second = np.abs(np.fft.rfft(sound[160:320]))
        assert second.argmax() == 16  # an octave above 400 Hz
        assert client.generate(AudioGenerationRequest(RequestID(), "tones", "hello")).audio_data.size
        with pytest.raises(RequestFailed):
            client.generate(AudioGenerationRequest(RequestID(), "tones", "hello", voice="nobody"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "snak"}, "codec.kind: no codec `snak` is installed; did you mean `snac`?"),
        ({"kind": "opus"}, "there are: dac, encodec, mimi, snac, tones"),
        ({"options": {"lowest": "deep"}}, "codec.kind tones: could not convert string to float"),
        ({"kind": "mimi", "options": {}}, "codec.path: the embedded codec is a SNAC; name a folder or hub id"),
        ({"kind": "snac"}, "codec.options.lowest: unknown key; there are none"),
        ({"kind": "snac", "options": {}}, "not the codes of a frame with vq_strides"),
        ({"kind": "dac", "path": "no/where/here", "options": {}}, "no/where/here"),
    ],
)
def test_what_cannot_be_is_said_by_its_name(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_codec(with_codec(load_config(TONES), **fields))
    assert says in str(caught.value)


def served(kind: str, folder: Path, **layout: object) -> Config:
    """A config for a codec of three codebooks of 64 codes."""
    config = load_config(TONES)
    assert config.speech is not None
    assert not isinstance(config.speech.format, str)
    slots = tuple((level, 0) for level in range(LEVELS))
    fields: dict[str, object] = {"codebook_size": CODES, "slots": slots, "end_ids": (CODES * LEVELS,), **layout}
    form = msgspec.structs.replace(
        config.speech.format,
        layout=SpeechLayout(audio_base=0, prompt=config.speech.format.layout.prompt, **fields),  # type: ignore[arg-type]
    )
    codec = CodecConfig(kind=kind, path=str(folder))
    return msgspec.structs.replace(config, codec=codec, speech=SpeechConfig(format=form))


@pytest.mark.parametrize(("kind", "save"), [("mimi", save_mimi), ("dac", save_dac), ("encodec", save_encodec)])
def test_ours_are_chosen_by_their_kind(kind: str, save: object, tmp_path: Path) -> None:
    folder = save(tmp_path / kind)  # type: ignore[operator]
    codec = build_codec(served(kind, folder))
    assert isinstance(codec, StreamingCodec)
    assert not isinstance(codec, SnacCodec)
    assert codec.codes_per_frame == LEVELS
    with pytest.raises(ConfigError, match=r"codebook_size = 128: the codec at .* has 64 codes"):
        build_codec(served(kind, folder, codebook_size=128, end_ids=(128 * LEVELS,)))
    with pytest.raises(ConfigError, match=r"codec\.options\.a: unknown key"):
        build_codec(with_codec(served(kind, folder), options={"a": 1}))


def test_a_codec_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a model of type dac; this kind of codec reads mimi"):
        build_codec(served("mimi", save_dac(tmp_path / "dac")))


@pytest.mark.usefixtures("installed")
def test_a_layout_that_does_not_fit_a_third_partys_codec_is_named() -> None:
    config = load_config(TONES)
    assert config.speech is not None
    assert not isinstance(config.speech.format, str)
    wide = msgspec.structs.replace(config.speech.format.layout, slots=((0, 0), (1, 0)), end_ids=(2048,))
    form = msgspec.structs.replace(config.speech.format, layout=wide)
    with pytest.raises(ConfigError, match=r"slots: there are 2; codec\.kind tones has 1 codes in a frame"):
        build_codec(msgspec.structs.replace(config, speech=SpeechConfig(format=form)))
