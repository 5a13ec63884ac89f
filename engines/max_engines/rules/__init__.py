"""The rules of sampling, one small class each, in the one order in which they are applied.

First those on scores: what may be said at all, then what is likelier. Temperature turns scores into weights. Then the
filters on weights, each of which cuts off a tail of what the one before it has left.
"""

from __future__ import annotations

from .filters import MinP, TopK, TopP, TypicalP
from .masks import AllowedTokens, ConstraintMask, LogitBias, MinNewTokens
from .penalties import FrequencyAndPresencePenalty, RepetitionPenalty
from .rule import Rule, SequenceError

__all__ = ["Rule", "SequenceError", "filters", "score_rules"]


def score_rules() -> tuple[Rule, ...]:
    """The rules on scores (logits; -inf is forbidden), in their order."""
    return (
        ConstraintMask(),
        AllowedTokens(),
        LogitBias(),
        MinNewTokens(),
        RepetitionPenalty(),
        FrequencyAndPresencePenalty(),
    )


def filters() -> tuple[Rule, ...]:
    """The rules on weights (probabilities relative to the likeliest; 0 is cut off), in their order."""
    return (TopK(), TopP(), MinP(), TypicalP())
