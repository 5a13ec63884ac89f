"""Whatever somebody sends, they alone are told, or closed on, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from wyoming.event import Event, async_read_event
from wyoming.ping import Ping
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from max_pipelines.config import WyomingConfig
from max_pipelines.speech.arriving import MAX_HELD
from max_pipelines.wyoming import conversation
from max_pipelines.wyoming.conversation import MAX_UNHEARD
from max_pipelines.wyoming.wire import Wire
from tests.pipelines.http.facing import trivial
from tests.pipelines.wyoming.talking import PATIENCE_S, Served, serving, talking

ENDLESS = trivial(chunks=20_000, samples=240)
LEAST = WyomingConfig(port=0, max_text_bytes=1024)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(trivial(chunks=2)) as server:
        yield server


async def answer(served: Served, data: bytes, *, ended: bool = False) -> list[Event]:
    """All that is said to a stranger, up to the end of their connection."""
    reader, writer = await asyncio.open_connection(*served.place)
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE_S):
        try:
            writer.write(data)
            if ended:
                writer.write_eof()
            while (event := await async_read_event(reader)) is not None:
                events.append(event)
            assert reader.at_eof()
        except ConnectionError:  # closed on while they were still talking
            pass
        finally:
            writer.transport.abort()
    return events


async def healthy(served: Served) -> bool:
    """Whether others are served."""
    async with talking(served.uri) as client:
        await client.say(Synthesize("Hello."))
        return (await client.listen()).kinds[-1] == "audio-stop"


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"nul\n",
        b"GET / HTTP/1.1\r\nhost: here\r\n\r\n",
        b"\xff\xfe\x00\n",
        b'{"type": 3}\n',
        b'{"type": null}\n',
        b'{"type": "' + b"a" * 1000 + b'"}\n',
        b'{"type": "ping", "data": 3}\n',
        b'{"type": "ping", "data": {"text": 3}}\n',
        b'{"type": "ping", "data": {"text": "\\ud800"}}\n',
        b'{"type": "ping", "data": {"text": "\xff"}}\n',
        b'{"type": "ping", "data": ' + b'{"a":' * 40_000 + b"\n",
        b'{"type": "ping", "data": {"text": ' + b"[" * 40_000 + b"]" * 40_000 + b"}}\n",
        b'{"type": "ping", "data_length": -1}\n',
        b'{"type": "ping", "data_length": 1.5}\n',
        b'{"type": "ping", "data_length": "3"}\n',
        b'{"type": "ping", "data_length": 3}\nabc',
        b'{"type": "ping", "data_length": 2}\n[]',
        b'{"type": "ping", "data_length": 1099511627776}\n{',
        b'{"type": "ping", "data_length": 1' + b"0" * 300 + b"}\n{",
        b'{"type": "audio-chunk", "payload_length": 1099511627776}\n',
        b'{"type": "audio-chunk", "payload_length": 262145}\n' + bytes(262_145),
        b'{"type": "synthesize"}\n',
        b'{"type": "synthesize", "data": {"text": null}}\n',
        b'{"type": "synthesize", "data": {"text": "Hello.", "voice": "somebody"}}\n',
        b'{"type": "synthesize", "data": {"text": "Hello.", "text_format": "ssml"}}\n',
        b'{"type": "synthesize", "data": {"text": ""}}\n',
        b'{"type": "synthesize-chunk", "data": {"text": "Hello."}}\n',
        b'{"type": "synthesize-stop"}\n',
        b'{"type": "synthesize-start"}\n{"type": "synthesize-start"}\n',
    ],
    ids=lambda data: str(data[:48]),
)
async def test_what_is_no_event_is_told_and_closed_on(served: Served, data: bytes) -> None:
    (event,) = await answer(served, data)
    assert event.type == "error"
    assert event.data["code"] in ("validation", "internal")
    assert event.data["text"]
    assert await healthy(served)


@pytest.mark.parametrize("data", [b"{" * 2**22, b'{"type": "' + b"a" * 2**22], ids=["braces", "letters"])
async def test_a_line_without_an_end(served: Served, data: bytes) -> None:
    """It may be closed on before all is said."""
    assert all(event.type == "error" for event in await answer(served, data))
    assert await healthy(served)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"type": "ping", "data_length": 10}\n{"te', b'{"type": "audio-chunk", "payload_length": 10}\n123'],
    ids=["nothing", "a header", "data", "a payload"],
)
async def test_who_leaves_in_the_middle_is_gone(served: Served, data: bytes) -> None:
    assert await answer(served, data, ended=True) == []
    assert await healthy(served)


@pytest.mark.parametrize(
    "data",
    [b"{", b'{"type": "ping", "data_length": 10}\n{"te', b'{"type": "audio-chunk", "payload_length": 10}\n123'],
    ids=["a header", "data", "a payload"],
)
async def test_who_does_not_go_on_is_cut(data: bytes) -> None:
    async with serving(trivial(), WyomingConfig(port=0, event_timeout_s=0.1)) as served:
        (event,) = await answer(served, data)
        assert event.data["code"] == "timeout"


async def test_who_is_silent_for_long_is_cut_but_not_while_something_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wire, "idle_s", 0.3)
    async with serving(ENDLESS) as served:
        (event,) = await answer(served, b"")
        assert event.data["code"] == "timeout"
        async with talking(served.uri) as client:
            await client.say(SynthesizeStart())  # and never anything more
            assert (await client.until("error")).data["code"] == "timeout"
        async with talking(served.uri) as client:
            await client.say(Synthesize("On and on."))
            async with asyncio.timeout(PATIENCE_S):
                kinds = {(await client.until("audio-chunk", "error", "audio-stop")).type for _ in range(1_500)}
            assert kinds == {"audio-chunk"}


async def test_who_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wire, "stalled_s", 0.1)
    async with serving(trivial(chunks=20_000)) as served, talking(served.uri) as client:
        await client.say(Synthesize("On and on."))
        await client.until("audio-start")
        await served.rest()  # long before the dispatcher would have given it up


@pytest.mark.parametrize(
    "voice", [SynthesizeVoice(name="nobody"), SynthesizeVoice(language="fr"), SynthesizeVoice("none", speaker="b")]
)
async def test_a_voice_that_there_is_not(served: Served, voice: SynthesizeVoice) -> None:
    async with talking(served.uri) as client:
        await client.say(Synthesize("Hello.", voice=voice))
        heard = await client.listen("none")
        assert heard.kinds == ["error"]
        assert heard.error is not None
        assert "there is no" in heard.error["text"] or "no voice speaks" in heard.error["text"]


async def test_more_connections_than_there_may_be() -> None:
    async with serving(trivial(), WyomingConfig(port=0, max_connections=1)) as served, talking(served.uri) as first:
        await first.say(Ping())
        await first.until("pong")
        (event,) = await answer(served, b"")
        assert event.data["code"] == "overloaded"
        await first.say(Ping())
        await first.until("pong")


async def test_more_texts_than_can_be_kept() -> None:
    async with serving(ENDLESS) as served:
        async with talking(served.uri) as client:
            await client.say(*[Synthesize("On and on.")] * (MAX_UNHEARD + 2))
            assert (await client.until("error")).data["code"] == "overloaded"
            assert await client.hear() is None
        await served.rest()


async def test_a_text_without_a_border() -> None:
    async with serving(ENDLESS) as served, talking(served.uri) as client:
        await client.say(SynthesizeStart(), *[SynthesizeChunk("a" * 2**14)] * 5)
        assert f"more than {MAX_HELD} characters" in (await client.until("error")).data["text"]


async def test_a_fault_of_ours_is_not_the_clients(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(samples: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(conversation, "to_s16", broken)
    async with serving(trivial()) as served, talking(served.uri) as client:
        await client.say(Synthesize("Hello."))
        assert (await client.until("error")).data["code"] == "internal"
    assert "an answer has failed" in caplog.text


async def test_more_text_than_can_be_kept() -> None:
    async with serving(ENDLESS, LEAST) as served:
        async with talking(served.uri) as client:
            sentences = "On and on it goes. " * 20
            await client.say(SynthesizeStart(), *[SynthesizeChunk(sentences)] * 20, SynthesizeStop())
            assert "1024 characters at most" in (await client.until("error")).data["text"]
        await served.rest()
        async with talking(served.uri) as client:
            await client.say(Synthesize("word " * 300))
            assert "1024" in (await client.until("error")).data["text"]
