"""One file of sound, made piece by piece while it is already being read."""

from __future__ import annotations

from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from ..pcm import to_s16
from ..wav import wav_header
from .formats import SoundFormat
from .frames import MONO, Frames
from .resampler import Resampler


class SoundEncoder(Protocol):
    """Samples in, the bytes of one file out: its header comes once, before the first of them."""

    def push(self, samples: NDArray[np.float32]) -> bytes:
        """Take the next samples [n] in [-1, 1]; the bytes that are ready, maybe none."""
        ...

    def finish(self) -> bytes:
        """The last bytes. Nothing may be pushed afterwards."""
        ...


def open_encoder(form: SoundFormat, rate: int, to_rate: int) -> SoundEncoder:
    """An encoder of sound that comes at `rate` and is sent at `to_rate`. ValueError for a rate that it cannot hold."""
    if to_rate not in form.rates:
        which = (
            ", ".join(map(str, form.rates)) if isinstance(form.rates, tuple) else f"{form.rates[0]} to {form.rates[-1]}"
        )
        raise ValueError(f"sample_rate = {to_rate}: {form.name} takes {which}")
    if form.codec:
        return CompressedEncoder(form, rate, to_rate)
    return PlainEncoder(rate, to_rate, wav_header(to_rate) if form.name == "wav" else b"")


class PlainEncoder:
    """16-bit samples as they are, after a header or none."""

    def __init__(self, rate: int, to_rate: int, header: bytes) -> None:
        self._resampler = Resampler(rate, to_rate)
        self._header = header

    def push(self, samples: NDArray[np.float32]) -> bytes:
        """See `SoundEncoder`."""
        return self._taken(self._resampler.push(samples))

    def finish(self) -> bytes:
        """See `SoundEncoder`."""
        return self._taken(self._resampler.flush())

    def _taken(self, samples: NDArray[np.float32]) -> bytes:
        header, self._header = self._header, b""
        return header + to_s16(samples).tobytes()


class CompressedEncoder:
    """What FFmpeg encodes. Each packet leaves as soon as its frame is full; equal sounds give equal files."""

    def __init__(self, form: SoundFormat, rate: int, to_rate: int) -> None:
        self._out = _Out()
        self._resampler = Resampler(rate, to_rate)
        self._frames = Frames(to_rate)
        options = {"flush_packets": "1", "fflags": "+bitexact", **dict(form.container_options)}
        self._container = av.open(self._out, "w", format=form.container, container_options=options)
        stream = self._container.add_stream(form.codec, rate=to_rate, layout=MONO, options=dict(form.codec_options))
        if not isinstance(stream, av.AudioStream):
            raise ValueError(f"{form.codec} is no codec of sound")
        stream.codec_context.open()  # now, and not when the first sound is there
        self._stream = stream

    def push(self, samples: NDArray[np.float32]) -> bytes:
        """See `SoundEncoder`."""
        self._encode(self._resampler.push(samples))
        return self._out.take()

    def finish(self) -> bytes:
        """See `SoundEncoder`."""
        self._encode(self._resampler.flush())
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._out.take()

    def _encode(self, samples: NDArray[np.float32]) -> None:
        if samples.size:
            clipped = np.clip(samples, -1.0, 1.0)  # louder would wrap around in some codecs
            self._container.mux(self._stream.encode(self._frames.frame(clipped)))


class _Out:
    """The file that FFmpeg writes: it cannot be sought in, so nothing is written twice."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken
