"""A model's own processor: a prompt with its images and sounds becomes ids and features."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.processing_utils import AudioKwargs

from max_interfaces.protocols import Feature
from max_interfaces.text import MediaKind
from max_interfaces.values import JsonValue

from ..loading import first_line
from .films import QwenFilms, SeenFilm
from .processing import NoVideos, open_processor, prompt_of

Ids = tuple[int, ...]
Encode = Callable[[str], Sequence[int]]
PARTS = {
    MediaKind.IMAGE: "image_processor",
    MediaKind.AUDIO: "feature_extractor",
    MediaKind.VIDEO: "video_processor",
}
ONE_RATE = "video_second_per_grid"  # of processors that take all films of a prompt to be shown at one rate
SAME = 1e-3  # rates that differ by less are one: a second in a quarter of an hour
OURS = {"return_tensors", "sampling_rate", "padding", "truncation", "device", "disable_grouping"}  # not the caller's
STAND_IN = "\ufdd2"  # for a run of ids among placeholders; a noncharacter, so that no vocabulary has it


class MediaProcessor:
    """The processor of one checkpoint, for one prompt at a time. Not for several threads at once."""

    def __init__(self, inner: ProcessorMixin) -> None:
        self._inner = inner
        self._encoding = _Encoding(inner.tokenizer)
        inner.tokenizer = self._encoding
        self._films: QwenFilms | None = inner.video_processor if takes(inner, MediaKind.VIDEO) else None
        self.kinds = frozenset(kind for kind in MediaKind if takes(inner, kind))
        self._options = _options(inner) - OURS
        self.sampling_rate = int(getattr(getattr(inner, "feature_extractor", None), "sampling_rate", 0))

    @classmethod
    def open(cls, path_or_id: str | Path, revision: str | None = None) -> MediaProcessor:
        """That of a checkpoint. ValueError for one that has none, or whose cannot be read."""
        return cls(open_processor(path_or_id, revision))

    @property
    def chat_template(self) -> str | None:
        """The template that lies beside the processor, in older checkpoints; None where the tokenizer has it."""
        template = self._inner.chat_template
        return template if isinstance(template, str) else None

    def frames(self, total: int, film_fps: float | None, fps: float | None, num_frames: int | None) -> Sequence[int]:
        """Which of a film's frames the model is shown. ValueError if they cannot be."""
        if self._films is None:
            raise ValueError("this model is shown no films")
        return self._films.frames(total, film_fps, fps, num_frames)

    def process(
        self,
        prompt: str | Sequence[int],
        encode: Encode,
        images: Sequence[NDArray[np.uint8]] = (),
        sounds: Sequence[NDArray[np.float32]] = (),
        options: Mapping[str, JsonValue] | None = None,
        films: Sequence[SeenFilm] = (),
        most: int = sys.maxsize,
    ) -> tuple[Ids, tuple[Feature, ...]]:
        """Ids with as many placeholders as `images` `[height, width, 3]`, `sounds` `[samples]` and `films` take; those.

        A prompt has one placeholder for each of them; as text it is read by `encode` when they stand there. Sounds have
        `sampling_rate` samples a second. `options` are keyword arguments of the processor's own. ValueError for what
        does not fit together, and for films that take more than `most` placeholders, before there is room for them, or
        that are shown at rates of which the processor would take one for all.
        """
        given: dict[str, object] = dict(self._checked(options))
        if images:
            given["images"] = list(images)
        if sounds:
            given |= {"audio": list(sounds), "sampling_rate": self.sampling_rate}
        text = prompt
        if not isinstance(text, str):
            text, encode = self._written(text, encode)
        if films:
            self._check_room(films, given, most)
            self._check_rates(films)
            given |= self._seen(text, films, sounds)
        try:
            with self._encoding.by(encode):
                ids, features = prompt_of(self._inner(text=text, return_tensors="np", **given))
        except Exception as problem:  # a processor is a program of many forms, and what it is given a stranger's
            raise ValueError(f"the model's processor refuses them: {first_line(problem)}") from problem
        if "load_audio_from_video" in given:  # it tells where sounds are in time
            features += (Feature.of("use_audio_in_video", np.ones(1, np.int64)),)
        return ids, features

    def _check_room(self, films: Sequence[SeenFilm], options: Mapping[str, object], most: int) -> None:
        if self._films is None:
            raise ValueError("this model is shown no films")
        count = self._films.tokens([film.frames for film in films], options)
        if count > most:
            raise ValueError(
                f"videos: take {count} tokens, at most {most} fit; set fps or num_frames to show fewer frames"
            )

    def _check_rates(self, films: Sequence[SeenFilm]) -> None:
        if ONE_RATE not in self._inner.model_input_names:
            return
        first = films[0].shown_fps
        for at, film in enumerate(films):
            if not math.isclose(film.shown_fps, first, rel_tol=SAME):
                raise ValueError(
                    f"videos[{at}]: is shown at {film.shown_fps:g} frames a second, videos[0] at {first:g}, and this "
                    "model sees all at one rate; set fps"
                )

    def _seen(self, text: str, films: Sequence[SeenFilm], sounds: Sequence[NDArray[np.float32]]) -> dict[str, object]:
        """What the processor is told of films, and of the sounds in the order in which they are heard."""
        told: dict[str, object] = {"videos": [film.frames for film in films], "fps": films[0].shown_fps}
        told |= {"video_metadata": [film.metadata for film in films], "do_sample_frames": False}
        if all(film.sound is None for film in films):
            return told
        film_token: str = getattr(self._inner, "video_token")  # noqa: B009
        sound_token: str = getattr(self._inner, "audio_token")  # noqa: B009
        alone, seen = iter(sounds), iter(enumerate(films))
        heard: list[NDArray[np.float32]] = []
        of_film: list[int | None] = []
        for token in re.findall(f"{re.escape(film_token)}|{re.escape(sound_token)}", text):
            at, film = (None, None) if token == sound_token else next(seen, (None, None))
            sound = next(alone, None) if film is None else film.sound
            if sound is not None:
                heard.append(sound)
                of_film.append(at)
        return told | {
            "audio": heard,
            "sampling_rate": self.sampling_rate,
            "audio_from_video_indices": of_film,
            "load_audio_from_video": True,
        }

    def _checked(self, options: Mapping[str, JsonValue] | None) -> Mapping[str, JsonValue]:
        """ValueError, naming it, for an option that the processor does not know, or that is not the caller's."""
        for name in options or ():
            if name not in self._options:
                known = ", ".join(sorted(self._options))
                raise ValueError(f"processor_options.{name}: this model's processor takes {known}")
        return options or {}

    def _written(self, ids: Sequence[int], encode: Encode) -> tuple[str, Encode]:
        """Ids as a text, and how it is read: what is no added token has a character that stands for it."""
        added = {token: form.content for token, form in self._encoding.inner.added_tokens_decoder.items()}
        text = "".join(added.get(token, STAND_IN) for token in ids)
        plain = [token for token in ids if token not in added]

        def read(expanded: str) -> list[int]:
            stood_for = iter(plain)
            found: list[int] = []
            for piece in re.split(f"({STAND_IN})", expanded):
                found.extend([next(stood_for)] if piece == STAND_IN else encode(piece) if piece else ())
            return found

        return text, read


def takes(processor: object, kind: MediaKind) -> bool:
    """Whether a processor, or a tokenizer, has a part for media of a kind."""
    part = getattr(processor, PARTS[kind], None)
    return part is not None and not isinstance(part, NoVideos)


class _Encoding:
    """Stands in the place of a processor's tokenizer, and reads what its placeholders have become as it is told."""

    def __init__(self, inner: PreTrainedTokenizerBase) -> None:
        self.inner = inner
        self._encode: Encode = inner.encode

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        """As a tokenizer, of a list of texts."""
        return {"input_ids": [list(self._encode(text)) for text in texts]}

    @contextmanager
    def by(self, encode: Encode) -> Iterator[None]:
        """Within the block texts are read so."""
        self._encode = encode
        try:
            yield
        finally:
            self._encode = self.inner.encode


def _options(processor: ProcessorMixin) -> frozenset[str]:
    """The names of what a processor's parts can be told."""
    kinds: list[type] = []
    if (images := getattr(processor, "image_processor", None)) is not None:
        kinds.append(images.valid_kwargs)
    if getattr(processor, "feature_extractor", None) is not None:
        kinds.append(processor.valid_processor_kwargs.__annotations__.get("audio_kwargs", AudioKwargs))
    return frozenset(name for kind in kinds for name in getattr(kind, "__annotations__", {}))
