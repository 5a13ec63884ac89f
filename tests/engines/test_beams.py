"""Beam search at the engine's border: what transformers finds, alone and in a batch, with much memory or little."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.beam_rules import rule_for
from max_engines.beams import BeamSearch, Continuation
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel
from max_engines.reference import ReferenceEngine
from max_engines.rules import SequenceError
from max_engines.runner import ModelRunner, Scores
from max_engines.sequence import Sequence
from max_interfaces.protocols import TokenDelta
from max_interfaces.status import GenerationStatus
from tests.engines.beam_tools import Texts, by_transformers, found, searching, texts
from tests.engines.test_engine import Alternating
from tests.engines.tiny_models import VOCAB, Params, again, generate, load, prompts, run, start

LOW_ON_MEMORY = EngineConfig(max_batch=8, token_budget=20, block_size=8, num_blocks=44)
CLOSE = 1e-4  # of a score, absolute, where scores are some 1 to 10


def check_same(expected: Texts, given_texts: Texts) -> None:
    """The same texts and scores; of scores that float32 cannot tell apart, in any order."""
    scores = [score for _, score in expected]
    assert [score for _, score in given_texts] == pytest.approx(scores, rel=1e-5, abs=CLOSE)
    if min((one - other for one, other in pairwise(scores)), default=1.0) > 1e-5:
        assert [text for text, _ in given_texts] == [text for text, _ in expected]
    assert {text for text, _ in given_texts[:-1]} <= {text for text, _ in expected}


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gemma2", "mistral-window", "gpt-neox"])
def test_the_texts_and_scores_are_those_of_transformers(architecture: str, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint(architecture)
    engine = Engine(load(folder), EngineConfig(max_batch=8, block_size=8))
    source = random.Random(architecture)
    for prompt in prompts(8):
        width, count = source.choice([2, 3, 4, 4, 7]), source.choice([1, 2, 12, 40])
        ends = source.sample(range(3, VOCAB), source.choice([0, 2, 8, 40]))
        how: Params = {
            "length_penalty": source.choice([-1.0, 0.0, 0.5, 1.0, 2.0]),
            "early_stopping": source.random() < 0.4,
        }
        expected = by_transformers(folder, prompt, width, count, ends, **how)
        check_same(expected, texts(found(engine, [searching(prompt, width, count, ends, **how)])[0]))
    assert engine.free_blocks == engine.blocks


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_search_is_that_of_transformers(data: st.DataObject, checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("llama")
    prompt = data.draw(st.lists(st.integers(3, VOCAB - 1), min_size=1, max_size=20))
    width, count = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 25))
    ends = data.draw(st.lists(st.integers(3, VOCAB - 1), max_size=60, unique=True))
    penalty = data.draw(st.sampled_from([-2.0, -0.5, 0.0, 0.7, 1.0, 3.0]))
    early = data.draw(st.booleans())
    expected = by_transformers(folder, prompt, width, count, ends, length_penalty=penalty, early_stopping=early)
    search = searching(prompt, width, count, ends, length_penalty=penalty, early_stopping=early)
    check_same(expected, texts(found(Engine(load(folder)), [search])[0]))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"repetition_penalty": 1.4}, {"repetition_penalty": 1.4}),
        ({"min_new_tokens": 9}, {"min_new_tokens": 9}),
        ({"logit_bias": {5: 3.0}}, {"sequence_bias": {(5,): 3.0}}),
    ],
)
def test_the_rules_apply_to_each_beam_as_transformers_processors_do(
    ours: Params, theirs: Params, checkpoint: Callable[[str], Path]
) -> None:
    folder, ends = checkpoint("llama"), [*range(20, 40)]
    engine = Engine(load(folder))
    for prompt in prompts(4):
        expected = by_transformers(folder, prompt, 4, 16, ends, **theirs)
        check_same(expected, texts(found(engine, [searching(prompt, 4, 16, ends, **ours)])[0]))


def test_bad_words_stop_ids_and_a_constraint_hold_in_each_beam(llama: LoadedModel) -> None:
    engine = Engine(llama)
    prompt = prompts(1)[0]
    (free,) = found(engine, [searching(prompt, 4, 8)])
    pair = free[0].tokens[2:4]
    odd = searching(prompt, 4, 8, constraint=Alternating())
    wary = replace(searching(prompt, 4, 8), bad_words=(pair, (free[1].tokens[0],)))
    stopped = searching(prompt, 4, 8, stop_token_ids=(free[0].tokens[1],))
    constrained, careful, ended = found(engine, [odd, wary, stopped])
    for one in constrained:
        assert [token % 2 for token in one.tokens] == [0, 1] * 4
    for one in careful:
        assert free[1].tokens[0] not in one.tokens
        assert pair not in [*pairwise(one.tokens)]
    assert any(one.status is GenerationStatus.END_OF_SEQUENCE and len(one.tokens) == 2 for one in ended)


def mixed() -> list[Params]:
    """Searches beside plain requests of all kinds."""
    return [
        {"beam_width": 4, "n": 4},
        {},
        {"beam_width": 2, "n": 1, "length_penalty": 0.0, "early_stopping": True, "logprobs": 2},
        {"temperature": 1.0, "top_p": 0.9},
        {"beam_width": 3, "n": 2, "repetition_penalty": 1.3},
        {"beam_width": 3, "n": 3, "beam_rule": "vllm", "logprobs": 1},
        {"beam_width": 1, "beam_rule": "vllm", "length_penalty": 2.0},
        {"temperature": 0.8, "frequency_penalty": 0.5, "logprobs": 0},
    ]


def said(deltas: list[TokenDelta]) -> object:
    """All that a sequence has come to, to the last bit."""
    last = deltas[-1]
    return (
        [token for delta in deltas for token in delta.tokens],
        [(one.tokens, one.score, one.status, one.log_probabilities) for one in last.hypotheses],
        last.status,
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_in_any_batch_with_little_memory_and_overlapped_steps_it_is_as_if_alone(
    data: st.DataObject, llama: LoadedModel
) -> None:
    count = data.draw(st.integers(2, 7))
    kinds = data.draw(st.lists(st.sampled_from(mixed()), min_size=count, max_size=count))
    join = {i: data.draw(st.integers(0, 12)) for i in range(count)}
    overlap = data.draw(st.booleans())
    blocks = data.draw(st.sampled_from([24, 30, 44, 200]))
    starts = [
        start(text, seed=i, eos=range(30, 45), **{"max_new_tokens": 8 + 3 * i, **kind})
        for i, (text, kind) in enumerate(zip(prompts(count, longest=40), kinds, strict=True))
    ]
    alone = [said(run(Engine(llama, EngineConfig(max_batch=4, block_size=8)), [again(one)])[0]) for one in starts]
    engine = Engine(llama, replace(LOW_ON_MEMORY, num_blocks=blocks, overlap=overlap))
    assert [said(deltas) for deltas in run(engine, starts, join)] == alone
    assert engine.free_blocks == blocks


def test_a_search_that_loses_its_memory_computes_it_again(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []
    forget = Sequence.forget

    def noted(sequence: Sequence) -> list[int]:
        blocks = forget(sequence)
        if sequence.search is not None and sequence is sequence.team[0] and blocks and not sequence.ended:
            lost.append(len(sequence.row.output))
        return blocks

    urgent = start(prompts(1)[0][:30], max_new_tokens=100)
    searches = [searching(text[:20], 4, 50) for text in prompts(2)]
    expected = [texts(one) for one in found(Engine(llama), [again(one) for one in searches])]
    engine = Engine(llama, replace(LOW_ON_MEMORY, num_blocks=30))
    monkeypatch.setattr(Sequence, "forget", noted)
    results = run(engine, [*searches, replace(urgent, priority=5)], {0: 0, 1: 0, 2: 25})
    assert [texts(deltas[-1].hypotheses) for deltas in results[:2]] == expected
    assert any(count > 1 for count in lost)


@pytest.mark.parametrize("seed", range(12))
def test_paused_searches_lose_nothing_but_time(seed: int, llama: LoadedModel) -> None:
    """They also lose their memory, at any point, and find some of it again."""
    searches = [searching(text, 3, 20) for text in prompts(3)]
    expected = [texts(one) for one in found(Engine(llama), [again(one) for one in searches])]
    engine = Engine(llama, replace(LOW_ON_MEMORY, num_blocks=34, overlap=seed % 2 == 0))
    for one in searches:
        engine.add(one)
    source, results, running = random.Random(seed), {}, [one.request_id for one in searches]
    for _ in range(2000):
        if not running:
            break
        active = [one for one in running if source.random() < 0.7]
        for request_id, delta in engine.step(active).items():
            if delta.status.is_done:
                results[request_id] = texts(delta.hypotheses)
                running.remove(request_id)
                engine.release(request_id)
    assert [results[one.request_id] for one in searches] == expected


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 15])
def test_release_in_any_phase_frees_everything(steps: int, overlap: bool, llama: LoadedModel) -> None:
    engine = Engine(llama, replace(LOW_ON_MEMORY, overlap=overlap))
    searches = [searching(text, 4, 12) for text in prompts(3)]
    for one in searches:
        engine.add(one)
    for _ in range(steps):
        engine.step([one.request_id for one in searches])
    for one in searches:
        engine.release(one.request_id)
    assert engine.free_blocks == engine.blocks


@pytest.mark.parametrize("overlap", [False, True])
def test_a_step_that_fails_changes_nothing_and_can_be_repeated(
    overlap: bool, llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, other = searching(prompts(1)[0], 4, 15), start(prompts(2)[1], max_new_tokens=15)
    expected = [said(deltas) for deltas in run(Engine(llama), [again(search), again(other)])]
    engine = Engine(llama, replace(LOW_ON_MEMORY, overlap=overlap))
    compute, count = ModelRunner.run, 0

    def failing(*arguments: object, **named: object) -> Scores:
        nonlocal count
        count += 1
        scores = compute(*arguments, **named)  # type: ignore[arg-type]
        if count % 3 == 0:
            with torch.inference_mode():
                scores.sampled[:] = float("nan")
        return scores

    monkeypatch.setattr(ModelRunner, "run", failing)
    engine.add(search)
    engine.add(other)
    deltas: dict[object, list[TokenDelta]] = {search.request_id: [], other.request_id: []}
    active = {search.request_id, other.request_id}
    while active:
        try:
            news = engine.step(active)
        except SequenceError:
            continue  # an overlapped step is repeated by the engine itself
        for request_id, delta in news.items():
            deltas[request_id].append(delta)
            if delta.status.is_done:
                active.remove(request_id)
                engine.release(request_id)
    assert count >= 9
    assert [said(deltas[search.request_id]), said(deltas[other.request_id])] == expected


def test_log_probabilities_are_the_models_own_of_each_text(llama: LoadedModel) -> None:
    prompt = prompts(1)[0]
    search = searching(prompt, 3, 6, repetition_penalty=1.2, logprobs=2, prompt_logprobs=0)
    deltas = run(Engine(llama), [search])[0]
    report = next(delta.prompt for delta in deltas if delta.prompt is not None)
    assert report.log_probabilities is not None
    assert len(report.log_probabilities.token_log_probabilities) == len(prompt) - 1
    for one in deltas[-1].hypotheses:
        forced = start([*prompt, *one.tokens], max_new_tokens=1, prompt_logprobs=2)
        told = run(Engine(llama), [forced])[0][-1].prompt
        assert told is not None
        assert told.log_probabilities is not None
        assert one.log_probabilities is not None
        expected = told.log_probabilities.token_log_probabilities[len(prompt) - 1 :]
        assert one.log_probabilities.token_log_probabilities == pytest.approx(expected, abs=1e-5)
        assert [set(top) for top in one.log_probabilities.top_log_probabilities] == [
            set(top) for top in told.log_probabilities.top_log_probabilities[len(prompt) - 1 :]
        ]


def test_one_beam_is_greedy_and_the_best_n_are_given(llama: LoadedModel) -> None:
    prompt = prompts(1)[0]
    engine = Engine(llama)
    assert generate(engine, [start(prompt, beam_width=1, temperature=1.0)]) == generate(engine, [start(prompt)])
    everything, two = found(engine, [searching(prompt, 4, 9), searching(prompt, 4, 9, n=2)])
    assert texts(two) == texts(everything[:2])


def test_where_few_texts_are_possible_there_are_fewer(llama: LoadedModel) -> None:
    few = searching(prompts(1)[0], 4, 10, ends=[5], allowed_token_ids=(5,))
    (only,) = found(Engine(llama), [few])
    assert [(one.tokens, one.status) for one in only] == [((5,), GenerationStatus.END_OF_SEQUENCE)]
    (pair,) = found(Engine(llama), [searching(prompts(1)[0], 4, 1, allowed_token_ids=(5, 6))])
    assert sorted(one.tokens for one in pair) == [(5,), (6,)]


def test_a_search_that_nothing_can_follow_fails_alone(llama: LoadedModel) -> None:
    engine = Engine(llama)
    stuck, other = searching([7], 3, 9, ends=[5], allowed_token_ids=(5,), min_new_tokens=2), start([8])
    engine.add(stuck)
    engine.add(other)
    with pytest.raises(SequenceError, match="no token can follow") as problem:
        engine.step([stuck.request_id, other.request_id])
    assert problem.value.name == str(stuck.request_id)
    engine.release(stuck.request_id)
    engine.release(other.request_id)
    assert generate(engine, [again(other)])


def test_what_cannot_be_searched_for_is_refused_by_name(llama: LoadedModel, checkpoint: Callable[[str], Path]) -> None:
    engine = Engine(llama, EngineConfig(max_batch=4, block_size=8, num_blocks=12))
    for sequence, words in (
        (searching([5], 5, 3), "beam_width = 5: this engine has 4 sequences at once"),
        (searching([5] * 75, 4, 3), "beam_width = 4: the memory of 96 tokens does not hold as many beams"),
        (replace(searching([5], 4, 3), accepted=(6,)), "accepted has 1 ids"),
    ):
        with pytest.raises(ValueError, match=words):
            engine.add(sequence)
    with pytest.raises(ValueError, match="beam_width = 2: the reference engine has no beams"):
        ReferenceEngine(load(checkpoint("llama"))).add(searching([5], 2, 3))
    (short,) = found(engine, [searching([5] * 20, 4, 1000)])  # as long as the memory allows
    assert {len(one.tokens) for one in short} == {16 + (96 - 16) // 4 // 8 * 8 - 20}
    assert run(engine, [searching([5], 2, 0)])[0] == [TokenDelta((), GenerationStatus.MAXIMUM_LENGTH)]


def test_a_prompt_is_computed_once(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    compute = ModelRunner.run

    def noted(runner: ModelRunner, chunks: list[object], *rest: object, **named: object) -> Scores:
        computed.extend(chunk.count for chunk in chunks)  # type: ignore[attr-defined]
        return compute(runner, chunks, *rest, **named)  # type: ignore[arg-type]

    engine = Engine(llama)
    monkeypatch.setattr(ModelRunner, "run", noted)
    found(engine, [searching([9] * 50, 4, 11)])
    assert sum(computed) == 50 + 4 * 10


def test_of_equal_scores_the_better_beam_and_the_lower_id_is_first() -> None:
    search = BeamSearch(rule_for(searching([5], 2, 5), frozenset({9}), 5), 2)
    first = search.move([[]], [[Continuation(4, -1.0), Continuation(3, -1.0), Continuation(5, -1.0)]])
    assert [beam.token for beam in first.beams] == [3, 4]
    search.take(first)
    nexts = [[Continuation(7, -1.0), Continuation(9, -2.0)], [Continuation(6, -1.0), Continuation(9, -0.5)]]
    second = search.move([[3], [4]], nexts)
    assert [(beam.parent, beam.token) for beam in second.beams] == [(0, 7), (1, 6)]
    assert [(one.tokens, one.score) for one in second.ended] == [((4, 9), -0.75)]
    assert search.move([[3], [4]], nexts) == second  # pure


def test_a_step_with_too_little_memory_for_all_beams_fails(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(llama)
    search = searching([7, 8, 9], 4, 5)
    engine.add(search)
    engine.step([search.request_id])

    def none(*_: object, **__: object) -> Scores:
        raise torch.OutOfMemoryError("none")

    monkeypatch.setattr(ModelRunner, "run", none)
    with pytest.warns(UserWarning, match="ran out of memory"), pytest.raises(torch.OutOfMemoryError):
        engine.step([search.request_id])
    monkeypatch.undo()
    while not engine.step([search.request_id])[search.request_id].status.is_done:
        pass
    engine.release(search.request_id)
