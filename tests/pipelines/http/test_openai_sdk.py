"""OpenAI's own Python package, as it comes, against our face: only the URL is another."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import av
import openai
import pydantic
import pytest
import pytest_asyncio

from max_pipelines.config import HttpConfig
from tests.pipelines.http.facing import Facing, facing, trivial
from tests.tiny_text import make_tiny_text


@pytest.fixture
async def served() -> AsyncIterator[Facing]:
    async with facing(trivial()) as face:
        yield face


@pytest.fixture
async def sdk(served: Facing) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav"])
async def test_speech_in_every_format(form: str, sdk: openai.AsyncOpenAI) -> None:
    speech = sdk.audio.speech.with_streaming_response
    async with speech.create(model="tts-1", voice="alloy", input="Hello.", response_format=form) as answer:  # type: ignore[arg-type]
        data = b"".join([piece async for piece in answer.iter_bytes()])
    with av.open(io.BytesIO(data), "r") as file:
        seconds = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
    assert seconds == pytest.approx(0.4, abs=0.1)


async def test_speech_as_pcm_in_one_piece(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.audio.speech.create(
        model="tts-1", voice="nova", input="Hello.", response_format="pcm", speed=1.0
    )
    assert len(answer.content) == 2 * 4 * 2400


async def test_speech_as_events(sdk: openai.AsyncOpenAI) -> None:
    speech = sdk.audio.speech.with_streaming_response
    async with speech.create(
        model="gpt-4o-mini-tts", voice="ash", input="Hello.", response_format="pcm", stream_format="sse"
    ) as answer:
        lines = [line async for line in answer.iter_lines() if line]
    assert answer.headers["content-type"] == "text/event-stream"
    assert len(lines) == 5
    assert '"speech.audio.done"' in lines[-1]


async def test_models(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["voice"]
    model = await sdk.models.retrieve("voice", extra_headers={"x-request-id": "ours"})
    assert (model.id, model._request_id) == ("voice", "ours")


async def test_errors_are_the_sdks_own(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'other' is served here") as missing:
        await sdk.audio.speech.create(model="other", voice="alloy", input="Hello.")
    with pytest.raises(openai.UnprocessableEntityError, match="there is no such voice"):
        await sdk.audio.speech.create(model="voice", voice="nobody", input="Hello.")
    assert missing.value.request_id


async def test_without_a_key_that_is_needed(tmp_path_factory: pytest.TempPathFactory) -> None:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("right\n")
    keys.chmod(0o600)
    async with facing(trivial(), HttpConfig(keys=str(keys))) as served:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="right") as client:
            assert [model.id async for model in client.models.list()] == ["voice"]
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError, match="an API key is needed"):
                await client.models.list()


class Colour(pydantic.BaseModel):
    """Paints."""

    colour: Literal["red", "blue"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def texts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK before a text model."""
    async with (
        facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as served,
        openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


in_one_loop = pytest.mark.asyncio(loop_scope="module")
HI: Any = [{"role": "user", "content": "hi"}]


@in_one_loop
async def test_a_chat(texts: openai.AsyncOpenAI) -> None:
    answer = await texts.chat.completions.create(
        model="tiny", messages=HI, max_completion_tokens=5, logprobs=True, top_logprobs=1, n=2, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10
    for choice in answer.choices:
        assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
        assert choice.logprobs is not None
        assert "".join(token.token for token in choice.logprobs.content or []) == choice.message.content


@in_one_loop
async def test_a_chat_as_a_stream(texts: openai.AsyncOpenAI) -> None:
    chunks = await texts.chat.completions.create(
        model="tiny", messages=HI, max_tokens=5, seed=1, stream=True, stream_options={"include_usage": True}
    )
    *parts, last = [chunk async for chunk in chunks]
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].choices[0].finish_reason == "length"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 5


@in_one_loop
async def test_an_answer_that_is_parsed(texts: openai.AsyncOpenAI) -> None:
    answer = await texts.chat.completions.parse(model="tiny", messages=HI, response_format=Colour)
    assert answer.choices[0].message.parsed is not None
    assert answer.choices[0].message.parsed.colour in ("red", "blue")


@in_one_loop
async def test_a_tool(texts: openai.AsyncOpenAI) -> None:
    tool = openai.pydantic_function_tool(Colour)
    answer = await texts.chat.completions.parse(
        model="tiny", messages=HI, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Colour)
    again: Any = [*HI, answer.choices[0].message.model_dump(exclude_none=True), tool_answer(call.id)]
    assert (await texts.chat.completions.create(model="tiny", messages=again, tools=[tool], max_tokens=3)).choices


def tool_answer(call: str) -> Any:
    return {"role": "tool", "content": "painted", "tool_call_id": call}


@in_one_loop
async def test_a_tool_in_the_sdks_own_stream(texts: openai.AsyncOpenAI) -> None:
    tool = openai.pydantic_function_tool(Colour)
    arguments = ""
    async with texts.chat.completions.stream(
        model="tiny",
        messages=HI,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "Colour"}},
    ) as events:
        async for event in events:
            if event.type == "tool_calls.function.arguments.delta":
                arguments += event.arguments_delta
        final = await events.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.arguments == arguments
    assert json.loads(arguments)["colour"] in ("red", "blue")


@in_one_loop
async def test_completions(texts: openai.AsyncOpenAI) -> None:
    answer = await texts.completions.create(
        model="tiny", prompt=["a", "b"], max_tokens=4, seed=1, logprobs=2, echo=True
    )
    for choice, prompt in zip(answer.choices, "ab", strict=True):
        assert choice.text.startswith(prompt)
        assert choice.logprobs is not None
        assert choice.logprobs.tokens is not None
        assert len(choice.logprobs.tokens) == 5
    chunks = await texts.completions.create(model="tiny", prompt=[70, 71], max_tokens=4, seed=1, stream=True)
    assert [chunk.choices[0].finish_reason async for chunk in chunks][-1] == "length"


@in_one_loop
async def test_texts_errors_and_models(texts: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in texts.models.list()] == ["tiny"]
    with pytest.raises(openai.UnprocessableEntityError, match="suffix"):
        await texts.completions.create(model="tiny", prompt="a", suffix="b")
    looking: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    with pytest.raises(openai.UnprocessableEntityError, match="reads text only"):
        await texts.chat.completions.create(model="tiny", messages=looking, stream=True)
    with pytest.raises(openai.NotFoundError, match="for text_generation, not for audio_generation"):
        await texts.audio.speech.create(model="tiny", voice="alloy", input="Hello.")
