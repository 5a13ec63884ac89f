"""Everything that serving must know of a speech model beside its weights, as data: YAML, or the voice's own file."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from .constraint import FrameBounds, PhaseBounds, SlotOrder, SpeechPhases
from .delay_order import DelayOrder
from .layout import SpeechLayout


class SamplingDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was tuned for: used where a request leaves its sampling at the defaults.

    A text of c characters, as written out, gets floor(spare_tokens + tokens_per_character * c) new tokens at most, and
    never more than `max_new_tokens`; None: no bound by the text.
    """

    temperature: Annotated[float, Meta(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    max_new_tokens: Annotated[int, Meta(ge=1, le=2**20)] = 2048
    top_k: Annotated[int, Meta(ge=-1, le=2**20)] = -1
    tokens_per_character: Annotated[float, Meta(gt=0, le=1e4)] | None = None
    spare_tokens: Annotated[int, Meta(ge=0, le=2**20)] = 0

    def tokens_for(self, text: str | None) -> int:
        """The most new tokens for a text, or for a prompt whose text is not known."""
        if text is None or self.tokens_per_character is None:
            return self.max_new_tokens
        return max(1, min(self.max_new_tokens, int(self.spare_tokens + self.tokens_per_character * len(text))))


class SpeechFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model reads text and writes sound.

    `normalize`: numbers, dates, addresses and the like are written out first, in English, unless a request says
    otherwise; `spell`: that is done, and the text is reduced to the letters that the embedded voice knows. `tags`, such
    as <laugh>, are no text and stay as they are. With `full_stop` a text that ends in a letter is ended by one, if
    nothing is to follow. `max_words` bounds the text of one request, as written out; 0 if nothing does. `frames`, or
    `phases` for a model that writes phones, bound the sound. The first `fade_in` samples of a sound are faded in: a
    causal decoder starts from nothing, which would click.
    """

    layout: SpeechLayout
    spell: bool = False
    normalize: bool = False
    tags: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=256)] = ()
    full_stop: bool = False
    max_words: Annotated[int, Meta(ge=0, le=2**20)] = 0
    sampling: SamplingDefaults = SamplingDefaults()
    frames: FrameBounds = FrameBounds()
    phases: PhaseBounds = PhaseBounds()
    fade_in: Annotated[int, Meta(ge=0, le=2**16)] = 0

    @property
    def normalizes(self) -> bool:
        """Whether a text is written out unless a request says otherwise."""
        return self.normalize or self.spell

    def constraint(self, vocab_size: int, words: int | None = None) -> SlotOrder | SpeechPhases | DelayOrder:
        """What holds the order of the ids, for a text of so many words; one object serves all such requests."""
        if self.layout.delays is not None:
            return DelayOrder(self.layout, vocab_size, self.frames)
        if self.layout.phones is not None:
            return SpeechPhases(self.layout, vocab_size, self.phases, words if self.phases.hold_words else None)
        return SlotOrder(self.layout, vocab_size, self.frames)
