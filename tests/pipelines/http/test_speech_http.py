"""Speech over HTTP, as clients of OpenAI's API ask for it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from max_pipelines.config import Config, HttpConfig, Limits
from max_pipelines.http.protocol import TimedProtocol
from tests.pipelines.http.facing import PATIENCE_S, Body, Facing, facing, trivial

SPEECH = "/v1/audio/speech"


def asking(**fields: object) -> Body:
    return {"model": "voice", "input": "Good morning.", "response_format": "pcm"} | fields


@pytest.fixture
async def served() -> AsyncIterator[Facing]:
    async with facing(trivial()) as face:
        yield face


async def until_idle(served: Facing) -> None:
    """Wait until the server has nothing to do any more."""
    async with asyncio.timeout(PATIENCE_S):
        while (await served.gauges())["requests"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("form", "mime"),
    [
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
    ],
)
async def test_each_format_says_what_it_is(form: str, mime: str, served: Facing) -> None:
    answer = await served.post(SPEECH, asking(response_format=form))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == mime
    assert answer.headers["transfer-encoding"] == "chunked"
    assert len(answer.content) > 500


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
async def test_an_encoder_that_was_ready_knows_nothing_of_the_last_sound(form: str, served: Facing) -> None:
    first, second, third = [(await served.post(SPEECH, asking(response_format=form))).content for _ in range(3)]
    assert first == second == third
    other = asking(response_format=form, sample_rate=48_000)
    assert (await served.post(SPEECH, other)).content != first
    together = await asyncio.gather(*(served.post(SPEECH, asking(response_format=form)) for _ in range(5)))
    assert {answer.content for answer in together} == {first}


async def test_pcm_is_all_samples_and_nothing_else(served: Facing) -> None:
    answer = await served.post(SPEECH, asking())
    assert len(answer.content) == 2 * 4 * 2400


async def test_another_rate_and_another_speed(served: Facing) -> None:
    answer = await served.post(SPEECH, asking(sample_rate=8000, speed=2.0))
    assert answer.headers["x-sample-rate"] == "8000"
    assert len(answer.content) / 2 / 8000 == pytest.approx(0.4 / 2, abs=0.06)


async def test_events_carry_the_sound_and_its_price(served: Facing) -> None:
    answer = await served.post(SPEECH, asking(stream_format="sse"))
    assert answer.headers["content-type"] == "text/event-stream"
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 4 + ["speech.audio.done"]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == (await served.post(SPEECH, asking())).content
    assert events[-1]["usage"] == {"input_tokens": 0, "output_tokens": 4, "total_tokens": 4}


async def test_a_hosted_services_names_mean_what_is_here(served: Facing) -> None:
    answer = await served.post(SPEECH, asking(model="tts-1", voice="alloy"))
    assert answer.status_code == 200
    answer = await served.post(SPEECH, asking(voice={"id": "none"}))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"model": "gpt-5"}, 404, "no model 'gpt-5' is served here; served: voice"),
        ({"voice": "nobody"}, 422, "there is no such voice; there are: none"),
        ({"input": ""}, 422, "`$.input`"),
        ({"input": 5}, 422, "`$.input`"),
        ({"input": "…"}, 422, "has nothing to say"),
        ({"speed": 5}, 422, "`$.speed`"),
        ({"normalization_options": {"normalize": "no"}}, 422, "`$.normalization_options.normalize`"),
        ({"response_format": "ogg"}, 422, "Invalid enum value 'ogg'"),
        ({"response_format": "opus", "sample_rate": 44_100}, 422, "sample_rate = 44100: opus takes"),
        ({"buffer_position": {"seed": 1}, "to_be_continued": True}, 422, "needs buffer_speech_tokens"),
    ],
)
async def test_what_cannot_be_done(fields: Body, status: int, says: str, served: Facing) -> None:
    answer = await served.post(SPEECH, asking(**fields))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error_type"] in ("validation", "unknown_model")


async def test_the_first_bytes_leave_before_the_sound_is_made(tiny_voice: Config) -> None:
    async with facing(tiny_voice) as served:
        body = asking(model=tiny_voice.model.name, input="One two three four five six seven eight.")
        async with served.asks.stream("POST", SPEECH, json=body) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            assert (await served.gauges())["requests"] == 1


async def test_who_leaves_has_nothing_made_for_them_any_more() -> None:
    async with facing(trivial(chunks=20_000, samples=240)) as served:
        async with served.asks.stream("POST", SPEECH, json=asking()) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            assert (await served.gauges())["requests"] == 1
        await until_idle(served)


async def test_overload_is_said_at_once_with_when_to_come_again() -> None:
    limits = Limits(max_requests=1)
    async with facing(msgspec.structs.replace(trivial(chunks=20_000, samples=240), limits=limits)) as served:
        async with served.asks.stream("POST", SPEECH, json=asking()) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            refused = await served.post(SPEECH, asking())
        assert refused.status_code == 429
        assert refused.json()["error_type"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1


async def test_voices_and_models(served: Facing) -> None:
    assert (await served.asks.get("/v1/audio/voices")).json() == {"voices": [{"id": "none", "name": "none"}]}
    assert (await served.asks.get("/v1/audio/voices?legacy=true")).json() == {"voices": ["none"]}
    (model,) = (await served.asks.get("/v1/models")).json()["data"]
    assert (model["id"], model["object"]) == ("voice", "model")
    assert (await served.asks.get("/v1/models/voice")).json() == model
    assert (await served.asks.get("/v1/models/other")).status_code == 404


async def test_health_and_readiness(served: Facing) -> None:
    assert (await served.asks.get("/health")).status_code == 200
    assert (await served.asks.get("/ready")).json() == {"workers": 1}


async def test_a_model_that_is_loading() -> None:
    async with facing(trivial(), opened=False) as served:
        assert (await served.asks.get("/health")).status_code == 200
        for answer in (await served.asks.get("/ready"), await served.post(SPEECH, asking())):
            assert answer.status_code == 503
            assert "Model voice is currently loading" in str(answer.json()["error"])
            assert answer.json()["estimated_time"] > 0
        await served.face.open()
        assert (await served.post(SPEECH, asking())).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 422),
        (b'{"more":' + b"[" * 100_000, "application/json", 400),
        (b'{"model": "voice", "input": "a", "speed": NaN}', "application/json", 400),
        (b'{"model": "voice"}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b" " * 3_000_000, "application/json", 413),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_bodies_that_are_none(content: bytes, kind: str, status: int, served: Facing) -> None:
    answer = await served.asks.post(SPEECH, content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "error_type"}
    assert (await served.post(SPEECH, asking())).status_code == 200


async def test_a_body_that_does_not_come() -> None:
    async with facing(trivial(), HttpConfig(body_timeout_s=0.2)) as served:
        reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
        writer.write(b"POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n")
        writer.write(b"content-type: application/json\r\n\r\n{")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()


@pytest.mark.parametrize("begins", [b"", b"POST /v1/audio/speech HTTP/1.1\r\nhost: a\r\nx: "])
async def test_a_head_that_does_not_come(begins: bytes, served: Facing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "head_s", 0.2)
    reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
    writer.write(begins)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()  # to its end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error_type"] == "timeout"
    writer.close()
    assert (await served.post(SPEECH, asking())).status_code == 200


async def test_a_connection_that_is_kept_is_not_taken_for_slow(served: Facing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "head_s", 0.2)
    for _ in range(2):
        assert (await served.asks.get("/health")).status_code == 200
        await asyncio.sleep(0.3)


async def test_paths_and_methods_that_there_are_not(served: Facing) -> None:
    for answer in (await served.asks.get("/nothing"), await served.asks.get(SPEECH)):
        assert answer.status_code in (404, 405)
        assert re.search(r"GET /\S+: ", str(answer.json()["error"]))


@pytest.mark.parametrize(
    "header", [{"authorization": "Bearer s3cret"}, {"bearer": "s3cret"}, {"Authorization": "bearer s3cret"}]
)
async def test_a_key_opens_everything(header: dict[str, str], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\nother\ns3cret\n")
    keys.chmod(0o600)
    async with facing(trivial(), HttpConfig(keys=str(keys))) as served:
        assert (await served.post(SPEECH, asking(), headers=header)).status_code == 200
        for wrong in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer s3cre"}, {"authorization": "# ours"}):
            answer = await served.asks.get("/v1/models", headers=wrong)
            assert answer.status_code == 401
            assert answer.json()["error_type"] == "authentication"
            assert (await served.asks.get("/nothing", headers=wrong)).status_code == 401
        assert (await served.asks.get("/health")).status_code == 200


async def test_pages_of_others_may_not_ask_unless_they_are_named(served: Facing) -> None:
    origin = {"origin": "https://example.org"}
    assert "access-control-allow-origin" not in (await served.asks.get("/v1/models", headers=origin)).headers
    async with facing(trivial(), HttpConfig(cors_origins=("https://example.org",))) as named:
        answer = await named.asks.get("/v1/models", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
