"""What stands at the top of every object of one answer."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from .. import sse
from ..json import encode
from ..whole import WholeAnswer
from .answers import Answer, Choices, ChunkChoice, Kind, TextChoice
from .usage import Counted, Usage

PREFIXES: dict[Kind, str] = {"chat.completion": "chatcmpl-", "text_completion": "cmpl-"}
EVENTS: dict[Kind, Kind] = {"chat.completion": "chat.completion.chunk", "text_completion": "text_completion"}


@dataclass(frozen=True, slots=True)
class Heading:
    """One answer, whole or in events. If it `includes_usage`, each event has one, null until the last has numbers."""

    kind: Kind
    model: str
    includes_usage: bool
    counted: Counted = field(default_factory=Counted)
    unique: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Choices) -> WholeAnswer:
        """All of it."""
        return WholeAnswer(encode(self._answer(self.kind, choices, self.counted.usage)))

    def event(self, choice: ChunkChoice | TextChoice) -> bytes:
        """More of it."""
        return self._event([choice], None if self.includes_usage else UNSET)

    def closing(self) -> bytes:
        """What comes last: the usage, if it was asked for, and the mark of the end."""
        return (self._event([], self.counted.usage) if self.includes_usage else b"") + sse.DONE

    def _event(self, choices: Choices, usage: Usage | UnsetType | None) -> bytes:
        return sse.event(self._answer(EVENTS[self.kind], choices, usage))

    def _answer(self, kind: Kind, choices: Choices, usage: Usage | UnsetType | None) -> Answer:
        unique = PREFIXES[self.kind] + self.unique
        return Answer(id=unique, object=kind, created=self.created, model=self.model, choices=choices, usage=usage)
