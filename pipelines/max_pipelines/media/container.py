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
from .mp4 import check_tables

# Those that are one file each. A playlist (HLS, DASH, concat) would open what it names: other files, other hosts.
# MPEG-TS is missing since FFmpeg decodes frames of any size to find out what is in it.
FORMATS = "wav,aiff,mp3,ogg,flac,aac,mov,matroska,webm,avi"
MICROSECONDS = 1_000_000


@contextmanager
def opened(data: bytes, limits: MediaLimits) -> Iterator[InputContainer]:
    """A file, its tables and its duration looked at already. ValueError if it is too long."""
    check_tables(data)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "max_pixels": str(limits.pixels)}
    file = av.open(io.BytesIO(data), "r", options=options, metadata_errors="ignore", io_open=_refuse_file)
    with file:
        durations = [(file.duration or 0) / MICROSECONDS]
        durations += [float((s.duration or 0) * s.time_base) for s in file.streams if s.time_base]
        check_seconds(max(durations), limits)
        yield file


def check_seconds(seconds: float, limits: MediaLimits) -> None:
    """ValueError if it is longer than allowed."""
    if seconds > limits.seconds:
        raise refuse(f"has {seconds:.0f} seconds or more, the limit is {limits.seconds:g}")


def _refuse_file(*arguments: object) -> Never:
    """FFmpeg wants to open another file."""
    raise refuse("names another file, which is not read")
