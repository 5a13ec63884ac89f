"""What the filters keep, against numpy in float64; and that a look at the likeliest is as good as a look at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from max_engines.draw import DrawFromAll, DrawFromFew, look
from max_engines.likeliest import likeliest
from max_engines.rules import Candidates, Layout
from max_engines.rules.crossing import crossing
from max_engines.sampler import Sampler
from max_engines.sampling_row import SamplingRow
from tests.engines.sampling_tools import logits, probabilities, row
from tests.engines.tiny_models import Params

Float = NDArray[np.float64]
WIDE = 4096  # wider than what is sorted as a whole


def in_front(order: Float, p: Float, share: float) -> Float:
    """p where it is among the first by `order` that reach `share`, or ties with the last of them."""
    sequence = np.argsort(order, kind="stable")
    mass = np.cumsum(p[sequence]) / p.sum()
    last = sequence[min(int((mass < share).sum()), len(p) - 1)]
    kept: Float = np.where(order <= order[last], p, 0)
    return kept


def reference(scores: Tensor, params: Params) -> Float:
    """The distribution after temperature, top_k, top_p, min_p and typical_p."""
    distance = scores[0].double().numpy() / params.get("temperature", 1.0)
    p: Float = np.exp(distance - distance.max())
    if params.get("top_k", -1) > 0:
        p = np.where(p >= np.sort(p)[-min(params["top_k"], len(p))], p, 0)
    if "top_p" in params:
        p = in_front(-p, p, params["top_p"])
    if "min_p" in params:
        p = np.where(p >= params["min_p"] * p.max(), p, 0)
    if "typical_p" in params:
        p = p / p.sum()
        surprise = np.full(len(p), np.inf)
        surprise[p > 0] = -np.log(p[p > 0])
        entropy = (p[p > 0] * surprise[p > 0]).sum()
        p = in_front(np.abs(surprise - entropy), p, params["typical_p"])
    result: Float = p / p.sum()
    return result


Filters = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.2, 3),
        "top_k": st.integers(1, 400),
        "top_p": st.floats(0.01, 0.999),
        "min_p": st.floats(1e-4, 1),
        "typical_p": st.floats(0.05, 0.99),
    },
)


@settings(max_examples=150, deadline=None)
@given(Filters, st.integers(0, 2**20), st.sampled_from([0.01, 1.0, 6.0]), st.sampled_from([150, WIDE]))
def test_filters_keep_what_numpy_keeps(params: Params, seed: int, scale: float, vocab: int) -> None:
    scores = logits(seed=seed, scale=scale, vocab=vocab)
    found = probabilities(scores, row(**params))[0].double().numpy()
    expected = reference(scores, params)
    found[found < 1e-30] = expected[expected < 1e-30] = 0  # float32 ends there
    # float32 may decide otherwise about one token at each of the four borders.
    other = (found > 0) != (expected > 0)
    assert other.sum() <= 4
    assert found[other].sum() + expected[other].sum() < 0.02 + 4 * max(found.max(), expected.max()) * other.any()
    if not other.any():
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.floats(0.01, 1.2), st.sampled_from([40, WIDE]), st.booleans())
def test_a_crossing_is_that_of_a_sorted_list(seed: int, share: float, width: int, coarse: bool) -> None:
    source = np.random.default_rng(seed)
    keys = source.integers(0, 50 if coarse else 2**31 - 1, (3, width), np.int32)
    weights = source.random((3, width), np.float32)
    wanted = weights.sum(1, keepdims=True) * np.float32(share)
    found = crossing(torch.from_numpy(keys), torch.from_numpy(weights), torch.from_numpy(wanted))
    for index in range(3):
        order = np.argsort(keys[index], kind="stable")
        mass = weights[index][order].astype(np.float64).cumsum()
        reached = mass >= wanted[index]
        if reached.any():
            assert int(found[index]) == keys[index][order][reached.argmax()]
        else:
            assert int(found[index]) >= keys[index].max()


@pytest.mark.parametrize("width", [40, WIDE])
def test_a_crossing_is_where_the_weights_just_reach_what_is_wanted(width: int) -> None:
    keys = torch.arange(width, dtype=torch.int32).flip(0)[None] * 7000
    weights = torch.ones(1, width)
    for wanted in (1, 2, 17, width - 1, width):
        found = crossing(keys, weights, torch.tensor([[float(wanted)]]))
        assert int(found) == (wanted - 1) * 7000


def test_few_are_enough_where_the_last_of_them_is_cut() -> None:
    weights = torch.tensor([[1.0, 0.5, 0.25]] * 4)
    candidates = Candidates(weights, weights.sum(1, keepdim=True) + 0.1, weights[:, -1:])
    candidates.cut_below(torch.tensor([[0.1], [0.25], [0.3], [1.0]]))
    assert candidates.complete[:, 0].tolist() == [False, False, True, True]  # what is not looked at may tie
    candidates.cut_below(torch.full((4, 1), 0.2))
    assert candidates.complete[:, 0].tolist() == [False, False, True, True]


@pytest.mark.parametrize(("columns", "count"), [(64, 32), (1024, 32), (8192, 64), (8192, 256)])
@pytest.mark.parametrize("coarse", [False, True])
def test_the_likeliest_are_those_of_topk(columns: int, count: int, coarse: bool) -> None:
    scores = logits(5, seed=columns, vocab=columns)
    scores = scores.round() if coarse else scores
    values, ids = likeliest(scores, count)
    assert torch.equal(values, torch.topk(scores, count).values)
    assert torch.equal(scores.gather(1, ids), values)
    assert all(len(set(each)) == count for each in ids.tolist())


MIXED: list[Params] = [
    {"top_k": 40, "top_p": 0.9},
    {"top_k": 3},
    {"top_k": 200, "typical_p": 0.5},
    {"top_k": 31, "min_p": 0.05, "temperature": 0.7},
    {"top_k": 1000, "top_p": 0.8},
    {"top_p": 0.3},
    {"top_p": 0.97, "temperature": 1.5},
    {"min_p": 0.2},
    {"min_p": 0.001, "typical_p": 0.3},
    {"typical_p": 0.4},
    {"temperature": 0.4},
    {},
]


@settings(max_examples=40, deadline=None)
@example(300, "rounded")  # more tie with the last of `top_k` than are looked at, and `top_p` goes by their sum
@given(st.integers(0, 2**20), st.sampled_from(["sure", "flat", "rounded", "equal"]))
def test_a_look_at_few_draws_what_a_look_at_all_does(seed: int, kind: str) -> None:
    rows = [row([5] * index, seed=seed + index, **params) for index, params in enumerate(MIXED)]
    scale = {"sure": 5.0, "flat": 0.1, "rounded": 2.0, "equal": 0.0}[kind]
    scores = logits(len(rows), seed=seed, scale=scale, vocab=WIDE)
    if kind == "rounded":
        scores = scores.round()  # so that hundreds tie
    best = scores.amax(1, keepdim=True)
    layout = Layout(WIDE, WIDE, scores.device)
    everything = DrawFromAll(rows, layout).tokens(scores, best).tolist()
    for index, each in enumerate(rows):
        if look(each):
            one = scores[index : index + 1], best[index : index + 1]
            for count in (look(each), 256):
                assert DrawFromFew([each], layout, count).tokens(*one).tolist() == [everything[index]]
    assert Sampler().sample(scores.clone(), rows).resolve() == everything


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.permutations(range(len(MIXED))), st.integers(1, len(MIXED)))
def test_a_row_is_drawn_the_same_in_any_batch(seed: int, order: list[int], count: int) -> None:
    rows: list[SamplingRow] = [row(seed=index, **params) for index, params in enumerate(MIXED)]
    scores = logits(len(rows), seed=seed, vocab=2048).bfloat16().float()  # ties at many a border
    everyone = Sampler().sample(scores.clone(), rows).resolve()
    some = order[:count]
    sampler = Sampler()
    for _ in range(2):  # with a new plan, and with one that was kept
        assert sampler.sample(scores[some], [rows[i] for i in some]).resolve() == [everyone[i] for i in some]
