"""The clients themselves: opening, closing, threads, and what the other end may do to them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from max_interfaces import (
    AudioGenerationOutput,
    ConfigError,
    FailureKind,
    GenerationStatus,
    NotServing,
    RequestFailed,
    RequestID,
    RequestOptions,
    StartFailed,
    TextGenerationRequest,
)
from max_interfaces.messages import (
    Cancel,
    ChunkHead,
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    Header,
    Inspect,
    ModelInfo,
    Read,
    Report,
    Submit,
    Watch,
    WorkerReport,
    decode_header,
    encode_header,
)
from max_interfaces.wire import encode_payload
from max_pipelines.address import parse_address
from max_pipelines.client import AsyncClient, Client, questions
from max_pipelines.client.inbox import Inbox
from max_pipelines.config import Config
from max_pipelines.security.keys import KeyPair
from tests.pipelines.processes import PATIENCE_S, config, speech

ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE


@pytest.fixture
def small() -> Config:
    return config(transport="thread", chunks=5, samples=100)


# -- opening and closing -----------------------------------------------------------------------------------------


async def test_closing_twice_is_safe(small: Config) -> None:
    async with AsyncClient.embedded(small) as client:
        pass
    await client.close()
    with pytest.raises(RequestFailed, match="closed"):
        await client.generate(speech())


async def test_closing_ends_the_streams() -> None:
    endless = config(transport="thread", chunks=10_000, samples=100)  # not all of it is here when we close
    client = await AsyncClient.embedded(endless).__aenter__()
    stream = client.stream(speech())
    await anext(stream)
    await client.close()
    with pytest.raises(RequestFailed) as caught:
        _ = [output async for output in stream]
    assert caught.value.failure.kind is FailureKind.CONNECTION_LOST


async def test_an_unopened_client_says_so(small: Config) -> None:
    with pytest.raises(NotServing, match="async with client"):
        await AsyncClient.embedded(small).generate(speech())


def test_the_plain_client_is_the_same_without_await(small: Config) -> None:
    client = Client.embedded(small)
    with pytest.raises(NotServing, match="with client"):
        client.generate(speech())
    with client:
        assert [output.metadata.chunk_id for output in client.stream(speech())] == [0, 1, 2, 3, 4]
        assert client.models[0].name == "voice"
        with pytest.raises(RequestFailed):
            client.generate(speech(model="nobody's"))
    client.close()
    with pytest.raises(NotServing):
        client.generate(speech())


def test_threads_share_a_plain_client(small: Config) -> None:
    sizes: list[int] = []
    with Client.embedded(small) as client:
        work = [
            threading.Thread(target=lambda: sizes.append(client.generate(speech()).audio_data.size)) for _ in "1234"
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert sizes == [500] * 4


def test_a_stream_dropped_half_way_does_no_harm(small: Config) -> None:
    with Client.embedded(small) as client:
        request = speech()
        stream: Iterator[AudioGenerationOutput] = client.stream(request)
        next(stream)
        del stream
        gc.collect()
        assert client.generate(request).audio_data.size == 500  # its id is free
        kept = client.stream(speech())
        next(kept)
    with pytest.raises((RequestFailed, NotServing)):
        list(kept)


def test_a_failed_start_leaves_nothing_open() -> None:
    client = Client.embedded(config("no such kind", transport="thread"))
    with pytest.raises(StartFailed, match="there are"):
        client.__enter__()
    client.close()


async def test_an_inbox_wakes_its_reader() -> None:
    inbox, item = Inbox(asyncio.get_running_loop(), 1, 60.0), Ended("a", GenerationStatus.CANCELLED)
    waiting = inbox.arrival()
    inbox.put(item)
    inbox.put(item)
    await waiting
    assert list(inbox.items) == [item, item]
    cancelled = inbox.arrival()
    cancelled.cancel()
    inbox.put(item)  # a reader that has been cancelled is no error


def test_a_plain_client_reports_how_its_server_is(small: Config) -> None:
    with Client.embedded(small) as client:
        client.generate(speech())
        report = client.report()
    (worker,) = report.workers
    assert (worker.ready, worker.standby, worker.running) == (True, False, 0)
    assert (report.gauges["admitted"], report.gauges["requests"]) == (1, 0)


# -- a server that the test plays --------------------------------------------------------------------------------


def head(key: str, serial: int, seq: int = 0, status: GenerationStatus = ACTIVE) -> ChunkHead:
    """Where a chunk of ten samples belongs."""
    return ChunkHead(key, serial, 1, seq, 10 * seq, 10, status)


class PlayedServer:
    """A ROUTER in the test's own hands."""

    def __init__(self, folder: Path) -> None:
        self.address = f"ipc://{folder}/played"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(self.address)
        self.peer = b""

    def hear(self, *kinds: type) -> Header:
        """The next message of one of these kinds."""
        while self._socket.poll(int(PATIENCE_S * 1000)):
            peer, header, *_ = self._socket.recv_multipart()
            message = decode_header(header)
            if isinstance(message, kinds):
                self.peer = peer
                return message
        raise TimeoutError(kinds)

    async def submitted(self) -> Submit:
        """The next request."""
        message = await asyncio.to_thread(self.hear, Submit)
        assert isinstance(message, Submit)
        return message

    def say(self, header: Header | bytes, *outputs: AudioGenerationOutput, payload: bytes | None = None) -> None:
        """A message, with its outputs or any bytes at all."""
        first = header if isinstance(header, bytes) else encode_header(header)
        rest = [payload] if payload is not None else encode_payload(outputs) if outputs else []
        self._socket.send_multipart([self.peer, first, *rest])

    def close(self) -> None:
        """Gone."""
        self._context.destroy(linger=0)


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[tuple[PlayedServer, AsyncClient]]:
    server = PlayedServer(tmp_path)
    opening = asyncio.ensure_future(AsyncClient.connect(server.address).__aenter__())
    await asyncio.to_thread(server.hear, Describe)
    server.say(Described((ModelInfo("voice", "audio_generation", 24_000),)))
    client = await opening
    yield server, client
    await client.close()
    server.close()


async def test_what_comes_for_an_earlier_use_of_an_id_is_dropped(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    request = speech(key="again")
    chunk = AudioGenerationOutput(ACTIVE, 1)
    stream = client.stream(request)
    first = asyncio.ensure_future(anext(stream))
    old = await server.submitted()
    server.say(Delivery(server.peer, (head("again", old.serial),)), chunk)
    await first
    await stream.aclose()
    assert await asyncio.to_thread(server.hear, Cancel) == Cancel("again", old.serial)
    second = asyncio.ensure_future(client.generate(request))
    new = await server.submitted()
    assert new.serial > old.serial
    server.say(Delivery(server.peer, (head("again", old.serial, 1),)), AudioGenerationOutput(ACTIVE, 50))
    server.say(Ended("again", GenerationStatus.CANCELLED, serial=old.serial))
    server.say(Delivery(server.peer, (head("again", new.serial, 0, DONE),)), AudioGenerationOutput(DONE, 7))
    assert (await second).steps_executed == 7


async def test_items_to_be_skipped_are(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    whole = asyncio.ensure_future(client.generate(speech(key="a")))
    serial = (await server.submitted()).serial
    heads = (head("a", serial), head("a", serial, 0, DONE))
    delivery = Delivery(server.peer, heads, skip=(0,))
    server.say(delivery, AudioGenerationOutput(ACTIVE, 50), AudioGenerationOutput(DONE, 7))
    assert (await whole).steps_executed == 7


async def test_an_output_that_cannot_be_read_fails_its_request_alone(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    bad, good = (asyncio.ensure_future(client.generate(speech(key=key))) for key in ("bad", "good"))
    serials = {submit.request_id: submit.serial for submit in [await server.submitted() for _ in "12"]}
    server.say(Delivery(server.peer, (head("bad", serials["bad"]),)), payload=b"\xc1")
    server.say(Delivery(server.peer, (head("good", serials["good"], 0, DONE),)), AudioGenerationOutput(DONE, 7))
    with pytest.raises(RequestFailed, match="payload refused"):
        await bad
    assert (await good).is_done
    assert await asyncio.to_thread(server.hear, Cancel) == Cancel("bad", serials["bad"])


async def test_a_server_of_another_version_fails_everything(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    whole = asyncio.ensure_future(client.generate(speech()))
    await asyncio.to_thread(server.hear, Submit)
    server.say(b"\x63nonsense")
    with pytest.raises(RequestFailed, match="protocol version"):
        await whole


async def test_a_cancel_with_a_reason_is_the_servers_own(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    whole = asyncio.ensure_future(client.generate(speech(key="a")))
    serial = (await server.submitted()).serial
    kind, why = FailureKind.SHUTTING_DOWN, "the server shut down"
    server.say(Ended("a", GenerationStatus.CANCELLED, kind, why, serial=serial))
    with pytest.raises(RequestFailed, match="shut down"):
        await whole


async def test_a_server_that_cannot_read_us_fails_everything(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    whole = asyncio.ensure_future(client.generate(speech()))
    await asyncio.to_thread(server.hear, Submit)
    server.say(Described(problem="this end speaks protocol version 1, the other sent version 2"))
    with pytest.raises(RequestFailed, match="protocol version 1"):
        await whole


async def test_samples_that_are_not_finite_fail_the_request(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    whole = asyncio.ensure_future(client.generate(speech(key="a")))
    serial = (await server.submitted()).serial
    (sound,) = encode_payload([AudioGenerationOutput(DONE, 1, np.ones(4, np.float32))])
    broken = bytes(sound).replace(np.ones(1, "<f4").tobytes(), np.full(1, np.nan, "<f4").tobytes())
    server.say(Delivery(server.peer, (head("a", serial, 0, DONE),)), payload=broken)
    with pytest.raises(RequestFailed, match="finite"):
        await whole


async def test_what_a_new_server_may_get_of_a_failed_request_is_ended_there(tmp_path: Path) -> None:
    server = PlayedServer(tmp_path)
    opening = asyncio.ensure_future(AsyncClient.connect(server.address).__aenter__())
    await asyncio.to_thread(server.hear, Describe)
    server.say(Described((ModelInfo("voice", "audio_generation", 24_000),)))
    client = await opening
    server.close()
    with pytest.raises(RequestFailed, match="is gone"):
        await client.generate(speech(key="lost"))
    server = PlayedServer(tmp_path)
    assert isinstance(await asyncio.to_thread(server.hear, Goodbye), Goodbye)
    await client.close()
    server.close()


async def test_what_is_spoken_and_cancelled_ends_as_cancelled(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played

    async def spoken() -> list[AudioGenerationOutput]:
        return [output async for output in client.speak("It is late. We go home.")]

    listening = asyncio.ensure_future(spoken())
    submit = await server.submitted()
    server.say(Ended(submit.request_id, GenerationStatus.CANCELLED, serial=submit.serial))
    assert (await listening)[-1].final_status is GenerationStatus.CANCELLED


async def test_the_next_part_of_what_is_spoken_counts_as_read_before_its_turn(
    played: tuple[PlayedServer, AsyncClient],
) -> None:
    server, client = played
    spoken = client.speak("It is late. We go home.")
    listening = asyncio.ensure_future(anext(spoken))
    now = await server.submitted()
    sound = AudioGenerationOutput(ACTIVE, 1, np.zeros(10, np.float32))
    server.say(Delivery(server.peer, (head(now.request_id, now.serial),)), sound)
    ahead = await server.submitted()
    await listening
    server.say(Delivery(server.peer, (head(ahead.request_id, ahead.serial),)), sound)
    server.say(Watch(ahead.request_id, ahead.serial, 0))
    assert await asyncio.to_thread(server.hear, Read) == Read(ahead.request_id, ahead.serial, 0, 10)
    await spoken.aclose()
    cancelled = {await asyncio.to_thread(server.hear, Cancel) for _ in "12"}
    assert cancelled == {Cancel(now.request_id, now.serial), Cancel(ahead.request_id, ahead.serial)}


async def test_a_server_that_watches_hears_what_is_read(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    stream = client.stream(speech(key="a"))
    reading = asyncio.ensure_future(anext(stream))
    serial = (await server.submitted()).serial
    heads = (head("a", serial), head("a", serial, 1))
    server.say(Delivery(server.peer, heads), *[AudioGenerationOutput(ACTIVE, 1)] * 2)
    server.say(Watch("a", serial, 1))
    await reading
    assert await asyncio.to_thread(server.hear, Read) == Read("a", serial, 0, 10)
    await anext(stream)
    assert await asyncio.to_thread(server.hear, Read) == Read("a", serial, 1, 20)
    server.say(Watch("nobody's", 9, 0))
    assert await asyncio.to_thread(server.hear, Cancel, Read) == Cancel("nobody's", 9)


async def test_a_question_about_a_chunk_that_has_not_come_says_that_it_was_lost(
    played: tuple[PlayedServer, AsyncClient],
) -> None:
    server, client = played
    reading = asyncio.ensure_future(anext(client.stream(speech(key="a"))))
    serial = (await server.submitted()).serial
    server.say(Watch("a", serial, 0))
    with pytest.raises(RequestFailed, match="connection_lost: a chunk was lost"):
        await reading
    assert await asyncio.to_thread(server.hear, Cancel) == Cancel("a", serial)


async def test_a_request_that_is_never_answered_ends_by_its_deadline(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    whole = asyncio.ensure_future(client.generate(speech(key="a"), RequestOptions(deadline_s=0.01)))
    submit = await server.submitted()
    assert submit.deadline_s == 0.01
    with pytest.raises(RequestFailed) as caught:
        await whole
    assert caught.value.failure.kind is FailureKind.DEADLINE_EXCEEDED
    assert await asyncio.to_thread(server.hear, Cancel) == Cancel("a", submit.serial)


async def test_a_report_is_what_the_server_says(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, problem: problems.append(problem))
    first, gone, second = (asyncio.ensure_future(client.report()) for _ in "123")
    await asyncio.to_thread(server.hear, Inspect)  # one question for all three
    gone.cancel()
    report = Report({"requests": 3}, (WorkerReport("w1", True, steps=2**40, gauges={"free": -1}),))
    server.say(report)
    assert await first == await second == report
    third = asyncio.ensure_future(client.report())
    await asyncio.to_thread(server.hear, Inspect)
    server.say(Report({"requests": 4}))
    assert (await third).gauges == {"requests": 4}
    assert not problems


async def test_a_server_that_does_not_report_is_said_to_be_lost(
    played: tuple[PlayedServer, AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = played
    monkeypatch.setattr(questions, "REPORT_S", 0.01)
    with pytest.raises(RequestFailed, match="not answered") as caught:
        await client.report()
    assert caught.value.failure.kind is FailureKind.CONNECTION_LOST
    asked = [await asyncio.to_thread(server.hear, Inspect)]
    monkeypatch.undo()
    late = asyncio.ensure_future(client.report())
    asked.append(await asyncio.to_thread(server.hear, Inspect))
    server.say(Report({"requests": 1}))
    assert (await late).gauges == {"requests": 1}
    assert asked == [Inspect()] * 2


@pytest.fixture
def insistent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a question without an answer were asked again at once."""
    monkeypatch.setattr(questions, "CHECK_S", 0.01)


@pytest.mark.usefixtures("insistent")
async def test_a_question_that_is_lost_is_asked_again(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    asked = [asyncio.ensure_future(client.report()) for _ in "12"]
    await asyncio.to_thread(server.hear, Inspect)  # and lost
    await asyncio.to_thread(server.hear, Inspect)
    server.say(Report({"requests": 1}))
    assert [(await report).gauges for report in asked] == [{"requests": 1}] * 2


@pytest.mark.usefixtures("insistent")
async def test_a_client_opens_though_its_first_question_is_lost(tmp_path: Path) -> None:
    server = PlayedServer(tmp_path)
    opening = asyncio.ensure_future(AsyncClient.connect(server.address).__aenter__())
    for _ in "12":
        await asyncio.to_thread(server.hear, Describe)
    server.say(Described((ModelInfo("voice", "audio_generation", 24_000),)))
    client = await opening
    assert client.model().name == "voice"
    await client.close()
    server.close()


async def test_a_report_of_a_server_that_has_gone_fails_at_once_each_time(tmp_path: Path) -> None:
    server = PlayedServer(tmp_path)
    opening = asyncio.ensure_future(AsyncClient.connect(server.address).__aenter__())
    await asyncio.to_thread(server.hear, Describe)
    server.say(Described())
    client = await opening
    server.close()
    for _ in "123":
        with pytest.raises(RequestFailed, match="is gone"):
            await client.report()
    await client.close()


async def test_a_server_that_cannot_be_dialled_leaves_nothing_open() -> None:
    address = parse_address(f"tcp://127.0.0.1:5555#{KeyPair.new().public.text}")
    with pytest.raises(ConfigError, match="key of our own"):
        await asyncio.wait_for(AsyncClient(address, None).__aenter__(), PATIENCE_S)


async def test_requests_that_begin_alike_say_so(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    prefixes: list[int] = []
    common = "You are a helpful assistant. " * 10
    for prompt in (common + "Who are you?", common + "What is new?", "You are helpful.", common[1:]):
        stream = client.stream(TextGenerationRequest(RequestID(), "voice", prompt)).submit()
        prefixes.append((await server.submitted()).prefix)
        await stream.aclose()
    first, alike, short, other = prefixes
    assert first == alike != other
    assert first
    assert not short
