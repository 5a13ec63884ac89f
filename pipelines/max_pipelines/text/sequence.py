"""One sequence of a request: what the engine generates becomes text, until the engine or a stop text ends it."""

from __future__ import annotations

from collections.abc import Sequence

from max_engines.detokenizer import Detokenizer
from max_interfaces import GenerationStatus, TokenDelta

from .plan import TextPlan
from .stopping import StopMatcher

ACTIVE = GenerationStatus.ACTIVE


class TextSequence:
    """Counts and spells the tokens of one sequence. `status` is where it stands, `stop` the text or id that ended it.

    `index` is its number among the request's, `count` that of its tokens. `accepted` were generated, and the text that
    they made certain delivered, by another worker. If they complete the sequence, it ends without another token.
    """

    __slots__ = (
        "_accepted",
        "_detokenizer",
        "_matcher",
        "_plan",
        "count",
        "index",
        "opened",
        "status",
        "stop",
    )

    def __init__(
        self, index: int, plan: TextPlan, detokenizer: Detokenizer | None, accepted: Sequence[int] = ()
    ) -> None:
        self.index = index
        self.status = ACTIVE
        self.stop: str | int | None = None
        self.count = 0
        self.opened = bool(accepted)  # its first output has been given
        self._plan = plan
        self._detokenizer = detokenizer
        self._matcher = StopMatcher(plan.stop, include=plan.include_stop_text) if plan.stop else None
        for token in accepted[:-1]:
            self._spell(token)
        # The last may be what ended it, and then has no text: that is known when the engine says so.
        self._accepted = accepted[-1] if accepted else None

    def take(self, delta: TokenDelta) -> tuple[tuple[int, ...], tuple[str, ...], str]:
        """The engine's news: the new tokens, without any behind a stop text; what each adds to the text that is
        certain, and what their end adds to it.
        """
        tokens, status = delta.tokens, delta.status
        if status is ACTIVE and len(tokens) == 1 and self._accepted is None:  # nearly always
            return tokens, (self._spell(tokens[0]),), ""
        accepted, self._accepted = self._accepted, None
        last = tokens[-1] if tokens else accepted
        ended_by = last if status is GenerationStatus.END_OF_SEQUENCE else None
        if accepted is not None:
            ends = accepted == ended_by and not tokens
            self._spell(accepted, silent=ends and not self._plan.include_stop_text)
            if self.status is not ACTIVE:
                return (), (), ""  # a stop text was complete; the engine knows nothing of these
        texts: tuple[str, ...] = ()
        for at, token in enumerate(tokens):
            silent = token == ended_by and at + 1 == len(tokens) and not self._plan.include_stop_text
            texts += (self._spell(token, silent=silent),)
            if self.status is not ACTIVE:
                return tokens[: at + 1], texts, ""
        return tokens, texts, "" if status is ACTIVE else self._finish(status, ended_by)

    def _spell(self, token: int, *, silent: bool = False) -> str:
        """The text that one more token makes certain; none of its own if it is `silent`."""
        self.count += 1
        if self._detokenizer is None or silent:
            return ""
        text = self._detokenizer.push(token)
        return text if self._matcher is None else self._match(self._matcher, text)

    def _match(self, matcher: StopMatcher, text: str) -> str:
        text = matcher.push(text, armed=self.count >= self._plan.min_new_tokens)
        if matcher.stop is not None:
            self.status, self.stop = GenerationStatus.STOP_SEQUENCE, matcher.stop
        return text

    def _finish(self, status: GenerationStatus, ended_by: int | None) -> str:
        """The end that the engine saw; what was held back is certain now."""
        self.status, self.stop = status, ended_by
        if ended_by is not None and ended_by in self._plan.stop_token_ids:
            self.status = GenerationStatus.STOP_SEQUENCE
        if self._detokenizer is None:
            return ""
        rest = self._detokenizer.flush()
        if self._matcher is None:
            return rest
        rest = self._match(self._matcher, rest)
        return rest if self._matcher.stop is not None else rest + self._matcher.flush()
