"""What is counted of requests for text, with nobody who serves them: the hook for the endpoints."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from max_interfaces import FailureKind, GenerationStatus, InvalidRequest, RequestFailed, RequestID, TextGenerationOutput
from max_interfaces.messages import Report, WorkerReport
from max_interfaces.status import Failure
from max_interfaces.text import GenerationStatistics
from max_pipelines.http.metrics import Metrics
from max_pipelines.http.problems import HttpProblem
from max_pipelines.http.text_metrics import DURATIONS_S


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def values(metrics: Metrics, report: Report | None = None) -> dict[str, float]:
    """Every sample, by its name and its labels' values."""
    text = metrics.text(report).decode()
    assert list(text_string_to_metric_families(text))  # a scraper can read it, whose names would be others
    found = re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
    return {".".join([name, *re.findall(r'"(.*?)"', labels)]): float(value) for name, labels, value in found}


def output(*tokens: int, done: bool = False, spent: GenerationStatistics | None = None) -> TextGenerationOutput:
    status = GenerationStatus.END_OF_SEQUENCE if done else GenerationStatus.ACTIVE
    return TextGenerationOutput(RequestID("a"), tokens, status, num_prompt_tokens=7, statistics=spent)


def test_an_answer_from_its_arrival_to_its_end() -> None:
    metrics, clock = Metrics(), Clock()
    with metrics.text_request(20, clock) as told:
        clock.now += 0.125
        told.checked()
        clock.now += 0.5
        told.heard(output())
        clock.now += 0.5
        told.heard(output(1, 2))
        clock.now += 1
        told.heard(output(3))
        told.heard(output(4, done=True, spent=GenerationStatistics(7, 0, 4, 0.25, 0.75)))
    found = values(metrics)
    assert found["tgi_request_count"] == found["tgi_request_success"] == 1
    for name, value in {
        "duration": 2.125,
        "validation_duration": 0.125,
        "queue_duration": 1.125 - 0.25 - 0.125,
        "inference_duration": 1.0,
        "mean_time_per_token_duration": 0.25,
        "generated_tokens": 4,
        "input_length": 7,
        "max_new_tokens": 20,
    }.items():
        assert found[f"tgi_request_{name}_count"] == 1, name
        assert found[f"tgi_request_{name}_sum"] == pytest.approx(value), name
    assert found["maxpipe_text_first_token_seconds_sum"] == pytest.approx(1.125)
    assert (found["maxpipe_tokens_total.input"], found["maxpipe_tokens_total.output"]) == (7, 4)


def test_what_the_worker_does_not_say_is_not_made_up() -> None:
    metrics = Metrics()
    with metrics.text_request() as told:
        told.finished(3, 2)
        told.failed("generation")  # the first end counts
    found = values(metrics)
    assert (found["tgi_request_success"], found["tgi_request_duration_count"]) == (1, 1)
    assert not any(name.startswith("tgi_request_failure") for name in found)
    for name in ("validation", "queue", "inference", "mean_time_per_token"):
        assert found[f"tgi_request_{name}_duration_count"] == 0
    assert found["tgi_request_max_new_tokens_count"] == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("no"), "validation"),
        (HttpProblem(429, "overloaded", "no"), "overloaded"),
        (RequestFailed(Failure(FailureKind.WORKER_ERROR, "no")), "generation"),
        (RuntimeError("no"), "internal"),
    ],
)
def test_failures_by_their_type(error: Exception, kind: str) -> None:
    metrics = Metrics()
    with pytest.raises(type(error)), metrics.text_request():
        raise error
    found = values(metrics)
    assert (found["tgi_request_count"], found["tgi_request_success"]) == (1, 0)
    assert found[f"tgi_request_failure.{kind}"] == 1
    assert found["tgi_request_duration_count"] == 0


def test_who_leaves_has_neither_failed_nor_been_answered() -> None:
    metrics = Metrics()
    with pytest.raises(GeneratorExit), metrics.text_request():
        raise GeneratorExit
    with metrics.text_request() as told:
        told.heard(TextGenerationOutput(RequestID("a"), (), GenerationStatus.CANCELLED))
    found = values(metrics)
    assert (found["tgi_request_count"], found["tgi_request_success"]) == (2, 0)
    assert not any(name.startswith("tgi_request_failure") for name in found)


def test_gauges_are_the_servers_and_are_not_made_up_without_it() -> None:
    metrics = Metrics()
    report = Report({"waiting": 3}, (WorkerReport("a", running=2), WorkerReport("b", running=5)))
    found = values(metrics, report)
    assert (found["tgi_queue_size"], found["tgi_batch_current_size"]) == (3, 7)
    assert "tgi_queue_size" not in values(metrics)


def test_the_buckets_are_the_apis() -> None:
    bounds = [name for name in values(Metrics()) if name.startswith("tgi_request_duration_bucket.")]
    assert len(bounds) == 36  # and infinity
    assert DURATIONS_S[0] == pytest.approx(0.00015)
    assert DURATIONS_S[-1] == pytest.approx(1e-4 * 1.5**35)
