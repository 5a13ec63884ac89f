"""Quantised keys and values and windows, through the engine: the same tokens whatever happens, and little memory."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.kernels import kernels_for
from max_engines.kv_cache import KVCache
from max_engines.kv_format import KVFormat
from max_engines.loading import LoadedModel, load_model
from max_engines.reference import ReferenceEngine
from max_engines.rules import SequenceError
from max_engines.sampled import Sampled
from max_engines.sampler import Sampler
from max_engines.sampling_row import SamplingRow
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta
from tests.engines.tiny_models import VOCAB, Params, again, generate, load, prompts, run, save_checkpoint, start

FORMATS: dict[str, Params] = {
    "8 bits": {"kv_bits": 8, "quantized_kv_start": 0},
    "4 bits": {"kv_bits": 4, "quantized_kv_start": 0},
    "8 bits, later": {"kv_bits": 8, "quantized_kv_start": 50},
    "window": {"max_kv_size": 24},
    "4 bits, window": {"kv_bits": 4, "quantized_kv_start": 0, "max_kv_size": 24},
    "8 bits, window, later": {"kv_bits": 8, "quantized_kv_start": 45, "max_kv_size": 24},
}
PLAIN: Params = {}
Seen = dict[tuple[int, ...], set[bytes]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The scores after every prompt and output of each format that any engine has computed, as bytes."""
    patterns: Seen = defaultdict(set)
    sample = Sampler.sample

    def spy(sampler: Sampler, logits: Tensor, rows: Sequence[SamplingRow]) -> Sampled:
        for scores, row in zip(logits, rows, strict=True):
            params = row.params
            how = (params.kv_bits or 0, params.max_kv_size or 0, params.quantized_kv_start)
            patterns[*how, *row.prompt, *row.output].add(scores.clone().numpy().tobytes())
        return sample(sampler, logits, rows)

    monkeypatch.setattr(Sampler, "sample", spy)
    return patterns


@pytest.fixture(params=["compiled", "torch"])
def operations(request: pytest.FixtureRequest, without_compiled: Callable[[], None]) -> None:
    """With the compiled operations, and with torch's own in their place."""
    if request.param == "torch":
        without_compiled()
        with warnings.catch_warnings(action="ignore"):  # that is said once
            assert kernels_for(torch.float32, torch.device("cpu")) is None
    elif kernels_for(torch.float32, torch.device("cpu")) is None:
        pytest.skip("nothing was compiled")


def mixed(count: int, tokens: int) -> list[SequenceStart]:
    """Sequences of all formats, and plain ones between them."""
    kinds = [PLAIN, *FORMATS.values()]
    texts = prompts(count, longest=60)
    return [
        start(text, seed=i, temperature=i % 3 / 2, max_new_tokens=tokens, **kinds[i % len(kinds)])
        for i, text in enumerate(texts)
    ]


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize("architecture", ["llama", "mistral-window", "gemma2"])
def test_alone_in_a_batch_in_chunks_preempted_and_resumed(
    architecture: str, checkpoint: Callable[[str], Path], seen: Seen
) -> None:
    model = load(checkpoint(architecture))
    starts = mixed(7, 26)
    roomy = Engine(model, EngineConfig(block_size=8))
    tight = Engine(model, EngineConfig(max_batch=6, token_budget=13, block_size=8, num_blocks=20))
    alone = [generate(roomy, [again(s)])[0] for s in starts]
    assert generate(roomy, [again(s) for s in starts]) == alone
    assert generate(roomy, [again(s) for s in starts], join={i: 3 * i for i in range(7)}) == alone
    assert generate(tight, [again(s) for s in starts]) == alone
    for sequence, tokens in zip(starts, alone, strict=True):
        for count in (1, 17, 25):
            assert generate(tight, [again(sequence, tokens[:count])]) == [tokens[count:]]
    assert [s for s, patterns in seen.items() if len(patterns) > 1] == []
    assert len(seen) == 7 * 26


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("overlap", [False, True])
def test_prefixes_are_shared_within_a_format_alone(
    kind: str, overlap: bool, checkpoint: Callable[[str], Path], seen: Seen
) -> None:
    model = load(checkpoint("llama"))
    opening = prompts(1, seed=3)[0] * 80
    sizes = (70, 70, 64, 33, 9, 70)
    texts = [opening[:size] + own for size, own in zip(sizes, prompts(6, 20), strict=True)]
    starts = [start(text, seed=i, temperature=1.0, max_new_tokens=25) for i, text in enumerate(texts)]
    formats = [replace(s, sampling_params=replace(s.sampling_params, **FORMATS[kind])) for s in starts]
    config = EngineConfig(max_batch=5, token_budget=29, block_size=8, num_blocks=60, overlap=overlap)
    alone = [generate(Engine(model, config), [again(s)])[0] for s in (*starts, *formats)]
    engine = Engine(model, config)
    for _ in range(2):
        assert generate(engine, [again(s) for s in (*starts, *formats)]) == alone
    assert overlap or [s for s, patterns in seen.items() if len(patterns) > 1] == []  # ids that are unread are not seen
    assert engine.free_blocks == 60


def test_a_prompt_is_found_again_in_its_own_format(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(block_size=8))
    text = prompts(1, seed=5)[0] * 4

    def reused(kind: Params) -> int:
        sequence = start(text, max_new_tokens=1, **kind)
        engine.add(sequence)
        while (report := engine.step([sequence.request_id])[sequence.request_id].prompt) is None:
            pass
        engine.release(sequence.request_id)
        return report.cached_tokens

    kinds = [PLAIN, {**FORMATS["8 bits"]}, FORMATS["4 bits"], FORMATS["window"], FORMATS["4 bits, window"]]
    assert [reused(kind) for kind in kinds] == [0] * 5
    assert [reused(kind) > len(text) // 2 for kind in kinds] == [True] * 5


def test_what_was_quantised_on_its_way_is_found_by_nobody(llama: LoadedModel) -> None:
    """The same tokens in the same format, but computed in another one at first."""
    engine = Engine(llama, EngineConfig(block_size=8))
    later = start([5, 6, 7], max_new_tokens=80, kv_bits=8, quantized_kv_start=6)
    (said,) = generate(engine, [later])
    whole = start(later.prompt + said, max_new_tokens=1, **FORMATS["8 bits"])
    (found,) = run(engine, [whole])
    report = found[-1].prompt
    assert report is not None
    assert report.cached_tokens == 0


@pytest.mark.parametrize("kind", ["window", "4 bits, window", "8 bits, window, later"])
def test_a_window_gives_its_memory_back_and_takes_any_prompt(kind: str, llama: LoadedModel) -> None:
    roomy = Engine(llama, EngineConfig(block_size=8))
    small = Engine(llama, EngineConfig(max_batch=2, token_budget=32, block_size=8, num_blocks=9))  # 72 plain tokens
    short, long = (start([5 + i % 90 for i in range(n)], max_new_tokens=60, **FORMATS[kind]) for n in (20, 150))
    expected = [generate(roomy, [again(s)])[0] for s in (short, long)]
    assert generate(small, [again(short), again(long)]) == expected
    small.add(long)
    held = []
    while True:
        delta = small.step([long.request_id])[long.request_id]
        if delta.status.is_done:
            break
        if delta.tokens:
            held.append(9 - small.free_blocks)
    small.release(long.request_id)
    assert max(held[1:]) <= 24 // 8 + 2  # the window, the pinned block, and one that is half full or half gone
    with pytest.raises(ValueError, match="prompt has 150 tokens: at most 71 fit"):
        small.add(start([5] * 150))


def logits(model: LoadedModel, text: list[int], kind: Params) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The log probabilities of every id after every token of `text`."""
    engine = Engine(model, EngineConfig(block_size=8, token_budget=16))
    sequence = start(text, max_new_tokens=1, prompt_logprobs=-1, **kind)
    engine.add(sequence)
    while (report := engine.step([sequence.request_id])[sequence.request_id].prompt) is None:
        pass
    engine.release(sequence.request_id)
    assert report.log_probabilities is not None
    found = report.log_probabilities.all_log_probabilities
    assert found is not None
    return found


@pytest.mark.parametrize("architecture", ["llama", "mistral-window", "gemma2"])
def test_a_window_is_what_a_plain_model_computes_with_such_a_mask(
    architecture: str, checkpoint: Callable[[str], Path]
) -> None:
    """Held to transformers' own forward pass with a mask that is written out."""
    folder = checkpoint(architecture)
    text = prompts(1, seed=5)[0][:1] + [3 + i * 7 % 140 for i in range(89)]
    plain = load(folder).module
    position = torch.arange(len(text))
    after = position[:, None] - position
    seen = (after >= 0) & ((after < 20) | (position < 4))
    masks = {"full_attention": seen, "sliding_attention": seen & (after < 10)}
    if architecture == "mistral-window":
        masks["full_attention"] = masks["sliding_attention"]
    forms = {name: torch.zeros(1, 1, 90, 90).masked_fill(~mask, -torch.inf) for name, mask in masks.items()}
    given = forms if architecture == "gemma2" else forms["full_attention"]
    with torch.inference_mode():
        expected = plain(input_ids=torch.tensor([text]), attention_mask=given, use_cache=False).logits[0].float()
    found = logits(load(folder), text, FORMATS["window"])
    torch.testing.assert_close(torch.tensor(found), expected[:-1].log_softmax(-1), rtol=1e-3, atol=2e-3)
    unlimited = logits(load(folder), text, PLAIN)
    if architecture == "llama":
        assert np.abs(unlimited[:19] - found[:19]).max() < 1e-3 < np.abs(unlimited[30:] - found[30:]).max()


def test_more_bits_are_closer_and_all_are_close(llama: LoadedModel) -> None:
    text = [3 + i * 7 % 140 for i in range(120)]
    exact = logits(llama, text, PLAIN)
    away = {kind: np.abs(logits(llama, text, FORMATS[kind]) - exact).max() for kind in ("8 bits", "4 bits")}
    later = np.abs(logits(llama, text, {"kv_bits": 4, "quantized_kv_start": 1000}) - exact).max()
    assert later < 1e-3 < away["8 bits"] < 0.5 < away["4 bits"] < 20


def test_what_is_quantised_begins_at_its_start(llama: LoadedModel) -> None:
    """Token for token: until then nothing differs, and then everything is quantised at once."""
    text = [3 + i * 7 % 140 for i in range(40)]
    params: Params = {"max_new_tokens": 40, "logprobs": -1, "seed": 3, "temperature": 0.0}
    engine = Engine(llama, EngineConfig(block_size=8))

    def scores(**more: Any) -> list[bytes]:
        sequence = start(text, **params, **more)
        found = []
        engine.add(sequence)
        while True:
            delta = engine.step([sequence.request_id])[sequence.request_id]
            if delta.log_probabilities is not None:
                whole = delta.log_probabilities.all_log_probabilities
                assert whole is not None
                found.append(whole.tobytes())
            if delta.status.is_done:
                engine.release(sequence.request_id)
                return found

    plain, later = scores(), scores(kv_bits=8, quantized_kv_start=60)
    assert plain[:21] == later[:21]  # the first is sampled after 40 tokens, the 21st after 60
    assert plain[21] != later[21]


@pytest.mark.parametrize(("bits", "share"), [(8, 0.55), (4, 0.32)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_2000_tokens_take_a_share_of_16_bits(
    bits: int, share: float, dtype: Literal["float32", "bfloat16"], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, "llama", head_dim=64, num_hidden_layers=1, max_position_embeddings=4096)
    engine = Engine(load_model(tmp_path, dtype=dtype), EngineConfig(token_budget=512, num_blocks=128))
    sequence = start([3 + i % 140 for i in range(1999)], max_new_tokens=2, kv_bits=bits, quantized_kv_start=0)
    engine.add(sequence)
    while not engine.step([sequence.request_id])[sequence.request_id].tokens:
        pass
    block = 32 * 2 * 2 * 64 * (4 if dtype == "float32" else 2)
    assert (128 - engine.free_blocks) * block <= share * 2000 * 2 * 2 * 64 * 2
    engine.release(sequence.request_id)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_switch_that_fails_is_taken_again_from_the_beginning(
    overlap: bool, llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = [start(text[:20], max_new_tokens=40, **FORMATS["8 bits, later"]) for text in prompts(2)]
    config = EngineConfig(block_size=8, num_blocks=40, overlap=overlap)
    expected = generate(Engine(llama, config), [again(s) for s in starts])
    quantise, failures = KVCache.quantise, [0]

    def fails_once(cache: KVCache, slots: list[int], places: list[int], blocks: list[int], form: KVFormat) -> None:
        if not failures[0]:
            failures[0] += 1
            cache._store[0, blocks[0] * 8 : (blocks[0] + 1) * 8] = torch.nan  # in the midst of its first layer
            raise InterruptedError
        quantise(cache, slots, places, blocks, form)

    monkeypatch.setattr(KVCache, "quantise", fails_once)
    engine = Engine(llama, config)
    step = engine.step

    def repeated(active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        try:
            return step(active)
        except InterruptedError:
            return step(active)

    monkeypatch.setattr(engine, "step", repeated)
    assert generate(engine, starts) == expected
    assert failures == [1]


def test_a_switch_shares_no_memory_with_those_who_go_on(llama: LoadedModel) -> None:
    """Two have the same prompt by reference; one of them is quantised on its way."""
    text = prompts(1, seed=5)[0][:1] * 40
    plain, later = start(text, max_new_tokens=30), start(text, max_new_tokens=30, **FORMATS["8 bits, later"])
    alone = [generate(Engine(llama, EngineConfig(block_size=8)), [again(s)])[0] for s in (plain, later)]
    for blocks in (10, 11, 12, 40):
        engine = Engine(llama, EngineConfig(max_batch=2, block_size=8, num_blocks=blocks))
        assert generate(engine, [again(plain), again(later)], join={0: 0, 1: 1}) == alone
        assert generate(engine, [again(later), again(plain)], join={0: 0, 1: 1}) == alone[::-1]
        assert engine.free_blocks == blocks


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sequence_with_nan_fails_alone(kind: str, checkpoint: Callable[[str], Path]) -> None:
    model = load(checkpoint("llama"))
    engine = Engine(model, EngineConfig(block_size=8, num_blocks=40))
    good = [start(text, max_new_tokens=30, **FORMATS[kind]) for text in ([5, 6, 7], [8, 9] * 30)]
    expected = generate(engine, [again(s) for s in good])
    poison = next(token for token in range(10, VOCAB) if token not in expected[0] + expected[1])
    model.module.get_input_embeddings().get_parameter("weight").data[poison] = torch.nan
    bad = start([5, poison, 7], **FORMATS[kind])
    engine.add(bad)
    with pytest.raises(SequenceError, match=str(bad.request_id)):
        engine.step([bad.request_id])
    engine.release(bad.request_id)
    assert generate(engine, [replace(again(s), cache_salt="shares no prefix") for s in good]) == expected


def test_more_quantised_tokens_fit_than_plain_ones(llama: LoadedModel) -> None:
    engine = Engine(llama, EngineConfig(block_size=8, num_blocks=10))
    with pytest.raises(ValueError, match="at most 79 fit"):
        engine.add(start([5] * 100))
    assert len(generate(engine, [start([5] * 100, max_new_tokens=9, **FORMATS["8 bits"])])[0]) == 9
    assert len(generate(engine, [start([5] * 40, max_new_tokens=90, **FORMATS["8 bits, later"])])[0]) == 90


def test_what_cannot_be_kept_so_is_refused_by_name(
    llama: LoadedModel, plain_llama: LoadedModel, tmp_path: Path
) -> None:
    engine, reference = Engine(llama), ReferenceEngine(plain_llama)
    with pytest.raises(ValueError, match=r"SamplingParams\.kv_bits = 6: must be 4 or 8"):
        engine.add(start([5], kv_bits=6))
    refused: list[Params] = [{"kv_bits": 8}, {"max_kv_size": 64}]
    for params in refused:
        with pytest.raises(ValueError, match=rf"SamplingParams\.{next(iter(params))} = .*reference"):
            reference.add(start([5], **params))
    save_checkpoint(tmp_path, "llama", head_dim=48)
    with pytest.raises(ValueError, match=r"SamplingParams\.kv_group_size = 32: must divide the heads' width of 48"):
        Engine(load(tmp_path)).add(start([5], kv_bits=8, kv_group_size=32))
    assert engine.step([]) == {}
