"""The rules of sampling, one small class each, in the one order in which they are applied.

First those on scores. What may be said at all: constraint, allowed ids, bad words, minimum length. What is likelier:
logit bias, watermark, repetition penalty, frequency and presence penalties, and then the user's own functions.
Temperature turns scores into weights. Then the filters on weights, each of which cuts off a tail of what the one before
it has left: top_k, top_p, min_p, typical_p. One token is drawn from the rest.
"""

from __future__ import annotations

from .biases import LogitBias, Watermark
from .candidates import Candidates
from .filters import Filter, MinP, TopK, TopP, TypicalP
from .masks import AllowedTokens, BadWords, ConstraintMask, MinNewTokens
from .penalties import FrequencyAndPresencePenalty, RepetitionPenalty
from .rule import Apply, Layout, Rule, SequenceError
from .user import UserProcessors

__all__ = [
    "Apply",
    "Candidates",
    "Filter",
    "Layout",
    "Rule",
    "SequenceError",
    "Watermark",
    "filters",
    "score_rules",
]


def score_rules(watermark: Watermark) -> tuple[Rule, ...]:
    """The rules on scores (logits; -inf is forbidden), in their order."""
    return (
        ConstraintMask(),
        AllowedTokens(),
        BadWords(),
        MinNewTokens(),
        LogitBias(),
        watermark,
        RepetitionPenalty(),
        FrequencyAndPresencePenalty(),
        UserProcessors(),
    )


def filters() -> tuple[Filter, ...]:
    """The rules on weights (probabilities relative to the likeliest; 0 is cut off), in their order."""
    return (TopK(), TopP(), MinP(), TypicalP())
