"""Bytes that are no message of ours give WireError and nothing else, whatever they are."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, get_args

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from max_interfaces import (
    AudioGenerationMetadata,
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    RequestID,
    TextGenerationOutput,
    WireError,
)
from max_interfaces.messages import PROTOCOL_MARK, PROTOCOL_VERSION, Header, Ping, decode_header, encode_header
from max_interfaces.wire import ARRAY_FRAME_BYTES, AnyRequest, Frame, Payload, decode_payload, encode_payload
from tests.interfaces.identical import identical
from tests.interfaces.public_types import arrays_of, parts_of
from tests.interfaces.strategies import instances

OUTPUT = {
    "$type": "AudioGenerationOutput",
    "final_status": "active",
    "steps_executed": 7,
    "audio_data": ["<f4", [2], bytes(8)],
    "buffer_speech_tokens": ["<i8", [1], bytes(8)],
    "metadata": {"$type": "AudioGenerationMetadata", "chunk_id": 3, "duration": 0.5},
}


class NotFinite(Exception):
    """A float array that only the constructor refuses."""


def rebuilt(item: Payload) -> Payload:
    """The same, by its constructor."""
    try:
        return dataclasses.replace(item)
    except ValueError as problem:
        raise (NotFinite if "values must be finite" in str(problem) else AssertionError) from problem


def decoded(*frames: Frame) -> list[Payload] | None:
    """The items, or None where they were refused. Any other exception is the failure that is looked for."""
    try:
        return decode_payload(frames)
    except WireError:
        return None


def packed(**changes: object) -> bytes:
    return msgspec.msgpack.encode([OUTPUT | changes])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some bytes cut out, put in, or changed."""
    start = draw(st.integers(0, len(whole)))
    stop = draw(st.integers(start, min(len(whole), start + 3)))
    return whole[:start] + draw(st.binary(max_size=3)) + whole[stop:] if draw(st.booleans()) else whole[:start]


@given(data=st.data(), item=st.one_of([instances(kind) for kind in get_args(Payload)]))
@settings(max_examples=150, deadline=None)
def test_a_damaged_payload_is_refused_or_in_bounds(data: st.DataObject, item: Payload) -> None:
    """What is still decoded is what the constructor would have made of it: but for floats that are not finite."""
    first, *others = encode_payload([item])
    for survivor in decoded(data.draw(damaged(bytes(first))), *others) or []:
        with contextlib.suppress(NotFinite):
            assert identical(rebuilt(survivor), survivor)


@pytest.mark.parametrize("kind", get_args(AnyRequest))
def test_no_request_holds_an_array_of_floats(kind: type) -> None:
    """Those are not checked again on the way in, and what comes from outside must be."""
    assert not [part for part in parts_of([kind]) for bound in arrays_of(part) if "f" in bound.kinds]
    assert "f" in {bound.kinds for bound in arrays_of(AudioGenerationOutput)}  # it would be found


@given(data=st.data(), header=st.one_of([instances(kind) for kind in get_args(Header)]))
@settings(max_examples=100, deadline=None)
def test_a_damaged_header_is_refused_or_in_bounds(data: st.DataObject, header: Header) -> None:
    try:
        survivor = decode_header(data.draw(damaged(encode_header(header))))
    except WireError:
        return
    assert identical(decode_header(encode_header(survivor)), survivor)


@given(frames=st.lists(st.binary(max_size=40), max_size=3))
@settings(max_examples=150, deadline=None)
def test_garbage_is_refused(frames: list[bytes]) -> None:
    assert not decoded(*frames)
    with pytest.raises(WireError):
        decode_header(PROTOCOL_MARK + b"".join(frames))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xc7\x01\x00"])
def test_nesting_bombs_are_refused(opening: bytes) -> None:
    bomb = opening * 200_000
    assert decoded(bomb) is None
    assert decoded(b"\x91" + bomb) is None
    with pytest.raises(WireError):
        decode_header(PROTOCOL_MARK + bomb)


def test_a_nesting_bomb_within_json_is_refused() -> None:
    text = "[" * 100_000 + "]" * 100_000
    sampling = {"$type": "SamplingParams", "grammar": text}
    request = {"$type": "AudioGenerationRequest", "request_id": "a", "model": "m", "input": "hi"}
    assert decoded(msgspec.msgpack.encode([request])) is not None
    assert decoded(msgspec.msgpack.encode([request | {"sampling_params": sampling}])) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"$type": "SamplingParams"},
        {"$type": "os.system"},
        {"$type": None},
        {"final_status": "asleep"},
        {"steps_executed": -1},
        {"steps_executed": 2**31},
        {"steps_executed": True},
        {"steps_executed": "7"},
        {"metadata": None},
        {"metadata": {"$type": "Failure", "chunk_id": 3}},
        {"metadata": {"$type": "AudioGenerationMetadata", "duration": float("nan")}},
        {"metadata": {"$type": "AudioGenerationMetadata", "duration": float("inf")}},
        {"metadata": {"$type": "AudioGenerationMetadata", "chunk": 3}},
        {"metadata": {"$type": "AudioGenerationMetadata", "request_id": ""}},
        {"metadata": {"$type": "AudioGenerationMetadata", "request_id": "a" * 129}},
    ],
)
def test_a_field_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    assert decoded(packed()) is not None
    assert decoded(packed(**changes)) is None


def test_a_missing_field_is_refused() -> None:
    assert decoded(msgspec.msgpack.encode([{k: v for k, v in OUTPUT.items() if k != "final_status"}])) is None


@pytest.mark.parametrize(
    "array",
    [
        ["<f4", [3], bytes(8)],
        ["<f4", [1], bytes(8)],
        ["<f4", [2, 1], bytes(8)],
        ["<f4", [], bytes(4)],
        ["<f4", [0, 2], b""],
        ["<f4", [-2], bytes(8)],
        ["<f4", [2**31], bytes(8)],
        ["<f4", [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], b""],
        ["<f4", [1, 1, 1, 1, 1], bytes(4)],
        ["<f4", [2], "12345678"],
        ["<f4", [2], None],
        ["<f4", [2]],
        ["<f4", [2], bytes(8), 1],
        ["<i4", [2], bytes(8)],
        ["|O8", [1], bytes(8)],
        ["<M8[s]", [1], bytes(8)],
        ["<c8", [1], bytes(8)],
        ["<f8", [1], np.float64(1e300).tobytes()],
        ["<f4", [20_000], bytes(80_000)],
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused(array: list[object]) -> None:
    assert decoded(packed(audio_data=array)) is None


@pytest.mark.parametrize("tokens", [np.array([-1]), np.array([2**31]), np.array([2**63], "u8"), np.array([[1]])])
def test_speech_tokens_out_of_range_are_refused(tokens: Any) -> None:
    assert decoded(packed(buffer_speech_tokens=[tokens.dtype.str, tokens.shape, tokens.tobytes()])) is None


@pytest.mark.parametrize("index", [-1, 0, 2, 2**16, 2**40])
def test_an_array_in_a_frame_that_is_not_there_is_refused(index: int) -> None:
    assert decoded(packed(audio_data=["<f4", [2], 1]), bytes(8)) is not None
    assert decoded(packed(audio_data=["<f4", [2], index]), bytes(8)) is None


def test_a_large_array_without_its_frame_or_with_another_is_refused() -> None:
    output = AudioGenerationOutput(GenerationStatus.ACTIVE, 7, np.zeros(ARRAY_FRAME_BYTES, np.float32))
    head, samples = encode_payload([output])
    assert decoded(head, samples) == [output]
    assert decoded(head) is None
    assert decoded(head, bytes(samples)[:-4]) is None
    assert decoded() is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        bytes([PROTOCOL_VERSION - 1]) + encode_header(Ping(b"peer"))[1:],
        bytes([PROTOCOL_VERSION + 1]) + encode_header(Ping(b"peer"))[1:],
        PROTOCOL_MARK,
        PROTOCOL_MARK + msgspec.msgpack.encode(["Ping"]),
    ],
)
def test_a_header_of_another_version_or_none_is_refused(frame: bytes) -> None:
    for kind in (bytes, bytearray, memoryview):
        with pytest.raises(WireError):
            decode_header(kind(frame))  # type: ignore[arg-type]


def test_a_header_says_which_version_it_has() -> None:
    with pytest.raises(WireError, match=f"speaks protocol version {PROTOCOL_VERSION}, the other sent version 7"):
        decode_header(b"\x07" + encode_header(Ping(b"peer"))[1:])


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (["Ping", b"a", 1], "at most length 1, got 2"),
        (["Pong", b"a"], "Pong"),
        (["Ping", b""], r"length >= 1 - at `\$\[1\]`"),
        (["Ping", b"a" * 65], r"length <= 64 - at `\$\[1\]`"),
        (["Submit", "a", "m", float("nan")], r"at `\$\[3\]`"),
        (["Submit", "a", "m", -1.0], r"`float` >= 0.0 - at `\$\[3\]`"),
        (["Submit", "a", "m", 1.0, -1], r"`int` >= 0 - at `\$\[4\]`"),
        (["Start", "a", b"a", 1, 7], "at least length 6"),
        (["Watch", "a", 0], "at least length 4"),
        (["Read", "a", 0, -1], r"at `\$\[3\]`"),
        (["Pace", "a", 1], "at least length 4"),
        (["Noted", [["a", 1, 0]]], r"at least length 4, got 3 - at `\$\[1\]"),
        (["Noted", [["a", 1, 0, [-1]]]], r"at `\$\[1\]"),
        (["Alive", "w", 0, [["a"]]], r"at least length 2, got 1 - at `\$\[3\]"),
        (["Alive", "w", 0, [], -1], r"at `\$\[4\]`"),
        (["Alive", "w", 0, [], 1, 86_401.0], r"at `\$\[5\]`"),
        (["Alive", "w", 0, [], 1, 0.0, 0.0, {"free": 2**63}], r"at `\$\[7\]"),
        (["Alive", "w", 0, [], 1, 0.0, 0.0, {"free": 0.5}], r"at `\$\[7\]"),
        ({"$type": "Ping", "peer": b"a"}, "got `object`"),  # as version 2 had it
        ([b"a"], "Expected `str`"),
        ([], "length"),
        (None, "Expected `array`"),
    ],
)
def test_a_header_out_of_bounds_is_refused(header: object, why: str) -> None:
    with pytest.raises(WireError, match=f"header refused: .*{why}"):
        decode_header(PROTOCOL_MARK + msgspec.msgpack.encode(header))


def test_a_request_is_checked_as_a_whole() -> None:
    """Rules between fields hold on the wire too."""
    silent = {"$type": "AudioGenerationRequest", "request_id": "a", "model": "m"}
    with pytest.raises(WireError, match="give input"):
        decode_payload([msgspec.msgpack.encode([silent])])


def test_only_what_is_public_is_encoded() -> None:
    others: list[Any] = [AudioGenerationMetadata(), "text", None, object()]
    for item in others:
        with pytest.raises(TypeError, match=f"{type(item).__name__} is no request or output"):
            encode_payload([item])


def test_the_right_types_pass() -> None:
    request = AudioGenerationRequest(RequestID("a"), "m", "hi")
    output = TextGenerationOutput(RequestID("a"), (1,), GenerationStatus.ACTIVE)
    assert decoded(*encode_payload([request, output])) == [request, output]
