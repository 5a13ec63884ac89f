"""Requests and outputs are values: nobody can change one, and equal ones are equal, also with arrays inside."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from enum import Enum
from typing import Any, get_args

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    EmbeddingsGenerationRequest,
    GenerationStatus,
    Json,
    LogProbabilities,
    RequestID,
    RequestOptions,
    SamplingParams,
    TextGenerationRequest,
    protocols,
)
from max_interfaces.protocols import Attempt, Chunk, TokenDelta
from max_interfaces.values import FrozenMapping
from max_interfaces.wire import Payload, decode_payload, encode_payload
from tests.interfaces.identical import identical
from tests.interfaces.public_types import parts_of, public_dataclasses, structs_of
from tests.interfaces.strategies import instances

VALUES = [kind for kind in parts_of([*get_args(Payload), RequestOptions]) if kind is not Json]
of_every_kind = pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
ONE = RequestID("one")


def assert_immutable(value: Any) -> None:
    """Down to the leaves."""
    if isinstance(value, np.ndarray):
        with pytest.raises(ValueError, match="WRITEABLE"):
            value.flags.writeable = True
    elif isinstance(value, tuple):
        for part in value:
            assert_immutable(part)
    elif isinstance(value, FrozenMapping):
        for key, part in value.items():
            assert_immutable((key, part))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)
            assert_immutable(getattr(value, field.name))
    else:
        assert value is None or isinstance(value, str | bytes | int | float | Enum)


def thawed(value: Any) -> Any:
    """The same in types that can be changed, as callers give them."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple):
        return [thawed(part) for part in value]
    return dict(value) if isinstance(value, Mapping) else value


def spoil(value: Any) -> None:
    """Change what can be changed."""
    if isinstance(value, np.ndarray):
        value[...] = 1 - value
    elif isinstance(value, list):
        for part in value:
            spoil(part)
        value.clear()
    elif isinstance(value, dict):
        value.clear()


@of_every_kind
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_every_value_is_immutable_all_the_way_down(kind: type, data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    assert_immutable(value)


@of_every_kind
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_what_the_caller_changes_later_does_not_matter(kind: type, data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    given_fields = {field.name: thawed(getattr(value, field.name)) for field in dataclasses.fields(value)}
    made = type(value)(**given_fields)
    assert identical(made, value)
    for part in given_fields.values():
        spoil(part)
    assert identical(made, value)


@of_every_kind
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_copies_are_equal_and_hash_alike(kind: type, data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    for other in (dataclasses.replace(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301
        assert other == value
        assert hash(other) == hash(value)
        assert_immutable(other)
    assert value != object()
    assert dataclasses.asdict(value).keys() == {field.name for field in dataclasses.fields(value)}


@pytest.mark.parametrize("kind", public_dataclasses(), ids=lambda kind: kind.__name__)
def test_every_public_dataclass_is_frozen_and_has_no_dict(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__dictoffset__ == 0


@pytest.mark.parametrize("kind", structs_of(protocols), ids=lambda kind: kind.__name__)
def test_so_is_every_struct_that_a_step_makes(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__dictoffset__ == 0


@pytest.mark.parametrize(
    "value", [Attempt(ONE, seed=7), Chunk(ONE, None, (1, 2)), TokenDelta((5,), GenerationStatus.ACTIVE)]
)
def test_a_copy_of_such_a_struct_has_the_same_fields(value: TokenDelta) -> None:
    for other in (msgspec.structs.replace(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301
        assert msgspec.structs.astuple(other) == msgspec.structs.astuple(value)
        with pytest.raises(AttributeError):
            other.tokens = ()  # type: ignore[misc]  # that is the point


def test_an_array_that_somebody_else_can_still_change_is_copied() -> None:
    owned = bytearray(np.zeros(4, np.float32).tobytes())
    view = np.frombuffer(memoryview(owned).toreadonly(), np.float32)
    masked = np.ma.masked_array(np.zeros(4, np.float32), mask=[True, False, False, False])
    outputs = [AudioGenerationOutput(GenerationStatus.ACTIVE, 1, sound) for sound in (view, masked)]
    owned[:4] = np.ones(1, np.float32).tobytes()
    masked[:] = 1
    for output in outputs:
        assert type(output.audio_data) is np.ndarray
        assert not output.audio_data.any()
        assert_immutable(output)


def test_a_kind_of_str_becomes_a_str_which_the_wire_takes() -> None:
    class Shouted(str):
        __slots__ = ()

        def __str__(self) -> str:
            return self.upper()

    request = AudioGenerationRequest(RequestID(Shouted("id")), np.str_("m"), Shouted("hi"))
    assert [type(text) for text in (request.request_id.value, request.model, request.input)] == [str, str, str]
    assert (request.model, request.input) == ("m", "hi")
    assert decode_payload(encode_payload([request])) == [request]


def test_requests_hash_by_id() -> None:
    requests: list[AudioGenerationRequest | TextGenerationRequest | EmbeddingsGenerationRequest] = [
        AudioGenerationRequest(ONE, "m", "hi", buffer_speech_tokens=np.arange(3)),
        TextGenerationRequest(ONE, "m", "hi"),
        EmbeddingsGenerationRequest(ONE, "m", "hi"),
    ]
    for request in requests:
        assert hash(request) == hash(ONE)
        assert request in {request: 1}


def test_arrays_are_compared_by_their_values() -> None:
    def request(*tokens: int) -> AudioGenerationRequest:
        return AudioGenerationRequest(ONE, "m", "hi", buffer_speech_tokens=np.array(tokens, np.int64))

    assert request(1, 2) == request(1, 2)
    assert request(1, 2) != request(1, 3)
    assert request(1, 2) != request(1)
    assert request() != AudioGenerationRequest(ONE, "m", "hi")
    rows = np.zeros((1, 2), np.float32)
    assert LogProbabilities(all_log_probabilities=rows) == LogProbabilities(all_log_probabilities=rows.copy())
    assert LogProbabilities(all_log_probabilities=rows) != LogProbabilities(all_log_probabilities=rows - 1)


@pytest.mark.parametrize(
    "tokens",
    [
        np.arange(10)[::2],
        np.arange(10)[::-1],
        np.arange(12).reshape(3, 4)[:, 1],
        np.asfortranarray(np.arange(12).reshape(3, 4))[0],
        np.arange(5, dtype=">i8"),
        np.broadcast_to(np.int64(7), 4),
        np.arange(5).view(np.recarray),
    ],
)
def test_an_array_of_any_layout_is_taken(tokens: np.ndarray[Any, Any]) -> None:
    frozen = AudioGenerationRequest(ONE, "m", "hi", buffer_speech_tokens=tokens).buffer_speech_tokens
    assert frozen is not None
    assert frozen.tolist() == tokens.tolist()
    assert frozen.flags.c_contiguous
    assert frozen.dtype == np.dtype("int64")


def test_a_read_only_flag_is_not_trusted() -> None:
    """Who owns an array can take its flag back."""
    tokens = np.arange(3)
    tokens.flags.writeable = False
    request = AudioGenerationRequest(ONE, "m", "hi", buffer_speech_tokens=tokens)
    tokens.flags.writeable = True
    tokens[:] = 9
    assert request.buffer_speech_tokens is not None
    assert request.buffer_speech_tokens.tolist() == [0, 1, 2]


def test_what_is_frozen_is_not_copied_again() -> None:
    first = AudioGenerationOutput(GenerationStatus.ACTIVE, 1, np.zeros(8, np.float32))
    second = dataclasses.replace(first, steps_executed=2)
    assert second.audio_data is first.audio_data


def test_a_frozen_mapping_is_a_mapping_and_no_more() -> None:
    bias = SamplingParams(logit_bias={3: 1.0, 4: 2}).logit_bias
    assert bias == {3: 1.0, 4: 2.0}
    assert (bias[3], len(bias), list(bias), 5 in bias) == (1.0, 2, [3, 4], False)
    assert bias == SamplingParams(logit_bias={4: 2.0, 3: 1}).logit_bias
    assert repr(bias) == "{3: 1.0, 4: 2.0}"
    with pytest.raises(TypeError):
        bias[3] = 2.0  # type: ignore[index]
    with pytest.raises(TypeError):
        del bias[3]  # type: ignore[attr-defined]
