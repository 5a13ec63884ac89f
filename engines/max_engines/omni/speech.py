"""What one text sounds like: from the thinker's tokens and thoughts to codes, and from these to samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, StreamStart, TokenDelta
from max_interfaces.status import GenerationStatus

from ..added_states import AddedStates
from ..hidden_states import HiddenStates
from ..media import Perceived
from ..prompt_states import PromptStates
from ..random_stream import child_seed
from .model import OmniModel
from .settings import OmniSettings
from .speakers import Speaker
from .talker import Talker
from .token2wav import NOTHING, Voice

NO_NEWS = TokenDelta()
CODES_SEED, NOISE_SEED = 1, 2  # a text's seed is the thinker's own
ACTIVE = GenerationStatus.ACTIVE


class Speech:
    """A text that is being spoken. It has ended when all its sound has been given.

    The talker reads a state for each token of the prompt, one that says who speaks, and then, beside each code that it
    has made, one for a token of the text. That of a token is there when the thinker has computed it, which it does for
    all but the last.
    """

    def __init__(self, start: SequenceStart, model: OmniModel, perceived: Perceived, settings: OmniSettings) -> None:
        self.listener = HiddenStates()
        self.added = AddedStates()
        self.code_id = RequestID()  # what the talker knows it by
        self.begun = False  # the talker has it
        self.written = False  # the thinker has ended
        self._start = start
        self._model = model
        self._talker: Talker = model.talker
        self._perceived = perceived
        self._settings = settings
        self._speaker: Speaker = model.speakers[start.voice or ""]
        self._voice = Voice(model.token2wav, self._speaker, settings)
        seed = child_seed(start.seed, NOISE_SEED)
        self._stream = self._voice.open(StreamStart(seed, next_sample=start.next_sample))
        self._tokens: list[int] = list(start.accepted[:-1])
        self._known = bool(start.accepted)  # another worker has told the next token
        self._ending: TokenDelta | None = None  # which is told with the end of the sound
        self._thoughts: list[Tensor] = []  # of tokens whose states the talker does not have yet
        self._read = 0  # tokens, prompt and text, that these and all before them are of
        self._codes: list[int] = []  # that have not gone to the stream
        self._certain: list[NDArray[np.float32]] = []  # samples that a failure afterwards must not lose
        self._text_ended = self._said_all = False

    @property
    def speaking(self) -> bool:
        """True if the talker makes codes for it."""
        return self.begun and not self._said_all

    def hear(self, delta: TokenDelta) -> TokenDelta:
        """The thinker's news, and what of them can be told now: its end waits for that of the sound.

        So does an end-of-sequence id, which is told with the status that it stands for.
        """
        self._tokens.extend(delta.tokens)
        told = delta
        if self._known and delta.tokens:
            self._known = False
            told = msgspec.structs.replace(delta, tokens=(), log_probabilities=None)
        if delta.status is ACTIVE:
            return told
        self.written = True
        if delta.status is GenerationStatus.END_OF_SEQUENCE:
            self._ending = told
            return NO_NEWS
        self._ending = TokenDelta((), delta.status)
        return msgspec.structs.replace(told, status=ACTIVE)

    def speak(self, delta: TokenDelta) -> None:
        """The talker's news."""
        self._codes.extend(token for token in delta.tokens if token not in self._talker.end_ids)
        self._said_all = delta.status is not ACTIVE

    def told(self, delta: TokenDelta, samples: NDArray[np.float32]) -> TokenDelta:
        """What is to be told, with the sound that has become certain; and with the end, if that was all of it."""
        if samples.size:
            before = NOTHING if delta.samples is None else delta.samples
            delta = msgspec.structs.replace(delta, samples=np.concatenate((before, samples)))
        if not self._said_all or self._ending is None:
            return delta
        ending, self._ending = self._ending, None
        return msgspec.structs.replace(
            delta,
            tokens=delta.tokens + ending.tokens,
            status=ending.status,
            log_probabilities=delta.log_probabilities or ending.log_probabilities,
            prompt=delta.prompt or ending.prompt,
        )

    def read(self) -> tuple[SequenceStart, Perceived] | None:
        """Give the talker what the thinker has computed. Once, when it can begin, what it begins with."""
        new = self.listener.take()
        if new is not None:
            self._thoughts.append(new + self._embedded(self._read, self._read + len(new)))
            self._read += len(new)
        first = len(self._start.prompt) + 1
        beginning = None
        if not self.begun and self._read >= first:
            thoughts = torch.cat(self._thoughts)
            self._thoughts = [thoughts[first:]]
            beginning = self._beginning(thoughts[:first])
            self.begun = True
        if self.begun:
            for thoughts in self._thoughts:
                self.added.extend(self._talker.project(thoughts))
            self._thoughts = []
        if self.written and not self._text_ended:
            self._end()
        return beginning

    def sound(self) -> NDArray[np.float32]:
        """The samples that have become certain, float32[n]."""
        codes, self._codes = self._codes, []
        self._certain.append(self._stream.push(np.array(codes, np.int64)))
        if self._said_all:
            self._certain.append(self._stream.flush())
        certain, self._certain = self._certain, []
        return np.concatenate(certain)

    def _beginning(self, thoughts: Tensor) -> tuple[SequenceStart, Perceived]:
        """What the talker begins with, of the thoughts `[prompt + 1, width]`."""
        talker, length = self._talker, len(self._start.prompt)
        read = torch.cat((thoughts[:length], self._looked_up([self._speaker.begin_id]), thoughts[length:]))
        states = talker.project(read)
        # Of an id that is looked up nothing is in the states: the first ones have the projection's bias alone.
        states[:length] += talker.bias
        states[length] += talker.embedding[talker.pad_id]
        states[length + 1] += talker.embedding[talker.begin_id]
        start = SequenceStart(
            self.code_id,
            (*(talker.mask_id,) * length, talker.pad_id, talker.begin_id),
            self._settings.talker,
            child_seed(self._start.seed, CODES_SEED),
            talker.end_ids,
            talker.constraint,
            priority=self._start.priority,
        )
        return start, replace(self._perceived, states=PromptStates(range(length + 2), states), joint=(), parts=())

    def _end(self) -> None:
        """No more text comes."""
        self._text_ended = True
        if not self.begun:
            self._said_all = True  # there is a token at most, and nobody has thought of it
            return
        ends = self._looked_up([self._talker.text_end_id, self._talker.text_pad_id])
        last, rest = self._talker.project(ends)
        self.added.extend(last[None])
        self.added.end(rest)

    def _embedded(self, first: int, last: int) -> Tensor:
        """The embeddings of tokens `first` to `last` (excluded); nothing where an image or a sound is."""
        ids = [*self._start.prompt, *self._tokens][first:last]
        found = self._looked_up(ids)
        seen = self._perceived.states
        if seen is not None:
            places = seen.positions[seen.within(first, last)]
            found[[place - first for place in places]] = 0
        return found

    def _looked_up(self, ids: Sequence[int]) -> Tensor:
        table: Tensor = self._model.thinker.module.get_input_embeddings().weight  # type: ignore[assignment]
        return table[torch.tensor(ids, dtype=torch.int64, device=table.device)]
