"""Thinking budgets: exactly so many tokens, and a grammar that begins behind the thinking."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from max_engines.constraints.combined import Combined, sequence_constraint
from max_engines.constraints.compiling import GrammarCompiler
from max_engines.constraints.errors import ConstraintError
from max_engines.constraints.matching import CompiledGrammar
from max_engines.constraints.thinking import ThinkingBudget, ThinkingTags
from max_engines.constraints.vocabulary import Vocabulary
from max_interfaces import SamplingParams
from max_interfaces.protocols import TokenConstraint
from tests.engines.grammar_models import END_IDS, byte_level, compiled, ids_of, mask_of, said, text_of, vocabulary_of

SIZE, START, END = 12, 10, 11
TAGS = ThinkingTags(START, END)
SMALL = Vocabulary(SIZE, frozenset(), None)
TOKENIZER = byte_level()
VOCABULARY = vocabulary_of(TOKENIZER)
THINK, UNTHINK, LETTER = ids_of(TOKENIZER, "<think>", "</think>", "a")


@pytest.fixture(scope="module")
def grammar() -> Iterator[CompiledGrammar]:
    """Three digits."""
    compiler = GrammarCompiler(VOCABULARY)
    yield compiled(compiler, "regex", "[0-9]{3}")
    compiler.close()


def constrained(
    grammar: CompiledGrammar | None, budget: int | None, prompt: Sequence[int] = ()
) -> TokenConstraint | None:
    tags = ThinkingTags.of(TOKENIZER)
    return sequence_constraint(prompt, VOCABULARY, grammar=grammar, tags=tags, thinking_budget=budget)


def allowed_ids(constraint: TokenConstraint, tokens: Sequence[int], size: int = SIZE) -> set[int]:
    mask = constraint.allowed(tokens)
    return set(range(size)) if mask is None else {int(id_) for id_ in np.flatnonzero(mask)}


class Behind:
    """What a constraint allows behind tokens that stand before."""

    def __init__(self, constraint: TokenConstraint, before: Sequence[int]) -> None:
        self._constraint = constraint
        self._before = list(before)

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        return self._constraint.allowed([*self._before, *tokens])


# The tags


def test_the_tags_are_the_tokenizer_s_own() -> None:
    assert ThinkingTags.of(TOKENIZER) == ThinkingTags(THINK, UNTHINK)


def test_other_tokens_may_be_the_tags() -> None:
    turn, assistant = ids_of(TOKENIZER, "<|turn|>", "<|assistant|>")
    params = SamplingParams(thinking_start_token="<|assistant|>", thinking_end_token="<|turn|>")
    assert ThinkingTags.of(TOKENIZER, params) == ThinkingTags(assistant, turn)
    assert ThinkingTags.of(TOKENIZER, SamplingParams(thinking_end_token="a")) is None, "a letter is not of its own"


def test_a_tokenizer_without_tags_has_none() -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))  # type: ignore[no-untyped-call]
    assert ThinkingTags.of(plain) is None


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        ((), False),
        ((1, 2), False),
        ((START,), True),
        ((START, 1), True),
        ((START, 1, END), False),
        ((END, START), True),
    ],
)
def test_the_prompt_says_whether_a_block_is_open(prompt: tuple[int, ...], inside: bool) -> None:
    assert TAGS.open_after(prompt) is inside


# The budget


def thought(tokens: Sequence[int], inside: bool) -> list[int]:
    """How many tokens each block has."""
    blocks = [0] if inside else []
    for token in tokens:
        if inside and token != END:
            blocks[-1] += 1
        elif inside:
            inside = False
        elif token == START:
            inside = True
            blocks.append(0)
    return blocks


@settings(deadline=None)
@given(budget=st.integers(0, 9), inside=st.booleans(), seed=st.integers(0, 999))
def test_no_more_is_thought_than_the_budget(budget: int, inside: bool, seed: int) -> None:
    source, tokens = random.Random(seed), list[int]()
    constraint = ThinkingBudget(TAGS, budget, SMALL, open_at_start=inside)
    for _ in range(60):
        ids = allowed_ids(constraint, tokens)
        used, blocks = sum(thought(tokens, inside)), thought(tokens, inside)
        open_now = thought([*tokens, 0], inside) != blocks
        if used < budget:
            assert ids == set(range(SIZE))
        elif open_now:
            assert ids == {END}
        else:
            assert ids == set(range(SIZE)) - ({START} if blocks else set())
        tokens.append(source.choice(sorted(ids)))


@settings(deadline=None)
@given(
    budget=st.integers(0, 5), inside=st.booleans(), tokens=st.lists(st.sampled_from([0, 1, START, END]), max_size=30)
)
def test_a_mask_is_a_function_of_the_tokens(budget: int, inside: bool, tokens: list[int]) -> None:
    used = ThinkingBudget(TAGS, budget, SMALL, open_at_start=inside)
    for count in (*range(len(tokens)), *range(len(tokens), 0, -1)):
        fresh = ThinkingBudget(TAGS, budget, SMALL, open_at_start=inside)
        assert allowed_ids(used, tokens[:count]) == allowed_ids(fresh, tokens[:count])


# Both


def test_nothing_asked_for_is_no_constraint() -> None:
    assert constrained(None, None) is None
    assert constrained(None, None, [THINK]) is None


def test_a_budget_without_tags_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SamplingParams.thinking_budget = 7: .* no tokens <think>"):
        sequence_constraint((), VOCABULARY, thinking_budget=7)


def test_a_grammar_without_thinking_begins_at_once(grammar: CompiledGrammar) -> None:
    for constraint in (
        constrained(grammar, None),
        constrained(grammar, None, [THINK, UNTHINK]),
        sequence_constraint([THINK], VOCABULARY, grammar=grammar),
    ):
        assert constraint is not None
        assert len(said(constraint, 1)) == 4


@pytest.mark.parametrize("budget", [None, 0, 6])
def test_a_grammar_begins_behind_the_open_block(grammar: CompiledGrammar, budget: int | None) -> None:
    constraint = constrained(grammar, budget, [THINK])
    assert constraint is not None
    for thinking in range(7 if budget is None else budget):
        mask = mask_of(constraint, [LETTER] * thinking)
        assert mask[[LETTER, UNTHINK]].all()
        assert not mask[list(END_IDS)].any()
    tokens = [*[LETTER] * (7 if budget is None else budget), UNTHINK]
    if budget is not None:
        assert set(np.flatnonzero(mask_of(constraint, tokens[:-1]))) == {UNTHINK}
    answer = said(Behind(constraint, tokens), 5)
    assert text_of(TOKENIZER, answer).isdigit()
    assert len(answer) == 4


def test_with_a_budget_the_first_token_may_open_a_block_and_no_later_one(grammar: CompiledGrammar) -> None:
    constraint = constrained(grammar, 5)
    assert constraint is not None
    (one,) = ids_of(TOKENIZER, "1")
    assert mask_of(constraint, [])[[THINK, one]].all()
    assert not mask_of(constraint, [])[LETTER]
    assert not mask_of(constraint, [one])[THINK]
    assert mask_of(constraint, [THINK])[[LETTER, UNTHINK]].all()
    assert not mask_of(constraint, [THINK, LETTER, UNTHINK])[THINK]
    assert mask_of(constraint, [THINK, LETTER, UNTHINK])[one]


def test_states_that_are_equal_have_one_mask(grammar: CompiledGrammar) -> None:
    constraint = constrained(grammar, 5)
    assert constraint is not None
    for tokens in ([], [THINK], [THINK, LETTER], [THINK, *[LETTER] * 5], [THINK, UNTHINK]):
        assert constraint.allowed(tokens) is constraint.allowed(tuple(tokens))
    assert constraint.allowed([THINK]) is constraint.allowed([THINK, LETTER])


def test_constraints_that_leave_nothing_fail() -> None:
    first = ThinkingBudget(TAGS, 0, SMALL, open_at_start=True)
    second = ThinkingBudget(ThinkingTags(START, 3), 0, SMALL, open_at_start=True)
    with pytest.raises(ConstraintError, match="leave no token"):
        Combined((first, second)).allowed([])
