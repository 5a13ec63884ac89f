"""One completion: its outputs become a choice, or the events of one."""

from __future__ import annotations

from max_interfaces import TextGenerationOutput

from .answers import TextChoice, finish_reason
from .completions_body import CompletionBody
from .logprobs import NO_TEXTS, LegacyCounter, LegacyLogprobs, joined


class CompletionText:
    """Takes the outputs of one sequence, or one that holds all of them."""

    def __init__(self, index: int, body: CompletionBody) -> None:
        self._index = index
        self._body = body
        self._skips_special = body.skip_special_tokens is not False
        self._counter = LegacyCounter(body.logprobs or 0, skips_special=self._skips_special)
        self._begun = False

    def push(self, output: TextGenerationOutput, first: TextGenerationOutput) -> TextChoice:
        """More of it; `first` is the first output of its request, which knows the prompt.

        HttpProblem for a text that did not come to its end.
        """
        reason = finish_reason(output)
        if self._body.logprobs is None:
            return TextChoice(self._index, output.text, None, reason)
        pieces = [] if self._begun else [self._counter.prompt(first)]
        self._begun = True
        if self._body.scores_alone:
            return self._scores(output, pieces, reason)
        return TextChoice(self._index, output.text, joined([*pieces, self._counter.output(output)]), reason)

    def _scores(self, output: TextGenerationOutput, pieces: list[LegacyLogprobs], reason: str | None) -> TextChoice:
        """The prompt alone: the token that it was told with is left out."""
        texts = output.token_texts or NO_TEXTS
        added = sum(
            len(text)
            for token, text in zip(output.tokens, texts.tokens, strict=True)
            if not (self._skips_special and token in texts.special)
        )
        text = output.text[: len(output.text) - added]
        return TextChoice(self._index, text, joined(pieces), None if reason is None else "length")
