"""SamplingParams: MAX's order and defaults, and nothing that would reach the sampler as nonsense."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

from max_interfaces import Json, SamplingParams

PUBLISHED = {
    "top_k": -1,
    "top_p": 1.0,
    "min_p": 0.0,
    "temperature": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "repetition_penalty": 1.0,
    "max_new_tokens": None,
    "min_new_tokens": 0,
    "ignore_eos": False,
    "stop": (),  # None in MAX, which is taken too
    "stop_token_ids": (),
    "detokenize": True,
    "seed": None,  # drawn by the dispatcher, so that equal parameters are equal
}


def test_the_published_fourteen_come_first_and_in_order() -> None:
    parameters = inspect.signature(SamplingParams).parameters
    assert list(parameters)[:14] == list(PUBLISHED)
    assert {name: parameters[name].default for name in PUBLISHED} == PUBLISHED


def test_positional_construction() -> None:
    given = (5, 0.9, 0.1, 0.7, 0.2, 0.3, 1.1, 50, 2, True, ["x"], [3], False, 7)
    made = SamplingParams(*given)  # type: ignore[arg-type]
    assert tuple(getattr(made, name) for name in PUBLISHED) == (*given[:10], ("x",), (3,), False, 7)


def test_whole_numbers_do_for_fractions_and_numpy_numbers_for_pythons() -> None:
    made = SamplingParams(top_k=np.int32(5), temperature=1, top_p=np.float32(0.5), seed=np.uint64(2**63 - 1))  # type: ignore[arg-type]
    assert (made.top_k, made.temperature, made.top_p, made.seed) == (5, 1.0, 0.5, 2**63 - 1)
    assert [type(v) for v in (made.top_k, made.temperature, made.top_p, made.seed)] == [int, float, float, int]


def test_what_max_takes_for_off_is_taken() -> None:
    assert SamplingParams(top_k=0) == SamplingParams(top_k=-1) == SamplingParams()
    assert SamplingParams(stop=None, stop_token_ids=None) == SamplingParams()  # type: ignore[arg-type]


def test_one_stop_string_may_be_given_as_it_is() -> None:
    assert SamplingParams(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_greedy_is_temperature_zero() -> None:
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(beam_width=1).greedy
    assert not SamplingParams().greedy


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("temperature", math.nan, "must be finite"),
        ("temperature", math.inf, "must be finite"),
        ("temperature", -0.1, "must be at least 0"),
        ("temperature", True, "must be a number, not a bool"),
        ("temperature", "1", "must be a number"),
        ("top_p", 0.0, "must be above 0"),
        ("top_p", 1.01, "must be at most 1"),
        ("top_k", -2, "must be at least -1"),
        ("top_k", 2.0, "must be an integer"),
        ("frequency_penalty", math.nan, "must be finite"),
        ("repetition_penalty", 0, "must be above 0"),
        ("max_new_tokens", -5, "must be at least 0"),
        ("max_new_tokens", False, "must be an integer, not a bool"),
        ("seed", -1, "must be at least 0"),
        ("seed", 2**63, "must be at most 9223372036854775807"),
        ("n", 0, "must be at least 1"),
    ],
)
def test_nonsense_is_refused_by_field_value_and_bound(field: str, value: Any, bound: str) -> None:
    with pytest.raises(ValueError, match=r"SamplingParams") as caught:
        SamplingParams(**{field: value})
    shown = float(value) if field in ("top_p", "repetition_penalty") else value
    assert str(caught.value) == f"SamplingParams.{field} = {shown!r}: {bound}"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stop": ["a", ""]}, r"stop\[1\] = ''.*needs at least 1"),
        ({"stop": ["a"] * 65}, r"stop = .*may have at most 64"),
        ({"stop_token_ids": [-1]}, r"stop_token_ids\[0\] = -1: must be at least 0"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias key = -1: must be at least 0"),
        ({"logit_bias": {3: math.nan}}, r"logit_bias\[3\] = nan: must be finite"),
        ({"logit_bias": {3: 101}}, r"logit_bias\[3\] = 101.0: must be at most 100"),
        ({"logit_bias": {10**5000: 1.0}}, "logit_bias key = <int>: must be at most"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, "min_new_tokens = 4: must be at most max_new_tokens = 3"),
        ({"n": 3, "best_of": 2}, "best_of = 2: must be at least n = 3"),
        ({"n": 3, "beam_width": 2}, "n = 3: must be at most beam_width = 2"),
        ({"beam_width": 2, "best_of": 2}, "best_of = 2: means nothing with a beam_width.*leave it None"),
        ({"beam_width": 2, "temperature": 0.7}, r"temperature = 0.7: means nothing with a beam_width.*leave it 0\.0"),
        ({"beam_width": 1, "top_p": 0.7}, r"top_p = 0.7: means nothing with a beam_width.*leave it 1\.0"),
        ({"beam_width": 1, "top_k": 7}, "top_k = 7: means nothing with a beam_width.*leave it -1"),
        ({"length_penalty": 2.0}, r"length_penalty = 2\.0: means nothing without a beam_width"),
        ({"early_stopping": True}, "early_stopping = True: means nothing without a beam_width"),
        ({"beam_rule": "vllm"}, "beam_rule = vllm: means nothing without a beam_width"),
        ({"beam_rule": "beam", "beam_width": 2}, "beam_rule = 'beam': must be one of transformers, vllm"),
        ({"beam_rule": "vllm", "beam_width": 2, "early_stopping": True}, "early_stopping = True: by vLLM's beam_rule"),
    ],
)
def test_what_is_wrong_inside_or_between_fields_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"SamplingParams\." + said):
        SamplingParams(**fields)


def test_a_grammar_is_any_json() -> None:
    assert SamplingParams(grammar={"type": "object"}).grammar == Json('{"type":"object"}')  # type: ignore[arg-type]
