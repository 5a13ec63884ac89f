"""Models that see and hear say what transformers says, alone and among others; what they are shown is in the cache's
keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from max_engines import fused_decoder, rotary
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel
from max_engines.reference import ReferenceEngine
from max_interfaces.identity import RequestID
from max_interfaces.protocols import Feature, SequenceStart, TokenDelta
from tests.engines.tiny_adapters import save_lora, save_soft_prompt
from tests.engines.tiny_models import again, generate, load, prompts, run, start
from tests.engines.tiny_multimodal import (
    IMAGE,
    MODELS,
    Shown,
    plain_multimodal,
    said_by_transformers,
    save_multimodal,
)

BLOCK = 8
COUNT = 16  # new tokens
SEEDS = (1, 2, 3)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint, by the name of its model."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_multimodal(tmp_path_factory.mktemp(name), name)
        return made[name]

    return folder


@pytest.fixture(params=MODELS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    """Each of the models in turn."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def plain(name: str, saved: Callable[[str], Path]) -> PreTrainedModel:
    """A model as transformers runs it."""
    return plain_multimodal(saved(name))


@pytest.fixture(scope="module")
def expected(name: str, plain: PreTrainedModel) -> list[tuple[int, ...]]:
    """What transformers says to each of `SEEDS`, and then to each of `texts`."""
    media = [said_by_transformers(plain, shown(name, seed), COUNT) for seed in SEEDS]
    return [*media, *(said_by_transformers(plain, Shown(tuple(text), {}), COUNT) for text in texts())]


@pytest.fixture(scope="module")
def model(name: str, saved: Callable[[str], Path]) -> LoadedModel:
    """The same for the engines."""
    return load(saved(name))


def shown(name: str, seed: int) -> Shown:
    return MODELS[name][1](seed)


def texts() -> list[list[int]]:
    return [[token % 130 + 3 for token in text] for text in prompts(3, longest=30)]


def ask(shown: Shown, **params: Any) -> SequenceStart:
    wanted = {"max_new_tokens": COUNT, "ignore_eos": True, **params}
    return replace(start(shown.prompt, **wanted), media=shown.features)


def asked(name: str) -> list[SequenceStart]:
    """Each of `SEEDS`, and then each of `texts`."""
    media = [ask(shown(name, seed)) for seed in SEEDS]
    return [*media, *(ask(Shown(tuple(text), {})) for text in texts())]


def altered(shown: Shown) -> Shown:
    """The same placeholders, and other pixels or sounds."""
    floats = ("pixel_values", "pixel_values_videos", "input_features")
    return Shown(shown.prompt, {n: array.flip(-1) * 0.7 if n in floats else array for n, array in shown.arrays.items()})


class Calls:
    """Counts the calls of a model's encoders."""

    def __init__(self, model: LoadedModel) -> None:
        self.count = 0
        inner = model.whole.get_submodule("model")  # type: ignore[union-attr]
        names = ("vision_tower", "audio_tower", "visual", "vision_model")
        towers = [child for name, child in inner.named_children() if name in names]
        self._handles = [tower.register_forward_pre_hook(self._called) for tower in towers]

    def _called(self, *_: object) -> None:
        self.count += 1

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()


@pytest.fixture
def calls(model: LoadedModel) -> Iterator[Calls]:
    counted = Calls(model)
    yield counted
    counted.stop()


def test_what_is_shown_makes_a_difference(name: str, plain: PreTrainedModel, expected: list[tuple[int, ...]]) -> None:
    other = said_by_transformers(plain, altered(shown(name, 1)), COUNT)
    assert other != expected[0]
    assert len(set(expected)) == len(expected)


def test_tokens_equal_generate_alone(model: LoadedModel, name: str, expected: list[tuple[int, ...]]) -> None:
    engine = Engine(model, EngineConfig(max_batch=2, token_budget=128, num_blocks=24, block_size=BLOCK))
    assert [generate(engine, [alone])[0] for alone in asked(name)] == expected


def test_encoders_in_slices_hold_nobody_up_and_find_the_same(
    model: LoadedModel, name: str, expected: list[tuple[int, ...]]
) -> None:
    """Between two slices others decode, and use the same encoders; who gives up leaves nothing behind."""
    engine = Engine(model, EngineConfig(max_batch=4, num_blocks=96, block_size=BLOCK))
    seeing, other, third, text, *_ = asked(name)
    given_up, encoding = (engine.encoding(one.prompt, one.media) for one in (third, seeing))
    assert not given_up.advance(0)
    said: dict[RequestID, tuple[int, ...]] = {text.request_id: (), other.request_id: ()}
    engine.add(text)
    slices = 1
    while not encoding.advance(0):
        slices += 1
        if slices == 2:
            engine.add(other)  # whose encoders run in one piece, within another's pause
        for key, delta in engine.step([key for key in said if key == text.request_id or slices > 1]).items():
            said[key] += delta.tokens
    assert slices > 1
    given_up.close()
    assert model.whole is not None
    assert not any(module._forward_pre_hooks for module in model.whole.modules())
    for one in (text, other):
        engine.release(one.request_id)
    assert generate(engine, [seeing]) == expected[:1]
    assert said[text.request_id] == expected[3][: len(said[text.request_id])]
    assert said[other.request_id] == expected[1][: len(said[other.request_id])]


def test_what_was_encoded_ahead_is_not_encoded_again(model: LoadedModel, name: str, calls: Calls) -> None:
    engine = Engine(model, EngineConfig(max_batch=2, num_blocks=48, block_size=BLOCK))
    seeing = asked(name)[0]
    encoding = engine.encoding(seeing.prompt, seeing.media)
    assert encoding.advance(60)
    before = calls.count
    generate(engine, [seeing])
    assert calls.count == before > 0


def test_tokens_equal_generate_in_a_mixed_batch_with_chunks(
    model: LoadedModel, name: str, expected: list[tuple[int, ...]]
) -> None:
    engine = Engine(model, EngineConfig(max_batch=6, token_budget=10, num_blocks=80, block_size=BLOCK))
    assert generate(engine, asked(name), join={i: 5 - i for i in range(6)}) == expected


@pytest.mark.parametrize("overlap", [False, True])
def test_tokens_equal_generate_where_memory_runs_out_and_encoders_run_once(
    model: LoadedModel, name: str, expected: list[tuple[int, ...]], calls: Calls, overlap: bool
) -> None:
    alone = Engine(model, EngineConfig(max_batch=6, token_budget=64, num_blocks=80, block_size=BLOCK))
    longest = max(len(one.prompt) for one in asked(name)) + COUNT
    blocks = -(-longest // BLOCK) + 5
    engine = Engine(
        model, EngineConfig(max_batch=6, token_budget=20, num_blocks=blocks, block_size=BLOCK, overlap=overlap)
    )
    generate(alone, asked(name)[:3])
    once = calls.count
    free = engine.free_blocks
    assert generate(engine, asked(name)) == expected
    assert calls.count == 2 * once
    assert engine.free_blocks == free


def test_those_who_ask_the_same_at_once_share_what_the_encoders_give(
    model: LoadedModel, name: str, calls: Calls
) -> None:
    engine = Engine(model, EngineConfig(max_batch=6, block_size=BLOCK))
    generate(engine, [ask(shown(name, 1))])
    once, calls.count = calls.count, 0
    generate(engine, [replace(ask(shown(name, 1), temperature=1.0), seed=i) for i in range(3)])
    assert calls.count == once


def test_the_same_media_are_found_in_the_cache_and_others_are_not(
    model: LoadedModel, name: str, plain: PreTrainedModel, expected: list[tuple[int, ...]]
) -> None:
    """Whatever stands before the first image or sound is shared; the placeholders' ids are the same in both."""
    engine = Engine(model, EngineConfig(max_batch=6, token_budget=64, num_blocks=80, block_size=4))
    first, other = shown(name, 1), altered(shown(name, 1))
    length = len(first.prompt)
    before = next(i for i, token in enumerate(first.prompt) if token >= IMAGE)
    assert run_one(engine, ask(first)) == (expected[0], 0)
    assert run_one(engine, ask(first)) == (expected[0], length - 1)
    tokens, cached = run_one(engine, ask(other))
    assert tokens == said_by_transformers(plain, other, COUNT)
    assert before // 4 * 4 <= cached <= before + 1
    assert run_one(engine, ask(other))[1] == length - 1
    text = Shown((*first.prompt[: before // 4 * 4], 7, 8, 9), {})
    assert run_one(engine, ask(text))[1] == before // 4 * 4


@pytest.mark.filterwarnings("ignore:maxpipe was installed without")
def test_tokens_equal_generate_without_compiled_operations_and_without_the_fused_decoder(
    saved: Callable[[str], Path],
    name: str,
    expected: list[tuple[int, ...]],
    without_compiled: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_compiled()
    torch_alone = Engine(load(saved(name)), EngineConfig(max_batch=6, token_budget=10, block_size=BLOCK))
    assert generate(torch_alone, asked(name)) == expected
    monkeypatch.setattr(fused_decoder, "SAME_MODELS", ())
    transformers_own = Engine(load(saved(name)), EngineConfig(max_batch=6, token_budget=10, block_size=BLOCK))
    assert generate(transformers_own, asked(name)) == expected


def test_scores_are_the_same_to_the_last_bit_alone_in_a_batch_and_in_any_chunks(model: LoadedModel, name: str) -> None:
    whole = Engine(model, EngineConfig(max_batch=6, token_budget=128, block_size=BLOCK))
    chunks = Engine(model, EngineConfig(max_batch=6, token_budget=7, block_size=BLOCK))
    scored = [replace(one, sampling_params=replace(one.sampling_params, logprobs=-1)) for one in asked(name)]
    mixed = [scores(deltas) for deltas in run(chunks, scored, join={i: i for i in range(6)})]
    assert mixed == [scores(run(whole, [again(one)])[0]) for one in scored]


@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl"], scope="module")
def test_media_go_with_an_adapter_and_with_beams(
    model: LoadedModel, name: str, saved: Callable[[str], Path], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    engine = Engine(model, EngineConfig(max_batch=8, token_budget=16, block_size=BLOCK))
    kind = "llama" if name == "llava" else "qwen2"
    engine.adapters.load("a", str(save_lora(tmp_path / "a", checkpoint(kind))))
    engine.adapters.load("soft", str(save_soft_prompt(tmp_path / "soft", checkpoint(kind))))
    one = ask(shown(name, 1))
    adapted = replace(again(one), adapter="a")
    searched = replace(again(one), sampling_params=replace(one.sampling_params, beam_width=3))
    alone = [run(engine, [again(each)])[0][-1] for each in (one, adapted, searched)]
    mixed = run(engine, [one, adapted, searched, *asked(name)])[:3]
    tokens = generate(engine, [again(one), again(adapted)])
    assert tokens[0] != tokens[1]
    assert [hypothesis.tokens for hypothesis in mixed[2][-1].hypotheses] == [
        hypothesis.tokens for hypothesis in alone[2].hypotheses
    ]
    with pytest.raises(ValueError, match="cannot stand beside a soft prompt"):
        engine.add(replace(again(one), prompt_adapter="soft"))


@pytest.mark.parametrize("params", [{"kv_bits": 8}, {"max_kv_size": 16}, {"kv_bits": 4, "quantized_kv_start": 20}])
def test_media_go_with_less_memory_a_token_but_where_images_see_all_keys(
    saved: Callable[[str], Path], params: dict[str, int]
) -> None:
    engine = Engine(load(saved("qwen2.5-vl")), EngineConfig(max_batch=4, token_budget=10, block_size=BLOCK))
    several = [ask(shown("qwen2.5-vl", seed), **params) for seed in SEEDS]
    alone = [generate(engine, [again(one)])[0] for one in several]
    assert generate(engine, several) == alone
    seeing = Engine(load(saved("gemma3")), EngineConfig(max_batch=4, block_size=BLOCK))
    with pytest.raises(ValueError, match="images see all keys"):
        seeing.add(ask(shown("gemma3", 1), **params))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_chunks_blocks_and_company_change_nothing(data: st.DataObject, saved: Callable[[str], Path]) -> None:
    name = data.draw(st.sampled_from(["gemma3", "qwen3-vl"]), "name")
    model, expected = drawn_from(name, saved)
    config = EngineConfig(
        max_batch=data.draw(st.integers(1, 4), "batch"),
        token_budget=data.draw(st.integers(4, 40), "budget"),
        num_blocks=data.draw(st.integers(30, 60), "blocks"),
        block_size=data.draw(st.sampled_from([3, 4, 8]), "size"),
        overlap=data.draw(st.booleans(), "overlap"),
    )
    seeds = data.draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=4), "seeds")
    engine = Engine(model, config)
    join = {i: data.draw(st.integers(0, 9), "join") for i in range(len(seeds))}
    assert generate(engine, [ask(shown(name, seed)) for seed in seeds], join) == [expected[seed] for seed in seeds]


DRAWN: dict[str, tuple[LoadedModel, dict[int, tuple[int, ...]]]] = {}


def drawn_from(name: str, saved: Callable[[str], Path]) -> tuple[LoadedModel, dict[int, tuple[int, ...]]]:
    if name not in DRAWN:
        module = plain_multimodal(saved(name))
        said = {seed: said_by_transformers(module, shown(name, seed), COUNT) for seed in SEEDS}
        DRAWN[name] = load(saved(name)), said
    return DRAWN[name]


def test_bfloat16_runs_media(saved: Callable[[str], Path]) -> None:
    from max_engines.loading import load_model

    for name in ("llava", "gemma3", "qwen3-vl"):
        engine = Engine(load_model(saved(name), dtype="bfloat16"), EngineConfig(max_batch=6, block_size=BLOCK))
        assert [len(tokens) for tokens in generate(engine, asked(name))] == [COUNT] * 6


@pytest.fixture(scope="module")
def llava(saved: Callable[[str], Path]) -> Engine:
    return Engine(load(saved("llava")), EngineConfig(max_batch=4, block_size=BLOCK))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pixels": torch.zeros(1, 3, 32, 32)}, "'pixels': .* takes .*pixel_values"),
        ({"labels": torch.zeros(1, 4)}, "'labels': .* takes .*pixel_values"),
        ({"input_ids": torch.zeros(1, 4)}, "'input_ids'"),
        ({"pixel_values": torch.zeros(2, 3, 32, 32)}, "do not fit its prompt of 29 tokens"),
        ({"pixel_values": torch.zeros(1, 3, 16, 16)}, "do not fit its prompt of 29 tokens"),
        ({"pixel_values": torch.zeros(7)}, "do not fit its prompt of 29 tokens"),
        ({"pixel_values": torch.full((1, 3, 32, 32), 3e38)}, "NaN or infinite"),
    ],
)
def test_media_that_do_not_fit_are_refused_and_the_engine_goes_on(
    llava: Engine, change: dict[str, torch.Tensor], reason: str
) -> None:
    good = shown("llava", 1)
    before = generate(llava, [ask(good)])
    with pytest.raises(ValueError, match=f"SequenceStart.media: .*{reason}"):
        llava.add(ask(Shown(good.prompt, change)))
    assert generate(llava, [ask(good)]) == before


def test_positions_further_than_there_are_tokens_have_their_angles(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotary, "FIRST_ROWS", 8)
    film = shown("qwen2.5-vl-film", 1)
    expected = said_by_transformers(plain_multimodal(saved("qwen2.5-vl-film")), film, COUNT)
    assert generate(Engine(load(saved("qwen2.5-vl-film"))), [ask(film)]) == [expected]


def test_positions_beyond_the_context_are_refused(saved: Callable[[str], Path]) -> None:
    engine = Engine(load(saved("qwen2.5-vl")), EngineConfig(max_batch=4, block_size=BLOCK))
    film = shown("qwen2.5-vl-film", 1)
    with pytest.raises(ValueError, match=r"reach up to position .* beyond the context of 256"):
        engine.add(ask(Shown(film.prompt, {**film.arrays, "second_per_grid_ts": torch.tensor([1e6])})))


def test_a_model_of_text_alone_and_the_reference_refuse_media(llama: LoadedModel, saved: Callable[[str], Path]) -> None:
    one = replace(start([3, 4, 5]), media=(Feature.of("pixel_values", np.zeros((1, 3, 4, 4), np.float32)),))
    with pytest.raises(ValueError, match="takes text alone"):
        Engine(llama).add(one)
    with pytest.raises(ValueError, match=r"SequenceStart\.media"):
        ReferenceEngine(load(saved("llava"))).add(one)


def test_text_of_a_model_that_sees_is_the_references(saved: Callable[[str], Path]) -> None:
    text = [ask(Shown(tuple(text), {})) for text in texts()]
    engine, reference = Engine(load(saved("gemma3"))), ReferenceEngine(load(saved("gemma3")))
    assert generate(engine, text) == [generate(reference, [again(one)])[0] for one in text]


def run_one(engine: Engine, one: SequenceStart) -> tuple[tuple[int, ...], int]:
    """Its tokens, and how many of its prompt's came from the cache."""
    (deltas,) = run(engine, [one])
    tokens = tuple(token for delta in deltas for token in delta.tokens)
    return tokens, sum(delta.prompt.cached_tokens for delta in deltas if delta.prompt is not None)


def scores(deltas: Sequence[TokenDelta]) -> list[bytes]:
    """All log probabilities, to the last bit."""
    found = [delta.log_probabilities for delta in deltas if delta.tokens]
    return [one.all_log_probabilities.tobytes() for one in found]  # type: ignore[union-attr]
