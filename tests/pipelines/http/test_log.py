"""A line for each request, and none of what was asked in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx2
import msgspec
import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from max_pipelines.config import HttpConfig
from max_pipelines.http.lines import Lines
from max_pipelines.http.log import JsonLine, Seldom, TextLine, logging_to_stderr
from max_pipelines.http.metrics import Metrics
from max_pipelines.http.observing import Observing, requests
from tests.pipelines.http.facing import PATIENCE_S, facing, trivial
from tests.pipelines.processes import MAXPIPE, config, write

SPEECH = "/v1/audio/speech"
SECRET = "the words that nobody may read"
BODY = {"model": "voice", "input": SECRET, "response_format": "pcm"}


class Kept(logging.Handler):
    """Keeps the lines, and sees to it that somebody may wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self._news.set()

    async def told(self, word: str) -> str:
        """The first line with a word in it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [line for line in self.lines if word in line]):
                self._news.clear()
                await self._news.wait()
            return found[0]

    async def fields(self, word: str) -> dict[str, Any]:
        """The same as an object."""
        found: dict[str, Any] = json.loads(await self.told(word))
        return found


@contextmanager
def logged(form: logging.Formatter | None = None) -> Iterator[Kept]:
    """What goes into the log meanwhile."""
    kept = Kept()
    kept.setFormatter(form or JsonLine())
    logging.getLogger().addHandler(kept)
    requests.setLevel(logging.INFO)
    try:
        yield kept
    finally:
        logging.getLogger().removeHandler(kept)
        requests.setLevel(logging.NOTSET)


async def test_a_request_is_one_line_without_what_was_asked() -> None:
    with logged() as log:
        async with facing(trivial()) as served:
            head = {"authorization": "Bearer s3cret"}
            answer = await served.post(SPEECH + "?key=s3cret", BODY, headers=head)
            line = await log.fields(SPEECH)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line.pop("duration_s") > 0
    assert line == {
        "level": "info",
        "logger": "max_pipelines.http.requests",
        "message": f"POST {SPEECH} 200",
        "request_id": answer.headers["x-request-id"],
        "method": "POST",
        "path": SPEECH,
        "status": 200,
        "bytes_sent": len(answer.content),
        "client_left": False,
    }
    assert not any(word in each for each in log.lines for word in (SECRET, "s3cret"))


@pytest.mark.parametrize("given", ["abc-123", "Root=1-67891233-abcdef", "a" * 128])
async def test_a_clients_id_is_taken_over(given: str) -> None:
    with logged() as log:
        async with facing(trivial(), opened=False) as served:
            answer = await served.asks.get("/v1/audio/voices", headers={"x-request-id": given})
            assert answer.headers["x-request-id"] == given
            assert (await log.fields("voices"))["request_id"] == given


async def test_an_id_that_could_be_more_than_an_id_is_not() -> None:
    async with facing(trivial(), opened=False) as served:
        seen = set()
        for bad in ("", "a b", "a" * 129, 'a"b', "<b>", "${x}", "a;b", "é"):
            answer = await served.asks.get("/health", headers={b"x-request-id": bad.encode()})
            seen.add(answer.headers["x-request-id"])
        assert len(seen) == 8
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in seen)


async def test_errors_say_their_type_and_have_an_id() -> None:
    with logged() as log:
        async with facing(trivial()) as served:
            answer = await served.post(SPEECH, BODY | {"speed": 9}, headers={"x-request-id": "it"})
            assert (answer.status_code, answer.headers["x-request-id"]) == (422, "it")
            line = await log.fields('"it"')
            assert (line["level"], line["status"], line["error_type"]) == ("info", 422, "validation")
            assert (await served.asks.get("/nothing")).headers["x-request-id"]


async def test_who_leaves_early_is_told_of() -> None:
    with logged() as log:
        async with facing(trivial(chunks=5000)) as served:
            async with served.asks.stream("POST", SPEECH, json=BODY) as answer:
                await anext(answer.aiter_raw())
            line = await log.fields(SPEECH)
    assert (line["client_left"], line["status"], line["level"]) == (True, 200, "info")
    assert line["bytes_sent"] > 0


async def test_probes_are_told_of_when_they_hear_something_new() -> None:
    with logged() as log:
        async with facing(trivial(), opened=False) as served:
            for _ in range(3):
                for path in ("/health", "/ready", "/metrics", "/status"):
                    await served.asks.get(path)
            await served.face.open()
            await served.asks.get("/ready")
            await served.asks.get("/v1/models")
            await log.told("/v1/models")
    told = [json.loads(line)["message"] for line in log.lines]
    assert told == ["GET /ready 503", "GET /status 503", "GET /ready 200", "GET /v1/models 200"]


async def test_a_websocket_is_one_line_at_its_end() -> None:
    with logged() as log:
        async with facing(trivial(chunks=2)) as served:
            where = served.url.replace("http", "ws") + "/v1/audio/speech/stream"
            async with connect(where, additional_headers={"x-request-id": "ours"}) as socket:
                assert socket.response is not None
                assert socket.response.headers["x-request-id"] == "ours"
                await socket.send(json.dumps({"type": "text", "text": SECRET}))
                await socket.send(json.dumps({"type": "close"}))
                with contextlib.suppress(Exception):
                    while True:
                        await asyncio.wait_for(socket.recv(), PATIENCE_S)
            line = await log.fields("/stream")
    assert (line["status"], line["request_id"], line["client_left"]) == (101, "ours", False)
    assert line["bytes_sent"] > 0
    assert not any(SECRET in each for each in log.lines)


async def through(log: logging.Logger, problem: Exception | None) -> None:
    """A request to an application that warns, and may fail."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        log.warning("something is odd")
        if problem is not None:
            try:
                raise problem
            except Exception:
                log.exception("it has failed")
                raise

    async def nothing() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def ignored(message: object) -> None:
        return

    scope = {"type": "http", "method": "GET", "path": "/a\nb", "headers": [(b"x-request-id", b"mine")]}
    await Observing(app, Metrics())(scope, nothing, ignored)


async def test_warnings_have_the_id_of_their_request_and_exceptions_no_message() -> None:
    with logged() as log, pytest.raises(ValueError, match=SECRET):
        await asyncio.create_task(through(logging.getLogger("some.library"), ValueError(SECRET)))
    warning, failure, request = (json.loads(line) for line in log.lines)
    assert (warning["message"], warning["level"], warning["request_id"]) == ("something is odd", "warning", "mine")
    assert failure["request_id"] == "mine"
    assert "test_log.py" in failure["exception"]
    assert failure["exception"].endswith("ValueError")
    assert (request["error_type"], request["level"], request["status"]) == ("internal", "error", None)
    assert SECRET not in "".join(log.lines)


async def test_the_same_as_text() -> None:
    with logged(TextLine()) as log:
        await asyncio.create_task(through(logging.getLogger("some.library"), None))
        logging.getLogger("some.library").warning("of no request")
    assert [re.sub(r" \d\.\d{3}s ", " TIME ", line.partition("Z ")[2]) for line in log.lines] == [
        "warning: something is odd [mine]",
        r"GET /a\nb - TIME 0B mine",
        "warning: of no request",
    ]


def test_a_library_repeats_itself_seldom() -> None:
    seldom = Seldom("other", seconds=60)

    def passes(name: str, text: str, at: float) -> bool:
        record = logging.makeLogRecord({"name": name, "msg": text, "created": at})
        return bool(seldom.filter(record))

    assert [passes("other.part", "away %s", at) for at in (1000, 1001, 1059, 1061)] == [True, False, False, True]
    assert passes("other.part", "gone", 1001)
    assert all(passes("ours", "away %s", 1000) for _ in range(3))


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    reads, writes = os.pipe()
    lines = Lines(writes, most=16)
    lines.setFormatter(logging.Formatter("%(message)s"))
    for number in range(1000):  # more than a pipe holds
        lines.emit(logging.makeLogRecord({"msg": f"{number} " + "x" * 4000}))
    with open(reads, "rb") as reader:
        heard = [int(reader.readline().split()[0])]
        while (line := reader.readline().split())[0] == str(heard[-1] + 1).encode():
            heard.append(int(line[0]))
        assert heard[0] == 0
        assert b" ".join(line[1:]) == b"lines of the log were dropped"
        assert 0 < int(line[0]) <= 1000 - len(heard)
        lines.close()
        os.close(writes)


def test_a_server_tells_as_text(tmp_path: Path) -> None:
    """As JSON: test_traces.py."""
    file = write(msgspec.structs.replace(config(), http=HttpConfig(port=0)), tmp_path)
    command = [*MAXPIPE, "serve", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = next(match for line in process.stdout if (match := re.search(r"over HTTP at (\S+)", line)))[1]
            assert httpx2.get(url + "/health").status_code == 200
            assert httpx2.post(url + SPEECH, json=BODY, timeout=PATIENCE_S).status_code == 200
            process.send_signal(signal.SIGTERM)
            (line,) = process.communicate(timeout=PATIENCE_S)[1].splitlines()
        finally:
            process.kill()
    assert re.fullmatch(r"\S+Z POST /v1/audio/speech 200 [\d.]+s \d+B [0-9a-f]{32}", line)


@pytest.mark.parametrize(("log", "lines"), [("json", 2), ("text", 2), ("none", 1)])
async def test_what_is_configured(
    log: Literal["json", "text", "none"], lines: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr(HttpConfig(log=log)):
        await asyncio.create_task(through(logging.getLogger("some.library"), None))
    told = capfd.readouterr().err.splitlines()
    assert len(told) == lines
    assert "something is odd" in told[0]
    assert told[0].startswith("{") == (log == "json")
