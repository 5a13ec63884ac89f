"""From the road's outputs to those that vLLM's callers know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from max_interfaces import TextGenerationOutput

from ..client.outputs import join_texts
from .asks import Ask
from .outputs import Logprob, RequestOutput, completion, rows
from .sampling import RequestOutputKind


def result_of(ask: Ask, texts: Sequence[TextGenerationOutput], *, finished: bool) -> RequestOutput:
    """A request's texts, each whole as far as it goes, in one result."""
    first = texts[0]
    chosen = ask.params.logprobs is not None
    return RequestOutput(
        first.request_id.value,
        None if ask.prompt is None else ask.prompt.text,
        first.prompt_tokens,
        _prompt_rows(first),
        [completion(text, ask.lora, logprobs=chosen) for text in texts],
        finished,
        first.statistics,
        ask.lora,
        num_cached_tokens=None if first.statistics is None else first.statistics.cached_tokens,
    )


def counted(result: RequestOutput) -> tuple[int, int]:
    """The tokens that were read and written for it."""
    return len(result.prompt_token_ids or ()), sum(len(output.token_ids) for output in result.outputs)


class Growing:
    """The outputs of one request on their way, as `output_kind` wants them."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._kind = ask.params.output_kind
        self._texts: tuple[TextGenerationOutput, ...] = ()  # each in one piece, so that a token costs what it is

    def take(self, output: TextGenerationOutput) -> Iterator[RequestOutput]:
        """What is to be shown after one more of the road's outputs."""
        done = output.is_done
        if self._kind is RequestOutputKind.DELTA:
            self._texts = self._texts or (output,)
            new = replace(output, prompt_tokens=self._texts[0].prompt_tokens)
            yield result_of(self._ask, join_texts([new]), finished=done)
            return
        self._texts = join_texts([*self._texts, output])
        if done or self._kind is RequestOutputKind.CUMULATIVE:
            yield result_of(self._ask, self._texts, finished=done)


def _prompt_rows(first: TextGenerationOutput) -> list[dict[int, Logprob] | None] | None:
    """None for a prompt's first id, which nothing foretells, then a row for each other."""
    given = first.prompt_log_probabilities
    if given is None:
        return None
    texts = first.token_texts
    spelled = None if texts is None else replace(texts, tokens=texts.prompt[1:])
    return [None, *rows(first.prompt_tokens[1:], given, spelled)]
