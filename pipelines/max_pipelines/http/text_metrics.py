"""What is counted of requests for text: under our own names, and under those of the text-generation API's server.

Of the latter only those whose value is really known here; docs/http.md lists the others. Source of names and buckets:
https://github.com/huggingface/text-generation-inference/blob/main/router/src/server.rs.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Histogram

from max_interfaces import GenerationStatus, TextGenerationOutput
from max_interfaces.messages import Report
from max_interfaces.text import GenerationStatistics

from .problems import GENERATION, problem_of

DURATIONS_S = tuple(0.0001 * 1.5**n for n in range(1, 36))
LENGTHS = tuple(2.0**n for n in range(21))  # that server's depend on its model's limits
WAITS_S = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)


class TextMetrics:
    """The part of a face's metrics that is about text."""

    def __init__(self, registry: CollectorRegistry, tokens: Counter) -> None:
        def durations(name: str, what: str) -> Histogram:
            return Histogram(f"tgi_request_{name}_duration", what, buckets=DURATIONS_S, registry=registry)

        def lengths(name: str, what: str) -> Histogram:
            return Histogram(f"tgi_request_{name}", what, buckets=LENGTHS, registry=registry)

        self.tokens = tokens
        self.first_token = Histogram(
            "maxpipe_text_first_token_seconds",
            "From a request for text to its first token",
            buckets=WAITS_S,
            registry=registry,
        )
        self.duration = Histogram("tgi_request_duration", "Seconds", buckets=DURATIONS_S, registry=registry)
        self.validation = durations("validation", "Seconds until the request was found valid")
        self.queue = durations("queue", "Seconds until a worker began with it")
        self.inference = durations("inference", "Seconds that a worker took")
        self.per_token = durations("mean_time_per_token", "Seconds of inference, by the tokens generated")
        self.generated_tokens = lengths("generated_tokens", "Tokens generated")
        self.input_length = lengths("input_length", "Tokens of the prompt")
        self.max_new_tokens = lengths("max_new_tokens", "Tokens that were asked for at most")
        self.begun = self.succeeded = 0
        self.failures: Counts[str] = Counts()

    def plain(self, report: Report | None) -> bytes:
        """Counters and gauges whose names stand as they are: the client library would add `_total` to them."""
        failures = {f'{{err="{err}"}}': count for err, count in sorted(self.failures.items())}
        text = _family("tgi_request_count", "counter", {"": self.begun})
        text += _family("tgi_request_success", "counter", {"": self.succeeded})
        text += _family("tgi_request_failure", "counter", failures)
        if report is not None:  # while the server does not answer nobody knows
            running = sum(worker.running for worker in report.workers)
            text += _family("tgi_queue_size", "gauge", {"": report.gauges.get("waiting", 0)})
            text += _family("tgi_batch_current_size", "gauge", {"": running})
        return text.encode()


class TextRequest(AbstractContextManager["TextRequest"]):
    """One request for text, told of as it goes, from its arrival to its end:

        with face.metrics.text_request(max_new_tokens) as told:
            …                               # read and check the request
            told.checked()
            async for output in outputs:
                told.heard(output)          # first token, lengths, times, the end

    `first_token` and `finished` are for who has no outputs to show. It ends as `finished` or as `failed`; what is
    raised inside the block is a failure of its type, and a block that is left in another way, as when the client has
    gone, is neither. Only the first end counts. Every method is cheap enough for a hot loop.
    """

    def __init__(self, metrics: TextMetrics, max_new_tokens: int | None, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._begun = clock()
        self._checked_s = 0.0
        self._first_s = 0.0
        self._tokens = 0
        self._over = False
        metrics.begun += 1
        if max_new_tokens is not None:
            metrics.max_new_tokens.observe(max_new_tokens)

    def checked(self) -> None:
        """The request is valid."""
        self._checked_s = self._clock() - self._begun
        self._metrics.validation.observe(self._checked_s)

    def heard(self, output: TextGenerationOutput) -> None:
        """An output of the request, in order."""
        self._tokens += len(output.tokens)
        if self._tokens:
            self.first_token()
        if output.is_done and output.final_status is not GenerationStatus.CANCELLED:
            spent = output.statistics
            tokens = self._tokens if spent is None else spent.generated_tokens
            self.finished(output.num_prompt_tokens, tokens, spent)

    def first_token(self) -> None:
        """The first token is there. Later calls do nothing."""
        if not self._first_s:
            self._first_s = self._clock() - self._begun
            self._metrics.first_token.observe(self._first_s)

    def finished(self, input_length: int, generated_tokens: int, spent: GenerationStatistics | None = None) -> None:
        """The answer is whole. `spent` is what the worker says it took; without it, that part is not told."""
        if self._over:
            return
        self._over = True
        metrics, took_s = self._metrics, self._clock() - self._begun
        metrics.succeeded += 1
        metrics.duration.observe(took_s)
        metrics.input_length.observe(input_length)
        metrics.generated_tokens.observe(generated_tokens)
        metrics.tokens.labels("input").inc(input_length)
        metrics.tokens.labels("output").inc(generated_tokens)
        if spent is not None:
            inference_s = spent.prompt_s + spent.generation_s
            # Until the first token nobody waits for a slow reader.
            before_s = self._first_s - spent.prompt_s if self._first_s else took_s - inference_s
            metrics.queue.observe(max(0.0, before_s - self._checked_s))
            metrics.inference.observe(inference_s)
            metrics.per_token.observe(inference_s / max(1, generated_tokens))

    def failed(self, err: str = GENERATION) -> None:
        """There is no whole answer. `err` is an `error_type`: validation, overloaded, generation, …"""
        if not self._over:
            self._over = True
            self._metrics.failures[err] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.failed(problem_of(error).kind)


def _family(name: str, kind: str, values: Mapping[str, int]) -> str:
    """Samples of one name, by their labels."""
    return f"# TYPE {name} {kind}\n" + "".join(f"{name}{labels} {value}\n" for labels, value in values.items())
