"""Streaming sound equals the sound decoded at once: for any chunks, with noise, and over a join."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from max_codecs.chunks import ChunkSchedule
from max_codecs.snac.codec import SnacCodec
from max_codecs.snac.config import SnacConfig
from max_codecs.snac.model import SnacModel, build_model
from max_codecs.snac.noise import CounterNoise
from max_codecs.streaming.decoder import DecoderStream
from max_interfaces.errors import DeviceLost
from max_interfaces.protocols import AudioCodec, CodecStream, StreamStart

SCHEDULES = [(1,), (1, 2, 4, 8), (3,), (50,)]
EXACT = 1e-5
SEED = 7


def codes(model: SnacModel, frames: int) -> NDArray[np.int64]:
    shape = (frames, model.config.codes_per_frame)
    return np.random.default_rng(frames).integers(0, model.config.codebook_size, shape)


def pushed(stream: CodecStream, frames: NDArray[np.int64], sizes: tuple[int, ...] = (1,)) -> NDArray[np.float32]:
    """The whole sound of `frames`, chunk by chunk, and flushed."""
    parts = [stream.push(frames[part]) for part in ChunkSchedule(sizes).slices(len(frames))]
    return np.concatenate([*parts, stream.flush()])


def whole(model: SnacModel, frames: NDArray[np.int64], noise: bool = True) -> NDArray[np.float32]:
    return model.decode(frames, CounterNoise(SEED) if noise else None)


def assert_exact(got: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("sizes", SCHEDULES)
@pytest.mark.parametrize("noise", [True, False])
def test_streamed_equals_one_shot(small_model: SnacModel, sizes: tuple[int, ...], noise: bool) -> None:
    codec = SnacCodec(small_model, noise=noise)
    frames = codes(small_model, 60)
    expected = whole(small_model, frames, noise)
    assert len(expected) == 60 * codec.frame_samples
    assert abs(expected).max() > 0.1
    assert_exact(pushed(codec.open(StreamStart(seed=SEED)), frames, sizes), expected)


def test_streamed_equals_one_shot_in_the_served_configurations(real_model: SnacModel) -> None:
    codec = SnacCodec(real_model)
    frames = codes(real_model, 11)
    expected = whole(real_model, frames)
    for sizes in SCHEDULES:
        assert_exact(pushed(codec.open(StreamStart(seed=SEED)), frames, sizes), expected)


def test_noise_changes_the_sound_and_the_seed_changes_the_noise(small_model: SnacModel) -> None:
    codec, frames = SnacCodec(small_model), codes(small_model, 4)
    one, other = (pushed(codec.open(StreamStart(seed=seed)), frames) for seed in (1, 2))
    silent = pushed(SnacCodec(small_model, noise=False).open(StreamStart(seed=1)), frames)
    assert abs(one - other).max() > 1e-2
    assert abs(one - silent).max() > 1e-2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 24), max_size=8))
def test_any_split_gives_the_same_samples(small_model: SnacModel, cuts: list[int]) -> None:
    codec, frames = SnacCodec(small_model), codes(small_model, 24)
    stream = codec.open(StreamStart(seed=SEED))
    parts = [stream.push(part) for part in np.split(frames, sorted(cuts))]
    assert_exact(np.concatenate([*parts, stream.flush()]), whole(small_model, frames))


def test_samples_come_as_soon_as_the_lookahead_allows(small_model: SnacModel) -> None:
    codec: AudioCodec = SnacCodec(small_model)
    stream = codec.open(StreamStart())
    frames, heard = codes(small_model, 20), 0
    for number in range(20):
        heard += len(stream.push(frames[number : number + 1]))
        assert heard >= (number + 1 - codec.lookahead_frames) * codec.frame_samples
    assert (codec.lookahead_frames == 0) == small_model.config.causal
    assert heard + len(stream.flush()) == 20 * codec.frame_samples


@pytest.mark.parametrize("heard", [0, 1, 25 * 96, 25 * 96 + 17, 30 * 96])
def test_joined_by_history_equals_one_stream(small_model: SnacModel, heard: int) -> None:
    """A resume: the context before the first unheard sample is enough, whatever was heard."""
    codec, frames = SnacCodec(small_model), codes(small_model, 40)
    assert codec.frame_samples == 96
    first = max(0, heard // 96 - codec.context_frames)
    start = StreamStart(seed=SEED, history=frames[first:30], history_frame=first, next_sample=heard)
    assert_exact(pushed(codec.open(start), frames[30:], (1, 2, 4)), whole(small_model, frames)[heard:])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_priming_leaves_out_what_is_not_needed_and_nothing_else(small_model: SnacModel, data: st.DataObject) -> None:
    """The same samples as if all of the history were decoded, also where it is too short to be exact."""
    codec, frames = SnacCodec(small_model), codes(small_model, 40)
    first = data.draw(st.integers(0, 30), "first frame")
    begin, end = first * 96, 30 * 96
    heard = data.draw(st.integers(begin, end), "heard")
    history = StreamStart(seed=SEED, history=frames[first:30], history_frame=first, next_sample=begin)
    full = pushed(codec.open(history), frames[30:], (1, 2, 4))[heard - begin :]
    lean = pushed(codec.open(replace(history, next_sample=heard)), frames[30:], (1, 2, 4))
    np.testing.assert_allclose(lean, full, rtol=0, atol=1e-6)


def test_join_in_the_served_configurations(real_model: SnacModel) -> None:
    """`to_be_continued`: the first stream withholds what is not certain, the second one gives it first."""
    codec = SnacCodec(real_model)
    length = codec.context_frames + codec.lookahead_frames + 3
    frames, border = codes(real_model, length), length - 2
    first = codec.open(StreamStart(seed=SEED)).push(frames[:border])
    begin = max(0, len(first) // codec.frame_samples - codec.context_frames)
    start = StreamStart(seed=SEED, history=frames[begin:border], history_frame=begin, next_sample=len(first))
    joined = np.concatenate([first, pushed(codec.open(start), frames[border:])])
    assert begin > 0
    assert_exact(joined, whole(real_model, frames))


def test_history_alone_is_given_on_flush(small_model: SnacModel) -> None:
    codec, frames = SnacCodec(small_model), codes(small_model, 5)
    stream = codec.open(StreamStart(seed=SEED, history=frames))
    assert_exact(stream.flush(), whole(small_model, frames))


def test_a_quarter_of_the_context_is_not_exact(make_model: Callable[[SnacConfig], SnacModel]) -> None:
    """The computed context is needed, though its first frames weigh little."""
    config = SnacConfig(
        encoder_dim=4, encoder_rates=(2, 2), decoder_dim=16, decoder_rates=(2, 2), attn_window_size=None,
        codebook_size=8, vq_strides=(2, 1), noise=False, causal=True,
    )  # fmt: skip
    model = make_model(config)
    codec = SnacCodec(model)
    frames = codes(model, 60)
    whole_sound = model.decode(frames)
    heard = 50 * codec.frame_samples

    def error(context: int) -> float:
        history = frames[50 - context : 50]
        start = StreamStart(history=history, history_frame=50 - context, next_sample=heard)
        return float(abs(pushed(codec.open(start), frames[50:]) - whole_sound[heard:]).max())

    assert error(codec.context_frames) < 1e-6 < error(codec.context_frames // 4)


def test_read_only_frames_and_other_integer_types_are_taken(small_model: SnacModel) -> None:
    codec, frames = SnacCodec(small_model), codes(small_model, 3)
    read_only = frames.copy()
    read_only.flags.writeable = False
    expected = pushed(codec.open(StreamStart()), frames)
    assert_exact(pushed(codec.open(StreamStart()), read_only), expected)
    assert_exact(pushed(codec.open(StreamStart()), frames.astype(np.int32)), expected)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros(7, np.int64), r"shape \[n, 7\]"),
        (np.zeros((1, 6), np.int64), r"shape \[n, 7\]"),
        (np.zeros((1, 7)), "must be integers"),
        (np.full((1, 7), 64), "codes from 64 to 64: must be 0 to 63"),
        (np.full((1, 7), -1), "must be 0 to 63"),
    ],
)
def test_bad_frames_are_refused(small_model: SnacModel, frames: NDArray[np.int64], message: str) -> None:
    codec = SnacCodec(small_model)
    with pytest.raises(ValueError, match=message):
        codec.open(StreamStart()).push(frames)
    with pytest.raises(ValueError, match=message):
        codec.open(StreamStart(history=frames))


@pytest.mark.parametrize(("first", "sample"), [(0, 2 * 96 + 1), (3, 0), (3, 6 * 96), (-1, 0)])
def test_a_position_outside_the_history_is_refused(small_model: SnacModel, first: int, sample: int) -> None:
    start = StreamStart(history=codes(small_model, 2), history_frame=first, next_sample=sample)
    with pytest.raises(ValueError, match="next_sample="):
        SnacCodec(small_model).open(start)


def test_a_flushed_stream_takes_no_more(small_model: SnacModel) -> None:
    stream = SnacCodec(small_model).open(StreamStart())
    assert len(stream.flush()) == 0
    with pytest.raises(RuntimeError, match="flushed"):
        stream.push(codes(small_model, 1))
    with pytest.raises(RuntimeError, match="flushed"):
        stream.flush()


def test_slots_may_be_in_another_order(small_config: SnacConfig, small_state: dict[str, Tensor]) -> None:
    model = build_model(small_config, small_state)
    turned = build_model(small_config, small_state, slots=model.slots[::-1])
    frames = codes(model, 3)
    assert_exact(turned.decode(frames[:, ::-1]), model.decode(frames))
    with pytest.raises(ValueError, match="not the codes of a frame"):
        build_model(small_config, small_state, slots=model.slots[:-1])
    with pytest.raises(ValueError, match="multiple of the next"):
        msgspec.structs.replace(small_config, vq_strides=(4, 3))


@pytest.mark.parametrize("gone", [True, False])
def test_a_gpu_that_is_gone_is_told_from_a_decode_that_failed(
    small_model: SnacModel, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    codec = SnacCodec(small_model)
    stream = codec.open(StreamStart())
    codec._device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "synchronize", fail if gone else lambda device: None)
    monkeypatch.setattr(DecoderStream, "push", fail)
    with pytest.raises(DeviceLost if gone else torch.AcceleratorError, match="unspecified launch failure"):
        stream.push(codes(small_model, 1))
