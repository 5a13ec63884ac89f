"""AudioGenerationRequest against the published document, field by field, where the contract alone can show it.

https://docs.modular.com/max/api/python/generated/max.interfaces.AudioGenerationRequest/
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from max_interfaces import AudioGenerationRequest, RequestID, SamplingParams, StreamPosition

ONE = RequestID("one")


def request(**fields: Any) -> AudioGenerationRequest:
    return AudioGenerationRequest(ONE, "voice", **({"input": "hi"} | fields))


def test_the_published_ten_come_first_and_in_order() -> None:
    assert list(inspect.signature(AudioGenerationRequest).parameters)[:10] == [
        "request_id",
        "model",
        "input",
        "audio_prompt_tokens",
        "audio_prompt_transcription",
        "sampling_params",
        "_assistant_message_override",
        "prompt",
        "streaming",
        "buffer_speech_tokens",
    ]


def test_positional_construction() -> None:
    params = SamplingParams(temperature=0.5)
    fields: Any = ("hi", [1, 2], "hello", params, "<1>", [7], False, np.array([3, 4]))
    made = AudioGenerationRequest(ONE, "voice", *fields)
    assert (made.request_id, made.model, made.input) == (ONE, "voice", "hi")
    assert (made.audio_prompt_tokens, made.audio_prompt_transcription) == ((1, 2), "hello")
    assert (made.sampling_params, made._assistant_message_override) == (params, "<1>")
    assert (made.prompt, made.streaming) == ((7,), False)
    assert made.buffer_speech_tokens is not None
    assert made.buffer_speech_tokens.tolist() == [3, 4]


def test_the_published_defaults() -> None:
    made = AudioGenerationRequest(ONE, "voice", "hi")
    assert made.audio_prompt_tokens == ()
    assert made.audio_prompt_transcription == ""
    assert made.sampling_params == SamplingParams()
    assert made._assistant_message_override is None
    assert made.prompt is None
    assert made.streaming is True
    assert made.buffer_speech_tokens is None
    assert AudioGenerationRequest(ONE, "voice", prompt="p").input is None


@pytest.mark.parametrize("model", ["", None, 3, "m" * 257])
def test_model_is_a_name(model: Any) -> None:
    with pytest.raises(ValueError, match=r"AudioGenerationRequest\.model = "):
        AudioGenerationRequest(ONE, model, "hi")


@pytest.mark.parametrize("request_id", ["one", None, 1])
def test_request_id_is_a_request_id(request_id: Any) -> None:
    with pytest.raises(ValueError, match=r"AudioGenerationRequest\.request_id = .*must be a RequestID"):
        AudioGenerationRequest(request_id, "voice", "hi")


def test_input_has_at_most_4096_characters() -> None:
    assert request(input="é" * 4096).input == "é" * 4096
    with pytest.raises(ValueError, match=r"input = .*has 4097 characters, may have at most 4096"):
        request(input="a" * 4097)


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_input_has_something_to_say(text: str) -> None:
    with pytest.raises(ValueError, match=r"AudioGenerationRequest\.input = .*nothing to say"):
        request(input=text)
    assert request(input=text, prompt="p").input == text


def test_input_or_prompt_is_needed() -> None:
    with pytest.raises(ValueError, match=r"input = None: give input .* or prompt"):
        AudioGenerationRequest(ONE, "voice")


@pytest.mark.parametrize("ids", [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), np.array([1, 2], "uint8")])
def test_ids_are_taken_from_any_sequence(ids: Any) -> None:
    made = request(prompt=ids, audio_prompt_tokens=ids)
    assert made.prompt == made.audio_prompt_tokens == (1, 2)
    assert all(type(token) is int for token in made.audio_prompt_tokens)


def test_prompt_is_a_string_or_ids_and_may_stand_beside_input() -> None:
    assert request(prompt="<s>hi").prompt == "<s>hi"
    made = request(prompt=[1, 2])
    assert (made.input, made.prompt) == ("hi", (1, 2))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "must not be empty"),
        ([], "must not be empty"),
        ([1, -1], r"\[1\] = -1: must be at least 0"),
        ([2**31], r"\[0\] = 2147483648: must be at most 2147483647"),
        ([1, "a"], r"\[1\] = 'a': must be an integer"),
        ([True], r"\[0\] = True: must be an integer, not a bool"),
        (3.5, "must be a sequence or must be str"),
        (b"text", "must be a sequence or must be str"),
        ({1, 2}, "must be a sequence or must be str"),
    ],
)
def test_a_wrong_prompt_says_what_is_wrong(prompt: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"AudioGenerationRequest\.prompt.*" + said):
        request(prompt=prompt)


def test_audio_prompt_transcription_is_text() -> None:
    assert request(audio_prompt_transcription="hello").audio_prompt_transcription == "hello"
    for wrong in (None, 5, ["hello"], "a" * 4097):
        with pytest.raises(ValueError, match="audio_prompt_transcription = "):
            request(audio_prompt_transcription=wrong)


def test_sampling_params_are_sampling_params() -> None:
    with pytest.raises(ValueError, match=r"sampling_params = .*must be a SamplingParams"):
        request(sampling_params={"temperature": 0.5})


def test_streaming_is_a_bool() -> None:
    assert request(streaming=np.False_).streaming is False
    for wrong in (0, 1, None, "yes"):
        with pytest.raises(ValueError, match=r"streaming = .*must be True or False"):
            request(streaming=wrong)


@pytest.mark.parametrize("dtype", [np.dtype(kind) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4")])
def test_buffer_speech_tokens_of_any_integer_dtype(dtype: np.dtype[Any]) -> None:
    tokens = request(buffer_speech_tokens=np.array([0, 5, 127], dtype)).buffer_speech_tokens
    assert tokens is not None
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [0, 5, 127]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (np.array([1.0]), "dtype must be of kind"),
        (np.array([True]), "dtype must be of kind"),
        (np.array(["1"]), "dtype must be of kind"),
        (np.array([[1, 2]]), r"must have 1 dimension"),
        (np.array(1), r"must have 1 dimension"),
        (np.array([3, -1]), " -1: values must be at least 0"),
        (np.array([2**31]), " 2147483648: values must be at most 2147483647"),
        (np.array([2**64 - 1], np.uint64), " 18446744073709551615: values must be at most"),
        (np.zeros(2**16 + 1, np.int64), r" \(65537,\): may have at most 65536 elements"),
        ([1, 2], "must be a numpy array"),
    ],
)
def test_other_buffer_speech_tokens_are_refused(tokens: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"AudioGenerationRequest\.buffer_speech_tokens =.*" + said):
        request(buffer_speech_tokens=tokens)


def test_buffer_position_belongs_to_buffer_speech_tokens() -> None:
    position = StreamPosition(seed=1, frame=2, sample=3)
    assert request(buffer_speech_tokens=np.array([1]), buffer_position=position).buffer_position == position
    with pytest.raises(ValueError, match=r"buffer_position = .*needs buffer_speech_tokens"):
        request(buffer_position=position)


def test_word_timestamps_belong_to_a_text() -> None:
    assert request(word_timestamps=True).word_timestamps
    with pytest.raises(ValueError, match=r"word_timestamps = True: needs input and no prompt"):
        request(word_timestamps=True, prompt=(1, 2))


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        request().input = "bye"  # type: ignore[misc]
