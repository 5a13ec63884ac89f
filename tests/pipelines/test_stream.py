"""The client's stream and the table behind it, without a server: each way in which one can end."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import dataclass, field
from functools import partial

import pytest

from max_interfaces import AudioGenerationOutput, GenerationStatus, RequestFailed
from max_interfaces.messages import ChunkHead, Delivery
from max_interfaces.wire import encode_payload
from max_pipelines.client.demultiplexer import Demultiplexer
from max_pipelines.client.inbox import Inbox
from max_pipelines.client.stream import OutputStream
from tests.pipelines.processes import speech

ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE


@dataclass
class Line:
    """A demultiplexer whose server is the test."""

    cancelled: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.demultiplexer = Demultiplexer(loop, self.cancelled.append, lambda described: None)

    def stream(self, key: str) -> OutputStream[AudioGenerationOutput]:
        """A request that has not been sent."""
        return OutputStream(self.demultiplexer, speech(key=key), partial(self._send, key))

    def _send(self, key: str) -> Inbox:
        self.demultiplexer.check_free(key)
        self.sent.append(key)
        return self.demultiplexer.open(key)

    def chunk(self, key: str, head: GenerationStatus = ACTIVE, output: GenerationStatus | None = None) -> None:
        """A chunk arrives; its output may contradict it."""
        delivery = Delivery(b"p", (ChunkHead(key, 1, 0, 0, 0, head),))
        self.demultiplexer.take(delivery, encode_payload([AudioGenerationOutput(output or head, 1)]))

    def is_free(self, key: str) -> bool:
        """Whether a request may have this id."""
        try:
            self.demultiplexer.check_free(key)
        except RequestFailed:
            return False
        return True


async def begun(stream: OutputStream[AudioGenerationOutput]) -> asyncio.Future[AudioGenerationOutput]:
    """A read that waits."""
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    return reading


async def test_a_second_reader_is_refused_and_the_first_goes_on() -> None:
    line = Line()
    stream = line.stream("a")
    reading = await begun(stream)
    with pytest.raises(RuntimeError, match="one reader"):
        await anext(stream)
    line.chunk("a", DONE)
    assert (await reading).is_done
    assert not line.cancelled


async def test_closing_wakes_a_reader_that_waits() -> None:
    line = Line()
    stream = line.stream("a")
    reading = await begun(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await reading
    assert line.cancelled == ["a"]


async def test_a_reader_that_is_cancelled_cancels() -> None:
    line = Line()
    reading = await begun(line.stream("a"))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert line.cancelled == ["a"]
    assert line.is_free("a")


async def test_a_stream_that_is_dropped_in_any_thread_cancels() -> None:
    line = Line()
    dropped = [line.stream("a").submit()]
    thread = threading.Thread(target=dropped.clear)
    thread.start()
    await asyncio.to_thread(thread.join)
    gc.collect()
    await asyncio.sleep(0)
    assert line.cancelled == ["a"]


async def test_a_request_is_sent_once_and_not_after_the_stream_was_closed() -> None:
    line = Line()
    stream = line.stream("a").submit()
    with pytest.raises(RuntimeError, match="already"):
        stream.submit()
    closed = line.stream("b")
    await closed.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        closed.submit()
    assert [output async for output in closed] == []
    assert line.sent == ["a"]


@pytest.mark.parametrize(("head", "output"), [(ACTIVE, DONE), (DONE, ACTIVE)])
async def test_an_output_that_contradicts_its_chunk_fails_the_request(
    head: GenerationStatus, output: GenerationStatus
) -> None:
    line = Line()
    reading = await begun(line.stream("a"))
    line.chunk("a", head, output)
    with pytest.raises(RequestFailed, match="its chunk"):
        await reading
    assert line.cancelled == (["a"] if head is ACTIVE else [])
    assert line.is_free("a")


async def test_an_unreadable_chunk_that_was_to_be_skipped_concerns_nobody() -> None:
    line = Line()
    heads = (ChunkHead("old", 1, 0, 0, 0, ACTIVE), ChunkHead("b", 1, 0, 0, 0, ACTIVE))
    line.demultiplexer.take(Delivery(b"p", heads, skip=(0,)), [b"\xc1"])
    reading = await begun(line.stream("old"))
    line.chunk("old", DONE)
    assert (await reading).is_done
