"""Damaged frames, decoded one after the other: what came of them, and what the worst of them cost."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from max_interfaces import WireError
from max_interfaces.messages import Header, decode_header, encode_header
from max_interfaces.problems import MAX_TOLD
from max_interfaces.wire import AnyOutput, AnyRequest, Payload, decode_outputs, decode_payload, decode_request
from tests.faults.fuzzing.corpus import Seeds
from tests.faults.fuzzing.mutator import Mutator
from tests.faults.fuzzing.troubles import Frames
from tests.interfaces.identical import identical

KINDS = ("headers", "payloads")
# What a frame may cost: so much whatever it is, and so much a byte. The dearest byte is that of an empty mapping of
# `top_log_probabilities`: two dicts and a tuple's place, 192 bytes.
BASE_MEMORY, MEMORY_A_BYTE = 16 * 1024, 256
HEADERS, OUTPUTS = get_args(Header), get_args(AnyOutput)
BASE_CALLS, CALLS_A_BYTE = 500, 4
BATCH = 1000  # damaged before they are measured, which slows everything down
REASON = 40  # characters by which reasons are told apart


class Broken(Exception):
    """A frame that did harm; the text shows it."""


@dataclass
class Tally:
    """What became of some frames. `refused` is by the kind of error behind the refusal, `accepted` by what came out."""

    frames: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    reasons: set[str] = field(default_factory=set)
    memory: float = 0.0  # the worst, as a share of what is allowed
    calls: float = 0.0

    def add(self, other: Tally) -> None:
        """Those of another run as well."""
        self.frames += other.frames
        self.refused += other.refused
        self.accepted += other.accepted
        self.reasons |= other.reasons
        self.memory, self.calls = max(self.memory, other.memory), max(self.calls, other.calls)

    def __str__(self) -> str:
        return (
            f"{self.frames} frames; refused {dict(self.refused.most_common())}, accepted {self.accepted.total()} "
            f"of {len(self.accepted)} types; {len(self.reasons)} reasons; at worst {self.memory:.0%} of the memory "
            f"and {self.calls:.0%} of the calls that are allowed"
        )


def try_frames(part: tuple[int, int]) -> Tally:
    """`(seed, count)`: so many damaged messages, headers and payloads in turn. Broken if one of them does harm."""
    seed, count = part
    tally = Tally()
    mutators = [Mutator(Seeds.load(kind).all, random.Random(2 * seed + at), 1 - at) for at, kind in enumerate(KINDS)]
    for kind in KINDS:  # what is made only once is no frame's cost
        for frames in Seeds.load(kind).right.values():
            _decoded(kind, frames)
    for first in range(0, count, BATCH):
        batch = [mutators[number % 2].message() for number in range(first, min(count, first + BATCH))]
        with _measured():
            for number, frames in enumerate(batch, first):
                kind = KINDS[number % 2]
                try:
                    _try(kind, frames, tally)
                except Exception as problem:
                    shown = [frame[:4096] for frame in frames]
                    raise Broken(f"{kind}, seed {seed}, number {number}: {problem!r}: {shown}") from problem
    return tally


def _try(kind: str, frames: Frames, tally: Tally) -> None:
    size = sum(map(len, frames))
    tally.frames += 1
    calls = _Calls()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    sys.setprofile(calls.count)
    try:
        found, refusal = _decoded(kind, frames), None
    except WireError as problem:
        found, refusal = [], problem
    finally:
        sys.setprofile(None)
    _, peak = tracemalloc.get_traced_memory()
    tally.memory = max(tally.memory, _held("memory", peak - before, BASE_MEMORY + MEMORY_A_BYTE * size))
    tally.calls = max(tally.calls, _held("calls", calls.made, BASE_CALLS + CALLS_A_BYTE * size))
    if refusal is not None:
        _check_refusal(refusal, tally)
        return
    for item in found:
        tally.accepted[type(item).__name__] += 1
    _check_header(found[0]) if kind == "headers" else _check_payload(frames, found)


def _decoded(kind: str, frames: Frames) -> list[Any]:
    return [decode_header(frames[0] if frames else b"")] if kind == "headers" else list(decode_payload(frames))


def _held(what: str, cost: int, allowed: int) -> float:
    if cost > allowed:
        raise AssertionError(f"{cost} {what}, where {allowed} are allowed")
    return cost / allowed


def _check_refusal(refusal: WireError, tally: Tally) -> None:
    """It says why, in a line that can be printed."""
    text, cause = str(refusal), refusal.__context__
    assert text.isprintable(), text
    assert len(text) <= MAX_TOLD + 100, text
    tally.refused[type(cause).__name__ if cause is not None else "WireError alone"] += 1
    tally.reasons.add(text[:REASON])


def _check_header(header: Any) -> None:
    """What was accepted is in bounds: it arrives as it is when it is sent on."""
    assert isinstance(header, HEADERS), f"{header!r} has no type of ours"
    assert identical(decode_header(encode_header(header)), header)


def _check_payload(frames: Frames, items: list[Payload]) -> None:
    """What was accepted is what the constructor would have made of it: but for floats that are not finite."""
    for item in items:
        with contextlib.suppress(_NotFinite):
            assert identical(_rebuilt(item), item)
    whole = [type(item) for item in items]
    assert _taken(decode_outputs, frames) == (whole if all(kind in OUTPUTS for kind in whole) else None)
    one = len(whole) == 1 and whole[0] in get_args(AnyRequest)
    assert _taken(lambda frames: [decode_request(frames)], frames) == (whole if one else None)


def _taken(decode: Callable[[Frames], Sequence[object]], frames: Frames) -> list[type] | None:
    """What somebody makes of it who takes fewer types; None if he refuses it."""
    try:
        return [type(item) for item in decode(frames)]
    except WireError:
        return None


class _NotFinite(Exception):
    """A float array that only the constructor refuses."""


def _rebuilt(item: Payload) -> Payload:
    try:
        return dataclasses.replace(item)
    except ValueError as problem:
        raise (_NotFinite if "values must be finite" in str(problem) else AssertionError) from problem


class _Calls:
    """Counts the calls of functions, Python's and C's."""

    def __init__(self) -> None:
        self.made = 0

    def count(self, frame: object, event: str, argument: object) -> None:
        """What `sys.setprofile` calls."""
        self.made += event in ("call", "c_call")


@contextlib.contextmanager
def _measured() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
