"""A ValueError says that the client is wrong only where the client's fields are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from max_codecs.sound.encoder import SoundEncoder, open_encoder
from max_codecs.sound.formats import SoundFormat
from max_pipelines.http import encoders
from max_pipelines.http.openai.chat_text import ChatText
from max_pipelines.http.openai.heading import Heading
from max_pipelines.http.text_generation import generate
from tests.pipelines.http.facing import Body, Facing, facing, trivial
from tests.pipelines.http.parrot import parrot

SPEECH = {"model": "voice", "input": "Good morning.", "response_format": "pcm"}
CHAT = {"messages": [{"role": "user", "content": "Good morning."}]}
IN_THE_LOG = "an answer has failed"


class Breaking:
    """An encoder that works so many times."""

    def __init__(self, encoder: SoundEncoder, works: int) -> None:
        self.encoder = encoder
        self.works = works

    def push(self, samples: NDArray[np.float32]) -> bytes:
        if not self.works:
            raise ValueError("a bug")
        self.works -= 1
        return self.encoder.push(samples)

    def finish(self) -> bytes:
        return self.encoder.finish()


def broken(*arguments: object, **named: object) -> None:
    raise ValueError("a bug")


@pytest.fixture
async def speaks() -> AsyncIterator[Facing]:
    async with facing(trivial()) as face:
        yield face


@pytest.fixture
async def writes() -> AsyncIterator[Facing]:
    async with parrot() as face:
        yield face


def encoding(monkeypatch: pytest.MonkeyPatch, works: int) -> None:
    def opened(form: SoundFormat, rate: int, to_rate: int) -> Breaking:
        return Breaking(open_encoder(form, rate, to_rate), works)

    monkeypatch.setattr(encoders, "open_encoder", opened)


async def test_before_the_first_byte_it_is_a_500_and_in_the_log(
    speaks: Facing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoding(monkeypatch, 0)
    answer = await speaks.post("/v1/audio/speech", SPEECH)
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal")
    assert IN_THE_LOG in caplog.text


async def test_after_it_the_sound_is_broken_off(
    speaks: Facing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoding(monkeypatch, 2)
    with pytest.raises(httpx2.RemoteProtocolError):
        await speaks.post("/v1/audio/speech", SPEECH)
    assert IN_THE_LOG in caplog.text


async def test_events_say_it(speaks: Facing, monkeypatch: pytest.MonkeyPatch) -> None:
    encoding(monkeypatch, 2)
    answer = await speaks.post("/v1/audio/speech", SPEECH | {"stream_format": "sse"})
    last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error_type"] == "internal"


async def test_the_websocket_says_it(
    speaks: Facing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoding(monkeypatch, 0)
    async with connect(speaks.url.replace("http", "ws") + "/v1/audio/speech/stream") as socket:
        await socket.send(json.dumps({"type": "text", "text": "Good morning."}))
        await socket.send(json.dumps({"type": "end"}))
        assert json.loads(await socket.recv())["type"] == "start"
        assert json.loads(await socket.recv())["error_type"] == "internal"
    assert IN_THE_LOG in caplog.text


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "Good"}), ("/generate", {"inputs": "Good"})],
)
async def test_a_text_that_cannot_be_told(
    path: str, body: Body, writes: Facing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Heading, "whole", broken)
    monkeypatch.setattr(generate, "answer_of", broken)
    answer = await writes.post(path, body)
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal")
    assert IN_THE_LOG in caplog.text


async def test_a_chat_that_cannot_be_told_to_its_end(writes: Facing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatText, "chunks", broken)
    answer = await writes.post("/v1/chat/completions", CHAT | {"stream": True})
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/chat/completions", CHAT | {"top_logprobs": 2}, "needs logprobs"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "has no image_url",
        ),
        ("/v1/completions", {"prompt": "Good", "suffix": "night"}, "suffix"),
        ("/v1/completions", {"prompt": ["Good", [3]]}, "do not go together"),
        ("/chat_tokenize", CHAT | {"top_logprobs": 2}, "needs logprobs"),
        ("/generate", {"inputs": "Good", "parameters": {"top_k": 0}}, "top_k"),
    ],
)
async def test_what_is_asked_wrongly_is_the_clients(
    path: str, body: Mapping[str, object], says: str, writes: Facing, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await writes.post(path, dict(body))
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert says in answer.text
    assert IN_THE_LOG not in caplog.text
