"""OpenAI's own Python package, as it comes, against our face: only the URL is another."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import av
import openai
import pytest

from max_pipelines.config import HttpConfig
from tests.pipelines.http.facing import Facing, facing, trivial


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
