"""Images, sounds and films beside vLLM's prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from max_interfaces import Json

from ..media import IN_PROCESS, Access
from ..media.given import NO_MEDIA, GivenMedia, films_listed, listed, what_is_taken
from ..media.items import FilmItem

KINDS = ("image", "audio", "video")


@dataclass(frozen=True, slots=True, eq=False)
class PromptMedia:
    """What stands beside one prompt, from where it may be read, and `mm_processor_kwargs`."""

    given: GivenMedia = NO_MEDIA
    access: Access = IN_PROCESS
    processor: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, prompt: Mapping[str, Any]) -> Self:
        """Those of a `TextPrompt` or `TokensPrompt`. ValueError for a kind that nobody can be given."""
        data = prompt.get("multi_modal_data") or {}
        for kind in data:
            if kind not in KINDS:
                raise ValueError(f"multi_modal_data: {kind!r}; give {', '.join(KINDS)}")
        films = tuple(map(_film, films_listed(data.get("video"))))
        given = GivenMedia(listed(data.get("image")), listed(data.get("audio")), films)
        return cls(given, processor=prompt.get("mm_processor_kwargs") or {})

    @property
    def is_there(self) -> bool:
        """Whether anything stands beside the text."""
        return bool(self.given.counts or self.processor)


TEXT_ALONE = PromptMedia()


@dataclass(frozen=True, slots=True, eq=False)
class MediaRules:
    """`limit_mm_per_prompt`, and `mm_processor_kwargs` for all prompts. ValueError for a limit that is none."""

    limits: Mapping[str, int] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, most in self.limits.items():
            if kind not in KINDS or type(most) is not int or most < 0:
                raise ValueError(f"limit_mm_per_prompt: {kind!r}: {most!r}; image, audio and video have a number each")

    def check(self, media: PromptMedia, kinds: Collection[str]) -> None:
        """ValueError for a kind that is none of `kinds`, and for more of one than is allowed."""
        for kind, count in media.given.counts.items():
            if kind.value not in kinds:
                raise ValueError(f"multi_modal_data: {kind.value}: {what_is_taken(kinds)}")
            most = self.limits.get(kind.value, count)
            if count > most:
                raise ValueError(f"multi_modal_data: {count} of kind {kind.value}; limit_mm_per_prompt allows {most}")

    async def fields(self, media: PromptMedia, kinds: Collection[str]) -> dict[str, Any]:
        """What a request has of them, to a model that takes `kinds`; files and URLs are read in a thread.

        ValueError for what cannot be had.
        """
        self.check(media, kinds)
        read = await asyncio.to_thread(media.given.encoded, media.access)
        options = {**self.processor, **media.processor}
        return {
            "images": read.images,
            "audios": read.audios,
            "videos": read.videos,
            "processor_options": Json.of(options, "mm_processor_kwargs") if options else None,
        }


def _film(given: Any) -> FilmItem:
    """A film as it is, or frames with their metadata, as vLLM's callers have it. ValueError for one that is none."""
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], Mapping):
        film: FilmItem = given
        return film
    frames, metadata = given
    fps, total = metadata.get("fps"), metadata.get("total_num_frames")
    if not isinstance(fps, int | float):
        raise ValueError(f"multi_modal_data: video: its metadata has fps = {fps!r:.80}; it must be a number")
    if not isinstance(frames, list | tuple | np.ndarray) or not len(frames):
        raise ValueError("multi_modal_data: video: metadata go with frames, at least one of them")
    total = len(frames) if total is None else total
    if not isinstance(total, int | np.integer) or total < 1:
        raise ValueError(
            f"multi_modal_data: video: its metadata has total_num_frames = {total!r:.80}; it must be 1 or more"
        )
    return frames, fps * len(frames) / total
