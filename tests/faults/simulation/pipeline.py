"""What the simulated workers run: sounds that anybody can work out, and requests that break what they meet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    AdapterRefused,
    Attempt,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    GenerationStatus,
    LoRAStatus,
    RequestID,
)

RATE = 100  # samples per second
TOKEN_SAMPLES = 10  # of sound for each token
CHUNK_TOKENS = 4  # a chunk of sound after so many; what comes between is noted
CREDITS = 3

Output = Chunk[AudioGenerationOutput]


class Crash(BaseException):
    """The process is no more."""


class Hang(BaseException):
    """The process does nothing from now on."""


class Wrong(BaseException):
    """A worker was told what cannot be: no error that a worker may swallow."""


@dataclass(frozen=True)
class Sound:
    """What a request's text says of it: how many tokens it has, and at which of them it does harm, if at any."""

    length: int
    kills_at: int = -1
    raises_at: int = -1
    hangs_at: int = -1

    @property
    def text(self) -> str:
        """The text that says so."""
        return f"{self.length} {self.kills_at} {self.raises_at} {self.hangs_at}"

    @classmethod
    def read(cls, text: str) -> Sound:
        """The sound of a text."""
        return cls(*map(int, text.split()))

    @property
    def loses_workers(self) -> bool:
        """Whether no worker survives it."""
        return self.kills_at >= 0 or self.hangs_at >= 0

    def harm(self, tokens: int) -> None:
        """Do the harm that is done where so many tokens have come."""
        if self.kills_at == tokens:
            raise Crash
        if self.hangs_at == tokens:
            raise Hang
        if self.raises_at == tokens:
            raise RuntimeError("a device-side error")


def weighted(seed: int, weights: int) -> int:
    """What a seed comes to with an adapter's weights: with others, nothing is the same."""
    return seed + 7919 * weights


@dataclass(frozen=True)
class Weights:
    """What the name of an adapter's folder says of it: its number, and whom it harms."""

    number: int
    harm: str = ""

    @property
    def folder(self) -> str:
        """The name that says so."""
        return f"{self.number}{self.harm}"

    @classmethod
    def read(cls, folder: str) -> Weights:
        """The weights in a folder."""
        return cls(int(folder.rstrip(KILLS + FRAGILE)), folder.lstrip("0123456789"))


KILLS, FRAGILE = "k", "f"  # it ends the worker that loads it; workers that come later refuse it


@dataclass
class SoundAdapters:
    """Those that a worker has loaded. One that is not `first` came later."""

    first: bool
    loaded: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> Collection[str]:
        """What is loaded."""
        return self.loaded

    def number(self, name: str) -> int:
        """That of its weights."""
        return self.loaded.get(name, 0)

    def load(self, name: str, path: str) -> None:
        """Load the weights that the folder's name tells."""
        weights = Weights.read(Path(path).name)
        if name in self.loaded:
            raise Wrong(f"{name} is loaded twice")
        if weights.harm == KILLS:
            raise Crash
        if weights.harm == FRAGILE and not self.first:
            raise AdapterRefused(LoRAStatus.LOAD_INVALID_ADAPTER, "its file is torn")
        self.loaded[name] = weights.number

    def unload(self, name: str) -> None:
        """Take a name away."""
        if name not in self.loaded:
            raise Wrong(f"{name} is not loaded")
        del self.loaded[name]


def token(seed: int, number: int) -> int:
    """Token `number` of a request with this seed."""
    return (seed * 31 + number * 7) % 1009


def samples(seed: int, first: int, last: int) -> NDArray[np.float32]:
    """The sound of a request with this seed, from sample `first` to `last` (excluded)."""
    return ((np.arange(first, last) * 13 + seed % 97) % 101 / 101).astype(np.float32)


@dataclass
class _State:
    sound: Sound
    seed: int  # with its weights
    weights: int
    tokens: int
    sample: int
    outputs: int
    noted: int


@dataclass
class SoundPipeline:
    """One token a step for each request. It holds each attempt against what must have been before."""

    adapters: SoundAdapters
    states: dict[RequestID, _State] = field(default_factory=dict)

    def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
        """Go on where the attempt says."""
        request_id, sound = attempt.request.request_id, Sound.read(attempt.request.input or "")
        count = len(attempt.tokens)
        if request_id in self.states:
            raise Wrong("admitted twice")
        name = attempt.request.adapter_id
        if name is not None and name not in self.adapters.loaded:
            raise Wrong(f"{name} is not loaded where it is to run")
        weights = 0 if name is None else self.adapters.loaded[name]
        seed = weighted(attempt.seed, weights)
        if attempt.tokens != tuple(token(seed, number) for number in range(count)):
            raise Wrong("tokens were lost")
        if attempt.next_sample > count * TOKEN_SAMPLES:
            raise Wrong("sound before its tokens")
        if count == 0:
            sound.harm(0)
        self.states[request_id] = _State(sound, seed, weights, count, attempt.next_sample, attempt.next_seq, count)

    def execute(self, active: Collection[RequestID]) -> Sequence[Output]:
        """Move some on by a token. A step that raises has changed nothing."""
        for request_id in active:
            state = self.states[request_id]
            state.sound.harm(state.tokens + 1)
        return [self._advance(request_id, self.states[request_id]) for request_id in active]

    def _advance(self, request_id: RequestID, state: _State) -> Output:
        made = []
        if state.tokens < state.sound.length:
            made = [token(state.seed, state.tokens)]
            state.tokens += 1
        done = state.tokens >= state.sound.length
        if not done and state.tokens % CHUNK_TOKENS:
            return Chunk(request_id, None, tuple(made))
        first, last = state.sample, state.tokens * TOKEN_SAMPLES
        output = AudioGenerationOutput(
            GenerationStatus.END_OF_SEQUENCE if done else GenerationStatus.ACTIVE,
            1,
            samples(state.seed, first, last),
            metadata=AudioGenerationMetadata(chunk_id=state.outputs, prompt_tokens=state.weights),
        )
        state.sample, state.outputs = last, state.outputs + 1
        return Chunk(request_id, output, tuple(made), first, last - first)

    def release(self, request_id: RequestID) -> None:
        """Forget it."""
        self.states.pop(request_id, None)
