"""The client's stream and the table behind it, without a server: each way in which one can end."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import dataclass, field
from functools import partial

import pytest

from max_interfaces import AudioGenerationOutput, FailureKind, GenerationStatus, RequestFailed
from max_interfaces.messages import Cancel, ChunkHead, Delivery, Ended, Read, Watch
from max_interfaces.wire import encode_payload
from max_pipelines.client import demultiplexer
from max_pipelines.client.demultiplexer import Demultiplexer
from max_pipelines.client.inbox import Inbox
from max_pipelines.client.stream import OutputStream
from tests.pipelines.processes import PATIENCE_S, speech

ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE
SAMPLES = 10  # of each chunk


@dataclass
class Line:
    """A demultiplexer whose server is the test."""

    told: list[Cancel | Read] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    serials: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.demultiplexer = Demultiplexer(loop, self.told.append, lambda described: None)

    def stream(self, key: str, deadline_s: float = 60.0) -> OutputStream[AudioGenerationOutput]:
        """A request that has not been sent."""
        return OutputStream(self.demultiplexer, speech(key=key), partial(self._send, key, deadline_s))

    def _send(self, key: str, deadline_s: float, ahead: bool) -> Inbox:
        serial = self.serials[key] = self.demultiplexer.number(key)
        self.sent.append(key)
        return self.demultiplexer.open(key, serial, deadline_s, ahead=ahead)

    @property
    def cancelled(self) -> list[str]:
        """The requests that were cancelled."""
        return [message.request_id for message in self.told if isinstance(message, Cancel)]

    def head(
        self, key: str, status: GenerationStatus = ACTIVE, *, seq: int = 0, serial: int | None = None
    ) -> ChunkHead:
        """Where a chunk belongs: to the last submission of this id, if no other is given."""
        serial = self.serials.get(key, 0) if serial is None else serial
        return ChunkHead(key, serial, 1, seq, seq * SAMPLES, SAMPLES, status)

    def chunk(
        self,
        key: str,
        status: GenerationStatus = ACTIVE,
        output: GenerationStatus | None = None,
        *,
        seq: int = 0,
        serial: int | None = None,
        steps: int = 1,
    ) -> None:
        """A chunk arrives; its output may contradict it."""
        delivery = Delivery(b"p", (self.head(key, status, seq=seq, serial=serial),))
        self.demultiplexer.take(delivery, encode_payload([AudioGenerationOutput(output or status, steps)]))

    def watch(self, key: str, seq: int, *, serial: int | None = None) -> list[Cancel | Read]:
        """The server wants to know what is read. What it is told at once."""
        before = len(self.told)
        self.demultiplexer.take(Watch(key, self.serials.get(key, 0) if serial is None else serial, seq), ())
        return self.told[before:]

    def is_free(self, key: str) -> bool:
        """Whether a request may have this id."""
        try:
            self.demultiplexer.number(key)
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
    assert not line.told


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
    reading = await begun(line.stream("old"))
    line.demultiplexer.take(Delivery(b"p", (line.head("old"), line.head("b")), skip=(0,)), [b"\xc1"])
    line.chunk("old", DONE)
    assert (await reading).is_done
    assert not line.told


# -- what was lost, repeated or late -----------------------------------------------------------------------------


async def test_an_output_that_came_before_is_dropped() -> None:
    line = Line()
    stream = line.stream("a").submit()
    for seq, steps in ((0, 10), (0, 99), (1, 11), (0, 99), (1, 99)):
        line.chunk("a", seq=seq, steps=steps)
    line.chunk("a", DONE, seq=2, steps=12)
    line.chunk("a", DONE, seq=2, steps=99)
    assert [output.steps_executed async for output in stream] == [10, 11, 12]
    assert not line.told


async def test_an_unreadable_repeat_does_no_harm() -> None:
    line = Line()
    stream = line.stream("a").submit()
    line.chunk("a")
    line.demultiplexer.take(Delivery(b"p", (line.head("a"),)), [b"\xc1"])
    line.chunk("a", DONE, seq=1)
    assert [output.is_done async for output in stream] == [False, True]


async def test_a_gap_ends_the_request_after_what_came_before_it() -> None:
    line = Line()
    stream = line.stream("a").submit()
    line.chunk("a")
    line.chunk("a", seq=2)
    line.chunk("a", DONE, seq=3)
    assert line.told == [Cancel("a", line.serials["a"])]
    assert line.is_free("a")
    assert not (await anext(stream)).is_done
    with pytest.raises(RequestFailed, match="lost on the way") as caught:
        await anext(stream)
    assert caught.value.failure.kind is FailureKind.CONNECTION_LOST
    assert len(line.told) == 1


async def test_a_gap_concerns_no_other_request_of_the_same_message() -> None:
    line = Line()
    torn, whole = line.stream("torn").submit(), line.stream("whole").submit()
    heads = (line.head("torn", seq=1), line.head("whole", DONE))
    outputs = [AudioGenerationOutput(head.status, 1) for head in heads]
    line.demultiplexer.take(Delivery(b"p", heads), encode_payload(outputs))
    assert (await anext(whole)).is_done
    with pytest.raises(RequestFailed):
        await anext(torn)
    assert line.cancelled == ["torn"]


async def test_what_comes_of_an_earlier_use_of_an_id_is_dropped() -> None:
    line = Line()
    await line.stream("a").submit().aclose()
    first = line.serials["a"]
    assert line.told == [Cancel("a", first)]
    stream = line.stream("a").submit()
    assert line.serials["a"] > first
    line.chunk("a", serial=first, steps=99)
    line.chunk("a", DONE, seq=1, serial=first, steps=99)
    line.chunk("a", DONE, ACTIVE, serial=first)  # one that contradicts itself
    line.demultiplexer.take(Delivery(b"p", (line.head("a", serial=first),)), [b"\xc1"])
    line.demultiplexer.take(Ended("a", GenerationStatus.CANCELLED, serial=first), ())
    line.chunk("a", DONE, steps=7)
    assert [output.steps_executed async for output in stream] == [7]
    assert line.told == [Cancel("a", first)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a deadline that has passed were found out at once."""
    monkeypatch.setattr(demultiplexer, "CHECK_S", 0.01)
    monkeypatch.setattr(demultiplexer, "GRACE_S", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_a_request_without_an_answer_ends_soon_after_its_deadline() -> None:
    line = Line()
    other = line.stream("other").submit()
    for deadline_s in (0.0, 0.05, 0.0):  # some checks find nothing, and the next one comes all the same
        late = line.stream("late", deadline_s).submit()
        line.chunk("late")
        assert not (await anext(late)).is_done
        with pytest.raises(RequestFailed) as caught:
            await asyncio.wait_for(anext(late), PATIENCE_S)
        assert caught.value.failure.kind is FailureKind.DEADLINE_EXCEEDED
        assert line.told.pop() == Cancel("late", line.serials["late"])
        assert line.is_free("late")
    assert not line.is_free("other")
    line.chunk("other", DONE)
    assert (await anext(other)).is_done
    assert not line.told


@pytest.mark.usefixtures("impatient")
async def test_deadlines_are_watched_again_after_nothing_was_live() -> None:
    line = Line()
    for key in "ab":
        stream = line.stream(key, deadline_s=0.0).submit()
        with pytest.raises(RequestFailed):
            await asyncio.wait_for(anext(stream), PATIENCE_S)
    assert line.cancelled == ["a", "b"]


@pytest.mark.usefixtures("impatient")
async def test_a_request_whose_end_has_come_may_be_read_after_its_deadline() -> None:
    line = Line()
    ended, fence = line.stream("ended", deadline_s=0.01).submit(), line.stream("fence", deadline_s=0.01).submit()
    line.chunk("ended", DONE)
    with pytest.raises(RequestFailed):
        await asyncio.wait_for(anext(fence), PATIENCE_S)
    assert (await anext(ended)).is_done


# -- a server that watches ---------------------------------------------------------------------------------------


async def test_who_watches_what_nobody_reads_is_told_to_end_it() -> None:
    line = Line()
    assert line.watch("unknown", 0, serial=7) == [Cancel("unknown", 7)]
    stream = line.stream("a").submit()
    serial = line.serials["a"]
    assert line.watch("a", 0, serial=serial - 1) == [Cancel("a", serial - 1)]
    line.chunk("a", DONE)
    assert line.watch("a", 0) == [Cancel("a", serial)]  # its end has come: it is live no more
    assert (await anext(stream)).is_done


async def test_outputs_that_have_been_read_are_told_of_at_once() -> None:
    line = Line()
    stream = line.stream("a").submit()
    for seq in range(3):
        line.chunk("a", seq=seq)
        await anext(stream)
    assert line.watch("a", 2) == [Read("a", line.serials["a"], 2, 3 * SAMPLES)]
    line.chunk("a", seq=3)
    await anext(stream)
    assert len(line.told) == 1  # nobody asked for more


async def test_each_output_taken_is_told_until_the_watched_one_is() -> None:
    line = Line()
    stream = line.stream("a").submit()
    serial = line.serials["a"]
    for seq in range(5):
        line.chunk("a", seq=seq)
    assert not line.watch("a", 2)  # nothing has been read yet
    for seq in range(5):
        await anext(stream)
        assert line.told[-1] == Read("a", serial, min(seq, 2), min(seq + 1, 3) * SAMPLES)
    assert len(line.told) == 3


async def test_a_reader_that_is_half_way_is_told_of_at_once_and_then_on() -> None:
    line = Line()
    stream = line.stream("a").submit()
    serial = line.serials["a"]
    for seq in range(2):
        line.chunk("a", seq=seq)
    await anext(stream)
    assert line.watch("a", 1) == [Read("a", serial, 0, SAMPLES)]
    assert line.watch("a", 1) == [Read("a", serial, 0, SAMPLES)]  # asked again: the answer may have been lost
    await anext(stream)
    assert line.told[-1] == Read("a", serial, 1, 2 * SAMPLES)


async def test_what_is_asked_for_ahead_counts_as_read_until_its_reader_begins() -> None:
    line = Line()
    stream = line.stream("a").submit(ahead=True)
    serial = line.serials["a"]
    for seq in range(4):
        line.chunk("a", seq=seq)
    assert line.watch("a", 3) == [Read("a", serial, 3, 4 * SAMPLES)]
    await anext(stream)
    assert len(line.told) == 1
    assert line.watch("a", 3) == [Read("a", serial, 0, SAMPLES)]  # now it is the reader that counts
    await anext(stream)
    assert line.told[-1] == Read("a", serial, 1, 2 * SAMPLES)


async def test_an_end_without_an_output_is_not_counted_as_one() -> None:
    line = Line()
    stream = line.stream("a").submit()
    line.chunk("a")
    assert not line.watch("a", 0)
    line.demultiplexer.take(Ended("a", GenerationStatus.CANCELLED, serial=line.serials["a"]), ())
    assert [output.final_status async for output in stream] == [ACTIVE, GenerationStatus.CANCELLED]
    assert line.told == [Read("a", line.serials["a"], 0, SAMPLES)]


async def test_a_caller_cancels_what_is_live_and_waits_for_its_end() -> None:
    line = Line()
    stream = line.stream("a").submit()
    line.demultiplexer.cancel("unknown")
    line.demultiplexer.cancel("a")
    assert line.told == [Cancel("a", line.serials["a"])]
    line.chunk("a")  # what was under way still comes
    line.demultiplexer.take(Ended("a", GenerationStatus.CANCELLED, serial=line.serials["a"]), ())
    assert [output.final_status async for output in stream] == [ACTIVE, GenerationStatus.CANCELLED]
