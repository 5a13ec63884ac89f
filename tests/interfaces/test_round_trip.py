"""What is sent is what arrives: every request, output and header, whatever is in it."""

from __future__ import annotations

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
    LogProbabilities,
    RequestID,
    SamplingParams,
    TextGenerationOutput,
)
from max_interfaces.messages import Header, decode_header, encode_header
from max_interfaces.mirrors import mirrors
from max_interfaces.wire import ARRAY_FRAME_BYTES, MAX_ITEMS, Payload, decode_payload, encode_payload
from tests.interfaces.identical import identical
from tests.interfaces.public_types import parts_of
from tests.interfaces.strategies import instances

PAYLOADS = get_args(Payload)
HEADERS = list(dict.fromkeys(get_args(Header)))
ACTIVE = GenerationStatus.ACTIVE


def sent(item: Any) -> Any:
    """`item` as the other end gets it: from frames that are views into memory that is not ours."""
    frames = [memoryview(bytearray(frame)) for frame in encode_payload([item])]
    (arrived,) = decode_payload(frames)
    return arrived


@pytest.mark.parametrize("kind", PAYLOADS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_payload_arrives_as_it_was(kind: type, data: st.DataObject) -> None:
    item = data.draw(instances(kind))
    arrived = sent(item)
    assert identical(arrived, item)
    assert arrived == item
    assert hash(arrived) == hash(item)


@given(items=st.lists(st.one_of([instances(kind) for kind in PAYLOADS]), max_size=4))
@settings(max_examples=20, deadline=None)
def test_many_payloads_keep_their_order(items: list[Payload]) -> None:
    assert identical(tuple(decode_payload(encode_payload(items))), tuple(items))


@pytest.mark.parametrize("kind", HEADERS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_header_arrives_as_it_was(kind: type, data: st.DataObject) -> None:
    header = data.draw(instances(kind))
    frame = encode_header(header)
    assert identical(decode_header(frame), header)
    assert identical(decode_header(memoryview(bytearray(frame))), header)


ON_THE_WIRE = parts_of(PAYLOADS)


@pytest.mark.parametrize("kind", ON_THE_WIRE)
def test_a_mirror_has_the_fields_of_its_dataclass(kind: type) -> None:
    assert [f.name for f in msgspec.structs.fields(mirrors[kind])] == [f.name for f in dataclasses.fields(kind)]
    required = [f.name for f in msgspec.structs.fields(mirrors[kind]) if f.required]
    missing = dataclasses.MISSING
    assert required == [
        f.name for f in dataclasses.fields(kind) if f.default is missing and f.default_factory is missing
    ]


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u2"])
@pytest.mark.parametrize("size", [0, 1, 100, ARRAY_FRAME_BYTES // 8])
def test_speech_tokens_of_any_integer_dtype_arrive(dtype: str, size: int) -> None:
    tokens = (np.arange(size) % 100).astype(dtype)
    arrived = sent(AudioGenerationRequest(RequestID("a"), "m", "hi", buffer_speech_tokens=tokens))
    assert arrived.buffer_speech_tokens.dtype == np.int64
    assert arrived.buffer_speech_tokens.tolist() == tokens.tolist()


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 1), (1, 1), (ARRAY_FRAME_BYTES // 4 - 1, 1), (ARRAY_FRAME_BYTES // 4, 2)]
)
def test_only_large_arrays_get_a_frame_of_their_own(samples: int, frames: int) -> None:
    audio = np.linspace(-1, 1, samples).astype(np.float32)
    output = AudioGenerationOutput(ACTIVE, 7, audio)
    encoded = encode_payload([output])
    assert len(encoded) == frames
    assert decode_payload(encoded) == [output]


def test_a_large_array_is_not_copied() -> None:
    output = AudioGenerationOutput(ACTIVE, 7, np.zeros(ARRAY_FRAME_BYTES, np.float32))
    encoded = encode_payload([output])
    (arrived,) = decode_payload(encoded)
    assert isinstance(arrived, AudioGenerationOutput)
    assert np.shares_memory(np.frombuffer(encoded[1], np.float32), output.audio_data)
    assert np.shares_memory(arrived.audio_data, output.audio_data)


@pytest.mark.parametrize(("side", "frames"), [(8, 1), (384, 2)])
def test_a_picture_arrives_as_it_was(side: int, frames: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (side, side + 1, 3), dtype=np.uint8, endpoint=True)
    output = TextGenerationOutput(RequestID("a"), (), GenerationStatus.MAXIMUM_LENGTH, image_data=pixels)
    encoded = encode_payload([output])
    assert len(encoded) == frames
    assert decode_payload(encoded) == [output]
    assert output != dataclasses.replace(output, image_data=pixels[::-1])


def test_arriving_arrays_are_views_into_the_message() -> None:
    """Copying each chunk out of it would double the time of decoding."""
    output = AudioGenerationOutput(ACTIVE, 1, np.ones(2000, np.float32))
    message = np.frombuffer(bytearray(encode_payload([output])[0]), np.uint8)
    (arrived,) = decode_payload([message.data])
    assert isinstance(arrived, AudioGenerationOutput)
    assert np.shares_memory(arrived.audio_data, message)


@pytest.mark.parametrize("size", [0, 10, ARRAY_FRAME_BYTES])
def test_what_arrives_cannot_be_written(size: int) -> None:
    arrived = sent(AudioGenerationOutput(ACTIVE, 7, np.zeros(size, np.float32)))
    with pytest.raises(ValueError, match="WRITEABLE"):
        arrived.audio_data.flags.writeable = True


def test_mappings_and_tuples_arrive_frozen() -> None:
    probabilities = LogProbabilities((-0.5,), ({3: -0.5},), np.full((1, 4), -1.0, np.float32))
    arrived = sent(TextGenerationOutput(RequestID("a"), (3,), ACTIVE, probabilities))
    assert identical(arrived.log_probabilities, probabilities)
    with pytest.raises(TypeError):
        arrived.log_probabilities.top_log_probabilities[0][3] = 0.0


def test_defaults_do_not_travel() -> None:
    plain = encode_payload([AudioGenerationOutput(ACTIVE, 7, metadata=AudioGenerationMetadata(chunk_id=0))])[0]
    assert b"chunk_id" in bytes(plain)
    assert b"buffer_position" not in bytes(plain)
    assert b"sample_rate" not in bytes(plain)


def test_what_a_foreign_encoder_leaves_out_is_the_default() -> None:
    """A program in another language need not know our defaults, not even those that a factory makes."""
    request = {"$type": "AudioGenerationRequest", "request_id": "a", "model": "m", "input": "hi"}
    output = {"$type": "AudioGenerationOutput", "final_status": "active", "steps_executed": 1}
    assert decode_payload([msgspec.msgpack.encode([request, output])]) == [
        AudioGenerationRequest(RequestID("a"), "m", "hi", sampling_params=SamplingParams()),
        AudioGenerationOutput(ACTIVE, 1),
    ]


def test_no_items_and_the_bound_on_items() -> None:
    assert decode_payload(encode_payload([])) == []
    output = TextGenerationOutput(RequestID("a"), (), ACTIVE)
    with pytest.raises(ValueError, match="payload refused"):
        decode_payload(encode_payload([output] * (MAX_ITEMS + 1)))
