"""Files of sound and film, opened by FFmpeg with as little of it as is needed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import av
from av.container import InputContainer

from .errors import refuse
from .limits import MediaLimits
from .mp4 import checked_mp4

# By how they begin: FFmpeg itself would try all of its demuxers. Those of playlists (HLS, DASH, concat) open what they
# name, other files or other hosts; that of MPEG-TS decodes frames of any size to find out what there is.
MP4_NAMES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"})
BEGINNINGS = {b"OggS": "ogg", b"fLaC": "flac", b"FORM": "aiff", b"\x1aE\xdf\xa3": "matroska", b"RF64": "wav"}
RIFF = {b"WAVE": "wav", b"AVI ": "avi"}
MOST_SAMPLES = 2**21  # of one packet
MICROSECONDS = 1_000_000


@contextmanager
def opened(data: bytes, limits: MediaLimits) -> Iterator[InputContainer]:
    """A file, its tables and its duration looked at already. ValueError if it is too long, or of no known format."""
    demuxer = _demuxer(data)
    if demuxer is None:
        raise refuse("is no file of a known format (WAV, AIFF, FLAC, MP3, AAC, Ogg, MP4, Matroska, WebM, AVI)")
    if demuxer == "mov":
        data = checked_mp4(data)
    # With room for how FFmpeg rounds sizes up: the exact limit is held to each frame, this one before there is any.
    options = {"max_pixels": str(2 * limits.pixels + 2**16), "max_samples": str(MOST_SAMPLES)}
    with av.open(
        io.BytesIO(data), "r", demuxer, options=options, metadata_errors="ignore", io_open=_refuse_file
    ) as file:
        durations = [(file.duration or 0) / MICROSECONDS]
        durations += [float((stream.duration or 0) * (stream.time_base or 0)) for stream in file.streams]
        limits.check_seconds(max(durations))
        for stream in (*file.streams.video, *file.streams.audio):
            stream.codec_context.options = options
        yield file


def _demuxer(data: bytes) -> str | None:
    """FFmpeg's name for what reads it."""
    if data[4:8] in MP4_NAMES:
        return "mov"
    if data[:4] == b"RIFF":
        return RIFF.get(data[8:12])
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        layer = data[1] >> 1 & 3  # ADTS has 0 where MPEG audio has its layer
        return "aac" if data[:1] == b"\xff" and not layer else "mp3"
    return BEGINNINGS.get(data[:4])


def _refuse_file(*arguments: object) -> Never:
    """FFmpeg wants to open another file."""
    raise refuse("names another file, which is not read")
