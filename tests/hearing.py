"""What an ear would notice of a sound: silence, pitch, clicks, and whether two sounds are one."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

AUDIBLE = 0.01  # of full scale: 40 dB below the loudest
LOWEST_HZ, HIGHEST_HZ = 70.0, 400.0  # of a voice
WINDOW_S, HOP_S = 0.04, 0.02  # of pitch
VOICED = 0.8  # of a window's energy comes again a period later
BURST_S = 0.001  # as long as a click, and shorter than anything that is spoken
AROUND_S = 0.02  # what a click is heard against


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A sound, float32[n], and its sample rate."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.samples.size / self.rate


def decoded(name: str, data: bytes, pcm_rate: int = 24_000) -> Heard:
    """What a file of a format holds; nothing in pcm says its rate."""
    if name == "pcm":
        return Heard(np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32767), pcm_rate)
    with av.open(io.BytesIO(data), "r") as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
        frames = [part for frame in file.decode(stream) for part in resampler.resample(frame)]
        return Heard(np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]), stream.rate)


def resampled(sound: Heard, rate: int) -> Heard:
    """The sound at another rate, by a filter that is none of ours: what is above the lower rate's half is cut off."""
    spectrum = np.fft.rfft(sound.samples)
    size = round(sound.samples.size * rate / sound.rate)
    kept = np.zeros(size // 2 + 1, np.complex128)
    count = min(kept.size, spectrum.size)
    kept[:count] = spectrum[:count]
    samples = np.fft.irfft(kept, size) * size / sound.samples.size
    return Heard(samples.astype(np.float32), rate)


def lag(sound: Heard, other: Heard) -> int:
    """How many samples later the same is to be heard in `other`. Both have one rate."""
    size = 1 << (sound.samples.size + other.samples.size).bit_length()
    spectrum = np.fft.rfft(other.samples, size) * np.conj(np.fft.rfft(sound.samples, size))
    best = int(np.argmax(np.fft.irfft(spectrum, size)))
    return best if best < size // 2 else best - size


def likeness(sound: Heard, other: Heard) -> float:
    """How alike two sounds are once one is shifted onto the other: 1 for the same, about 0 for two that are not."""
    shift = lag(sound, other)
    first, second = sound.samples[max(0, -shift) :], other.samples[max(0, shift) :]
    size = min(first.size, second.size)
    first, second = first[:size], second[:size]
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def pitch(sound: Heard) -> float:
    """The median pitch of what is voiced in it, in Hz, by autocorrelation."""
    size, hop = round(WINDOW_S * sound.rate), round(HOP_S * sound.rate)
    shortest, longest = round(sound.rate / HIGHEST_HZ), round(sound.rate / LOWEST_HZ)
    periods: list[float] = []
    for start in range(0, sound.samples.size - size, hop):
        window = sound.samples[start : start + size]
        if np.abs(window).max() < 5 * AUDIBLE:
            continue
        spectrum = np.fft.rfft(window - window.mean(), 2 * size)
        again = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 2]
        again *= size / (size - np.arange(again.size))  # the further apart, the fewer samples meet
        best = shortest + int(np.argmax(again[shortest : longest + 1]))
        if again[best] > VOICED * again[0]:
            periods.append(best + _peak(again[best - 1], again[best], again[best + 1]))
    return sound.rate / float(np.median(periods))


def _peak(before: float, at: float, after: float) -> float:
    """Where between samples the top of a hill is."""
    bend = before - 2 * at + after
    return 0.0 if bend == 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def sharpness(sound: Heard) -> NDArray[np.float64]:
    """For each millisecond, float64[n], how much sharper it is than what is around it; about 1 for steady sound.

    What is measured is the second difference: a click is a burst of all frequencies, and stands out in it.
    """
    size = round(BURST_S * sound.rate)
    edges = np.diff(sound.samples.astype(np.float64), 2)
    bursts = np.abs(edges[: edges.size - edges.size % size]).reshape(-1, size).max(axis=1)
    around = round(AROUND_S / BURST_S)
    padded = np.pad(bursts, around, mode="reflect")
    beside = np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1)
    usual = np.quantile(beside, 0.9, axis=1)
    return np.asarray(bursts / np.maximum(usual, AUDIBLE / 10))


def sharpest_near(sound: Heard, borders_s: list[float], within_s: float = 0.003) -> float:
    """The largest sharpness at some places, in seconds."""
    values, reach = sharpness(sound), round(within_s / BURST_S)
    places = [round(border / BURST_S) for border in borders_s if border < sound.seconds - within_s]
    return max(float(values[max(0, place - reach) : place + reach + 1].max()) for place in places)


def pauses(sound: Heard, at_least_s: float) -> NDArray[np.float64]:
    """For how long nothing can be heard, float64[n], in seconds, where that is long enough, between its ends."""
    loud = np.flatnonzero(np.abs(sound.samples) > AUDIBLE)
    silent = np.diff(loud) / sound.rate
    return np.asarray(silent[silent >= at_least_s])
