"""Sounds, decoded."""

from __future__ import annotations

import av
import numpy as np

from max_codecs.sound.resampler import Resampler

from .access import NOTHING, Access
from .container import opened
from .errors import decoding, named, refuse
from .items import Array, Samples, Sound, SoundItem
from .limits import DEFAULT_LIMITS, MediaLimits
from .source import read_file

SLOWEST_RATE, FASTEST_RATE = 1000, 192_000  # Hz
MOST_CHANNELS = 32


def read_sound(
    item: SoundItem,
    rate: int | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    access: Access = NOTHING,
    *,
    name: str = "audio",
) -> Sound:
    """A sound as float32 [samples] at `rate` (without one: its own), all channels mixed into one by their mean.

    Files are whatever FFmpeg decodes in WAV, AIFF, MP3, Ogg, FLAC, AAC, MP4, Matroska, WebM or AVI. ValueError,
    beginning with `name` ("audio[2]"), says what is wrong with it.
    """
    with named(name):
        if rate is not None:
            _check_rate(rate)
        if isinstance(item, np.ndarray):
            if rate is None:
                raise ValueError("samples without a rate; give Sound(samples, rate)")
            return _of_array(item, rate, rate, limits)
        if isinstance(item, Sound):
            return _of_array(item.samples, item.rate, rate, limits)
        if isinstance(item, tuple):
            samples, own_rate = item
            return _of_array(samples, own_rate, rate, limits)
        data = read_file(item, limits, access)
        with decoding("sound"):
            sound = decoded_sound(data, rate, limits)
        if sound is None:
            raise ValueError("has no sound in it")
        return sound


def decoded_sound(data: bytes, rate: int | None, limits: MediaLimits) -> Sound | None:
    """The first sound track of a file, at `rate` or its own; None if it has none."""
    with opened(data, limits) as file:
        if not file.streams.audio:
            return None
        stream = file.streams.audio[0]
        own_rate = stream.codec_context.sample_rate
        _check_rate(own_rate)
        if stream.codec_context.channels > MOST_CHANNELS:
            raise refuse(f"has {stream.codec_context.channels} channels, the limit is {MOST_CHANNELS}")
        floats = av.AudioResampler(format="fltp")  # as it is, whatever the type of its samples
        resampler = Resampler(own_rate, rate or own_rate)
        pieces: list[Samples] = []
        count = 0
        for frame in file.decode(stream):
            limits.go_on()
            for part in floats.resample(frame):
                count += part.samples
                limits.check_seconds(count / own_rate)
                limits.take_seconds(part.samples / own_rate)
                pieces.append(resampler.push(_mixed(part.to_ndarray().astype(np.float32, copy=False))))
    if not count:
        raise refuse("holds no samples")
    return Sound(_finite(np.concatenate([*pieces, resampler.flush()])), rate or own_rate)


def _of_array(samples: Array, own_rate: int, rate: int | None, limits: MediaLimits) -> Sound:
    """Samples that a caller has decoded."""
    _check_rate(own_rate)
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or not samples.size:
        raise ValueError(f"samples of shape {samples.shape}; expected [n], [n, channels] or [channels, n]")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
        samples = samples.T
    channels = np.atleast_2d(samples)
    if len(channels) > MOST_CHANNELS:
        raise ValueError(f"has {len(channels)} channels, the limit is {MOST_CHANNELS}")
    limits.check_seconds(channels.shape[1] / own_rate)
    limits.take_seconds(channels.shape[1] / own_rate)
    resampler = Resampler(own_rate, rate or own_rate)
    mixed = resampler.push(_mixed(_floats(channels)))
    return Sound(np.concatenate([mixed, resampler.flush()]), rate or own_rate)


def _floats(samples: Array) -> Samples:
    """Integers are parts of their type's full scale."""
    if samples.dtype.kind == "i" and samples.dtype.itemsize in (2, 4):
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    if samples.dtype.kind != "f":
        raise ValueError(f"samples of type {samples.dtype}; expected floats, int16 or int32")
    return _finite(samples.astype(np.float32))


def _finite(samples: Samples) -> Samples:
    if not np.isfinite(samples).all():
        raise refuse("has samples that are not finite")
    return samples


def _mixed(channels: Samples) -> Samples:
    """[channels, n] as [n]."""
    mixed: Samples = channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float32)
    return mixed


def _check_rate(rate: int) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not SLOWEST_RATE <= rate <= FASTEST_RATE:
        raise refuse(f"a sample rate of {rate}; must be {SLOWEST_RATE} to {FASTEST_RATE}")
