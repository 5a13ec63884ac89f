"""The answer to one request: the outputs of its sequences, in the order and with the ends that a caller sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from max_engines.detokenizer import Detokenizer
from max_engines.tokenizer import TextTokenizer
from max_interfaces import Chunk, GenerationStatus, Hypothesis, RequestID, TextGenerationOutput
from max_interfaces.conversion import unchecked
from max_interfaces.protocols import TokenDelta
from max_interfaces.text import GenerationStatistics, LogProbabilities

from .preparing import Preparation
from .ranking import Ranking
from .resuming import run_of
from .sequence import TextSequence
from .spelling import Spelling

ACTIVE = GenerationStatus.ACTIVE
NO_TOKENS: tuple[int, ...] = ()
TextChunk = Chunk[TextGenerationOutput]
make_output = unchecked(TextGenerationOutput)  # thousands a second, of values that were checked as they came in


class Answer:
    """Takes what the engine did for the sequences of one request, and gives the chunks that are ready.

    `running` are the sequences that have not ended, by the ids that the engine knows them by. An output's
    `final_status` is its sequence's status if no other is still running.
    """

    def __init__(
        self,
        preparation: Preparation,
        prompt: tuple[int, ...],
        tokenizer: TextTokenizer,
        peak_memory: Callable[[], int],
        sample_rate: int = 0,
    ) -> None:
        self.request_id = preparation.attempt.request.request_id
        self.plan = plan = preparation.plan
        self.prompt = prompt
        self.running: dict[RequestID, TextSequence] = {}
        self._tokenizer = tokenizer
        self._peak_memory = peak_memory
        self._thinking = preparation.constrainer.thinking(prompt)
        self._running_statistics = preparation.attempt.request.running_statistics
        self._spelling = Spelling(tokenizer) if preparation.attempt.request.token_texts else None
        self._born = preparation.born
        self._first: float | None = None  # when the first token came
        self._cached: int | None = None
        self._prompt_log_probabilities: LogProbabilities | None = None
        self._ranking = Ranking(plan.answers) if plan.ranked else None
        self._given = preparation.attempt.next_seq  # outputs that the caller has
        self._next_sample = preparation.attempt.next_sample
        self._sample_rate = sample_rate if preparation.attempt.request.voice is not None else 0
        self._ended_before = sum(len(done.tokens) for done in preparation.earlier if done.ended)
        for index, done in enumerate(preparation.earlier):
            if not done.ended:
                # Ids of all but the first are made here, so that no other request can have them.
                sequence = TextSequence(index, plan, self._detokenizer(), done.tokens)
                self.running[RequestID() if index else self.request_id] = sequence
        self._sequences = list(self.running.values())

    def _detokenizer(self) -> Detokenizer | None:
        params = self.plan.sampling_params
        if not params.detokenize:
            return None
        return self._tokenizer.detokenizer(
            skip_special_tokens=params.skip_special_tokens,
            spaces_between_special_tokens=params.spaces_between_special_tokens,
            prompt=self.prompt,
        )

    def take(self, key: RequestID, delta: TokenDelta) -> list[TextChunk]:
        """The engine's news of the sequence it knows as `key`."""
        if delta.prompt is not None or (self._first is None and delta.tokens):
            self._note_prompt(delta)
        if not delta.tokens and delta.status is ACTIVE and delta.samples is None:
            return []  # it reads the prompt, or searches
        if self.plan.searched:
            del self.running[key]
            return list(self._searched(delta))
        sequence = self.running[key]
        tokens, texts, rest = sequence.take(delta)
        if sequence.status is not ACTIVE:
            del self.running[key]
        log_probabilities = _cut(delta.log_probabilities, len(tokens))
        if self._ranking is None:
            return [
                self._chunk(
                    sequence, tokens, texts, rest, log_probabilities, samples=delta.samples, picture=delta.picture
                )
            ]
        self._ranking.hold(sequence, tokens, texts, rest, log_probabilities)
        return [] if self.running else list(self._ranked(self._ranking))

    def _note_prompt(self, delta: TokenDelta) -> None:
        if self._first is None:
            self._first = time.monotonic()
        if delta.prompt is not None:
            cached = delta.prompt.cached_tokens  # the fewest: what one sequence computes, the others find
            self._cached = cached if self._cached is None else min(cached, self._cached)
            self._prompt_log_probabilities = delta.prompt.log_probabilities or self._prompt_log_probabilities

    def _ranked(self, ranking: Ranking) -> Iterator[TextChunk]:
        """One output for each of the best; `index` is the rank. Another attempt ranks the same, and gives the rest."""
        best = ranking.best()
        for rank, held in list(enumerate(best))[min(self._given, len(best) - 1) :]:
            held.sequence.index = rank
            last = rank + 1 == len(best)
            given = held.log_probabilities if self.plan.logprobs else None
            yield self._chunk(held.sequence, tuple(held.tokens), tuple(held.texts), held.rest, given, last)

    def _searched(self, delta: TokenDelta) -> Iterator[TextChunk]:
        """One output for each text that a search has found, the best first; one at least, though it may be empty."""
        found = delta.hypotheses or (Hypothesis((), 0.0, delta.status),)
        self._sequences = [TextSequence(rank, self.plan, self._detokenizer()) for rank in range(len(found))]
        told = [
            sequence.take(TokenDelta(one.tokens, one.status))
            for sequence, one in zip(self._sequences, found, strict=True)
        ]
        for rank in range(min(self._given, len(found) - 1), len(found)):
            sequence, one, last = self._sequences[rank], found[rank], rank + 1 == len(found)
            yield self._chunk(sequence, *told[rank], one.log_probabilities, last, one.score)

    def _chunk(
        self,
        sequence: TextSequence,
        tokens: tuple[int, ...],
        texts: tuple[str, ...],
        rest: str,
        log_probabilities: LogProbabilities | None,
        last: bool = True,
        score: float | None = None,
        samples: NDArray[np.float32] | None = None,
        picture: NDArray[np.uint8] | None = None,
    ) -> TextChunk:
        status = sequence.status
        text = "".join(texts) + rest
        final = status if last and not self.running else ACTIVE
        prompt_tokens, prompt_log_probabilities = NO_TOKENS, None
        if not sequence.opened:
            sequence.opened = True
            if self.plan.echo:
                text = self._echo() + text
            if self.plan.wants_prompt and not sequence.index:
                prompt_tokens, prompt_log_probabilities = self.prompt, self._prompt_log_probabilities
        output = make_output(
            (
                self.request_id,
                tokens,
                final,
                log_probabilities,
                text,
                sequence.index,
                len(self.prompt),
                None,
                status,
                sequence.stop,
                prompt_tokens,
                prompt_log_probabilities,
                None if final is ACTIVE and not self._running_statistics else self._statistics(),
                self._spelling
                and self._spelling.of(tokens, texts, rest, log_probabilities, prompt_tokens, prompt_log_probabilities),
                self._thinking,
                score,
                samples,
                self._sample_rate,
                picture,
            )
        )
        if self.plan.at_once:
            tokens = NO_TOKENS  # no part of it can be gone on from: the ranks need all of it
        elif self.plan.sequences > 1:
            tokens = run_of(sequence.index, tokens, status is not ACTIVE)
        first, count = self._next_sample, 0 if samples is None else samples.size
        self._next_sample += count
        return Chunk(self.request_id, output, tokens, first, count)

    def _echo(self) -> str:
        """The prompt's text, as the model read it: after the template and the truncation."""
        params = self.plan.sampling_params
        if not params.detokenize:
            return ""
        return self._tokenizer.decode(self.prompt, skip_special_tokens=params.skip_special_tokens)

    def _statistics(self) -> GenerationStatistics:
        now = time.monotonic()
        first = now if self._first is None else self._first
        return GenerationStatistics(
            prompt_tokens=len(self.prompt),
            cached_tokens=self._cached or 0,
            generated_tokens=self._ended_before + sum(sequence.count for sequence in self._sequences),
            prompt_s=first - self._born,
            generation_s=now - first,
            peak_memory=self._peak_memory(),
        )


def _cut(given: LogProbabilities | None, count: int) -> LogProbabilities | None:
    """The entries of the first `count` tokens: a generator may have given some behind a stop text."""
    if given is None or len(given.token_log_probabilities) <= count:
        return given
    rows = given.all_log_probabilities
    return LogProbabilities(
        given.token_log_probabilities[:count],
        given.top_log_probabilities[:count],
        None if rows is None else rows[:count],
    )
