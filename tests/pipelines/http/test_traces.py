"""A span for each request, at a collector on a real socket; and a collector that is not there."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket as sockets
import subprocess
import sys
from pathlib import Path

import httpx2
import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from websockets.asyncio.client import connect

from max_interfaces import ConfigError
from max_pipelines.config import HttpConfig, parse_config
from max_pipelines.http.listening import listen
from max_pipelines.http.traces import tracing_to
from tests.pipelines.http.collector import attributes, collecting
from tests.pipelines.http.facing import PATIENCE_S, facing, trivial
from tests.pipelines.processes import MAXPIPE, config, write

SPEECH = "/v1/audio/speech"
BODY = {"model": "voice", "input": "Nobody may read this.", "response_format": "pcm"}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_request_is_a_span_below_its_callers() -> None:
    with collecting() as collector:
        with tracing_to(collector.url) as tracing:
            async with facing(trivial(), tracing=tracing) as served:
                answer = await served.post(SPEECH + "?secret=1", BODY, headers={"traceparent": PARENT})
        (span,) = collector.wait_for(1)  # it was sent before the end
    assert collector.services == {"maxpipe"}
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert (span.name, span.kind) == (f"POST {SPEECH}", Span.SPAN_KIND_SERVER)
    found = attributes(span)
    assert found.pop("maxpipe.first_byte_s") > 0
    assert found.pop("server.port") == int(served.url.rpartition(":")[2])
    assert found.pop("gen_ai.usage.input_tokens") >= 0
    assert found == {
        "http.request.method": "POST",
        "http.route": SPEECH,
        "url.path": SPEECH,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "http.response.status_code": 200,
        "http.response.body.size": len(answer.content),
        "gen_ai.usage.output_tokens": 4,
        "maxpipe.request_id": answer.headers["x-request-id"],
        "maxpipe.client_left": False,
    }
    (event,) = span.events
    assert event.name == "first_byte"
    assert span.start_time_unix_nano < event.time_unix_nano <= span.end_time_unix_nano
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert "Nobody" not in str(span)
    assert "secret" not in str(span)


async def test_spans_of_what_goes_wrong() -> None:
    with collecting() as collector:
        with tracing_to(f"{collector.url}/v1/traces") as tracing:
            async with facing(trivial(chunks=5000), opened=False, tracing=tracing) as served:
                await served.asks.get("/v1/models")  # 503: not loaded
                await served.face.open()
                await served.post(SPEECH, BODY | {"speed": 9}, headers={"traceparent": "nonsense"})
                await served.asks.get("/nothing/of/ours")
                async with served.asks.stream("POST", SPEECH, json=BODY) as answer:
                    await anext(answer.aiter_raw())
                where = served.url.replace("http", "ws") + "/v1/audio/speech/stream"
                async with connect(where) as socket:
                    await socket.send(json.dumps({"type": "close"}))
        loading, wrong, nothing, left, talked = collector.wait_for(5)
    assert (loading.status.code, attributes(loading)["error.type"]) == (Status.STATUS_CODE_ERROR, "loading")
    assert (wrong.status.code, attributes(wrong)["error.type"]) == (Status.STATUS_CODE_UNSET, "validation")
    assert not wrong.parent_span_id
    assert (nothing.name, attributes(nothing)["http.response.status_code"]) == ("GET", 404)
    assert attributes(left)["maxpipe.client_left"]
    assert [event.name for event in left.events] == ["first_byte", "client_left"]
    assert (talked.name, attributes(talked)["http.response.status_code"]) == ("GET /v1/audio/speech/stream", 101)


async def test_a_collector_that_does_not_answer_holds_nobody_up() -> None:
    with collecting() as collector:
        collector.open.clear()
        with tracing_to(collector.url) as tracing:
            async with facing(trivial(), tracing=tracing) as served:
                assert (await served.asks.get("/health")).status_code == 200
                assert await asyncio.to_thread(collector.asked.wait, PATIENCE_S)  # a span is under way, and stays so
                for _ in range(5):
                    assert (await served.post(SPEECH, BODY)).status_code == 200
        assert not collector.spans  # and the end has come all the same


async def test_a_collector_that_is_away_is_no_matter() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tracing_to(f"http://127.0.0.1:{port}") as tracing:
        async with facing(trivial(), tracing=tracing) as served:
            assert (await served.post(SPEECH, BODY)).status_code == 200


def test_a_server_sends_its_last_spans_before_it_ends(tmp_path: Path) -> None:
    with collecting() as collector:
        http = HttpConfig(port=0, traces=collector.url, log="json")
        file = write(msgspec.structs.replace(config(), http=http), tmp_path)
        command = [*MAXPIPE, "serve", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                url = next(match for line in process.stdout if (match := re.search(r"over HTTP at (\S+)", line)))[1]
                assert httpx2.post(url + SPEECH, json=BODY, timeout=PATIENCE_S).status_code == 200
                process.send_signal(signal.SIGTERM)
                (line,) = process.communicate(timeout=PATIENCE_S)[1].splitlines()
                assert process.returncode == 0
            finally:
                process.kill()
        (span,) = collector.wait_for(1)
    assert json.loads(line)["trace_id"] == span.trace_id.hex()
    assert json.loads(line)["request_id"] == attributes(span)["maxpipe.request_id"]


def test_without_the_packages_the_start_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r'pip install "maxpipe\[otel\]"'):
        listen(HttpConfig(port=0, traces="http://localhost:4318"))
    listen(HttpConfig(port=0)).close()


@pytest.mark.parametrize(
    "url", ["localhost:4318", "ftp://a", "http://", "http://a b", "http://user:pass@a", "http://a?b"]
)
def test_a_collectors_url_has_its_bounds(url: str) -> None:
    text = f"model: {{name: a}}\npipeline: {{kind: trivial}}\nhttp: {{traces: '{url}'}}"
    with pytest.raises(ConfigError, match=r"http\.traces"):
        parse_config(text)
