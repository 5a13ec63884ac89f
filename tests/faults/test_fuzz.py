"""Whatever bytes arrive, a WireError is all that comes of them, at a bounded cost."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, get_args

import msgspec
import pytest
from tqdm import tqdm

from max_interfaces import GenerationStatus, WireError, wire
from max_interfaces.messages import (
    MAX_HEADER_BYTES,
    PROTOCOL_MARK,
    Alive,
    ChunkHead,
    Delivery,
    Header,
    Held,
    Noted,
    Start,
    coding,
    decode_header,
    encode_header,
)
from max_interfaces.mirrors import mirrors
from max_interfaces.wire import Payload, decode_payload
from tests.faults.fuzzing.corpus import FOLDER, Seeds
from tests.faults.fuzzing.trial import Broken, Tally, try_frames

FRAMES = 20_000  # in `make test`
MANY_FRAMES, PART, PROCESSES = 1_000_000, 5000, 2  # in `make soak`, and how many a process takes at once
CORPUS_BYTES = 200_000

HEADERS = list(dict.fromkeys(get_args(Header)))
PAYLOADS = get_args(Payload)
header_decoder = msgspec.msgpack.Decoder(Header)


# -- the seeds ---------------------------------------------------------------------------------------------------


def test_there_is_a_right_seed_for_each_message() -> None:
    """After a change of a message, `python -m tests.faults.fuzzing.corpus` writes them anew."""
    headers, payloads = Seeds.load("headers"), Seeds.load("payloads")
    assert {type(decode_header(frames[0])) for frames in headers.right.values()} == set(HEADERS)
    assert {type(item) for frames in payloads.right.values() for item in decode_payload(frames)} == set(PAYLOADS)
    assert sum(file.stat().st_size for file in FOLDER.rglob("*.bin")) < CORPUS_BYTES


@pytest.mark.parametrize("name", sorted(Seeds.load("headers").wrong))
def test_a_wrong_header_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        decode_header(Seeds.load("headers").wrong[name][0])


@pytest.mark.parametrize("name", sorted(Seeds.load("payloads").wrong))
def test_a_wrong_payload_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        decode_payload(Seeds.load("payloads").wrong[name])


# -- damaged frames ----------------------------------------------------------------------------------------------


def check(tally: Tally, frames: int) -> None:
    """So many were tried, and they got everywhere: refused for every kind of reason, accepted as every type."""
    print(tally)
    assert tally.frames == frames
    refusals = {"ValidationError", "DecodeError", "UnicodeDecodeError", "ValueError", "RecursionError"}
    assert refusals < tally.refused.keys()
    assert tally.accepted.keys() == {kind.__name__ for kind in (*HEADERS, *PAYLOADS)}
    assert sum(tally.refused.values()) > frames / 2


def test_damaged_frames_are_refused_or_in_bounds() -> None:
    check(try_frames((0, FRAMES)), FRAMES)


def test_a_seed_gives_the_same_damage_each_time() -> None:
    first, second = try_frames((7, 300)), try_frames((7, 300))
    assert (first.refused, first.accepted, first.reasons) == (second.refused, second.accepted, second.reasons)


class Untyped:
    """Takes all that is msgpack."""

    def decode(self, frame: bytes) -> Any:
        return msgspec.msgpack.decode(frame)


class Clumsy:
    """Refuses with an error of another kind."""

    def decode(self, frame: bytes) -> Any:
        try:
            return header_decoder.decode(frame)
        except msgspec.ValidationError as problem:
            raise KeyError(str(problem)) from problem


@pytest.mark.parametrize("decoder", [Untyped(), Clumsy()], ids=["untyped", "clumsy"])
def test_harm_is_noticed(decoder: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "_decoder", decoder)
    with pytest.raises(Broken, match="headers, seed 3, number"):
        try_frames((3, 300))


@pytest.mark.soak
def test_a_million_damaged_frames() -> None:
    tally = Tally()
    parts = [(seed, PART) for seed in range(1, 1 + MANY_FRAMES // PART)]
    with ProcessPoolExecutor(PROCESSES) as processes:
        for result in tqdm(processes.map(try_frames, parts), "parts", len(parts), leave=False, disable=None):
            tally.add(result)
    check(tally, MANY_FRAMES)


# -- the size of a header ------------------------------------------------------------------------------------------

MOST, DEADLINE = 2**31 - 1, GenerationStatus.DEADLINE_EXCEEDED
LONGEST_ID = "\U0001f600" * 128
MANY = 2**16
FULLEST = [
    Alive("w", held=(Held(LONGEST_ID, MOST, True),) * MANY),
    Delivery(
        bytes(64),
        (ChunkHead(LONGEST_ID, 2**62, MOST, MOST, 2**62, MOST, DEADLINE, MOST, (MOST,)),) * MANY,
    ),
    Start(LONGEST_ID, bytes(64), 1, 2**63 - 1, 1.0, tokens=(MOST,) * 2**20),
]


@pytest.mark.parametrize("header", FULLEST, ids=lambda header: type(header).__name__)
def test_the_largest_headers_are_taken(header: Header) -> None:
    frame = encode_header(header)
    assert MAX_HEADER_BYTES / 16 < len(frame) < MAX_HEADER_BYTES
    assert decode_header(frame) == header


def test_a_header_that_is_too_large_is_not_looked_at() -> None:
    frame = PROTOCOL_MARK + bytes(MAX_HEADER_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match=f"a header of {len(frame)} bytes"):
            decode_header(frame)
        assert tracemalloc.get_traced_memory()[1] < 10_000
        with pytest.raises(WireError, match="header refused"):
            decode_header(frame[:-1])
    finally:
        tracemalloc.stop()


# -- nothing is decoded to a value without a type --------------------------------------------------------------------

UNTYPED = (msgspec.inspect.AnyType, msgspec.inspect.RawType, msgspec.inspect.ExtType, msgspec.inspect.CustomType)


def types_in(info: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """All that msgspec may decode where it expects this. Ours do not hold themselves, so this ends."""
    yield info
    for field in dataclasses.fields(info) if dataclasses.is_dataclass(info) else msgspec.structs.fields(info):
        value = getattr(info, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, msgspec.inspect.Field):
                yield from types_in(part.type)
            elif isinstance(part, msgspec.inspect.Type):
                yield from types_in(part)


@pytest.mark.parametrize("kind", [*HEADERS, *(mirrors[kind] for kind in PAYLOADS)])
def test_every_value_on_the_wire_has_a_type_and_a_bound(kind: type) -> None:
    for info in types_in(msgspec.inspect.type_info(kind)):
        assert not isinstance(info, UNTYPED), info
        sized: Any = info
        if isinstance(info, msgspec.inspect.CollectionType | msgspec.inspect.DictType | msgspec.inspect.StrType):
            assert sized.max_length is not None, info
        if isinstance(info, msgspec.inspect.IntType):
            assert None not in (sized.ge, sized.le), info
        if isinstance(info, msgspec.inspect.StructType):
            assert info.forbid_unknown_fields, info


def test_the_walk_finds_what_it_looks_for() -> None:
    found = {type(info) for info in types_in(msgspec.inspect.type_info(dict[str, tuple[Any, ...] | msgspec.Raw]))}
    assert {msgspec.inspect.AnyType, msgspec.inspect.RawType, msgspec.inspect.StrType} <= found
    names = {getattr(info, "cls", None) for info in types_in(msgspec.inspect.type_info(Noted))}
    assert {"Noted", "Note"} <= {getattr(name, "__name__", "") for name in names}


# -- what a frame can cost at most -----------------------------------------------------------------------------------


def packed_list(count: int, item: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def peak_of(frame: bytes, decode: Any) -> float:
    """Bytes of memory a byte of the frame, while it is decoded."""
    tracemalloc.start()
    try:
        decode([frame])
        return tracemalloc.get_traced_memory()[1] / len(frame)
    finally:
        tracemalloc.stop()


def test_a_request_costs_no_more_than_its_tokens_and_an_output_is_not_taken_for_one() -> None:
    """A client could else have a worker spend 192 bytes for each that it sends."""
    request = msgspec.msgpack.encode({"$type": "EmbeddingsGenerationRequest", "request_id": "a", "model_name": "m"})
    tokens = b"\x91\x84" + request[1:] + b"\xa5input" + packed_list(2**20, b"\x01")
    wire.decode_request([tokens])
    assert peak_of(tokens, wire.decode_request) < 20
    output = {"$type": "TextGenerationOutput", "request_id": "a", "tokens": [], "final_status": "active"}
    scores = b"\x82\xa5$type\xb0LogProbabilities\xb5top_log_probabilities" + packed_list(2**16, b"\x80")
    dear = b"\x91\x85" + msgspec.msgpack.encode(output)[1:] + b"\xb1log_probabilities" + scores
    wire.decode_outputs([dear])
    assert peak_of(dear, wire.decode_outputs) > 100
    with pytest.raises(WireError, match="Invalid value 'TextGenerationOutput'"):
        wire.decode_request([dear])
    whole = b"\x84" + request[1:] + b"\xa5input\xa1a"
    wire.decode_request([b"\x91" + whole])
    for items in (b"\x90", b"\x92" + whole + whole):
        with pytest.raises(WireError):
            wire.decode_request([items])
