"""A chat that is answered aloud: OpenAI's `modalities` and `audio`, by OpenAI's own package."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from max_codecs.pcm import to_s16
from max_interfaces import MessageRole, RequestID, SamplingParams, TextGenerationRequest, TextGenerationRequestMessage
from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig
from tests.engines.tiny_processors import png, save_speaking, wav
from tests.pipelines.http.asking import CHAT, answered, streamed
from tests.pipelines.http.facing import Body, Facing, facing
from tests.tiny_text import make_tiny_text

pytestmark = pytest.mark.asyncio(loop_scope="module")
COUNT = 24
QUESTION = "the quick brown fox"
ASKED: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": QUESTION}],
    "max_completion_tokens": COUNT,
    "temperature": 0,
    "seed": 7,
    "modalities": ["text", "audio"],
    "audio": {"voice": "Ethan", "format": "pcm16"},
}
MORE: dict[str, Any] = {"extra_body": {"ignore_eos": True}}


@dataclass
class Said:
    """What an answer should be."""

    text: str
    samples: NDArray[np.float32]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def speaks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    """A face before a model that speaks."""
    config = Config(
        http=None,
        model=ModelConfig(name="tiny", path=str(save_speaking(tmp_path_factory.mktemp("omni"))), dtype="float32"),
        pipeline=PipelineConfig(kind="omni", options={"temperature": 0, "steps": 2}),
        engine=EngineConfig(max_batch=8),
        workers=WorkersConfig(transport="thread"),
    )
    async with facing(config) as face:
        yield face


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk(speaks: Facing) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{speaks.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def said(speaks: Facing) -> Said:
    """What Ethan answers, by the road alone."""
    whole = await speaks.face.client.generate(
        TextGenerationRequest(
            RequestID(),
            "tiny",
            messages=(TextGenerationRequestMessage(MessageRole.USER, QUESTION),),
            sampling_params=SamplingParams(temperature=0, max_new_tokens=COUNT, ignore_eos=True, seed=7),
            voice="Ethan",
        )
    )
    assert whole.audio_data is not None
    assert np.abs(whole.audio_data).max() > 0.01
    return Said(whole.text, whole.audio_data)


async def test_a_whole_answer_is_a_transcript_and_its_sound(sdk: openai.AsyncOpenAI, said: Said) -> None:
    answer = await sdk.chat.completions.create(**ASKED, **MORE)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == (None, "length")
    audio = choice.message.audio
    assert audio is not None
    assert audio.transcript == said.text
    assert base64.b64decode(audio.data) == to_s16(said.samples).tobytes()
    assert audio.id.startswith("audio_")
    assert audio.expires_at == answer.created
    assert answer.usage is not None
    assert answer.usage.completion_tokens == COUNT


async def test_a_stream_has_its_sound_while_the_text_is_made(sdk: openai.AsyncOpenAI, said: Said) -> None:
    chunks = [chunk async for chunk in await sdk.chat.completions.create(**ASKED, **MORE, stream=True)]
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    parts = [chunk.choices[0].delta.model_dump().get("audio") or {} for chunk in chunks]
    assert [part["id"] for part in parts if part.get("id")] == [parts[0]["id"]]
    assert "".join(part.get("transcript") or "" for part in parts) == said.text
    sounding = [number for number, part in enumerate(parts) if part.get("data")]
    writing = [number for number, part in enumerate(parts) if part.get("transcript")]
    assert sounding[0] < writing[-1]
    data = b"".join(base64.b64decode(parts[number]["data"]) for number in sounding)
    assert data == to_s16(said.samples).tobytes()
    assert {name: value for name, value in parts[-2].items() if value is not None} == {"expires_at": chunks[0].created}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]


async def test_the_sdks_own_stream_puts_it_together(sdk: openai.AsyncOpenAI, said: Said) -> None:
    async with sdk.chat.completions.stream(**ASKED, **MORE) as stream:
        async for _ in stream:
            audio = stream.current_completion_snapshot.choices[0].message.audio
    assert audio is not None
    assert (audio.transcript, audio.id[:6], len(audio.id)) == (said.text, "audio_", 38)
    assert base64.b64decode(audio.data, validate=True) == to_s16(said.samples).tobytes()


@pytest.mark.parametrize("form", ["wav", "mp3", "opus", "flac", "aac"])
async def test_a_whole_answer_in_every_format(form: str, sdk: openai.AsyncOpenAI, said: Said) -> None:
    answer = await sdk.chat.completions.create(**{**ASKED, "audio": {"voice": "Ethan", "format": form}}, **MORE)
    audio = answer.choices[0].message.audio
    assert audio is not None
    with av.open(io.BytesIO(base64.b64decode(audio.data)), "r") as file:
        seconds = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
    assert seconds == pytest.approx(len(said.samples) / 24_000, abs=0.1)


async def test_the_voice_is_the_one_that_is_named(sdk: openai.AsyncOpenAI, said: Said) -> None:
    sounds = {}
    for voice in ("Ethan", {"id": "Ethan"}, "Chelsie", "alloy"):
        answer = await sdk.chat.completions.create(**{**ASKED, "audio": {"voice": voice, "format": "pcm16"}}, **MORE)
        assert answer.choices[0].message.audio is not None
        assert answer.choices[0].message.audio.transcript == said.text
        sounds[str(voice)] = answer.choices[0].message.audio.data
    assert sounds["Ethan"] == sounds["{'id': 'Ethan'}"]
    assert sounds["alloy"] == sounds["Chelsie"] != sounds["Ethan"]  # a hosted service's voice is the first


async def test_an_image_and_a_sound_are_answered_aloud(sdk: openai.AsyncOpenAI) -> None:
    picture = {"url": f"data:image/png;base64,{base64.b64encode(png(1)).decode()}"}
    played = {"data": base64.b64encode(wav(1)).decode(), "format": "wav"}
    parts = [{"type": "image_url", "image_url": picture}, {"type": "input_audio", "input_audio": played}]
    asked = {**ASKED, "messages": [{"role": "user", "content": parts}]}
    answer = await sdk.chat.completions.create(**asked, **MORE)
    assert answer.choices[0].message.audio is not None
    assert len(answer.choices[0].message.audio.data) > 1000


async def test_an_answer_goes_back_as_what_it_said(speaks: Facing, sdk: openai.AsyncOpenAI, said: Said) -> None:
    answer = await sdk.chat.completions.create(**ASKED, **MORE)
    user: Any = {"role": "user", "content": QUESTION}
    spoken: Any = answer.choices[0].message
    plain: dict[str, Any] = {"model": "tiny", "max_completion_tokens": 8, "temperature": 0}
    again = await sdk.chat.completions.create(**plain, messages=[user, spoken, user])
    written: Any = {"role": "assistant", "content": said.text}
    assert again.choices[0].message.content
    same = await sdk.chat.completions.create(**plain, messages=[user, written, user])
    assert again.choices[0].message.content == same.choices[0].message.content
    named: Any = {"role": "assistant", "audio": {"id": "audio_1"}}
    with pytest.raises(openai.UnprocessableEntityError, match="no sound is kept; give its transcript as content"):
        await sdk.chat.completions.create(**plain, messages=[user, named, user])


@pytest.mark.parametrize("modalities", [None, ["text"]])
async def test_text_alone_is_as_ever(modalities: list[str] | None, speaks: Facing, said: Said) -> None:
    body: Body = {**ASKED, **MORE["extra_body"], "modalities": modalities}
    answer = await answered(speaks, CHAT, body)
    assert answer["choices"][0]["message"]["content"] == said.text
    assert "audio" not in answer["choices"][0]["message"]
    events = await streamed(speaks, CHAT, body)
    assert not any("audio" in event["choices"][0]["delta"] for event in events)


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"audio": {"voice": "Nobody", "format": "wav"}}, 422, "audio.voice = 'Nobody': must be one of Chelsie, Ethan"),
        ({"audio": None}, 422, "audio: is needed where modalities has audio"),
        ({"audio": {"voice": "Ethan", "format": "wav"}, "stream": True}, 422, "must be 'pcm16' in a stream"),
        ({"tools": [{"type": "function", "function": {"name": "wipe"}}]}, 422, "leave tools and response_format out"),
        ({"response_format": {"type": "json_object"}}, 422, "leave tools and response_format out"),
        ({"n": 2}, 422, "one text is spoken"),
        ({"stop": "x"}, 422, "a spoken text ends by its ids"),
        ({"audio": {"voice": "Ethan", "format": "midi"}}, 422, "midi"),
        ({"audio": {"voice": "Ethan"}}, 422, "missing required field `format`"),
        ({"modalities": ["smell"]}, 422, "smell"),
        ({"modalities": []}, 422, "modalities"),
    ],
)
async def test_what_cannot_be_spoken_is_refused(fields: Body, status: int, says: str, speaks: Facing) -> None:
    answer = await speaks.post(CHAT, {**ASKED, **fields})
    assert (answer.status_code, says in answer.json()["error"]["message"]) == (status, True), answer.text


async def test_a_model_that_writes_alone_says_so(tmp_path: Path) -> None:
    async with facing(make_tiny_text(tmp_path, transport="thread")) as face:
        answer = await face.post(CHAT, ASKED)
        assert answer.status_code == 422
        assert "tiny writes, and does not speak; ask it for text" in answer.text
