"""What is no HTTP, or has no end: answered as JSON, and the server serves on. Those that come too slowly are in
`test_speech_http.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from max_pipelines.config import HttpConfig
from tests.pipelines.http.facing import PATIENCE_S, Facing, facing, trivial
from tests.pipelines.http.test_log import logged

pytestmark = pytest.mark.asyncio(loop_scope="module")
POST = b"POST /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
NO_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no method": b"WORDS /v1/audio/speech HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a path that is no ASCII": b"POST /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a path without an end": b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a header with NUL": POST + b"x: a\x00b\r\n\r\n",
    "a header without a colon": POST + b"words\r\n\r\n",
    "a length that is none": POST + b"content-length: x\r\n\r\n",
    "a length below 0": POST + b"content-length: -1\r\n\r\n",
    "two lengths": POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a length, and chunks": POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk that is none": CHUNKED + b"words\r\n{}\r\n",
    "a second chunk that is none": CHUNKED + b"1\r\n{\r\nwords\r\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Facing]:
    async with facing(trivial()) as face:
        yield face


async def said(served: Facing, *sent: bytes) -> tuple[int, dict[str, object]]:
    """The status and the body of what a connection hears before it is closed."""
    reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
    for data in sent:
        writer.write(data)
    async with asyncio.timeout(PATIENCE_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"content-type: application/json" in head
    found: dict[str, object] = json.loads(body)
    return int(head.split()[1]), found


async def serves(served: Facing) -> None:
    """The server is as it was."""
    body = {"model": "voice", "input": "Some words.", "response_format": "pcm"}
    assert (await served.post("/v1/audio/speech", body)).status_code == 200


async def serves_no_more(served: Facing) -> None:
    """Nothing is made any more for who has gone."""
    async with asyncio.timeout(PATIENCE_S):
        while (await served.gauges())["requests"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", NO_HTTP)
async def test_what_is_no_http_is_told_so(kind: str, served: Facing, caplog: pytest.LogCaptureFixture) -> None:
    status, body = await said(served, NO_HTTP[kind])
    assert (status, body["error_type"]) == (400, "validation")
    await serves(served)
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_a_path_of_openai_is_answered_in_its_way(served: Facing) -> None:
    _, body = await said(served, NO_HTTP["two lengths"])
    error = body["error"]
    assert isinstance(error, dict)
    assert (error["type"], error["code"]) == ("validation", 400)
    _, body = await said(served, NO_HTTP["TLS"])
    assert isinstance(body["error"], str)


@pytest.mark.parametrize("more", [b"a" * 1000, b"a: b\r\n" * 100], ids=["one header", "many headers"])
async def test_a_head_without_an_end_is_not_kept(more: bytes, served: Facing) -> None:
    reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
    writer.write(POST + b"x: ")
    async with asyncio.timeout(PATIENCE_S):
        answered = asyncio.ensure_future(reader.readline())
        while not answered.done():
            writer.write(more)
            await writer.drain()
            await asyncio.wait([answered], timeout=0.001)
    assert (await answered).startswith(b"HTTP/1.1 431 ")
    writer.close()
    await serves(served)


async def test_a_large_body_is_no_large_head(served: Facing) -> None:
    body = json.dumps({"model": "voice", "input": "Some words.", "instructions": " " * 4000, "x": "a" * 900_000})
    for _ in range(2):  # the second on the same connection
        answer = await served.asks.post(
            "/v1/audio/speech", content=body, headers={"content-type": "application/json", "x": "a" * 30_000}
        )
        assert answer.status_code == 200


async def test_who_goes_while_the_body_is_read_is_no_failure_of_ours(served: Facing) -> None:
    with logged() as log:
        _, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
        writer.write(POST + b"content-length: 9\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
        line = await log.fields("/v1/audio/speech")
    assert (line["level"], line["status"], line["client_left"]) == ("info", None, True)
    await serves(served)


async def test_nothing_is_said_amid_another_answer() -> None:
    """A client that sends its next request while it hears the first, and sends it wrongly."""
    body = b'{"model": "voice", "input": "Some words.", "response_format": "pcm"}'
    async with facing(trivial(chunks=10_000)) as served:  # more than fits between the two, so that it cannot be whole
        reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
        writer.write(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
        async with asyncio.timeout(PATIENCE_S):
            heard = await reader.readuntil(b"\r\n\r\n")
            writer.write(NO_HTTP["TLS"])
            heard += await reader.read()
        writer.close()
        await serves_no_more(served)
    assert heard.count(b"HTTP/1.1 ") == 1
    assert not heard.endswith(b"0\r\n\r\n")


async def test_one_connection_more_than_may_be_is_refused() -> None:
    async with facing(trivial(), HttpConfig(max_connections=2)) as full:
        assert (await full.asks.get("/health")).status_code == 200  # and it stays
        _, other = await asyncio.open_connection(*full.url.removeprefix("http://").split(":"))
        status, body = await said(full, b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (status, body["error_type"]) == (503, "overloaded")
        other.close()
        await other.wait_closed()
        async with asyncio.timeout(PATIENCE_S):
            while (await full.asks.get("/health")).status_code != 200:
                await asyncio.sleep(0)
