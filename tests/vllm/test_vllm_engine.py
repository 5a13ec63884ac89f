"""The generator over vLLM, in this process, beside ours: the same tokens, the same scores, the same refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from max_engines.config import EngineConfig as Limits
from max_engines.engine import Engine
from max_engines.rules import SequenceError
from max_interfaces import DeviceLost, GenerationStatus, RequestID, SequenceStart, TokenDelta, TokenGenerator
from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig
from max_pipelines.engines import ServedGenerator, build_generator
from tests.engines.tiny_models import VOCAB, again, generate, load, prompts, run, save_checkpoint, start

BLOCK = 128  # tokens in a block of vLLM's, on a CPU
END = 2
LENGTH = 240  # of prompt and output; the model could read 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with heads of 32, the smallest that vLLM has on a CPU."""
    return save_checkpoint(tmp_path_factory.mktemp("llama"), "llama", head_dim=32)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[ServedGenerator]:
    model = ModelConfig(name="tiny", path=str(folder), dtype="float32")
    engine = EngineConfig(kind="vllm", max_batch=8, kv_memory=2**24, max_length=LENGTH)
    served = build_generator(Config(model=model, pipeline=PipelineConfig(kind="text"), engine=engine))
    yield served
    served.close()


@pytest.fixture
def theirs(served: ServedGenerator) -> TokenGenerator:
    return served.generator


@pytest.fixture(scope="module")
def ours(folder: Path) -> Engine:
    return Engine(load(folder), Limits(max_length=LENGTH))


class Odd:
    """Allows odd ids only; raises after `most` tokens."""

    def __init__(self, most: int = 10**6) -> None:
        self.most = most
        self.mask: NDArray[np.bool_] = np.arange(VOCAB) % 2 == 1

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        if len(tokens) >= self.most:
            raise RuntimeError("enough")
        return self.mask


def both(ours: TokenGenerator, theirs: TokenGenerator, *starts: SequenceStart) -> None:
    assert generate(theirs, [again(one) for one in starts]) == generate(ours, starts)


def test_it_tells_what_a_pipeline_has_to_know(served: ServedGenerator) -> None:
    assert (served.vocab_size, served.max_length, served.eos_token_ids) == (VOCAB, LENGTH, frozenset({END}))


def test_greedy_tokens_are_ours_alone_and_in_a_batch(ours: Engine, theirs: TokenGenerator) -> None:
    starts = [start(text, max_new_tokens=30) for text in prompts(12)]
    expected = generate(ours, starts)
    assert [generate(theirs, [again(one)])[0] for one in starts] == expected
    assert generate(theirs, [again(one) for one in starts], join={i: 2 * i for i in range(12)}) == expected


@pytest.mark.parametrize(
    "params",
    [
        {"repetition_penalty": 1.4},
        {"frequency_penalty": 0.7, "presence_penalty": 0.4},
        {"logit_bias": {7: 9.0, 11: -100.0}},
        {"allowed_token_ids": (5, 9, 77, 140)},
        {"min_new_tokens": 15, "eos": range(3, 140)},
        {"stop_token_ids": tuple(range(40, 90))},
        {"eos": range(3, 140), "ignore_eos": True},
        {"constraint": Odd()},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "beam_width": 1},
    ],
    ids=lambda params: "-".join(params),
)
def test_each_rule_is_ours(params: dict[str, Any], ours: Engine, theirs: TokenGenerator) -> None:
    both(ours, theirs, *[start(text, **params) for text in prompts(4)])


def test_bad_words_are_ours(ours: Engine, theirs: TokenGenerator) -> None:
    first = start([5, 6, 7])
    (said,) = generate(ours, [first])
    spoilt = replace(again(first), bad_words=(said[:1], said[3:5], said[7:10]))
    both(ours, theirs, spoilt)


def test_it_goes_on_from_accepted_tokens(ours: Engine, theirs: TokenGenerator) -> None:
    first = start([5, 6, 7], constraint=Odd(), min_new_tokens=4, eos=range(100, 150))
    (said,) = generate(ours, [first])
    for known in range(len(said)):
        assert generate(theirs, [again(first, said[:known])]) == [said[known:]]
    (deltas,) = run(theirs, [again(first, said)])
    assert deltas == [TokenDelta((), deltas[-1].status)]
    assert deltas[-1].status.is_done


def test_a_whole_context_and_no_more(ours: Engine, theirs: TokenGenerator) -> None:
    both(ours, theirs, start([9] * (LENGTH - 3), max_new_tokens=None))
    with pytest.raises(ValueError, match=r"SequenceStart\.prompt has 240 tokens: at most 239 fit"):
        theirs.add(start([9] * LENGTH))


def test_log_probabilities_are_ours(ours: Engine, theirs: TokenGenerator) -> None:
    wanted = [
        start([5, 6, 7], logprobs=3, prompt_logprobs=2),
        start([8, 9], logprobs=0, prompt_logprobs=0),
        start([8, 9, 10]),
    ]
    for mine, other in zip(run(ours, wanted), run(theirs, [again(one) for one in wanted]), strict=True):
        for a, b in zip(mine, other, strict=True):
            assert (a.tokens, a.status) == (b.tokens, b.status)
            same_scores(a.log_probabilities, b.log_probabilities)
            assert (a.prompt is None) == (b.prompt is None)
            if a.prompt is not None and b.prompt is not None:
                same_scores(a.prompt.log_probabilities, b.prompt.log_probabilities)


def same_scores(a: Any, b: Any) -> None:
    assert (a is None) == (b is None)
    if a is not None:
        assert a.token_log_probabilities == pytest.approx(b.token_log_probabilities, abs=1e-4)
        assert [list(top) for top in a.top_log_probabilities] == [list(top) for top in b.top_log_probabilities]
        for one, other in zip(a.top_log_probabilities, b.top_log_probabilities, strict=True):
            assert list(one.values()) == pytest.approx(list(other.values()), abs=1e-4)


def test_a_prefix_is_found_again_by_its_own_tenant_only(theirs: TokenGenerator) -> None:
    first = replace(start([77] * (BLOCK + 20)), cache_salt="ann")
    for one, cached in ((first, 0), (again(first), BLOCK), (replace(again(first), cache_salt="bob"), 0)):
        (deltas,) = run(theirs, [one])
        assert sum(delta.prompt.cached_tokens for delta in deltas if delta.prompt is not None) == cached


def test_one_left_out_loses_nothing(ours: Engine, theirs: TokenGenerator) -> None:
    one, other = start([5, 6, 7]), start([8, 9], max_new_tokens=40)
    expected = generate(ours, [one, other])
    pair = [again(one), again(other)]
    for sequence in pair:
        theirs.add(sequence)
    said = {sequence.request_id: list[int]() for sequence in pair}
    done: set[RequestID] = set()
    for step in range(200):
        active = [s.request_id for s in pair if s.request_id not in done and (step % 7 == 0 or s is pair[1])]
        for key, delta in theirs.step(active).items():
            said[key] += delta.tokens
            if delta.status.is_done:
                done.add(key)
                theirs.release(key)
    assert [tuple(said[s.request_id]) for s in pair] == expected


def test_sampled_tokens_depend_on_the_seed_alone(theirs: TokenGenerator) -> None:
    drawn = [start([5, 6, 7], seed=seed, temperature=1.0, top_p=0.9, min_p=0.01) for seed in (1, 2)]
    first, second = generate(theirs, drawn)
    assert first != second
    assert generate(theirs, [again(drawn[1]), again(drawn[0])]) == [second, first]


def test_a_constraint_that_breaks_ends_its_own_sequence(ours: Engine, theirs: TokenGenerator) -> None:
    good, bad = start([5, 6, 7]), start([5, 6, 7], constraint=Odd(most=5))
    expected = generate(ours, [good])
    good = again(good)
    for one in (good, bad):
        theirs.add(one)
    said: list[int] = []
    for _ in range(5):
        deltas = theirs.step([good.request_id, bad.request_id])
        said += deltas[good.request_id].tokens
    for _ in range(2):  # until it is released
        with pytest.raises(SequenceError, match="enough") as caught:
            theirs.step([good.request_id, bad.request_id])
        assert caught.value.name == str(bad.request_id)
    theirs.release(bad.request_id)
    while len(said) < len(expected[0]):
        said += theirs.step([good.request_id])[good.request_id].tokens
    theirs.release(good.request_id)
    assert [tuple(said)] == expected


def test_a_constraint_that_leaves_nothing_ends_its_own_sequence(theirs: TokenGenerator) -> None:
    with pytest.raises(SequenceError, match="leave no token"):
        run(theirs, [bad := start([5, 6], constraint=Odd(), allowed_token_ids=(4, 6))])
    theirs.release(bad.request_id)


def test_one_that_is_released_leaves_nothing(served: ServedGenerator) -> None:
    generator, free = served.generator, served.gauges()["free_blocks"]
    one, other = start([5] * 150), start([6] * 150)
    for sequence in (one, other):
        generator.add(sequence)
        generator.step([one.request_id])
    assert served.gauges()["free_blocks"] < free
    for sequence in (one, other, other):
        generator.release(sequence.request_id)
    assert served.gauges()["free_blocks"] == free
    with pytest.raises(KeyError):
        generator.step([one.request_id])


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"typical_p": 0.5}, "typical_p = 0.5"),
        ({"repetition_context_size": 8}, "repetition_context_size = 8"),
        ({"top_n_tokens": 2}, "top_n_tokens = 2"),
        ({"watermark": True}, "watermark = True"),
        ({"temperature": 0.001}, r"temperature = 0\.001: must be 0, or from 0\.01 to 2"),
        ({"temperature": 3.0}, r"temperature = 3\.0"),
        ({"logprobs": -1}, "logprobs = -1"),
        ({"prompt_logprobs": -1}, "prompt_logprobs = -1"),
        ({"beam_width": 4}, "beam_width = 4"),
        ({"beam_width": 1, "beam_rule": "vllm"}, "beam_width = 1"),
        ({"prefill_step_size": 8}, "prefill_step_size = 8"),
        ({"kv_bits": 4}, "kv_bits = 4"),
        ({"logprobs": 1, "constraint": Odd()}, "logprobs: there are none under a grammar"),
        ({"frequency_penalty": 1.0, "accepted": (5,)}, "frequency_penalty: .* ask again"),
        ({"presence_penalty": 1.0, "accepted": (5,)}, "presence_penalty: .* ask again"),
        ({"stop_token_ids": (VOCAB,)}, f"token {VOCAB} is not in the vocabulary"),
    ],
)
def test_what_it_does_not_do_is_refused_by_name(params: dict[str, Any], says: str, theirs: TokenGenerator) -> None:
    with pytest.raises(ValueError, match=says):
        theirs.add(start([5, 6], **params))


def test_an_engine_that_dies_is_a_lost_device(theirs: TokenGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs.add(one := start([5, 6]))
    with monkeypatch.context() as patched:
        patched.setattr("max_engines.vllm_engine.core.InprocClient.get_output", lambda client: 1 / 0)
        with pytest.raises(DeviceLost, match="ZeroDivisionError"):
            theirs.step([one.request_id])
    theirs.release(one.request_id)


def test_a_sequence_is_known_once(theirs: TokenGenerator) -> None:
    theirs.add(one := start([5, 6]))
    with pytest.raises(ValueError, match="is running already"):
        theirs.add(one)
    theirs.release(one.request_id)
    (deltas,) = run(theirs, [one])
    assert deltas[-1].status is GenerationStatus.MAXIMUM_LENGTH
