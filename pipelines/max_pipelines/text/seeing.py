"""What of a film a model is shown and played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from max_engines.media.films import SeenFilm
from max_engines.media.processor import MediaProcessor
from max_interfaces.values import JsonValue

from ..media import MediaLimits, read_film
from ..media.film import MOST_FPS

FLAGS = ("load_audio_from_video", "do_sample_frames")
NAMES = frozenset({"fps", "num_frames", *FLAGS})
MOST_FRAMES = 2**20


@dataclass(frozen=True, slots=True)
class Seeing:
    """`fps` frames a second are seen, or `num_frames` in all, or as many as the model's processor takes by itself.

    Not `sampled`, every one is; `heard` says whether the film's sound is, too.
    """

    fps: float | None = None
    num_frames: int | None = None
    heard: bool = False
    sampled: bool = True

    @classmethod
    def of(cls, options: Mapping[str, JsonValue]) -> tuple[Seeing, dict[str, JsonValue]]:
        """From `processor_options`, and the rest of them. ValueError, naming it, for one that is none."""
        fps, count = options.get("fps"), options.get("num_frames")
        if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= MOST_FPS):
            raise ValueError(f"processor_options.fps = {fps!r:.80}: must be a number above 0, and at most {MOST_FPS}")
        if count is not None and (type(count) is not int or not 0 < count <= MOST_FRAMES):
            raise ValueError(f"processor_options.num_frames = {count!r:.80}: must be from 1 to {MOST_FRAMES}")
        for name in FLAGS:
            if options.get(name) not in (None, True, False):
                raise ValueError(f"processor_options.{name} = {options[name]!r:.80}: must be true or false")
        heard, sampled = options.get("load_audio_from_video"), options.get("do_sample_frames")
        rest = {name: value for name, value in options.items() if name not in NAMES}
        return cls(fps, count, bool(heard), sampled is None or bool(sampled)), rest

    def read(self, item: bytes, processor: MediaProcessor, limits: MediaLimits, name: str) -> SeenFilm:
        """The frames and the sound of a file. ValueError, beginning with `name`, for one that cannot be seen so."""

        def choose(total: int, fps: float | None) -> Sequence[int]:
            return processor.frames(total, fps, self.fps, self.num_frames) if self.sampled else range(total)

        rate = processor.sampling_rate if self.heard else None
        if rate == 0:
            raise ValueError("processor_options.load_audio_from_video = True: this model does not hear; leave it out")
        film = read_film(item, limits, choose=choose, sound_rate=rate, name=name)
        sound = None if film.sound is None else film.sound.samples
        return SeenFilm(film.frames, film.indices, film.total, film.fps, self.fps, sound)
