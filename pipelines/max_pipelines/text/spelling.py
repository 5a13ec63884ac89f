"""What the ids that an output names stand for, for a caller without the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from max_engines.detokenizer import Detokenizer
from max_engines.tokenizer import TextTokenizer
from max_interfaces.text import LogProbabilities, TokenTexts
from max_interfaces.values import FrozenMapping


class Spelling:
    """Spells the ids of one request's outputs. Special tokens have their own text, whether or not the answer has it."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer

    def of(
        self,
        tokens: Sequence[int],
        texts: Sequence[str],
        rest: str,
        log_probabilities: LogProbabilities | None,
        prompt: Sequence[int],
        prompt_log_probabilities: LogProbabilities | None,
    ) -> TokenTexts:
        """For an output with these `tokens`, of which each has added one of `texts`, and with this `prompt`.

        `rest` is what their end has added: the last that has a text of its own in the answer gets it.
        """
        own, special = self._tokenizer.own_text, self._tokenizer.special_ids
        spelled = list(texts)
        last = next((at for at in reversed(range(len(tokens))) if tokens[at] not in special), None)
        if last is not None:
            spelled[last] += rest
        given = [each for each in (log_probabilities, prompt_log_probabilities) if each is not None]
        top = {token: own(token) for each in given for row in each.top_log_probabilities for token in row}
        named = dict.fromkeys((*tokens, *prompt, *top))
        return TokenTexts(
            tuple(own(token) if token in special else text for token, text in zip(tokens, spelled, strict=True)),
            self._added(prompt),
            FrozenMapping(top),
            tuple(token for token in named if token in special),
        )

    def _added(self, prompt: Sequence[int]) -> tuple[str, ...]:
        """What each id of a prompt adds to its text."""
        if not prompt:
            return ()
        detokenizer: Detokenizer = self._tokenizer.detokenizer(skip_special_tokens=False)
        texts = [detokenizer.push(token) for token in prompt]
        texts[-1] += detokenizer.flush()
        return tuple(texts)
