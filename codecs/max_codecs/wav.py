"""WAV, mono, 16 bits: as a stream whose end is not known, and as a file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from .pcm import to_s16

_UNKNOWN = 0xFFFFFFFF  # the size field of a stream; players read on until it ends
_HEADER_BYTES = 44
_MAX_DATA = _UNKNOWN - _HEADER_BYTES  # what a size field of 32 bits can say


def wav_header(sample_rate: int, data_bytes: int | None = None) -> bytes:
    """The 44 bytes before the samples; `data_bytes` None: unknown. ValueError for a size or a rate out of range."""
    if not 1 <= sample_rate <= 768_000:
        raise ValueError(f"sample_rate={sample_rate}: must be 1 to 768000")
    if data_bytes is not None and not 0 <= data_bytes <= _MAX_DATA:
        raise ValueError(f"{data_bytes} bytes of sound: a WAV file holds {_MAX_DATA} at most")
    data = _UNKNOWN if data_bytes is None else data_bytes
    riff = _UNKNOWN if data_bytes is None else data_bytes + _HEADER_BYTES - 8
    form = (16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)  # its size; PCM, mono, rate, bytes/s, bytes/sample, bits
    return struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", riff, b"WAVEfmt ", *form, b"data", data)


class WavStream:
    """Writes WAV to a pipe or a socket while it is made; each `write` is flushed, so that it can be heard at once."""

    def __init__(self, out: BinaryIO, sample_rate: int) -> None:
        self._out = out
        self._out.write(wav_header(sample_rate))
        self._out.flush()

    def write(self, samples: NDArray[np.floating]) -> None:
        """Samples [n] in [-1, 1]. OSError (BrokenPipeError) when nobody reads any more."""
        self._out.write(to_s16(samples).tobytes())
        self._out.flush()


class WavFile:
    """`with WavFile(path, 24000) as file: file.write(samples)`: at the end of the block the file is there, whole.

    Until then the samples are in a file beside it with another name; when the block ends in an exception that file is
    removed and the target is as it was. OSError that names the target, at the start, if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        self._rate = sample_rate
        self._bytes = 0

    def __enter__(self) -> Self:
        header = wav_header(self._rate)
        self._check_target()
        try:
            self._file = self._partial.open("wb")
            self._file.write(header)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            error.filename = str(self._path)  # the name that the caller knows
            raise
        except BaseException:  # a signal: the block will not be entered, so nobody would leave it
            self._partial.unlink(missing_ok=True)
            raise
        return self

    def _check_target(self) -> None:
        """Renaming would replace a device or a protected file where writing would not."""
        if not self._path.exists():
            return
        if not self._path.is_file():
            raise OSError(errno.EINVAL, "is no regular file", str(self._path))
        if not os.access(self._path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._path))

    def write(self, samples: NDArray[np.floating]) -> None:
        """Samples [n] in [-1, 1]. ValueError when the sound becomes longer than a WAV file can be."""
        data = to_s16(samples).tobytes()
        wav_header(self._rate, self._bytes + len(data))
        self._file.write(data)
        self._bytes += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if error is None:
                    self._file.seek(0)
                    self._file.write(wav_header(self._rate, self._bytes))
            if error is None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)
