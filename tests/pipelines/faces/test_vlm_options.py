"""The options of mlx-vlm's generate family: each does what it says, or is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from max_pipelines.vlm import Model, generate, load, stream_generate
from max_pipelines.vlm.options import OFF, Options
from tests.tiny_text import START, THINK, TURN, UNTHINK, make_tiny_text

Loaded = tuple[Model, Any]
PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    make_tiny_text(path)
    return str(path)


@pytest.fixture(scope="module")
def loaded(folder: str) -> Iterator[Loaded]:
    model, processor = load(folder, transport="thread")
    with model:
        yield model, processor


def tokens(loaded: Loaded, prompt: str | list[int] = PROMPT, **asked: Any) -> list[int | None]:
    return [one.token for one in stream_generate(*loaded, prompt, **{"max_tokens": 12} | asked)]


@pytest.mark.parametrize("only", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_what_leaves_one_token_is_greedy(only: dict[str, Any], loaded: Loaded) -> None:
    greedy = tokens(loaded)
    assert tokens(loaded, temperature=3.0, seed=1) != greedy
    assert tokens(loaded, temperature=3.0, seed=1, **only) == greedy
    assert tokens(loaded, temperature=3.0, seed=1, top_k=0, top_p=1.0, min_p=0.0) != greedy, "which is off"


def test_typical_tokens_and_what_is_off(loaded: Loaded) -> None:
    drawn = tokens(loaded, temperature=3.0, seed=1)
    assert tokens(loaded, temperature=3.0, seed=1, typical_p=1.0) == drawn
    assert tokens(loaded, temperature=3.0, seed=1, typical_p=0.2) != drawn


@pytest.mark.parametrize(("penalty", "less"), [("presence_penalty", [0, 1.5, 1.5]), ("frequency_penalty", [0, 1.5, 3])])
def test_additive_penalties_count_what_was_written(penalty: str, less: list[float], loaded: Loaded) -> None:
    def scores_of_nine(**asked: float) -> list[float]:
        seen: list[float] = []

        def nine(ids: list[int], scores: torch.Tensor) -> torch.Tensor:
            seen.append(float(scores[9]))
            return torch.full_like(scores, -torch.inf).index_fill_(0, torch.tensor([9]), 0.0)

        assert tokens(loaded, [9, 10], max_tokens=3, logits_processors=[nine], **asked) == [9] * 3
        return seen

    found = [
        free - penalised for free, penalised in zip(scores_of_nine(), scores_of_nine(**{penalty: 1.5}), strict=True)
    ]
    assert found == pytest.approx(less, abs=1e-4)


def test_a_repetition_is_punished_within_its_context(loaded: Loaded) -> None:
    again: dict[str, Any] = {"logit_bias": {9: 30}, "max_tokens": 6}
    assert tokens(loaded, **again) == [9] * 6
    punished = tokens(loaded, repetition_penalty=100.0, **again)
    assert punished.count(9) == 1
    assert tokens(loaded, repetition_penalty=100.0, repetition_context_size=1, **again).count(9) == 3
    for off in (0, None):
        assert tokens(loaded, repetition_penalty=off, **again) == [9] * 6


@pytest.mark.parametrize(
    "less", [{"kv_bits": 8, "quantized_kv_start": 0}, {"max_kv_size": 16}, {"kv_bits": 4, "kv_group_size": 16}]
)
def test_less_memory_for_keys_and_values(less: dict[str, Any], loaded: Loaded) -> None:
    """Both together, too, which mlx-vlm cannot do. That the numbers are right: tests/engines/test_kv_formats.py."""
    both = {"kv_bits": 4, "max_kv_size": 16, "quantized_kv_start": 0}
    long = PROMPT * 8
    plain = tokens(loaded, long)
    assert len(tokens(loaded, long, **less)) == 12
    assert tokens(loaded, long, **both) != plain, "so much is forgotten"
    assert tokens(loaded, long, kv_bits=4, quantized_kv_start=5000) == plain, "not so soon"


def test_a_prefix_that_is_known_is_counted(loaded: Loaded) -> None:
    long = "the lazy dog " * 20
    first, again = (generate(*loaded, long, max_tokens=1) for _ in range(2))
    assert again.cached_tokens > first.cached_tokens
    assert again.text == first.text


def test_names_that_mean_nothing_here_are_taken_if_they_ask_for_nothing() -> None:
    for name, nothing in OFF.items():
        for value in (None, *nothing):
            Options.of({name: value})
        with pytest.raises(ValueError, match=f"{name} = 'other'"):
            Options.of({name: "other"})


def test_special_tokens_are_left_out_of_the_text_if_asked(loaded: Loaded) -> None:
    asked: dict[str, Any] = {"logit_bias": {TURN: 100}, "max_tokens": 2}
    assert generate(*loaded, PROMPT, **asked).text == "<|turn|><|turn|>"
    assert generate(*loaded, PROMPT, skip_special_tokens=True, **asked).text == ""
    assert tokens(loaded, skip_special_tokens=True, **asked) == [TURN, TURN], "they are counted all the same"


OTHERS: dict[str, Any] = {"thinking_start_token": "<|start|>", "thinking_end_token": "<|turn|>"}


@pytest.mark.parametrize("budget", [0, 1, 5])
@pytest.mark.parametrize(("names", "start", "end"), [({}, THINK, UNTHINK), (OTHERS, START, TURN)])
def test_exactly_as_many_tokens_are_thought(
    budget: int, names: dict[str, str], start: int, end: int, loaded: Loaded
) -> None:
    prompt = [*loaded[1].encode(PROMPT), start]
    asked: dict[str, Any] = {"max_tokens": 9, "thinking_budget": budget, "logit_bias": {end: -100}, **names}
    thought = [one.token for one in stream_generate(*loaded, prompt, enable_thinking=True, **asked)]
    free = [one.token for one in stream_generate(*loaded, prompt, **asked)]
    assert end not in free
    assert thought[: budget + 1] == [*free[:budget], end]
    assert len(thought) == 9


def test_thinking_tokens_that_the_model_does_not_have_are_refused(loaded: Loaded) -> None:
    with pytest.raises(ValueError, match=r"start_token = '<\|start\|>', thinking_end_token = '<done>': must be"):
        generate(*loaded, PROMPT, enable_thinking=True, **OTHERS | {"thinking_end_token": "<done>"})
    with pytest.raises(ValueError, match="thinking_end_token"):
        generate(*loaded, PROMPT, enable_thinking=True, thinking_end_token="")


@pytest.mark.parametrize(
    "given",
    [{"pixel_values": np.zeros((2, 2))}, {"top_n_sigma": 1.5}, {"kv_quant_scheme": "turboquant"}, {"p_less": True}],
)
def test_what_is_not_had_is_refused_by_name(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(ValueError, match=rf"{name} = (.|\n)*is not to be had here"):
        Options.of(given)


def test_names_of_load_that_nobody_reads_are_refused(folder: str) -> None:
    for name in ("force_download", "quantize_activations", "processor_kwargs"):
        with pytest.raises(TypeError, match=name):
            load(folder, **{name: None})  # type: ignore[arg-type]
