"""Typed stand-ins for the parts around the one under test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from max_codecs.layout import SpeechLayout
from max_codecs.prompt import PromptFormat, Voice
from max_codecs.snac.codec import SnacCodec
from max_interfaces import (
    AdapterRefused,
    DeviceLost,
    GenerationStatus,
    LoRAStatus,
    RequestID,
    SequenceStart,
    TokenDelta,
)
from tests.random_snac import SMALL, random_model

END = 5
SMALL_LAYOUT = SpeechLayout(
    audio_base=100,
    codebook_size=64,
    end_ids=(END,),
    prompt=PromptFormat(
        before_text=(1,), after_text=(2,), speech=(3,), voices=(Voice("ann", (6,)), Voice("bob", (7,)))
    ),
)


class CharTokenizer:
    """A character is its code point plus 1000; `<7>` is the special token 7 where those are parsed."""

    @property
    def eos_token_ids(self) -> frozenset[int]:
        return frozenset((END,))

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> list[int]:
        if parse_special_tokens and text.startswith("<") and text.endswith(">"):
            return [int(text[1:-1])]
        return [1000 + ord(char) for char in text]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(chr(token - 1000) for token in ids)


Script = Callable[[SequenceStart], Sequence[int]]


@dataclass
class ScriptedGenerator:
    """A token generator that plays a script, `stride` tokens a step; the last one ends the sequence."""

    script: Script
    stride: int = 1
    starts: dict[RequestID, SequenceStart] = field(default_factory=dict)
    seen: list[SequenceStart] = field(default_factory=list)
    given: dict[RequestID, int] = field(default_factory=dict)

    def add(self, start: SequenceStart) -> None:
        self.starts[start.request_id] = start
        self.seen.append(start)
        self.given[start.request_id] = len(start.accepted)

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        return {request_id: self._advance(request_id) for request_id in active}

    def _advance(self, request_id: RequestID) -> TokenDelta:
        tokens = tuple(self.script(self.starts[request_id]))
        begin = self.given[request_id]
        end = self.given[request_id] = begin + self.stride
        done = end >= len(tokens)
        status = GenerationStatus.END_OF_SEQUENCE if done else GenerationStatus.ACTIVE
        return TokenDelta(tokens[begin:end], status)

    def release(self, request_id: RequestID) -> None:
        self.starts.pop(request_id, None)
        self.given.pop(request_id, None)


def small_codec(*, causal: bool) -> SnacCodec:
    """SNAC with random weights and noise: 8 kHz, a frame of 96 samples; the layout is `SMALL_LAYOUT`'s."""
    return SnacCodec(random_model(msgspec.structs.replace(SMALL, causal=causal)))


def random_frames(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Frames of the small layout."""
    return np.random.default_rng(seed).integers(0, 64, (count, 7))


class Shelf:
    """Adapters that note what is done with them. A folder's name says what goes wrong with it."""

    def __init__(self, *given: str) -> None:
        self.loaded = dict.fromkeys(given, "")
        self.calls: list[tuple[str, str]] = []

    @property
    def names(self) -> Collection[str]:
        return self.loaded

    def number(self, name: str) -> int:
        return len(self.calls) if name in self.loaded else 0

    def load(self, name: str, path: str) -> None:
        self.calls.append(("load", name))
        match Path(path).name:
            case "wide":
                raise AdapterRefused(LoRAStatus.LOAD_INVALID_ADAPTER, "r = 99: at most 64")
            case "torn":
                raise RuntimeError("x" * 10_000)
            case "fatal":
                raise DeviceLost("an illegal access")
        assert name not in self.loaded
        self.loaded[name] = path

    def unload(self, name: str) -> None:
        self.calls.append(("unload", name))
        del self.loaded[name]
