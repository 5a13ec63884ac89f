"""Text in as it is written, sound out as it is made: the WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from max_pipelines.config import HttpConfig
from max_pipelines.http import conversation
from max_pipelines.http.conversation import MAX_UNHEARD
from max_pipelines.speech.arriving import MAX_HELD
from tests.pipelines.http.facing import PATIENCE_S, Facing, facing, trivial

STREAM = "/v1/audio/speech/stream"
PCM = {"type": "config", "response_format": "pcm"}
CHUNK = 2 * 2400  # bytes of one of the pipeline's


@asynccontextmanager
async def talking(served: Facing, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(served.url.replace("http", "ws") + STREAM, **options) as socket:
        yield socket


@pytest.fixture
async def served() -> AsyncIterator[Facing]:
    async with facing(trivial(chunks=2)) as face:
        yield face


@pytest.fixture
async def socket(served: Facing) -> AsyncIterator[ClientConnection]:
    async with talking(served) as socket:
        yield socket


async def say(socket: ClientConnection, *messages: Mapping[str, object]) -> None:
    for message in messages:
        await socket.send(json.dumps(message))


def text(words: str) -> dict[str, object]:
    return {"type": "text", "text": words}


async def hear(socket: ClientConnection) -> dict[str, Any] | bytes:
    message = await asyncio.wait_for(socket.recv(), PATIENCE_S)
    return message if isinstance(message, bytes) else json.loads(message)


async def utterance(socket: ClientConnection) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """The start, the sound and the end of the next one."""
    start = await hear(socket)
    assert isinstance(start, dict)
    sound = b""
    while isinstance(heard := await hear(socket), bytes):
        sound += heard
    return start, sound, heard


async def test_an_utterance(socket: ClientConnection) -> None:
    await say(socket, PCM, text("Good"), text(" morning. And "), text("hello."), {"type": "end"})
    start, sound, done = await utterance(socket)
    assert start == {"type": "start", "response_format": "pcm", "sample_rate": 24_000}
    assert len(sound) >= 2 * 2 * CHUNK  # and the pause between
    assert done == {"type": "done", "usage": {"input_tokens": 0, "output_tokens": 4, "total_tokens": 4}}


async def test_sound_comes_before_the_text_has_ended(socket: ClientConnection) -> None:
    await say(socket, PCM, text("The first of some clauses, "))
    assert isinstance(await hear(socket), dict)
    assert isinstance(await hear(socket), bytes)
    await say(socket, text("is what it was."), {"type": "end"})
    while not isinstance(heard := await hear(socket), dict):
        pass
    assert heard["type"] == "done"


async def test_a_flush_has_what_is_there_spoken(socket: ClientConnection) -> None:
    await say(socket, PCM, text("Well"), {"type": "flush"})
    assert isinstance(await hear(socket), dict)
    assert isinstance(await hear(socket), bytes)


async def test_several_utterances_on_one_connection(socket: ClientConnection) -> None:
    await say(
        socket, PCM, text("One."), {"type": "end"}, text("Two."), {"type": "end"}, text("Three."), {"type": "close"}
    )
    for _ in range(3):
        _, sound, done = await utterance(socket)
        assert len(sound) == 2 * CHUNK
        assert done["type"] == "done"
    with pytest.raises(ConnectionClosed):
        await hear(socket)
    assert socket.close_code == 1000


async def test_after_a_cancel_nothing_more_comes_and_nothing_more_is_made() -> None:
    async with facing(trivial(chunks=20_000, samples=240)) as served, talking(served) as socket:
        for _ in range(3):
            await say(socket, PCM, text("On and on. "), {"type": "end"}, text("And on."))
            assert isinstance(await hear(socket), dict)
            assert isinstance(await hear(socket), bytes)
            await say(socket, {"type": "cancel"})
            while isinstance(heard := await hear(socket), bytes):
                pass
            assert heard == {"type": "cancelled"}
            async with asyncio.timeout(PATIENCE_S):
                while (await served.gauges())["requests"]:
                    await asyncio.sleep(0.01)
        await say(socket, {"type": "close"})
        with pytest.raises(ConnectionClosed):
            await hear(socket)


@pytest.mark.parametrize("more", [[text(""), {"type": "end"}], [text("a" * 2**17)]], ids=["utterances", "characters"])
async def test_who_says_more_than_can_be_kept_is_closed_on(more: list[dict[str, object]]) -> None:
    async with facing(trivial(chunks=20_000, samples=240)) as served, talking(served) as socket:
        await say(socket, PCM, text("On and on."), {"type": "end"})
        with contextlib.suppress(ConnectionClosed):  # it may be closed before all is said
            await say(socket, *more * 2 * MAX_UNHEARD)
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        assert socket.close_code == 1009


@pytest.mark.parametrize("more", [text(""), text("a"), {"type": "flush"}], ids=["nothing", "letters", "flushes"])
async def test_small_pieces_without_end_are_too_much_too(
    more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "MAX_WAITING", 64 * conversation.PIECE_COST)
    async with facing(trivial(chunks=20_000, samples=240)) as served, talking(served) as socket:
        await say(socket, PCM, text("On and on."), {"type": "end"}, text(""))
        with contextlib.suppress(ConnectionClosed):
            await say(socket, *[more] * 80)
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        assert socket.close_code == 1009


async def test_a_text_without_a_border_is_refused_and_the_next_is_spoken(socket: ClientConnection) -> None:
    await say(socket, PCM, text("a" * MAX_HELD))
    assert isinstance(await hear(socket), dict)
    await say(socket, text("a"))
    heard = await hear(socket)
    assert isinstance(heard, dict)
    assert (heard["type"], heard["error_type"]) == ("error", "validation")
    assert f"more than {MAX_HELD} characters" in heard["error"]
    await say(socket, text("Hello."), {"type": "end"})
    assert (await utterance(socket))[2]["type"] == "done"


async def test_who_leaves_has_nothing_made_for_them_any_more() -> None:
    async with facing(trivial(chunks=20_000, samples=240)) as served:
        async with talking(served) as socket:
            await say(socket, PCM, text("On and on. "))
            await hear(socket)
            await hear(socket)
            socket.transport.abort()
        async with asyncio.timeout(PATIENCE_S):
            while (await served.gauges())["requests"]:
                await asyncio.sleep(0.01)


async def test_what_is_wrong_with_an_utterance_does_not_end_the_conversation(socket: ClientConnection) -> None:
    wrong = {"type": "config", "voice": "nobody", "response_format": "pcm"}
    await say(socket, wrong, text("Hello."), {"type": "end"}, PCM, text("Hello."), {"type": "end"})
    heard = await hear(socket)
    assert isinstance(heard, dict)
    assert (heard["type"], heard["error_type"]) == ("error", "validation")
    assert "there is no such voice" in heard["error"]
    _, sound, _ = await utterance(socket)
    assert len(sound) == 2 * CHUNK


@pytest.mark.parametrize(
    "message", ["", "{", "[]", '{"type": "sing"}', '{"type": "text"}', '{"type": "config", "speed": 9}']
)
async def test_messages_that_are_none(message: str, socket: ClientConnection) -> None:
    await socket.send(message)
    heard = await hear(socket)
    assert isinstance(heard, dict)
    assert (heard["type"], heard["error_type"]) == ("error", "validation")
    await say(socket, PCM, text("Hello."), {"type": "end"})
    assert (await utterance(socket))[2]["type"] == "done"


async def test_pages_of_other_sites_may_not_ask_unless_they_are_named(served: Facing) -> None:
    other = "https://example.org"
    for strange in (other, "http://["):
        with pytest.raises(InvalidStatus) as refusal:
            async with talking(served, origin=strange):
                pass
        assert refusal.value.response.status_code == 403
    async with talking(served, origin=served.url) as socket:
        await say(socket, PCM, text("Hello."), {"type": "close"})
        assert (await utterance(socket))[2]["type"] == "done"
    async with facing(trivial(), HttpConfig(cors_origins=(other,))) as named, talking(named, origin=other) as socket:
        await say(socket, PCM, text("Hello."), {"type": "close"})
        assert (await utterance(socket))[2]["type"] == "done"


async def test_a_key_is_needed_here_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("right\n")
    keys.chmod(0o600)
    async with facing(trivial(), HttpConfig(keys=str(keys))) as served:
        with pytest.raises(InvalidStatus):
            async with talking(served):
                pass
        async with talking(served, additional_headers={"authorization": "Bearer right"}) as socket:
            await say(socket, PCM, text("Hello."), {"type": "close"})
            assert (await utterance(socket))[2]["type"] == "done"
