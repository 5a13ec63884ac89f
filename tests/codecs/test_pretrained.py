"""Mimi, DAC and EnCodec: streamed equals transformers at once, for any chunks, side by side, and over a join."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import DacModel, EncodecModel, MimiModel

from max_codecs.pretrained import dac, encodec, mimi
from max_codecs.pretrained.dac import dac_codec
from max_codecs.pretrained.encodec import encodec_codec
from max_codecs.pretrained.mimi import mimi_codec
from max_codecs.slots import Slot
from max_codecs.streaming.codec import StreamingCodec
from max_interfaces.errors import ConfigError
from max_interfaces.protocols import AudioCodec, StreamStart
from tests.tiny_codecs import (
    CODES,
    LEVELS,
    Codec,
    random_codes,
    save_dac,
    save_encodec,
    save_mimi,
    tiny_dac,
    tiny_encodec,
    tiny_mimi,
    whole,
)

EXACT = 1e-5
FRAMES = 60


@dataclass(frozen=True)
class Case:
    """A codec, what transformers makes of `FRAMES` frames, and the samples of a frame."""

    model: Codec
    codec: StreamingCodec
    sound: NDArray[np.float32]


def codec_of(model: Codec, slots: Sequence[Slot] | None = None) -> StreamingCodec:
    if isinstance(model, MimiModel):
        return mimi_codec(model, slots)
    return dac_codec(model, slots) if isinstance(model, DacModel) else encodec_codec(model, slots)


def case(model: Codec) -> Case:
    return Case(model, codec_of(model), whole(model, random_codes(FRAMES)))


# Odd ratios cut a sample off the end of each upsampling; short windows are left many times within the sound.
CASES: dict[str, Callable[[], Codec]] = {
    "mimi": tiny_mimi,
    "mimi, one window": lambda: tiny_mimi(sliding_window=1000),
    "mimi, other settings": lambda: tiny_mimi(
        use_conv_shortcut=True, pad_mode="replicate", upsample_groups=8, attention_bias=True, trim_right_ratio=0.5
    ),
    "mimi, symmetric": lambda: tiny_mimi(use_causal_conv=False),
    "dac": tiny_dac,
    "dac, odd ratios": lambda: tiny_dac(downsampling_ratios=[3, 2, 5]),
    "encodec": tiny_encodec,  # causal but for the mirrored beginning
    "encodec, zeros": lambda: tiny_encodec(pad_mode="constant"),
    "encodec, symmetric": lambda: tiny_encodec(use_causal_conv=False, use_conv_shortcut=False),
    "encodec, odd ratios": lambda: tiny_encodec(use_causal_conv=False, upsampling_ratios=[3, 5], num_residual_layers=2),
}


@pytest.fixture(scope="module", params=list(CASES))
def tiny(request: pytest.FixtureRequest) -> Case:
    return case(CASES[request.param]())


def assert_exact(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=EXACT)


def streamed(
    codec: AudioCodec, frames: NDArray[np.int64], cuts: list[int], start: StreamStart | None = None
) -> NDArray[np.float32]:
    stream = codec.open(start or StreamStart())
    parts = [stream.push(part) for part in np.split(frames, sorted(cuts))]
    return np.concatenate([*parts, stream.flush()])


def test_it_is_loud_enough_to_measure(tiny: Case) -> None:
    assert 0.3 < abs(tiny.sound).max() < 3
    assert tiny.sound.std() > 0.03
    assert 0 <= FRAMES * tiny.codec.frame_samples - tiny.sound.size < tiny.codec.frame_samples


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, FRAMES), max_size=8))
def test_any_split_gives_what_transformers_gives_at_once(tiny: Case, cuts: list[int]) -> None:
    assert_exact(streamed(tiny.codec, random_codes(FRAMES), cuts), tiny.sound)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 6, 7, 8, 12])
def test_short_sounds_are_padded_as_they_are_there(tiny: Case, length: int) -> None:
    frames = random_codes(length, seed=length)
    expected = whole(tiny.model, frames) if length else np.zeros(0, np.float32)
    assert_exact(streamed(tiny.codec, frames, []), expected)
    assert_exact(streamed(tiny.codec, frames, list(range(length))), expected)


def test_streams_side_by_side_do_not_touch_one_another(tiny: Case) -> None:
    """Five streams of different sounds, one step each in turn, with steps of different sizes."""
    sounds = [random_codes(30 + 3 * number, seed=number) for number in range(5)]
    streams = [tiny.codec.open(StreamStart()) for _ in sounds]
    given: list[list[NDArray[np.float32]]] = [[] for _ in sounds]
    done = [0] * len(sounds)
    while any(at < len(frames) for at, frames in zip(done, sounds, strict=True)):
        for number, frames in enumerate(sounds):
            upto = min(done[number] + number + 1, len(frames))
            given[number].append(streams[number].push(frames[done[number] : upto]))
            done[number] = upto
    for number, frames in enumerate(sounds):
        assert_exact(np.concatenate([*given[number], streams[number].flush()]), whole(tiny.model, frames))


def test_samples_come_as_soon_as_the_lookahead_allows(tiny: Case) -> None:
    stream, heard, first = tiny.codec.open(StreamStart()), 0, 0
    for number, frame in enumerate(random_codes(FRAMES)):
        heard += len(stream.push(frame[None]))
        first = first or (number + 1 if heard else 0)
        if heard:
            assert heard >= (number + 1 - tiny.codec.lookahead_frames) * tiny.codec.frame_samples
    assert first <= max(7, tiny.codec.lookahead_frames + 1)  # 7: what a mirrored beginning takes
    assert heard + len(stream.flush()) == tiny.sound.size


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_joined_by_history_equals_one_stream(tiny: Case, data: st.DataObject) -> None:
    """A resume: the context before the first unheard sample is enough, wherever it is."""
    codec, frames = tiny.codec, random_codes(FRAMES)
    border = data.draw(st.integers(1, FRAMES), "border")
    heard = data.draw(st.integers(0, border * codec.frame_samples), "heard")
    first = max(0, heard // codec.frame_samples - codec.context_frames)
    start = StreamStart(history=frames[first:border], history_frame=first, next_sample=heard)
    assert_exact(streamed(codec, frames[border:], [], start), tiny.sound[heard:])


def test_less_context_is_not_exact(tiny: Case) -> None:
    """The context of what has one is needed; an LSTM needs all there is."""
    codec, frames = tiny.codec, random_codes(FRAMES)
    border = 50
    context = min(codec.context_frames, border) // 4
    start = StreamStart(
        history=frames[border - context : border], history_frame=border - context,
        next_sample=border * codec.frame_samples,
    )  # fmt: skip
    got = streamed(codec, frames[border:], [], start)
    assert abs(got - tiny.sound[border * codec.frame_samples :]).max() > EXACT


def test_context_and_lookahead_of_the_published_configurations() -> None:
    assert (case(tiny_mimi()).codec.lookahead_frames, case(tiny_encodec()).codec.lookahead_frames) == (0, 0)
    assert case(tiny_encodec()).codec.context_frames == 2**20
    full = dac_codec(tiny_dac(downsampling_ratios=[2, 4, 8, 8], decoder_hidden_size=32))  # 16 and 44 kHz
    assert (full.context_frames, full.lookahead_frames) == (10, 10)


@pytest.mark.parametrize("tiny_of", [tiny_mimi, tiny_dac, tiny_encodec])
def test_slots_choose_and_order_the_codebooks(tiny_of: Callable[[], Codec]) -> None:
    model = tiny_of()
    frames = random_codes(12)
    turned = codec_of(model, ((2, 0), (0, 0), (1, 0)))
    assert_exact(streamed(turned, frames[:, [2, 0, 1]], []), whole(model, frames))
    for count in (1, 2):
        fewer = codec_of(model, tuple((level, 0) for level in range(count)))
        assert fewer.codes_per_frame == count
        assert_exact(streamed(fewer, frames[:, :count], []), whole(model, frames[:, :count]))
    with pytest.raises(ValueError, match="4 codebooks, of which this codec has 3"):
        codec_of(model, tuple((level, 0) for level in range(4)))
    with pytest.raises(ValueError, match="one code of each codebook"):
        codec_of(model, ((0, 0), (0, 1)))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros(LEVELS, np.int64), "shape"),
        (np.zeros((1, LEVELS + 1), np.int64), "shape"),
        (np.zeros((1, LEVELS)), "must be integers"),
        (np.full((1, LEVELS), CODES), "must be 0 to 63"),
        (np.full((1, LEVELS), -1), "must be 0 to 63"),
    ],
)
def test_bad_frames_are_refused(frames: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mimi_codec(tiny_mimi()).open(StreamStart()).push(frames)


# -- files -----------------------------------------------------------------------------------------------------------

LOADERS = [(save_mimi, mimi.load_codec), (save_dac, dac.load_codec), (save_encodec, encodec.load_codec)]


@pytest.mark.parametrize(("save", "load"), LOADERS)
def test_a_saved_model_sounds_as_it_did(
    save: Callable[[Path], Path], load: Callable[[Path], StreamingCodec], tmp_path: Path
) -> None:
    folder = save(tmp_path / "codec")
    made: dict[object, Callable[[], Codec]] = {save_mimi: tiny_mimi, save_dac: tiny_dac, save_encodec: tiny_encodec}
    assert_exact(streamed(load(folder), random_codes(20), [3]), whole(made[save](), random_codes(20)))


@pytest.mark.parametrize(("save", "load"), LOADERS)
def test_weights_that_are_missing_or_broken_are_named(
    save: Callable[[Path], Path], load: Callable[[Path], StreamingCodec], tmp_path: Path
) -> None:
    weights = save(tmp_path / "codec") / "model.safetensors"
    kept = load_file(weights)
    lost = next(name for name in sorted(kept) if name.startswith("decoder"))
    save_file({name: tensor for name, tensor in kept.items() if name != lost}, weights, {"format": "pt"})
    with pytest.raises(ConfigError, match="the weights lack decoder"):
        load(tmp_path / "codec")
    save_file({**kept, lost: kept[lost].flatten()[:1].clone()}, weights, {"format": "pt"})
    with pytest.raises(ConfigError, match="cannot be read as a codec"):
        load(tmp_path / "codec")
    weights.write_bytes(b"{}" * 20)
    with pytest.raises(ConfigError, match="cannot be read as a codec"):
        load(tmp_path / "codec")
    with pytest.raises(ConfigError, match="cannot be read as a codec"):
        load(tmp_path / "nowhere")


def test_a_model_without_its_encoder_is_enough(tmp_path: Path) -> None:
    weights = save_dac(tmp_path / "codec") / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("encoder")}
    save_file(kept, weights, {"format": "pt"})
    codec = dac.load_codec(tmp_path / "codec")
    assert_exact(streamed(codec, random_codes(8), []), whole(tiny_dac(), random_codes(8)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm_type": "time_group_norm"}, "norm_type='time_group_norm'"),
        ({"audio_channels": 2}, "audio_channels=2: must be 1"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, "chunk_length_s=1.0"),
        ({"normalize": True}, "normalize=true"),
        ({"pad_mode": "circular"}, "pad_mode='circular'"),
    ],
)
def test_what_cannot_be_streamed_is_refused_by_name(fields: dict[str, object], message: str) -> None:
    config = tiny_encodec().config
    for name, value in fields.items():
        setattr(config, name, value)
    model = EncodecModel(config)
    with pytest.raises(ValueError, match=message):
        encodec_codec(model)


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device='cuda:77'"):
        dac.load_codec(save_dac(tmp_path / "codec"), device="cuda:77")
