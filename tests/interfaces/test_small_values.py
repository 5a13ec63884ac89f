"""Json, RequestID, RequestOptions, Failure, statuses, outputs' helpers, and the tree of exceptions."""

from __future__ import annotations

import math
import uuid
from queue import Empty, Full, Queue
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import max_interfaces
from max_interfaces import (
    AdapterRefused,
    AudioGenerationMetadata,
    AudioGenerationOutput,
    ConfigError,
    DeviceLost,
    EmbeddingsGenerationOutput,
    Failure,
    FailureKind,
    GenerationStatus,
    InvalidRequest,
    Json,
    LoRAStatus,
    MaxpipeError,
    NotServing,
    PipelineTask,
    PullQueue,
    PushQueue,
    RequestFailed,
    RequestID,
    RequestOptions,
    StartFailed,
    TextGenerationOutput,
    WireError,
    WordTimestamp,
)
from max_interfaces.values import MAX_JSON_LENGTH
from tests.interfaces.strategies import json_values


@given(value=json_values())
@settings(max_examples=60, deadline=None)
def test_json_keeps_any_document(value: Any) -> None:
    document = Json.of(value)
    assert document.value == value
    assert Json(document.text) == document
    assert hash(Json(document.text)) == hash(document)


def test_the_value_of_json_is_the_callers_own() -> None:
    document = Json.of({"a": [1]})
    value: Any = document.value
    value["a"].append(2)
    assert document.value == {"a": [1]}


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "NaN", "[Infinity]", "[1] [2]", '"\ud800"', "[" * 10**5, 5])
def test_what_is_no_json_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"Json\.text = "):
        Json(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"a", object(), "\ud800", "a" * MAX_JSON_LENGTH])
def test_what_json_cannot_say_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"Tool\.parameters = .*cannot be written as JSON"):
        Json.of(value, "Tool.parameters")


def test_json_is_bounded() -> None:
    assert Json(" " * (MAX_JSON_LENGTH - 1) + "1").value == 1
    with pytest.raises(ValueError, match=f"may have at most {MAX_JSON_LENGTH}"):
        Json(" " * MAX_JSON_LENGTH + "1")


def test_a_request_id_is_a_value() -> None:
    assert RequestID("a") == RequestID("a") != RequestID("b")
    assert {RequestID("a"): 1}[RequestID("a")] == 1
    assert sorted([RequestID("b"), RequestID("a")]) == [RequestID("a"), RequestID("b")]
    assert str(RequestID("a")) == RequestID("a").value == "a"
    assert RequestID() != RequestID()
    assert uuid.UUID(RequestID().value).version == 4


@pytest.mark.parametrize("value", ["", "a" * 129, 5, None, b"a", "\ud800"])
def test_a_wrong_request_id_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"RequestID\.value = "):
        RequestID(value)


def test_options_have_finite_defaults() -> None:
    assert RequestOptions() == RequestOptions(300.0, 0, "")
    for deadline in (0, -1, math.nan, math.inf, 86_401):
        with pytest.raises(ValueError, match=r"RequestOptions\.deadline_s = "):
            RequestOptions(deadline)


def test_only_active_is_not_done() -> None:
    assert [status for status in GenerationStatus if not status.is_done] == [GenerationStatus.ACTIVE]


def test_names_that_max_has_too_are_the_same() -> None:
    assert {"active", "end_of_sequence", "maximum_length", "cancelled"} <= {s.value for s in GenerationStatus}
    assert {"text_generation", "embeddings_generation", "audio_generation", "speech_token_generation"} == {
        task.value for task in PipelineTask
    }
    assert len(LoRAStatus) == 8


def test_outputs_say_whether_they_are_the_last() -> None:
    for status in GenerationStatus:
        assert AudioGenerationOutput(status, 0).is_done is status.is_done
        assert TextGenerationOutput(RequestID("a"), (), status).is_done is status.is_done
    assert EmbeddingsGenerationOutput().is_done


def test_an_output_without_sound_has_an_empty_array() -> None:
    audio = AudioGenerationOutput(GenerationStatus.ACTIVE, 0).audio_data
    assert (audio.dtype, audio.shape) == (np.dtype("float32"), (0,))
    assert AudioGenerationOutput(GenerationStatus.ACTIVE, 0, np.array([0.5], "float64")).audio_data.dtype == np.float32


def test_metadata_keeps_zero_and_false() -> None:
    """MAX's `to_dict` drops the first chunk's number."""
    metadata = AudioGenerationMetadata(sample_rate=24_000, chunk_id=0, final_chunk=False, duration=0.0)
    assert metadata.to_dict() == {"sample_rate": 24_000, "chunk_id": 0, "final_chunk": False, "duration": 0.0}
    words = (WordTimestamp("hi", 0.0, 0.5),)
    assert AudioGenerationMetadata(words=words).to_dict() == {"words": words}


def test_a_failed_request_carries_its_failure() -> None:
    failure = Failure(FailureKind.OVERLOADED, "try later", 1.5)
    error = RequestFailed(failure)
    assert error.failure is failure
    assert str(error) == "overloaded: try later"


def test_the_tree_of_exceptions() -> None:
    tree = {
        kind: kind.__bases__
        for kind in vars(max_interfaces).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert tree == {
        MaxpipeError: (Exception,),
        RequestFailed: (MaxpipeError,),
        InvalidRequest: (MaxpipeError, ValueError),
        ConfigError: (MaxpipeError, ValueError),
        AdapterRefused: (MaxpipeError, ValueError),
        WireError: (MaxpipeError, ValueError),
        StartFailed: (MaxpipeError,),
        DeviceLost: (MaxpipeError,),
        NotServing: (MaxpipeError,),
    }
    drawn = max_interfaces.errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in tree)


def test_the_standard_librarys_queue_is_a_push_and_pull_queue() -> None:
    queue: Queue[int] = Queue(1)
    assert isinstance(queue, PushQueue)
    assert isinstance(queue, PullQueue)
    queue.put_nowait(1)
    with pytest.raises(Full):
        queue.put_nowait(2)
    assert queue.get_nowait() == 1
    with pytest.raises(Empty):
        queue.get_nowait()
