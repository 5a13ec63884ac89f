"""A client as the simulation has it: the real demultiplexer and inboxes, and readers of all kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from max_interfaces import AudioGenerationOutput, AudioGenerationRequest, FailureKind, GenerationStatus, RequestID
from max_interfaces.messages import Adapt, Adapted, Cancel, ClientMessage, Ended, Goodbye, Ping, Read, Submit
from max_interfaces.wire import Frame, encode_payload
from max_pipelines.client.demultiplexer import Demultiplexer
from max_pipelines.client.inbox import Inbox
from max_pipelines.client.questions import CHECK_S, Answer
from max_pipelines.client.submission import adapters_of

from .clock import Clock
from .pipeline import RATE, TOKEN_SAMPLES, Sound, samples, weighted
from .worker import MODEL

Say = Callable[[str, ClientMessage, Sequence[Frame]], None]
PING_S = 1.0


@dataclass(eq=False)
class Call:
    """One request as its caller sees it. `pace` is how fast it is read: times playing speed, 0 for never."""

    key: str
    sound: Sound
    seed: int
    deadline: float
    pace: float
    adapter: str | None = None
    begun_at: float = 0.0
    weights: int | None = None  # those that it was heard with
    cancelled: bool = False
    left: bool = False
    heard: int = 0
    outputs: int = 0
    ends: list[tuple[GenerationStatus, FailureKind | None]] = field(default_factory=list)
    ended_at: float = 0.0
    inbox: Inbox | None = None


class SimulatedClient:
    """Calls, and holds what it gets against what it must be."""

    def __init__(self, name: str, clock: Clock, say: Say) -> None:
        self.name = name
        self.peer = name.encode()
        self.calls: list[Call] = []
        self.alive = True
        self.connected = True
        self.gone_at = math.inf
        self.most_behind = 0.0
        self._clock = clock
        self._say = say
        self._demultiplexer = Demultiplexer(cast(Any, clock), self._tell, self._answered)
        self._adapting: dict[int, Callable[[Adapted], None]] = {}
        clock.after(PING_S, self._ping)

    def call(self, call: Call) -> None:
        """Submit a request."""
        if not self.alive:
            return
        self.calls.append(call)
        call.begun_at = self._clock.now
        request = AudioGenerationRequest(RequestID(call.key), MODEL, call.sound.text, adapter_id=call.adapter)
        serial = self._demultiplexer.number(call.key)
        deadline_s = call.deadline - self._clock.now
        submit = Submit(call.key, MODEL, deadline_s, serial, seed=call.seed, adapters=adapters_of(request))
        self._say(self.name, submit, encode_payload([request]))
        call.inbox = self._demultiplexer.open(call.key, serial, deadline_s)
        self._clock.after(0.01, lambda: self._read(call))

    def adapt(self, adapt: Adapt, answered: Callable[[Adapted], None]) -> None:
        """Ask for an adapter until that is answered, as `Question` does."""
        self._adapting[adapt.serial] = answered
        self._ask(adapt)

    def _ask(self, adapt: Adapt) -> None:
        if self.alive and adapt.serial in self._adapting:
            self._say(self.name, adapt, ())
            self._clock.after(CHECK_S, lambda: self._ask(adapt))

    def _answered(self, answer: Answer) -> None:
        if isinstance(answer, Adapted) and answer.serial in self._adapting:
            self._adapting.pop(answer.serial)(answer)

    @property
    def adapting(self) -> int:
        """How many questions about adapters have no answer yet."""
        return len(self._adapting)

    def cancel(self, call: Call) -> None:
        """Want it no more, and wait for its end."""
        if self.alive and not call.ends:
            call.cancelled = True
            self._demultiplexer.cancel(call.key)

    def leave(self, call: Call) -> None:
        """Want it no more, and wait for nothing."""
        if self.alive and not call.ends and call.inbox is not None:
            call.left = True
            self._demultiplexer.leave(call.key, call.inbox)

    def go(self, how: Literal["politely", "killed", "frozen"]) -> None:
        """Be no more. One that is frozen keeps its connection, so that nothing but its silence tells."""
        if how == "politely" and self.alive:
            self._say(self.name, Goodbye(), ())
        self.alive = False
        self.connected = how == "frozen"
        self.gone_at = min(self.gone_at, self._clock.now)
        self._demultiplexer.close()

    def hear(self, message: object, payload: Sequence[Frame]) -> None:
        """A message arrives."""
        if self.alive:
            self._demultiplexer.take(cast(Any, message), payload)

    def _tell(self, message: Cancel | Read) -> None:
        if self.alive:
            self._say(self.name, message, ())

    def _ping(self) -> None:
        if self.alive:
            self._say(self.name, Ping(self.peer), ())
            self._clock.after(PING_S, self._ping)

    def _read(self, call: Call) -> None:
        """The reader looks, takes an output if there is one, and looks again when it has heard it."""
        inbox = call.inbox
        if not self.alive or call.left or inbox is None:
            return
        if call.pace == 0 and not any(isinstance(item, Ended) for item in inbox.items):
            self._clock.after(1.0, lambda: self._read(call))
            return
        pause = 0.02
        if inbox.items:
            pause = self._take(call, inbox)
        if not call.ends:
            self._clock.after(pause, lambda: self._read(call))

    def _take(self, call: Call, inbox: Inbox) -> float:
        """Take one output; how long it is heard."""
        behind = sum(item.audio_data.size for item in inbox.items if isinstance(item, AudioGenerationOutput)) / RATE
        self.most_behind = max(self.most_behind, behind)
        item = inbox.take()
        if inbox.watched >= 0:
            self._demultiplexer.read(call.key, inbox)
        if isinstance(item, Ended):
            self._ends(call, item.status, item.kind)
            return 0.0
        assert isinstance(item, AudioGenerationOutput)
        assert item.metadata.chunk_id == call.outputs, f"{call.key}: output {item.metadata.chunk_id}"
        first, last = call.heard, call.heard + item.audio_data.size
        weights = item.metadata.prompt_tokens or 0
        assert call.weights in (None, weights), f"{call.key}: began with {call.weights}, goes on with {weights}"
        call.weights = weights
        right = samples(weighted(call.seed, weights), first, last)
        assert np.array_equal(item.audio_data, right), f"{call.key}: wrong sound at {first}"
        call.heard, call.outputs = last, call.outputs + 1
        if item.is_done:
            assert call.heard == call.sound.length * TOKEN_SAMPLES, f"{call.key} ended early"
            self._ends(call, item.final_status, None)
        return item.audio_data.size / RATE / call.pace if call.pace else 0.0

    def _ends(self, call: Call, status: GenerationStatus, kind: FailureKind | None) -> None:
        call.ends.append((status, kind))
        call.ended_at = self._clock.now
