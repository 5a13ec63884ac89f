"""What is counted of listeners and of the server."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from max_pipelines.http.metrics import Metrics
from max_pipelines.http.playback import Playback
from tests.pipelines.http.facing import facing, trivial

RATE = 1000


def value(text: str, name: str) -> float:
    """The value of a sample by its name with its labels."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_a_listener_notices() -> None:
    metrics, clock = Metrics(), Clock()
    playback = Playback(metrics, RATE, clock)
    quiet, loud = np.zeros(100, np.float32), np.full(100, 0.5, np.float32)
    clock.now += 0.2
    playback.heard(quiet)
    playback.sent(b"")
    clock.now += 0.05  # in time: 0.1 s are being played
    playback.heard(loud)
    playback.sent(b"some")
    clock.now += 0.5  # 0.35 s too late
    playback.heard(loud)
    playback.ended()
    text = metrics.text(None).decode()
    assert value(text, "maxpipe_speech_first_sample_seconds_sum") == pytest.approx(0.2)
    assert value(text, "maxpipe_speech_first_byte_seconds_sum") == pytest.approx(0.25)
    assert value(text, "maxpipe_speech_first_audible_seconds_sum") == pytest.approx(0.3)
    assert value(text, "maxpipe_speech_underruns_total") == 1
    assert value(text, "maxpipe_speech_real_time_factor_sum") == pytest.approx(0.75 / 0.3)


async def test_the_server_and_its_workers_in_prometheuss_format() -> None:
    async with facing(trivial()) as served:
        body = {"model": "voice", "input": "Hello.", "response_format": "pcm"}
        assert (await served.post("/v1/audio/speech", body)).status_code == 200
        assert (await served.post("/v1/audio/speech", body | {"model": "other"})).status_code == 404
        answer = await served.asks.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        text = answer.text
        assert value(text, 'maxpipe_server{name="admitted"}') == 1
        assert value(text, "maxpipe_workers_ready") == 1
        assert value(text, "maxpipe_speech_first_byte_seconds_count") == 1
        assert value(text, 'maxpipe_server{name="lost_workers"}') == 0
        assert value(text, 'maxpipe_tokens_total{kind="output"}') == 4
        assert value(text, "tgi_queue_size") == 0
        assert value(text, 'maxpipe_http_answers_total{status="200"}') == 1
        assert value(text, 'maxpipe_http_answers_total{status="404"}') == 1
        assert re.search(r'maxpipe_worker\{name="steps",worker="\S+"\}', text)


async def test_the_status_is_an_object_of_gauges_and_workers() -> None:
    async with facing(trivial()) as served:
        told = (await served.asks.get("/status")).json()
        (worker,) = told["workers"]
        assert set(told) == {"gauges", "workers"}
        assert (worker["ready"], worker["credits"]) == (True, 4096)
        assert told["gauges"]["admitted"] == 0


async def test_metrics_of_a_face_that_waits_for_its_model() -> None:
    async with facing(trivial(), opened=False) as served:
        assert value((await served.asks.get("/metrics")).text, "maxpipe_workers_ready") == 0


async def test_an_error_that_nobody_foresaw_is_counted_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async with facing(trivial()) as served:
        monkeypatch.setattr(served.face, "chosen", None)
        answer = await served.post("/v1/audio/speech", {"model": "voice", "input": "Hello."})
        assert (answer.status_code, answer.json()["error_type"]) == (500, "internal")
        assert answer.headers["x-request-id"]
        assert value((await served.asks.get("/metrics")).text, 'maxpipe_http_answers_total{status="500"}') == 1


async def test_the_document_names_what_is_there_and_only_that() -> None:
    document = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")
    table, _, left_out = document.partition("**Metrics**")[2].partition("Of that server's names")
    names = re.findall(r"`((?:maxpipe|tgi)_\w+)", table)
    missing = re.findall(r"`(tgi_\w+)", left_out.partition("\n\n")[0])
    async with facing(trivial()) as served:
        text = (await served.asks.get("/metrics")).text
    there = {name for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) if not name.endswith("_created")}
    assert set(names) == there
    assert missing
    assert not there & set(missing)
