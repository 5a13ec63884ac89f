"""From the road's outputs to those that vLLM's callers know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from max_interfaces import TextGenerationOutput

from ..client.outputs import join_texts
from .asks import Ask
from .outputs import Logprob, RequestOutput, completion, rows
from .sampling import RequestOutputKind


def result_of(ask: Ask, outputs: Sequence[TextGenerationOutput]) -> RequestOutput:
    """All of a request's outputs in one, as far as they go."""
    texts = join_texts(outputs)
    first = texts[0]
    chosen = ask.params.logprobs is not None
    return RequestOutput(
        first.request_id.value,
        None if ask.prompt is None else ask.prompt.text,
        first.prompt_tokens,
        _prompt_rows(first),
        [completion(text, ask.lora, logprobs=chosen) for text in texts],
        outputs[-1].is_done,
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
        self._outputs: list[TextGenerationOutput] = []

    def take(self, output: TextGenerationOutput) -> Iterator[RequestOutput]:
        """What is to be shown after one more of the road's outputs."""
        self._outputs.append(output)
        if self._kind is RequestOutputKind.DELTA:
            first = self._outputs[0]
            with_prompt = replace(output, prompt_tokens=first.prompt_tokens)
            shown = result_of(self._ask, [with_prompt])
            self._outputs = [first]
            yield shown
        elif self._kind is RequestOutputKind.CUMULATIVE or output.is_done:
            yield result_of(self._ask, self._outputs)


def _prompt_rows(first: TextGenerationOutput) -> list[dict[int, Logprob] | None] | None:
    """None for a prompt's first id, which nothing foretells, then a row for each other."""
    given = first.prompt_log_probabilities
    if given is None:
        return None
    texts = first.token_texts
    spelled = None if texts is None else replace(texts, tokens=texts.prompt[1:])
    return [None, *rows(first.prompt_tokens[1:], given, spelled)]
