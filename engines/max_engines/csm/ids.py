"""One line of ids for a model that reads text and frames of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Place: TypeAlias = tuple[int, ...]  # the ids that stand at one position of the backbone


@dataclass(frozen=True, slots=True)
class FrameIds:
    """Ids below `text_size` are the tokenizer's. Then each of the `codebooks` has a range of `size` ids, in order.

    A frame is one id of each codebook. A place is what the backbone reads at one position: one id of text, or a frame.
    A frame of `end_code` alone ends a sound; the id of text `end_id` stands for it, in prompts and in what is said.
    """

    text_size: int
    codebooks: int
    size: int
    end_code: int
    end_id: int

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self.text_size + self.codebooks * self.size

    @property
    def filler(self) -> int:
        """The code that stands where none is: the last one, which published models have for padding."""
        return self.size - 1

    def first(self, codebook: int) -> int:
        """The id of a codebook's code 0."""
        return self.text_size + codebook * self.size

    def codes(self, place: Place) -> tuple[int, ...] | None:
        """The codes of a place; None if text stands there."""
        if place[0] == self.end_id:
            return (self.end_code,) * self.codebooks
        if place[0] < self.text_size:
            return None
        return tuple([id_ - self.first(codebook) for codebook, id_ in enumerate(place)])

    def is_end(self, frame: Place) -> bool:
        """True for a frame that ends a sound: its last code does not matter, as in transformers."""
        return (self.codes(frame) or ())[:-1] == (self.end_code,) * (self.codebooks - 1)

    def places(self, ids: Sequence[int], field: str) -> list[Place]:
        """What stands where. ValueError, naming `field`, for ids of codes that are no whole frames in order."""
        found: list[Place] = []
        at, count = 0, self.codebooks
        while at < len(ids):
            place = tuple(ids[at : at + (1 if ids[at] < self.text_size else count)])
            for codebook, id_ in enumerate(place):
                if id_ >= self.text_size and not self.first(codebook) <= id_ < self.first(codebook + 1):
                    raise ValueError(f"{field}[{at + codebook}] = {id_}: must be a code of codebook {codebook}")
                if id_ < self.text_size and codebook:
                    raise ValueError(f"{field}[{at + codebook}] = {id_}: must be a code, within a frame")
            if place[0] >= self.text_size and len(place) < count:
                raise ValueError(f"{field}: ends within a frame, which is {count} ids")
            found.append(place)
            at += len(place)
        return found
