"""Beam search by vLLM's rule, on fixed logits: what the rule finds there, worked out by hand and by brute force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.reference import ReferenceEngine
from max_interfaces.protocols import Hypothesis, SequenceStart
from max_interfaces.status import GenerationStatus
from tests.engines.beam_tools import found, searching
from tests.engines.fixed_logits import Found, Table, by_vllm, exhaustive, normal, save_table, score
from tests.engines.tiny_models import generate, load, start

SIZE = 32
ENDED, FULL = GenerationStatus.END_OF_SEQUENCE, GenerationStatus.MAXIMUM_LENGTH
CLOSE = 1e-4


@pytest.fixture(scope="module")
def table() -> Table:
    torch.manual_seed(3)
    return normal((2.5 * torch.randn(SIZE, SIZE)).tolist())


@pytest.fixture(scope="module")
def engine(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = save_table(tmp_path_factory.mktemp("table"), table)
    return Engine(load(folder), EngineConfig(max_batch=64, block_size=8, token_budget=64))


def search(prompt: Sequence[int], width: int, count: int, ends: Sequence[int] = (), **params: Any) -> SequenceStart:
    return searching(prompt, width, count, ends, beam_rule="vllm", **params)


def check(given_texts: Sequence[Hypothesis], expected: Found, prompt: Sequence[int], penalty: float, ends: Any) -> None:
    """The same texts in the same order, each with the score that its sum makes."""
    assert [one.tokens for one in given_texts] == [text for text, _ in expected]
    scores = [score(prompt, text, total, penalty, ends) for text, total in expected]
    assert [one.score for one in given_texts] == pytest.approx(scores, rel=1e-5, abs=CLOSE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_search_is_what_the_rule_says(data: st.DataObject, table: Table, engine: Engine) -> None:
    prompt = data.draw(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=10))
    width, count = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 12))
    ends = data.draw(st.lists(st.integers(0, SIZE - 1), max_size=8, unique=True))
    penalty = data.draw(st.sampled_from([-2.0, -0.5, 0.0, 0.7, 1.0, 3.0]))
    ignored = data.draw(st.booleans())
    asked = search(prompt, width, count, ends, length_penalty=penalty, ignore_eos=ignored)
    expected = by_vllm(table, prompt, width, count, ends, penalty, ignored=ignored)
    check(found(engine, [asked])[0], expected, prompt, penalty, ends)


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0, 2.5])
def test_beams_for_all_that_is_possible_find_the_best_there_is(penalty: float, table: Table, engine: Engine) -> None:
    """`allowed_token_ids` leaves three ids, so that 27 beams are all texts of 3 tokens."""
    ids, end, prompt = (4, 9, 13), 13, [7, 1]
    asked = search(prompt, 27, 3, [end], length_penalty=penalty, allowed_token_ids=ids)
    expected = exhaustive(table, prompt, ids, 3, end, penalty)
    assert len(expected) == 8 + 4 + 2 + 1
    check(found(engine, [asked])[0], expected, prompt, penalty, {end})


A, B, END = 3, 4, 2


def small(folder: Path, rows: dict[int, dict[int, float]]) -> Engine:
    """After each of `rows` its tokens have those probabilities, and nothing else is likely."""
    table = [[-30.0] * SIZE for _ in range(SIZE)]
    for last, row in rows.items():
        for token, probability in row.items():
            table[last][token] = float(torch.tensor(probability).log())
    return Engine(load(save_table(folder, table)))


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (0.0, [(B, END), (END,)]),  # the largest: 0.24, 0.2
        (1.0, [(A, A, A), (A, A, B)]),  # ln 0.125 / 4 = -0.52, ln 0.075 / 4 = -0.65; the next is ln 0.12 / 3 = -0.71
        (0.5, [(B, END), (A, A, A)]),  # ln 0.24 / 2 ** 0.5 = -1.01, ln 0.125 / 4 ** 0.5 = -1.04
        (-1.0, [(END,), (B, END)]),  # ln 0.2 * 1 = -1.61, ln 0.24 * 2 = -2.85
    ],
)
def test_length_penalty_and_ends_by_hand(penalty: float, expected: list[tuple[int, ...]], tmp_path: Path) -> None:
    """Two beams of 3 tokens after the prompt A. Sums of log probabilities are products of probabilities.

    1. A 0.5 and B 0.3 go on; the end, 0.2, is among the 4 likeliest of the only beam, and is kept.
    2. AA 0.25 and AB 0.15 go on; A and the end, 0.1, B and the end, 0.24, are kept.
    3. AAA 0.125 and AAB 0.075 are left; AA and the end, 0.05, AB and the end, 0.12, are kept.
    """
    engine = small(tmp_path, {A: {A: 0.5, B: 0.3, END: 0.2}, B: {A: 0.1, B: 0.1, END: 0.8}})
    (texts,) = found(engine, [search([A], 2, 3, [END], length_penalty=penalty)])
    assert [one.tokens for one in texts] == expected


def test_one_beam_is_a_search_too(table: Table, engine: Engine) -> None:
    """The end may be the likeliest and another token go on: greedy decoding would have ended."""
    prompt = [5]
    (greedy,) = generate(engine, [start(prompt, max_new_tokens=1)])
    asked = search(prompt, 1, 4, greedy, length_penalty=3.0)
    (one,) = found(engine, [asked])[0]
    assert one.tokens[0] != greedy[0]
    check([one], by_vllm(table, prompt, 1, 4, greedy, 3.0), prompt, 3.0, greedy)


def test_how_a_text_ended_is_told(table: Table, engine: Engine) -> None:
    ends = [*range(0, SIZE, 3)]
    for ignored in (False, True):
        for one in found(engine, [search([5], 6, 4, ends, ignore_eos=ignored)])[0]:
            assert one.status is (ENDED if one.tokens[-1] in ends and not ignored else FULL)
            assert len(one.tokens) == 4 or one.status is ENDED


def test_stop_ids_end_a_text_even_where_an_end_is_ignored(table: Table, engine: Engine) -> None:
    stops = (*range(0, SIZE, 3),)
    (texts,) = found(engine, [search([5], 4, 6, [1], ignore_eos=True, stop_token_ids=stops, length_penalty=-1.0)])
    assert any(one.status is ENDED and one.tokens[-1] in stops for one in texts)
    assert not any(token in stops for one in texts for token in one.tokens[:-1])


def test_engines_without_beams_refuse_one_beam_by_this_rule(checkpoint: Callable[[str], Path]) -> None:
    reference = ReferenceEngine(load(checkpoint("llama")))
    with pytest.raises(ValueError, match="beam_width = 1: the reference engine has no beams"):
        reference.add(search([5], 1, 3))
    assert generate(reference, [start([5], beam_width=1, max_new_tokens=2)])
