"""Logits processors of the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from max_engines import processors
from max_engines.processors import LogitsProcessor
from max_engines.rules import SequenceError
from max_engines.sampler import Sampler
from max_engines.sampling_row import check_start
from tests.engines.sampling_tools import V, logits, row, scores_after
from tests.engines.tiny_models import start


class Recorder:
    """Doubles the scores, and remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], list[int], tuple[int, ...]]] = []

    def __call__(self, prompt: Sequence[int], output: Sequence[int], scores: Tensor) -> Tensor:
        self.calls.append((list(prompt), list(output), tuple(scores.shape)))
        return scores * 2


def only_seven(prompt: Sequence[int], output: Sequence[int], scores: Tensor) -> Tensor:
    scores[:7] = -torch.inf
    scores[8:] = -torch.inf
    return scores


def fails(prompt: Sequence[int], output: Sequence[int], scores: Tensor) -> Tensor:
    raise KeyError("mine")


def gives_nothing(prompt: Sequence[int], output: Sequence[int], scores: Tensor) -> Tensor:
    return None  # type: ignore[return-value]


BAD: dict[str, tuple[LogitsProcessor, str]] = {
    "fails": (fails, r"'fails' failed: KeyError\('mine'\)"),
    "short": (lambda prompt, output, scores: scores[:-1], r"'short' gave torch.float32\[149\]: must be .* \[150\]"),
    "ints": (lambda prompt, output, scores: scores.long(), r"'ints' gave torch.int64"),
    "nan": (lambda prompt, output, scores: scores * float("nan"), "'nan' gave NaN"),
    "infinite": (lambda prompt, output, scores: scores + torch.inf, "'infinite' gave NaN or infinite"),
    "nothing": (gives_nothing, "'nothing' gave NoneType"),
}


@pytest.fixture(autouse=True)
def recorder() -> Iterator[Recorder]:
    mine = Recorder()
    known: dict[str, LogitsProcessor] = {"twice": mine, "seven": only_seven, **{n: fn for n, (fn, _) in BAD.items()}}
    for name, function in known.items():
        processors.register(name, function)
    yield mine
    for name in known:
        processors.unregister(name)


def test_processors_come_last_in_the_order_of_their_names(recorder: Recorder) -> None:
    scores = logits(3)
    rows = [
        row([4, 5], [1, 2], logits_processors=("twice", "twice"), logit_bias={3: 1.0}),
        row(logits_processors=("twice", "seven")),
        row(),
    ]
    found = scores_after(scores, *rows)[:, :V]
    expected = scores.clone()
    expected[0, 3] += 1
    expected[0] *= 4
    assert torch.equal(found[0], expected[0])
    assert found[1, 7] == scores[1, 7] * 2
    assert int(torch.isfinite(found[1]).sum()) == 1
    assert torch.equal(found[2], scores[2])
    assert recorder.calls == [([1, 2], [4, 5], (V,))] * 2 + [([1], [], (V,))]


def test_what_is_forbidden_stays_forbidden() -> None:
    processors.register("zero", lambda prompt, output, scores: torch.zeros_like(scores))
    try:
        scores = scores_after(logits(), row(logits_processors=("zero",), allowed_token_ids=(3, 9)))[0]
    finally:
        processors.unregister("zero")
    assert torch.isfinite(scores).nonzero()[:, 0].tolist() == [3, 9]


@pytest.mark.parametrize("name", BAD)
def test_a_processor_that_misbehaves_fails_its_own_sequence(name: str) -> None:
    scores, good, bad = logits(2), row(temperature=0.0), row(logits_processors=(name,))
    sampler = Sampler()
    with pytest.raises(SequenceError, match=BAD[name][1]) as caught:
        sampler.sample(scores.clone(), [good, bad])
    assert caught.value.name == bad.name
    assert sampler.sample(scores[:1].clone(), [good]).resolve() == [int(scores[0].argmax())]


def test_an_unknown_processor_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"SamplingParams.logits_processors: .*'unheard' is not registered.*thread"):
        check_start(start([1], logits_processors=("twice", "unheard")), V)
    check_start(start([1], logits_processors=("twice",)), V)


def test_one_that_was_forgotten_fails_the_sequences_that_named_it() -> None:
    processors.register("brief", only_seven)
    mine = row(logits_processors=("brief",))
    assert Sampler().sample(logits(), [mine]).resolve() == [7]
    processors.unregister("brief")
    processors.unregister("brief")
    with pytest.raises(SequenceError, match="'brief' is not registered"):
        Sampler().sample(logits(), [mine])


def test_names_are_taken_once_and_have_a_form() -> None:
    with pytest.raises(ValueError, match="'twice': is registered already"):
        processors.register("twice", only_seven)
    for name in ("", "a b", "x" * 257):
        with pytest.raises(ValueError, match="a name has 1 to 256"):
            processors.register(name, only_seven)
