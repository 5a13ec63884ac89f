"""The engine of a model that speaks: thinker and talker, each with a batch of its own, and the sound of each text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from max_interfaces.errors import DeviceLost
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta

from ..config import EngineConfig
from ..device_errors import device_lost
from ..engine import Engine
from .again import Again
from .model import OmniModel
from .settings import OmniSettings
from .speech import NO_NEWS, Speech


class OmniEngine:
    """A `TokenGenerator` whose sequences may have a `voice`.

    The thinker writes all of them, in one batch. The talker has those with a voice, and reads a token of their texts
    with each code that it makes: so it speaks while the text is made. A text without a voice has nothing to do with it.
    A step moves the thinker, the talker and the sound, in this order. If it fails, what had succeeded is told when
    the step is repeated.
    """

    def __init__(
        self, model: OmniModel, config: EngineConfig | None = None, settings: OmniSettings | None = None
    ) -> None:
        config = EngineConfig() if config is None else config
        self.model = model
        self.thinker = Engine(model.thinker, config)
        # What stands before a text's codes is its own: nothing of it can be shared.
        self.talker = Engine(model.talker.model, replace(config, prefix_caching=False, max_length=None))
        self._settings = OmniSettings() if settings is None else settings
        self._speeches: dict[RequestID, Speech] = {}
        self._untold: dict[RequestID, TokenDelta] = {}  # of a step that failed afterwards

    @property
    def max_length(self) -> int:
        """The most tokens, prompt and output, that one text can have."""
        return self.thinker.max_length

    def add(self, start: SequenceStart) -> None:
        """See `TokenGenerator`. ValueError, naming the field, for a text that cannot be spoken."""
        if start.voice is None:
            self.thinker.add(start)
            return
        self._check(start, start.voice)
        perceived = self.thinker.perceive(start)
        speech = Speech(start, self.model, perceived, self._settings)
        begun = start
        if start.accepted:  # the last is computed once more, for the talker reads what the thinker does after each
            *earlier, last = start.accepted
            once_more = Again(len(earlier), last, self.model.thinker.vocab_size, start.constraint)
            begun = replace(start, accepted=tuple(earlier), constraint=once_more)
        self.thinker.add(begun, perceived=perceived, listener=speech.listener)
        self._speeches[start.request_id] = speech

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """See `TokenGenerator`."""
        spoken = {key: speech for key in active if (speech := self._speeches.get(key)) is not None}
        writing = [key for key in active if key not in self._untold and not (key in spoken and spoken[key].written)]
        for key, delta in (self.thinker.step(writing) if writing else {}).items():
            self._untold[key] = spoken[key].hear(delta) if key in spoken else delta
        if spoken:
            self._speak(spoken)
        return {key: self._untold.pop(key) for key in active if key in self._untold}

    def release(self, request_id: RequestID) -> None:
        """See `TokenGenerator`."""
        self.thinker.release(request_id)
        self._untold.pop(request_id, None)
        speech = self._speeches.pop(request_id, None)
        if speech is not None:
            self.talker.release(speech.code_id)

    def _check(self, start: SequenceStart, voice: str) -> None:
        if voice not in self.model.speakers:
            known = ", ".join(self.model.speakers)
            raise ValueError(f"SequenceStart.voice = {voice!r:.80}: must be one of {known}")
        if start.sampling_params.searches:
            raise ValueError(f"SequenceStart.voice = {voice!r}: a text that is searched for cannot be spoken")
        most = self.talker.max_length - 3  # who speaks, where the codes begin, and one of them
        if len(start.prompt) > most:
            raise ValueError(
                f"SequenceStart.prompt has {len(start.prompt)} tokens: at most {most} can be answered aloud"
            )

    def _speak(self, spoken: Mapping[RequestID, Speech]) -> None:
        """Move the talker and the sound; what they give is told with the thinker's news."""
        for speech in spoken.values():
            beginning = speech.read()
            if beginning is not None:
                self.talker.add(beginning[0], perceived=beginning[1], added=speech.added)
        speaking = {speech.code_id: speech for speech in spoken.values() if speech.speaking}
        if speaking:
            for code_id, delta in self.talker.step(speaking).items():
                speaking[code_id].speak(delta)
        for key, speech in spoken.items():
            before = self._untold.get(key, NO_NEWS)
            told = speech.told(before, self._sound(speech))
            if told is not NO_NEWS:
                self._untold[key] = told

    def _sound(self, speech: Speech) -> NDArray[np.float32]:
        try:
            return speech.sound()
        except RuntimeError as problem:
            if device_lost(problem, self.model.thinker.device):
                raise DeviceLost(f"the device is lost: {problem}") from problem
            raise
