"""A compiled grammar, and the constraint it makes for one sequence."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from .errors import ConstraintError
from .following import Follower
from .limits import GrammarLimits
from .vocabulary import Vocabulary

MASK_BYTES = 2**25  # of all masks kept: 262 of a vocabulary of 128k; most steps inside a string share a few
RENEWAL_S = 0.05  # a grammar that takes longer is compiled again between two steps only
RENEWAL_SHARE = 0.01  # if that takes so much of all time at most


class Masks:
    """Masks by their bits, so that one state, in whichever sequence, is one array."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._most = max(16, MASK_BYTES // vocabulary.size)
        self._kept: OrderedDict[bytes, NDArray[np.bool_]] = OrderedDict()

    def of(self, bits: bytes) -> NDArray[np.bool_]:
        """bool[vocab_size] of one bit a token, the lowest first, text only. The caller must not write to it.

        `ConstraintError` if nothing is left.
        """
        mask = self._kept.get(bits)
        if mask is not None:
            self._kept.move_to_end(bits)
            return mask
        mask = self._unpacked(bits)
        self._kept[bits] = mask
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return mask

    def _unpacked(self, bits: bytes) -> NDArray[np.bool_]:
        size = self._vocabulary.size
        unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[:size].view(np.bool_)
        mask = np.zeros(size, np.bool_)  # the model may have more ids than the tokenizer
        mask[: unpacked.shape[0]] = unpacked
        mask &= self._vocabulary.text
        if not mask.any():
            raise ConstraintError("its grammar cannot go on, no token that writes text can follow")
        mask.setflags(write=False)
        return mask


class CompiledGrammar:
    """A grammar that compiled in time, for any number of sequences of one vocabulary. One thread uses it.

    Its sequences share what the lexer has learnt, so that a second one is cheap. A lexer that one of them has worn out
    is put away, and the others go on with a new one.
    """

    def __init__(self, source: str, vocabulary: Vocabulary, masks: Masks, limits: GrammarLimits) -> None:
        """Compile, and take a first look. ValueError with llguidance's reason."""
        self.masks = masks
        self.generation = 0  # of the lexer that new matchers share
        self._source = source
        self._tokens = vocabulary.tokens
        self._limits = limits.parser
        self._pristine: LLMatcher | None = self._compiled()
        first = self._pristine.deep_copy()
        first.compute_bitmask()
        if first.is_error():
            raise ValueError(first_words(first.get_error()))

    def constraint(self) -> GrammarConstraint:
        """A constraint for one sequence."""
        return GrammarConstraint(self)

    def matcher(self) -> LLMatcher:
        """A matcher at the grammar's beginning. `ConstraintError` if making one would hold up other sequences."""
        if self._pristine is None:
            if self._compile_s > RENEWAL_S and time.monotonic() - self._compiled_at < self._compile_s / RENEWAL_SHARE:
                raise ConstraintError("its grammar has become too costly to go on with")
            self._pristine = self._compiled()
        return self._pristine.deep_copy()

    def retire(self, generation: int) -> None:
        """Put away the lexer of `generation`, which may be worn out."""
        if generation == self.generation:
            self.generation += 1
            self._pristine = None

    def _compiled(self) -> LLMatcher:
        started = time.monotonic()
        matcher = LLMatcher(self._tokens, self._source, log_level=0, limits=self._limits)
        self._compiled_at = time.monotonic()
        self._compile_s = self._compiled_at - started
        return matcher


class GrammarConstraint(Follower):
    """Only what the grammar allows next; where the text is complete, also the end ids; behind one, only these.

    Where the grammar leaves no choice, only the tokens allowed that the tokenizer itself would write.
    """

    _matcher: LLMatcher | None  # where the tokens fed have brought it; made when it is needed
    _generation: int  # of its lexer
    _mask: NDArray[np.bool_] | None  # behind the tokens fed, when it has been asked for

    def __init__(self, compiled: CompiledGrammar) -> None:
        self._compiled = compiled
        super().__init__()

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """See `TokenConstraint.allowed`. `ConstraintError`: the tokens break the grammar, or it costs too much here."""
        try:
            return self._allowed(tokens)
        except ConstraintError:  # perhaps only because other sequences have worn out the lexer
            self._restart()
        try:
            return self._allowed(tokens)
        except ConstraintError:
            self._restart()
            raise

    def _allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        if not self._follow(tokens) and self._mask is not None:
            return self._mask
        matcher = self._started()
        bits = matcher.compute_bitmask()
        if matcher.is_error():
            raise self._failed(matcher, "no token can follow")
        self._mask = self._compiled.masks.of(bits)
        return self._mask

    def _begin(self) -> None:
        self._matcher = None
        self._mask = None

    def _feed(self, tokens: Sequence[int]) -> None:
        self._mask = None
        matcher = self._started()
        for token in tokens:
            if matcher.is_stopped():  # behind the end: `ignore_eos`
                return
            if not matcher.consume_token(token):
                raise self._failed(matcher, f"token {token} may not come here")

    def _started(self) -> LLMatcher:
        if self._matcher is None:
            self._generation = self._compiled.generation
            self._matcher = self._compiled.matcher()
        return self._matcher

    def _failed(self, matcher: LLMatcher, what: str) -> ConstraintError:
        self._compiled.retire(self._generation)
        return ConstraintError(f"its grammar cannot go on, {what}: {first_words(matcher.get_error())}")


def first_words(message: str) -> str:
    """What llguidance says, without the state of its parser."""
    return " ".join(message.partition("<state>")[0].partition("<backtrace>")[0].split())[:300]
