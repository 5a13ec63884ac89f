"""`LLM.beam_search`: vLLM's rule on fixed logits, its classes and fields, its prompts, and what it refuses by name."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from max_pipelines.client.gathering import gathered
from max_pipelines.llm import (
    LLM,
    AsyncLLM,
    BeamSearchOutput,
    BeamSearchParams,
    BeamSearchSequence,
    GuidedDecodingParams,
    PromptType,
    TextPrompt,
    TokensPrompt,
)
from max_pipelines.many import WINDOW
from tests.engines.fixed_logits import Table, by_vllm, normal, save_table
from tests.tiny_text import END, make_tiny_text, make_tokenizer

SIZE = 416  # the tokenizer's ids, and as many more as make it a multiple of 32
LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def table() -> Table:
    """After each letter, and after an end, the letters and the end are likely, and nothing else is."""
    letters = make_tokenizer().encode(LETTERS)
    rows = [[-20.0] * SIZE for _ in range(SIZE)]
    source = random.Random(5)
    for last in [*letters, END]:
        for token in [*letters, END]:
            rows[last][token] = source.uniform(-3, 0)
    return normal(rows)


@pytest.fixture(scope="module")
def llm(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    folder = tmp_path_factory.mktemp("table")
    make_tokenizer().save_pretrained(folder)
    save_table(folder, table, eos_token_id=END)
    with LLM(str(folder), transport="thread", max_num_seqs=16) as llm:
        yield llm


def found(llm: LLM, prompt: Any, params: BeamSearchParams) -> list[tuple[int, ...]]:
    """The new ids of each text."""
    (output,) = llm.beam_search([prompt], params)
    return [tuple(one.tokens[len(one.orig_prompt["prompt_token_ids"]) :]) for one in output.sequences]


def test_texts_and_scores_are_those_of_vllms_rule(llm: LLM, table: Table) -> None:
    tokenizer = llm.get_tokenizer()
    for width, count, penalty, ignored in (
        (1, 5, 1.0, False),
        (2, 8, 0.0, False),
        (4, 6, 1.0, False),
        (3, 9, -1.0, False),
        (3, 7, 2.0, True),
    ):
        params = BeamSearchParams(width, count, ignored, length_penalty=penalty)
        for prompt in ("abc", "hhg"):
            ids = tokenizer.encode(prompt)
            expected = by_vllm(table, ids, width, count, [END], penalty, ignored=ignored)
            (output,) = llm.beam_search([prompt], params)
            assert [one.tokens for one in output.sequences] == [[*ids, *text] for text, _ in expected]
            for one, (text, total) in zip(output.sequences, expected, strict=True):
                assert one.cum_logprob == pytest.approx(total, abs=1e-4)
                assert one.text == tokenizer.decode([*ids, *text], skip_special_tokens=True)
                assert one.finish_reason == ("stop" if text[-1] == END and not ignored else "length")
                assert one.orig_prompt == {"prompt_token_ids": ids, "prompt": prompt}
                assert [len(row) for row in one.logprobs] == [2 * width] * len(text)
                assert sum(row[token].logprob for row, token in zip(one.logprobs, text, strict=True)) == (
                    pytest.approx(total, abs=1e-4)
                )


def test_a_length_penalty_prefers_long_texts_and_an_end_ends(llm: LLM) -> None:
    short = found(llm, "abc", BeamSearchParams(2, 8, length_penalty=-2.0))
    long = found(llm, "abc", BeamSearchParams(2, 8, length_penalty=4.0))
    assert max(map(len, short)) < min(map(len, long)) == 8
    assert all(text[-1] == END and END not in text[:-1] for text in short)
    endless = found(llm, "abc", BeamSearchParams(2, 8, ignore_eos=True, length_penalty=-2.0))
    assert [len(text) for text in endless] == [8, 8]


def test_prompts_of_all_kinds_and_one_by_itself(llm: LLM) -> None:
    params = BeamSearchParams(beam_width=3, max_tokens=4)
    ids = llm.get_tokenizer().encode("abc")
    kinds: list[PromptType] = ["abc", ids, TextPrompt(prompt="abc"), TokensPrompt(prompt_token_ids=ids)]
    outputs = llm.beam_search(kinds, params)
    assert len({str([one.tokens for one in output.sequences]) for output in outputs}) == 1
    assert outputs[1].sequences[0].orig_prompt == {"prompt_token_ids": ids}
    assert llm.beam_search(ids, params) == outputs[1:2]
    (alone,) = llm.beam_search("abc", params)
    assert alone == outputs[0]
    assert llm.beam_search([], params) == []


def test_no_more_searches_run_at_once_than_are_wanted(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[int] = []

    def noted(jobs: list[Any], window: int) -> Any:
        windows.append(window)
        return gathered(jobs, window)

    monkeypatch.setattr("max_pipelines.many.gathered", noted)
    params = BeamSearchParams(beam_width=3, max_tokens=4)
    few = llm.beam_search(["abc", "hhg", "cab"], params, None, False, 2)
    assert llm.beam_search(["abc", "hhg", "cab"], params, concurrency_limit=10**6) == few
    assert windows == [2, WINDOW]


def test_a_bad_prompt_among_others_fails_alone(llm: LLM) -> None:
    params = BeamSearchParams(beam_width=2, max_tokens=3)
    prompts: list[PromptType] = ["abc", [9] * 600, "abc"]
    with pytest.warns(UserWarning, match="1 of 3 prompts failed: prompt: has 600 tokens"):
        first, bad, last = llm.beam_search(prompts, params)
    assert (first.error, bad.sequences, first) == (None, [], last)
    assert isinstance(bad.error, ValueError)
    with pytest.raises(ValueError, match="has 600 tokens"):
        llm.beam_search([9] * 600, params)


def test_a_search_may_have_a_form_and_special_tokens_in_its_text(llm: LLM) -> None:
    form = GuidedDecodingParams(choice=["ba", "bad", "head"])
    params = BeamSearchParams(3, 8, structured_outputs=form, skip_special_tokens=False)
    (output,) = llm.beam_search(["abc"], params)
    assert sorted(str(one.text) for one in output.sequences) == ["abcba</s>", "abcbad</s>", "abchead</s>"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"beam_width": 0}, r"BeamSearchParams\.beam_width = 0: must be at least 1"),
        ({"beam_width": 300}, r"BeamSearchParams\.beam_width = 300: must be at most 64"),
        ({"max_tokens": 0}, r"BeamSearchParams\.max_tokens = 0: must be at least 1"),
        ({"length_penalty": 11.0}, r"BeamSearchParams\.length_penalty = 11\.0: must be at most 10"),
        ({"watermarking": True}, r"BeamSearchParams\.watermarking = True: beams are not drawn"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BeamSearchParams(**{"beam_width": 2, "max_tokens": 4, **fields})


@pytest.mark.parametrize(
    "name", ["frequency_penalty", "presence_penalty", "repetition_penalty", "stop", "stop_token_ids", "n", "seed"]
)
def test_penalties_and_stop_texts_are_no_part_of_a_search(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        BeamSearchParams(beam_width=2, max_tokens=4, **{name: 1})  # type: ignore[arg-type]


def test_what_has_no_effect_is_said(llm: LLM) -> None:
    with pytest.warns(UserWarning, match=r"temperature = 0\.7: has no effect \(no token is drawn"):
        warm = BeamSearchParams(2, 4, temperature=0.7)
    with pytest.warns(UserWarning, match="include_stop_str_in_output = True: has no effect"):
        BeamSearchParams(2, 4, include_stop_str_in_output=True)
    assert found(llm, "abc", warm) == found(llm, "abc", BeamSearchParams(2, 4))


def test_more_beams_than_the_engine_has_sequences_are_refused(llm: LLM) -> None:
    with pytest.raises(ValueError, match="beam_width = 64: this engine has 16 sequences"):
        llm.beam_search("abc", BeamSearchParams(64, 4))
    with pytest.raises(ValueError, match="concurrency_limit = 0: must be at least 1"):
        llm.beam_search("abc", BeamSearchParams(2, 4), concurrency_limit=0)


def test_the_classes_have_vllms_fields() -> None:
    def names(kind: Any) -> list[str]:
        return [field.name for field in dataclasses.fields(kind)]

    assert names(BeamSearchParams) == [
        "beam_width", "max_tokens", "ignore_eos", "temperature", "length_penalty", "include_stop_str_in_output",
        "structured_outputs", "skip_special_tokens", "watermarking",
    ]  # fmt: skip
    assert names(BeamSearchSequence) == [
        "orig_prompt", "tokens", "logprobs", "lora_request", "cum_logprob", "text", "finish_reason", "stop_reason",
    ]  # fmt: skip
    assert names(BeamSearchOutput) == ["sequences", "error"]


def test_the_async_twin_and_an_llm_without_a_tokenizer(tmp_path: Path) -> None:
    make_tiny_text(tmp_path)

    async def search() -> list[BeamSearchOutput]:
        async with AsyncLLM(str(tmp_path), transport="thread", skip_tokenizer_init=True) as llm:
            return await llm.beam_search([[7, 8], [9]], BeamSearchParams(2, 3))

    outputs = asyncio.run(search())
    assert [len(output.sequences) for output in outputs] == [2, 2]
    assert outputs[0].sequences[0].text is None
    assert outputs[0].sequences[0].tokens[:2] == [7, 8]
