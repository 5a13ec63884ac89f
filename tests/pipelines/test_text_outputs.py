"""Outputs of one request joined to whole texts, and chunks read back by another worker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_interfaces import GenerationStatus, LogProbabilities, RequestID, TextGenerationOutput
from max_interfaces.text import GenerationStatistics
from max_pipelines.client.outputs import join_texts
from max_pipelines.text.resuming import progress, run_of

ACTIVE, ENDED = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE
CANCELLED = GenerationStatus.CANCELLED
KEY = RequestID()


def piece(index: int, token: int, status: GenerationStatus = ACTIVE, **fields: object) -> TextGenerationOutput:
    given_fields: dict[str, object] = {"text": f"<{token}>", "index": index, "sequence_status": status, **fields}
    return TextGenerationOutput(KEY, (token,), **{"final_status": ACTIVE, **given_fields})  # type: ignore[arg-type]


def test_each_sequence_is_joined_by_itself() -> None:
    cost = GenerationStatistics(generated_tokens=4)
    outputs = [
        piece(1, 10, prompt_tokens=(7, 8), num_prompt_tokens=2),
        piece(0, 20),
        piece(1, 11, ENDED, stop="."),
        piece(0, 21, GenerationStatus.MAXIMUM_LENGTH, final_status=GenerationStatus.MAXIMUM_LENGTH, statistics=cost),
    ]
    first, second = join_texts(outputs)
    assert (first.tokens, first.text, first.final_status) == ((20, 21), "<20><21>", GenerationStatus.MAXIMUM_LENGTH)
    assert (second.tokens, second.text, second.final_status, second.stop) == ((10, 11), "<10><11>", ENDED, ".")
    for whole in (first, second):
        assert (whole.prompt_tokens, whole.num_prompt_tokens, whole.statistics) == ((7, 8), 2, cost)
        assert whole.is_done


def test_what_was_cancelled_says_so_and_what_had_ended_did() -> None:
    outputs = [piece(0, 1, ENDED), piece(1, 2), TextGenerationOutput(KEY, (), CANCELLED)]
    first, second = join_texts(outputs)
    assert (first.tokens, first.final_status) == ((1,), ENDED)
    assert (second.tokens, second.final_status) == ((2,), CANCELLED)
    (nothing,) = join_texts([TextGenerationOutput(KEY, (), CANCELLED)])
    assert (nothing.text, nothing.final_status) == ("", CANCELLED)


@given(st.lists(st.lists(st.tuples(st.floats(-9, 0), st.integers(0, 3)), max_size=3), max_size=5))
def test_log_probabilities_are_joined_in_order(parts: list[list[tuple[float, int]]]) -> None:
    pieces = [
        LogProbabilities(
            tuple(value for value, _ in part),
            tuple({token: value} for value, token in part),
            np.full((len(part), 4), -1, np.float32),
        )
        for part in parts
    ]
    whole = LogProbabilities.joined([None, *pieces])
    if whole is None:
        assert not parts
        return
    flat = [entry for part in parts for entry in part]
    assert whole.token_log_probabilities == tuple(value for value, _ in flat)
    assert [dict(top) for top in whole.top_log_probabilities] == [{token: value} for value, token in flat]
    assert whole.all_log_probabilities is not None
    assert whole.all_log_probabilities.shape == (len(flat), 4)


runs = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 9), max_size=4), st.booleans()), max_size=10)


@given(runs)
def test_chunks_of_several_sequences_are_read_back(chunks: list[tuple[int, list[int], bool]]) -> None:
    tokens = [token for index, ids, ended in chunks for token in run_of(index, tuple(ids), ended)]
    found = progress(tokens, 4)
    ends = [any(ended for at, _, ended in chunks if at == index) for index in range(4)]
    if all(ends):
        ends[-1] = False  # the request had not ended: one of them has to say so
    for index in range(4):
        assert found[index].tokens == [token for at, ids, _ in chunks if at == index for token in ids]
        assert found[index].ended == ends[index]


def test_one_sequence_has_plain_ids() -> None:
    (only,) = progress([5, 6, 7], 1)
    assert (only.tokens, only.ended) == ([5, 6, 7], False)


@pytest.mark.parametrize("tokens", [[0], [0, 5, 1], [9, 0], [2, 1]])
def test_what_is_no_run_is_refused(tokens: list[int]) -> None:
    with pytest.raises(ValueError, match="no run of a sequence"):
        progress(tokens, 2)
