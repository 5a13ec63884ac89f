"""TextGenerationRequest and its messages, against MAX 25.7 to 26.3."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from max_interfaces import (
    EmbeddingsGenerationRequest,
    Json,
    LoRAOperation,
    LoRARequest,
    MediaContentPart,
    MediaKind,
    MessageRole,
    RequestID,
    TextContentPart,
    TextGenerationRequest,
    TextGenerationRequestFunction,
    TextGenerationRequestMessage,
    TextGenerationRequestTool,
)

ONE = RequestID("one")
USER = TextGenerationRequestMessage(MessageRole.USER, "hi")
PICTURE = MediaContentPart(MediaKind.IMAGE)


def text(**fields: Any) -> TextGenerationRequest:
    """What callers give may be lists, whatever the annotations say of what is kept."""
    return TextGenerationRequest(ONE, "m", **fields)


def test_the_published_fields_come_first_and_in_order() -> None:
    assert list(inspect.signature(TextGenerationRequest).parameters)[:16] == [
        "request_id",
        "model_name",
        "prompt",
        "messages",
        "images",
        "videos",
        "tools",
        "response_format",
        "timestamp_ns",
        "request_path",
        "logprobs",
        "echo",
        "stop",
        "chat_template_options",
        "sampling_params",
        "target_endpoint",
    ]


def test_prompt_or_messages_but_not_both() -> None:
    assert text(prompt=[1, 2]).prompt == (1, 2)
    assert text(messages=[USER]).messages == (USER,)
    for fields in ({}, {"prompt": "p", "messages": [USER]}):
        with pytest.raises(ValueError, match=r"prompt.*give either prompt or messages"):
            text(**fields)
    with pytest.raises(ValueError, match=r"prompt = '': must not be empty"):
        text(prompt="")


def test_each_placed_item_has_its_bytes() -> None:
    message = TextGenerationRequestMessage(MessageRole.USER, (TextContentPart("look:"), PICTURE))
    assert text(messages=(message,), images=(b"png",)).images == (b"png",)
    with pytest.raises(ValueError, match=r"TextGenerationRequest\.images = 0 items: the messages place 1"):
        text(messages=(message,))
    with pytest.raises(ValueError, match=r"TextGenerationRequest\.audios = 1 items: the messages place 0"):
        text(messages=(USER,), audios=(b"wav",))


@pytest.mark.parametrize("kind", ["images", "videos", "audios"])
@pytest.mark.parametrize("prompt", ["look", [7]])
def test_a_prompt_places_media_by_the_models_own_words(prompt: object, kind: str) -> None:
    assert getattr(text(prompt=prompt, **{kind: (b"bytes",)}), kind) == (b"bytes",)


def test_a_message_goes_on_or_a_new_one_begins() -> None:
    with pytest.raises(ValueError, match="continue_final_message = True: excludes add_generation_prompt"):
        text(messages=(USER,), continue_final_message=True)
    text(messages=(USER,), continue_final_message=True, add_generation_prompt=False)


def test_a_message_has_text_or_parts() -> None:
    parts = TextGenerationRequestMessage(MessageRole.USER, (TextContentPart("a"), PICTURE, TextContentPart("b")))
    assert parts.flatten_content() == "a\nb"
    assert [parts.media(kind) for kind in (MediaKind.IMAGE, MediaKind.AUDIO)] == [1, 0]
    assert USER.flatten_content() == "hi"
    assert USER.media(MediaKind.IMAGE) == 0
    assert TextGenerationRequestMessage("user", "hi") == USER  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([TextContentPart("a"), "b"], r"content\[1\] = 'b': must be a TextContentPart or must be a MediaContentPart"),
        (5, "content = 5: must be str or must be a sequence"),
        ({"text": "a"}, "must be str or must be a sequence"),
    ],
)
def test_wrong_content_says_what_is_wrong(content: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TextGenerationRequestMessage(MessageRole.USER, content)


def test_a_tool_has_a_function_with_a_schema() -> None:
    function = TextGenerationRequestFunction("add", parameters={"type": "object"})  # type: ignore[arg-type]
    tool = TextGenerationRequestTool(function)
    assert text(prompt="p", tools=(tool,)).tools[0].function.parameters == Json('{"type":"object"}')


def test_one_stop_string_may_be_given_as_it_is() -> None:
    assert text(prompt="p", stop="END").stop == ("END",)


def test_an_embedding_needs_a_text_or_ids() -> None:
    assert EmbeddingsGenerationRequest(ONE, "m", (1,)).input == (1,)
    for nothing in ("", ()):
        with pytest.raises(ValueError, match=r"EmbeddingsGenerationRequest\.input = .*must not be empty"):
            EmbeddingsGenerationRequest(ONE, "m", nothing)


def test_loading_an_adapter_needs_its_folder() -> None:
    assert LoRARequest(LoRAOperation.UNLOAD, "a").lora_path is None
    with pytest.raises(ValueError, match=r"LoRARequest\.lora_path = None"):
        LoRARequest(LoRAOperation.LOAD, "a")
