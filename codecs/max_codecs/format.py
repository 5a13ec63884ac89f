"""Everything that serving must know of a speech model beside its weights, as data: YAML, or the voice's own file."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from .constraint import FrameBounds, PhaseBounds, SlotOrder, SpeechPhases
from .delay_order import DelayOrder
from .layout import SpeechLayout


class SamplingDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was tuned for: used where a request leaves its sampling at the defaults."""

    temperature: Annotated[float, Meta(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    max_new_tokens: Annotated[int, Meta(ge=1, le=2**20)] = 2048
    top_k: Annotated[int, Meta(ge=-1, le=2**20)] = -1


class SpeechFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model reads text and writes sound.

    `spell`: numbers and the like must be written out in letters first. `max_words` bounds the text of one request,
    as written out; 0 if nothing does. `frames`, or `phases` for a model that writes phones, bound the sound. The first
    `fade_in` samples of a sound are faded in: a causal decoder starts from nothing, which would click.
    """

    layout: SpeechLayout
    spell: bool = False
    max_words: Annotated[int, Meta(ge=0, le=2**20)] = 0
    sampling: SamplingDefaults = SamplingDefaults()
    frames: FrameBounds = FrameBounds()
    phases: PhaseBounds = PhaseBounds()
    fade_in: Annotated[int, Meta(ge=0, le=2**16)] = 0

    def constraint(self, vocab_size: int) -> SlotOrder | SpeechPhases | DelayOrder:
        """What holds the order of the ids; one object serves all requests."""
        if self.layout.delays is not None:
            return DelayOrder(self.layout, vocab_size, self.frames)
        if self.layout.phones is not None:
            return SpeechPhases(self.layout, vocab_size, self.phases)
        return SlotOrder(self.layout, vocab_size, self.frames)
