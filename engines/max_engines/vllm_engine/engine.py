"""vLLM as a `TokenGenerator`."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from max_interfaces.errors import DeviceLost
from max_interfaces.identity import RequestID
from max_interfaces.protocols import PromptReport, SequenceStart, TokenDelta
from max_interfaces.text import LogProbabilities

from ..rules import SequenceError
from ..sequence import Sequence
from .core import Core
from .masking import MaskedSequence
from .sampling import check_sequence, their_params
from .scores import log_probabilities

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput


PROMPTS_S = 2.5  # a step with prompts in it, on a slow core; vLLM has no word for how long it takes


class VllmEngine:
    """A `TokenGenerator` (see `max_interfaces.protocols`) over vLLM's engine core.

    vLLM cannot pause: a sequence left out of a step goes on, and its tokens are held until it is named again, no more
    of them than it may have in all. So they are when a step is repeated with fewer ids.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._numbers = itertools.count()
        self._sequences: dict[RequestID, RunningSequence] = {}
        self._by_key: dict[str, RunningSequence] = {}

    def add(self, start: SequenceStart) -> None:
        """Take a sequence. ValueError, naming the field, for what it cannot do or could never fit."""
        core = self._core
        check_sequence(start, core.vocab_size)
        if start.request_id in self._sequences:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        room = core.max_length - len(start.prompt)
        if room < 1:
            raise ValueError(f"SequenceStart.prompt has {len(start.prompt)} tokens: at most {core.max_length - 1} fit")
        wanted = start.sampling_params.max_new_tokens
        sequence = RunningSequence(start, room if wanted is None else min(wanted, room), str(next(self._numbers)))
        if not sequence.ended:
            params = their_params(start, sequence.limit, sequence.end_ids)
            tokens = [*start.prompt, *start.accepted]
            core.add(sequence.key, tokens, params, sequence.masked, start.priority, start.cache_salt)
            self._by_key[sequence.key] = sequence
        self._sequences[start.request_id] = sequence

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """What is held for those named by `active`; if one of them has nothing, after a step of vLLM's.

        KeyError for an unknown id, SequenceError for a sequence that cannot go on, DeviceLost for anything else: vLLM
        loses its state with a step.
        """
        named = [self._sequences[request_id] for request_id in active]
        _check(named)
        if any(sequence.waits for sequence in named):
            self._advance()
            _check(named)
        return {sequence.request_id: sequence.take() for sequence in named if sequence.has_news}

    def step_s(self) -> float:
        """How long the next step may take, in seconds, if prompts are computed in it; 0 if none are."""
        return PROMPTS_S if any(sequence.silent for sequence in self._by_key.values()) else 0.0

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence and free its memory. Safe between steps, also for an unknown id."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None:
            self._forget(sequence)

    def _advance(self) -> None:
        try:
            outputs = self._core.step()
        except Exception as problem:
            raise DeviceLost(f"vLLM's engine has failed: {type(problem).__name__}: {problem}") from problem
        for output in outputs:
            sequence = self._by_key.get(output.request_id)
            if sequence is None:
                continue  # it was released while its step was under way
            sequence.hear(output)
            if output.finished:
                del self._by_key[sequence.key]
            elif sequence.ended:
                self._forget(sequence)

    def _forget(self, sequence: RunningSequence) -> None:
        if self._by_key.pop(sequence.key, None) is not None:
            self._core.abort(sequence.key)


class RunningSequence:
    """One sequence in vLLM, where it is `key`, and what of it nobody has been told yet."""

    def __init__(self, start: SequenceStart, limit: int, key: str) -> None:
        self.request_id = start.request_id
        self.limit = limit
        self.key = key
        self.masked = None if start.constraint is None else MaskedSequence(start.constraint, start.accepted)
        self.failure = ""
        self._tokens = Sequence(start, limit)
        self._params = start.sampling_params
        self._told = len(start.accepted)
        self._scores: list[LogProbabilities] = []
        self._prompt: PromptReport | None = None

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end it."""
        return self._tokens.row.end_ids

    @property
    def ended(self) -> bool:
        """True if no more tokens will come."""
        return self._tokens.status.is_done or bool(self.failure)

    @property
    def silent(self) -> bool:
        """True if it is in the midst of its prompt."""
        return not self._tokens.prompt_told

    @property
    def has_news(self) -> bool:
        """True if there is something to tell: tokens, or an end."""
        return len(self._tokens.row.output) > self._told or (self.ended and not self._tokens.reported)

    @property
    def waits(self) -> bool:
        """True if only a step of vLLM's can bring news."""
        return not self.ended and not self.has_news

    def hear(self, output: EngineCoreOutput) -> None:
        """Keep what vLLM says of it."""
        if self.masked is not None and self.masked.problem:
            self.failure = self.masked.problem
            return
        for token in output.new_token_ids:
            self._tokens.accept(token)
        if output.new_logprobs is not None and self._params.logprobs is not None:
            ids, values = output.new_logprobs.logprob_token_ids, output.new_logprobs.logprobs
            self._scores.append(log_probabilities(ids, values, self._params.logprobs))
        if not self._tokens.prompt_told and output.new_token_ids:
            self._tokens.prompt_told = True
            self._prompt = self._report(output)
        if output.finished and not self._tokens.status.is_done:
            self.failure = f"vLLM has ended it: {output.finish_reason}"

    def take(self) -> TokenDelta:
        """The news, once."""
        fresh = tuple(self._tokens.row.output[self._told :])
        delta = TokenDelta(fresh, self._tokens.status, LogProbabilities.joined(self._scores), self._prompt)
        self._told, self._scores, self._prompt = len(self._tokens.row.output), [], None
        self._tokens.reported = self._tokens.status.is_done
        return delta

    def _report(self, output: EngineCoreOutput) -> PromptReport:
        cached = 0 if output.prefill_stats is None else output.prefill_stats.num_cached_tokens
        scores, count = output.new_prompt_logprobs_tensors, self._params.prompt_logprobs
        if scores is None or count is None:
            return PromptReport(cached)
        ids, values = scores.logprob_token_ids.numpy(), scores.logprobs.numpy()
        return PromptReport(cached, log_probabilities(ids, values, count))


def _check(named: Iterable[RunningSequence]) -> None:
    """SequenceError for the first that has failed; what the others have stays held."""
    for sequence in named:
        if sequence.failure:
            raise SequenceError(str(sequence.request_id), sequence.failure)
