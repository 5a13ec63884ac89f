"""Films, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from .access import NOTHING, Access
from .choosing import Choice, every_frame
from .container import opened
from .errors import decoding, named, refuse
from .image import read_image
from .items import Array, FileItem, Film, FilmItem, Frames, ImageItem, Pixels
from .limits import DEFAULT_LIMITS, MediaLimits
from .sound import decoded_sound
from .source import read_file

QUARTER = 90  # degrees
MOST_FPS = 1000


def read_film(
    item: FilmItem,
    limits: MediaLimits = DEFAULT_LIMITS,
    access: Access = NOTHING,
    *,
    choose: Choice = every_frame,
    sound_rate: int | None = None,
    name: str = "video",
) -> Film:
    """The frames of a film that `choose` keeps: `at_fps(2)`, `evenly(8)`, or all; with `sound_rate` also its sound.

    Files are whatever FFmpeg decodes in MP4, Matroska, WebM, AVI or Ogg; turned as they say. They are decoded in order,
    up to the last frame that is kept; frames that a film only claims to have at its end are missing from what is read.
    ValueError, beginning with `name` ("videos[2]"), says what is wrong with it.
    """
    with named(name):
        frames, fps = with_rate(item)
        if isinstance(frames, np.ndarray):
            return _of_array(frames, fps, choose, limits)
        if isinstance(frames, list | tuple):
            return _of_images(frames, fps, choose, limits, access)
        if isinstance(frames, Image.Image):
            raise ValueError("is an image; a film is given as a list of them")
        data = read_file(cast(FileItem, frames), limits, access)
        with decoding("a film"):
            film = _decoded(data, choose, limits)
            sound = None if sound_rate is None else decoded_sound(data, sound_rate, limits)
        return replace(film, sound=sound)


def with_rate(item: FilmItem) -> tuple[FileItem | Frames, float | None]:
    """An item, and what it says beside it of how many frames make a second. ValueError for a rate that is none."""
    if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[1], int | float):
        return item, None
    frames, fps = item
    if not 0 < fps <= MOST_FPS:
        raise ValueError(f"{fps} frames a second: must be more than 0 and at most {MOST_FPS}")
    return frames, float(fps)


def _decoded(data: bytes, choose: Choice, limits: MediaLimits) -> Film:
    total, fps = _counted(data, limits)
    chosen = _chosen(choose, total, fps, limits)
    with opened(data, limits) as file:
        stream = _picture(file.streams.video)
        limits.check_decoded((chosen[-1] + 1) * stream.width * stream.height)
        wanted, frames, found, decoded = set(chosen), np.zeros((0, 0, 0, 3), np.uint8), 0, 0
        for index, frame in enumerate(file.decode(stream)):
            limits.go_on()
            limits.check_pixels(frame.width, frame.height)
            decoded += frame.width * frame.height
            limits.check_decoded(decoded)
            if index in wanted:
                pixels = _upright(frame)
                if not found:
                    frames = _room(len(chosen), pixels, limits)
                    limits.take_pixels(frames.size // 3)
                if pixels.shape != frames.shape[1:]:
                    raise refuse("has frames of more than one size")
                frames[found] = pixels
                found += 1
            if index >= chosen[-1]:
                break
    if not found:
        raise refuse("has no frame that can be decoded")
    return Film(frames[:found], tuple(chosen[:found]), total, fps)


def _counted(data: bytes, limits: MediaLimits) -> tuple[int, float | None]:
    """How many frames it has, and how many a second.

    They are counted without being decoded: some files do not tell, and others do not tell the truth.
    """
    with opened(data, limits) as file:
        stream = _picture(file.streams.video)
        limits.check_film_frames(stream.frames)
        if stream.width and stream.height:
            limits.check_pixels(stream.width, stream.height)
        total, first = 0, None
        for packet in file.demux(stream):
            limits.go_on()
            if packet.size and not packet.is_discard:
                total += 1
            if packet.pts is not None and packet.time_base:
                time = float(packet.pts * packet.time_base)
                first = time if first is None else first
                limits.check_seconds(time - first)
            limits.check_film_frames(total)
        rate = stream.average_rate or stream.guessed_rate
        return total, float(rate) if rate else None


def _picture(streams: Sequence[VideoStream]) -> VideoStream:
    """The first stream of pictures."""
    if not streams:
        raise refuse("has no pictures in it")
    return streams[0]


def _chosen(choose: Choice, total: int, fps: float | None, limits: MediaLimits) -> list[int]:
    """Which frames to keep; ValueError if there are none, or too many."""
    if not total:
        raise refuse("has no frames")
    try:
        chosen = [int(index) for index in choose(total, fps)]
    except ValueError as problem:
        raise refuse(str(problem)) from problem
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= total:
        raise refuse(f"the frames to keep must be some of 0 to {total - 1}, rising")
    if len(chosen) > limits.frames:
        raise refuse(f"{len(chosen)} frames, the limit is {limits.frames}; set fps or num_frames to keep fewer")
    return chosen


def _room(count: int, pixels: Pixels, limits: MediaLimits) -> Pixels:
    """For all the frames, like the first."""
    height, width, _ = pixels.shape
    if count * height * width > limits.film_pixels:
        raise refuse(
            f"{count} frames of {width} × {height} pixels, the limit is {limits.film_pixels} pixels in all; "
            "set fps or num_frames to keep fewer"
        )
    return np.empty((count, height, width, 3), np.uint8)


def _upright(frame: VideoFrame) -> Pixels:
    """RGB, turned as the file says: uint8 [height, width, 3]."""
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / QUARTER) % 4)


def _of_array(array: Array, fps: float | None, choose: Choice, limits: MediaLimits) -> Film:
    """A film that a caller has decoded."""
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
        raise ValueError(f"{array.dtype} of shape {array.shape}; expected uint8 [n, height, width, 3]")
    limits.check_film_frames(len(array))
    chosen = _chosen(choose, len(array), fps, limits)
    frames = _room(len(chosen), array[0], limits)
    limits.take_pixels(frames.size // 3)
    frames[:] = array[chosen]
    return Film(frames, tuple(chosen), len(array), fps)


def _of_images(
    images: Sequence[ImageItem], fps: float | None, choose: Choice, limits: MediaLimits, access: Access
) -> Film:
    """A film as its frames; only those that are kept are read."""
    limits.check_film_frames(len(images))
    chosen = _chosen(choose, len(images), fps, limits)
    frames = np.zeros((0, 0, 0, 3), np.uint8)
    for at, index in enumerate(chosen):
        pixels = read_image(images[index], limits, access, name=f"frame {index}")
        if not at:
            frames = _room(len(chosen), pixels, limits)
        if pixels.shape != frames.shape[1:]:
            raise ValueError("has frames of more than one size")
        frames[at] = pixels
    return Film(frames, tuple(chosen), len(images), fps)
