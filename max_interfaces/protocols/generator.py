"""The engine, and what belongs to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ..identity import RequestID
from .sequences import SequenceStart, TokenDelta


class TokenGenerator(Protocol):
    """The engine: many sequences, one batch. One thread calls it.

    A sequence belongs to the generator from `add` until `release`.
    """

    def add(self, start: SequenceStart) -> None:
        """Take a sequence. ValueError if it could never fit (prompt too long for the context or the memory)."""
        ...

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """Move the sequences named by `active` one step: prefill those that need it, decode the others.

        Ids left out are paused and keep what they hold. A sequence that waits for memory has no entry.
        Idempotent on error: a step that raises has changed nothing and can be repeated with fewer ids. DeviceLost if
        no step will succeed any more.
        """
        ...

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its memory. Safe between steps, also for an unknown id."""
        ...


class Adapters(Protocol):
    """What changes a generator's model for single sequences. Called between steps, by the thread that takes them."""

    @property
    def names(self) -> Collection[str]:
        """What is loaded, and may be named by a new sequence."""
        ...

    def number(self, name: str) -> int:
        """Which loading a name stands for, 0 for none: a name may come back with other weights."""
        ...

    def load(self, name: str, path: str) -> None:
        """Load the folder at `path`, as peft saves it. AdapterRefused, with its status, if that cannot be."""
        ...

    def unload(self, name: str) -> None:
        """Take a name away. Sequences that run with it go on to their end, and its memory is free after the last.

        AdapterRefused for a name that is not loaded.
        """
        ...


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`. Special tokens written out in it are plain characters unless they are to be parsed."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`."""
        ...
