"""What of a film a model is shown and played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from max_engines.media.films import SeenFilm
from max_engines.media.processor import MediaProcessor
from max_interfaces.values import JsonValue

from ..media import MediaLimits, read_film

NAMES = frozenset({"fps", "num_frames", "load_audio_from_video"})


@dataclass(frozen=True, slots=True)
class Seeing:
    """`fps` frames a second are seen, or `num_frames` in all, or every one; `heard` says whether its sound is, too."""

    fps: float | None = None
    num_frames: int | None = None
    heard: bool = False

    @classmethod
    def of(cls, options: Mapping[str, JsonValue]) -> tuple[Seeing, dict[str, JsonValue]]:
        """From `processor_options`, and the rest of them. ValueError, naming it, for one that is none."""
        fps, count, heard = (options.get(name) for name in ("fps", "num_frames", "load_audio_from_video"))
        if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000):
            raise ValueError(f"processor_options.fps = {fps!r:.80}: must be a number above 0, and at most 1000")
        if count is not None and (type(count) is not int or not 0 < count <= 2**20):
            raise ValueError(f"processor_options.num_frames = {count!r:.80}: must be from 1 to {2**20}")
        if heard not in (None, True, False):
            raise ValueError(f"processor_options.load_audio_from_video = {heard!r:.80}: must be true or false")
        rest = {name: value for name, value in options.items() if name not in NAMES}
        return cls(fps, count, bool(heard)), rest

    def read(self, item: bytes, processor: MediaProcessor, limits: MediaLimits, name: str) -> SeenFilm:
        """The frames and the sound of a file. ValueError, beginning with `name`, for one that cannot be seen so."""

        def choose(total: int, fps: float | None) -> Sequence[int]:
            return processor.frames(total, fps, self.fps, self.num_frames)

        rate = processor.sampling_rate if self.heard else None
        if rate == 0:
            raise ValueError("processor_options.load_audio_from_video = True: this model does not hear; leave it out")
        film = read_film(item, limits, choose=choose, sound_rate=rate, name=name)
        sound = None if film.sound is None else film.sound.samples
        return SeenFilm(film.frames, film.indices, film.total, film.fps, self.fps, sound)
