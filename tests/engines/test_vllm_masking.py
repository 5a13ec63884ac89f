"""Constraints as vLLM sees them: rows of bits. Nothing here needs vLLM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_engines.vllm_engine.masking import MaskedSequence, MaskRows

Mask = NDArray[np.bool_]


class Scripted:
    """Gives the mask of its position."""

    def __init__(self, *masks: Mask | None) -> None:
        self.masks = masks

    def allowed(self, tokens: Sequence[int]) -> Mask | None:
        return self.masks[len(tokens)]


def read(row: torch.Tensor, size: int) -> list[bool]:
    return [bool(int(row[token // 32]) >> token % 32 & 1) for token in range(size)]


@given(st.lists(st.booleans(), min_size=1, max_size=100), st.integers(0, 40), st.integers(0, 2))
def test_a_row_has_the_bits_of_the_mask_and_no_others(allowed: list[bool], wider: int, index: int) -> None:
    vocab = len(allowed) + wider  # a model may have more ids than its tokenizer
    rows = MaskRows(vocab).allocate_token_bitmask(3)
    assert rows.shape == (3, -(-vocab // 32))
    MaskedSequence(Scripted(np.array(allowed)), ()).fill_bitmask(rows, index)
    assert read(rows[index], vocab) == [*allowed, *[False] * wider]
    assert all(bool((rows[other] == -1).all()) for other in range(3) if other != index)


def test_no_mask_allows_everything_again() -> None:
    rows = MaskRows(40).allocate_token_bitmask(1)
    sequence = MaskedSequence(Scripted(np.zeros(40, np.bool_), None), ())
    sequence.fill_bitmask(rows, 0)
    assert not any(read(rows[0], 40))
    assert sequence.accept_tokens("one", [3])
    sequence.fill_bitmask(rows, 0)
    assert all(read(rows[0], 40))


def test_it_goes_on_behind_what_was_accepted_and_sees_what_is_not_allowed() -> None:
    third = np.arange(40) == 3
    sequence = MaskedSequence(Scripted(None, third, third), [9])
    rows = MaskRows(40).allocate_token_bitmask(1)
    sequence.fill_bitmask(rows, 0)
    assert read(rows[0], 40) == third.tolist()
    assert sequence.accept_tokens("one", [3])
    problems = [sequence.problem]
    sequence.fill_bitmask(rows, 0)
    assert sequence.accept_tokens("one", [4])
    problems.append(sequence.problem)
    assert problems == ["", "its constraint and its other rules leave no token but 4"]


def test_an_exception_is_kept_for_its_own_sequence() -> None:
    sequence = MaskedSequence(Scripted(), ())
    rows = MaskRows(40).allocate_token_bitmask(1)
    sequence.fill_bitmask(rows, 0)
    assert all(read(rows[0], 40))
    assert sequence.problem == "tuple index out of range"
    assert not sequence.is_terminated()
