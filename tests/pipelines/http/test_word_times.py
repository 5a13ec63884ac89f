"""Word timestamps over HTTP: events, the WebSocket, and Kokoro's captioned speech."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from max_codecs.sound.tempo import Tempo
from max_interfaces import AudioGenerationOutput
from max_pipelines.client import AsyncClient
from max_pipelines.config import HttpConfig
from tests.pipelines.http.facing import Body, Facing, facing, trivial
from tests.tiny_voice import make_tiny_voice

SPEECH, CAPTIONED = "/v1/audio/speech", "/dev/captioned_speech"
TEXT = "Good  morning, it is 7. Well done."
RATE = 8000  # the tiny voice's
pytestmark = pytest.mark.asyncio(loop_scope="module")


def asking(**fields: object) -> Body:
    return {"model": "tiny", "input": TEXT, "response_format": "pcm", "sample_rate": RATE, "seed": 3} | fields


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def timed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    config = make_tiny_voice(tmp_path_factory.mktemp("timed"), timed=True)
    workers = msgspec.structs.replace(config.workers, transport="thread")
    async with facing(msgspec.structs.replace(config, workers=workers), HttpConfig(model_aliases=("kokoro",))) as face:
        yield face


async def events(served: Facing, **fields: object) -> list[Body]:
    answer = await served.post(SPEECH, asking(stream_format="sse", **fields))
    assert answer.status_code == 200, answer.text
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]


def words_in(said: list[Body]) -> list[Body]:
    return [word for event in said if event["type"] == "speech.audio.words" for word in event["words"]]


async def test_events_tell_words(timed: Facing) -> None:
    said = await events(timed, word_timestamps=True)
    words = words_in(said)
    assert [event["type"] for event in said][-1] == "speech.audio.done"
    assert next(word["word"] for word in words) == "Good"
    seconds = sum(len(base64.b64decode(event.get("audio", ""))) for event in said) / 2 / RATE
    for word in words:
        assert set(word) == {"word", "start", "end", "text_start", "text_end"}
        assert TEXT[word["text_start"] : word["text_end"]] == word["word"]
        assert 0 <= word["start"] <= word["end"] <= seconds + 0.01


async def test_a_faster_sound_has_its_words_earlier(timed: Facing) -> None:
    words = words_in(await events(timed, word_timestamps=True))
    faster = words_in(await events(timed, word_timestamps=True, speed=2.0))
    early = Tempo(RATE, 2.0).early_s
    for key in ("start", "end"):
        assert [word[key] for word in faster] == [pytest.approx(max(0, word[key] / 2 - early)) for word in words]


async def test_who_does_not_ask_gets_the_plain_events(timed: Facing) -> None:
    assert {event["type"] for event in await events(timed)} == {"speech.audio.delta", "speech.audio.done"}


async def test_a_request_that_goes_on_tells_its_words_too(timed: Facing) -> None:
    said = await events(timed, input="Good morning.", word_timestamps=True, to_be_continued=True)
    assert words_in(said)[0]["word"] == "Good"


async def test_a_plain_sound_has_no_place_for_words(timed: Facing) -> None:
    answer = await timed.post(SPEECH, asking(word_timestamps=True))
    assert answer.status_code == 422
    assert "word_timestamps = true: a sound has no place for them" in answer.text
    answer = await timed.post("/models/tiny", {"inputs": TEXT, "parameters": {"word_timestamps": True}})
    assert answer.status_code == 422


async def test_the_websocket_tells_words_before_their_utterance_is_done(timed: Facing) -> None:
    async with connect(timed.url.replace("http", "ws") + "/v1/audio/speech/stream") as socket:
        await socket.send(json.dumps({"type": "config", "response_format": "pcm", "seed": 3, "word_timestamps": True}))
        await socket.send(json.dumps({"type": "text", "text": TEXT}))
        await socket.send(json.dumps({"type": "close"}))
        said = [json.loads(message) async for message in socket if isinstance(message, str)]
    types = [message["type"] for message in said]
    assert types[0] == "start"
    assert types[-1] == "done"
    words = [word for message in said if message["type"] == "words" for word in message["words"]]
    assert all(TEXT[word["text_start"] : word["text_end"]].split() == word["word"].split() for word in words)
    assert words[0]["word"] == "Good"


async def test_captioned_speech_line_by_line_and_whole(timed: Facing) -> None:
    body = {"input": TEXT, "response_format": "pcm", "sample_rate": RATE, "seed": 3, "model": "kokoro"}
    answer = await timed.post(CAPTIONED, body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) > 1
    assert all(line["audio_format"] == "audio/pcm" for line in lines)
    words = [word for line in lines for word in line["timestamps"]]
    told = words_in(await events(timed, word_timestamps=True))
    assert words == [{"word": word["word"], "start_time": word["start"], "end_time": word["end"]} for word in told]
    whole = (await timed.post(CAPTIONED, body | {"stream": False})).json()
    assert base64.b64decode(whole["audio"]) == b"".join(base64.b64decode(line["audio"]) for line in lines)
    assert whole["timestamps"] == words
    plain = (await timed.post(CAPTIONED, body | {"stream": False, "return_timestamps": False})).json()
    assert (plain["audio"], plain["timestamps"]) == (whole["audio"], None)


async def test_captioned_speech_passes_on_what_speech_does(timed: Facing, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    speak = AsyncClient.speak

    def noted(self: AsyncClient, text: str, **fields: Any) -> AsyncGenerator[AudioGenerationOutput, None]:
        asked.append({"text": text, **fields})
        return speak(self, text, **fields)

    monkeypatch.setattr(AsyncClient, "speak", noted)
    plain = asking(normalization_options={"normalize": False}, temperature=0.5)
    sampled = asking(audio_prompt_tokens=[64], audio_prompt_transcription="x")
    for body in (plain, sampled):
        answers = [await timed.post(path, body) for path in (SPEECH, CAPTIONED)]
        assert answers[0].status_code == answers[1].status_code
    speech, captioned = asked[::2], asked[1::2]
    assert [one | {"word_timestamps": True} for one in speech] == captioned
    assert captioned[0]["normalize"] is False
    assert (captioned[1]["audio_prompt_tokens"], captioned[1]["audio_prompt_transcription"]) == ((64,), "x")


@pytest.mark.parametrize(
    ("how", "most"), [({}, 10_000), ({"speed": 0.5}, 5000), ({"sample_rate": 48_000}, 5000), ({"speed": 2.0}, 10_000)]
)
async def test_captioned_speech_in_one_piece_is_bounded(timed: Facing, how: dict[str, float], most: int) -> None:
    long = {"input": "a" * (most + 1), "stream": False, "model": "tiny", **how}
    answer = await timed.post(CAPTIONED, long)
    assert answer.status_code == 422
    assert f"input: has {most + 1} characters, without stream {most} at most; set stream to true" in answer.text


async def test_captioned_speech_has_one_name_for_timestamps(timed: Facing) -> None:
    answer = await timed.post(CAPTIONED, asking(word_timestamps=True))
    assert answer.status_code == 422
    assert "word_timestamps = true: return_timestamps asks for them here; leave it out" in answer.text


async def test_captioned_speech_refuses_as_speech_does(timed: Facing) -> None:
    for body in ({}, {"input": ""}, {"input": "hi", "model": "tiny", "speed": 9}):
        assert (await timed.post(CAPTIONED, body)).status_code == 422
    assert (await timed.post(CAPTIONED, {"input": "hi", "model": "other"})).status_code == 404
    assert "there is no such voice" in (await timed.post(CAPTIONED, {"input": "hi", "voice": "eve"})).text


async def test_a_voice_without_times_says_so_before_anything_is_sent(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = make_tiny_voice(tmp_path_factory.mktemp("plain"))
    workers = msgspec.structs.replace(config.workers, transport="thread")
    async with facing(msgspec.structs.replace(config, workers=workers)) as face:
        for path in (SPEECH, CAPTIONED):
            answer = await face.post(path, asking(stream_format="sse", word_timestamps=path == SPEECH))
            assert answer.status_code in (400, 422)
            assert "this voice cannot tell when its words are heard" in answer.text
        assert (await face.post(CAPTIONED, asking(return_timestamps=False))).status_code == 200


async def test_a_model_whose_sound_has_no_words_captions_nothing() -> None:
    async with facing(trivial()) as face:
        answer = await face.post(CAPTIONED, {"input": "hi", "stream": False})
        assert answer.json()["timestamps"] == []
