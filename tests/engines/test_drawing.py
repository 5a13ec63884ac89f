"""A model that draws gives the codes that transformers gives, beside texts and other pictures, in any memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from max_engines import fused_decoder
from max_engines.config import EngineConfig
from max_engines.drawing import DrawingEngine, DrawingModel, draws, load_drawing
from max_engines.drawing.model import Pixels
from max_engines.engine import Engine
from max_engines.rules import SequenceError
from max_interfaces import DeviceLost, GenerationStatus, RequestID, SamplingParams
from max_interfaces.protocols import Feature, SequenceStart, TokenDelta
from tests.engines.tiny_models import again, generate, load, run, save_checkpoint
from tests.engines.tiny_multimodal import BEGIN_IMAGE, CODES, DRAWN, plain_multimodal, save_multimodal, words
from tests.engines.tiny_processors import save_with_processor

BLOCK = 8
SEED = 3
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
PROMPTS = [(1, *words(seed, 2 + 5 * seed)) for seed in range(4)]


@dataclass(frozen=True)
class Drawn:
    """What came of a picture."""

    codes: tuple[int, ...]
    pixels: NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws."""
    folder = save_multimodal(tmp_path_factory.mktemp("janus"), "janus")
    told = {"image_processor_type": "JanusImageProcessor", "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> DrawingModel:
    """It, for the engines."""
    return load_drawing(folder)


@pytest.fixture(scope="module")
def plain(folder: Path) -> PreTrainedModel:
    """It, as transformers runs it."""
    return plain_multimodal(folder)


@pytest.fixture(scope="module")
def expected(plain: PreTrainedModel) -> list[tuple[int, ...]]:
    """The codes of each of `PROMPTS`, greedily."""
    return [codes_of(plain, prompt) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def engine(model: DrawingModel) -> DrawingEngine:
    """An engine that several tests use, one after the other."""
    return DrawingEngine(model, EngineConfig(block_size=BLOCK, max_batch=16, token_budget=40))


def codes_of(plain: Any, prompt: tuple[int, ...], scale: float = 5.0) -> tuple[int, ...]:
    """What transformers' own `generate` draws."""
    ids = torch.tensor([[*prompt, BEGIN_IMAGE]])
    told = {"attention_mask": torch.ones_like(ids), "do_sample": False, "guidance_scale": scale}
    output: Tensor = plain.generate(input_ids=ids, generation_mode="image", **told)
    return tuple(output[0].tolist())


def ask(prompt: tuple[int, ...], guidance: float | None = 5.0, seed: int = SEED, **params: Any) -> SequenceStart:
    return SequenceStart(RequestID(), prompt, SamplingParams(**{"temperature": 0, **params}), seed, guidance=guidance)


def text(seed: int, count: int = 12) -> SequenceStart:
    return ask((1, *words(seed, 9)), None, max_new_tokens=count, ignore_eos=True)


def drawn(deltas: list[TokenDelta]) -> Drawn:
    """Of all that was told of one picture; its end comes with its pixels, and nothing before."""
    assert [delta.status.is_done for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert [delta.picture is not None for delta in deltas] == [delta.status.is_done for delta in deltas]
    assert deltas[-1].status is GenerationStatus.MAXIMUM_LENGTH
    assert deltas[-1].picture is not None
    return Drawn(tuple(token for delta in deltas for token in delta.tokens), deltas[-1].picture)


def draw(engine: DrawingEngine, *starts: SequenceStart, join: dict[int, int] | None = None) -> list[Drawn]:
    return [drawn(deltas) for deltas in run(engine, list(starts), join)]


def run_out(engine: DrawingEngine, key: RequestID) -> None:
    """Steps of one that was added, to its end."""
    while not engine.step([key]).get(key, TokenDelta()).status.is_done:
        pass


def test_codes_and_pixels_are_those_of_transformers(
    engine: DrawingEngine, plain: Any, expected: list[tuple[int, ...]]
) -> None:
    assert len(set(expected)) == len(expected)
    mean, std = (torch.tensor(values) for values in (MEAN, STD))
    for prompt, codes in zip(PROMPTS, expected, strict=True):
        (found,) = draw(engine, ask(prompt))
        assert found.codes == codes
        with torch.no_grad():
            values = plain.decode_image_tokens(torch.tensor([codes]))[0]
        levels = (values - -255 * mean / std / 255) / (1 / std / 255)  # `postprocess`, where there is torchvision
        assert found.pixels.shape == (8, 8, 3)
        assert np.abs(found.pixels - levels.clip(0, 255).numpy()).max() < 1.01
        assert found.pixels.std() > 20


def test_codes_are_the_same_in_a_mixed_batch_with_chunks(
    model: DrawingModel, engine: DrawingEngine, expected: list[tuple[int, ...]]
) -> None:
    texts = [text(1), text(2)]
    alone = [generate(engine, [again(one)])[0] for one in texts]
    for overlap in (False, True):
        small = DrawingEngine(model, EngineConfig(block_size=BLOCK, max_batch=10, token_budget=12, overlap=overlap))
        starts = [*map(ask, PROMPTS), *map(again, texts)]
        told = run(small, starts, {i: 7 - i for i in range(6)})
        assert [drawn(deltas).codes for deltas in told[:4]] == expected
        assert [tuple(token for delta in deltas for token in delta.tokens) for deltas in told[4:]] == alone


def test_several_are_drawn_in_one_batch(engine: DrawingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    scores = engine.model.scores

    def counted(_: DrawingModel, states: Tensor) -> Tensor:
        rows.append(len(states))
        return scores(states)

    monkeypatch.setattr(DrawingModel, "scores", counted)
    draw(engine, *map(ask, PROMPTS))
    assert len(rows) < DRAWN + 4
    assert max(rows) == 2 * len(PROMPTS)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_company_chunks_and_memory_change_nothing(
    data: st.DataObject, model: DrawingModel, expected: list[tuple[int, ...]], alone: list[tuple[int, ...]]
) -> None:
    size = data.draw(st.sampled_from([3, 4, 8]), "size")
    least = 2 * -(-(max(map(len, PROMPTS)) + DRAWN + 2) // size)
    config = EngineConfig(
        max_batch=data.draw(st.integers(2, 6), "batch"),
        token_budget=data.draw(st.integers(6, 40), "budget"),
        num_blocks=data.draw(st.integers(least, 2 * least), "blocks"),
        block_size=size,
        overlap=data.draw(st.booleans(), "overlap"),
    )
    engine = DrawingEngine(model, config)
    free = engine.language.free_blocks
    pictures = data.draw(st.lists(st.sampled_from(range(4)), min_size=1, max_size=4), "pictures")
    texts = data.draw(st.lists(st.sampled_from([1, 2]), max_size=3), "texts")
    wanted = [(expected[one], ask(PROMPTS[one])) for one in pictures] + [(alone[one - 1], text(one)) for one in texts]
    wanted = data.draw(st.permutations(wanted), "order")
    wanted = [(tokens, replace(one, priority=data.draw(st.integers(0, 2), "priority"))) for tokens, one in wanted]
    join = {i: data.draw(st.integers(0, 9), "join") for i in range(len(wanted))}
    assert generate(engine, [one for _, one in wanted], join) == [tokens for tokens, _ in wanted]
    assert engine.language.free_blocks == free


@pytest.fixture(scope="module")
def alone(engine: DrawingEngine) -> list[tuple[int, ...]]:
    """What is said to the texts 1 and 2."""
    return [generate(engine, [text(seed)])[0] for seed in (1, 2)]


def test_a_paused_picture_gives_its_memory_up_and_goes_on(model: DrawingModel, expected: list[tuple[int, ...]]) -> None:
    blocks = 2 * -(-(len(PROMPTS[3]) + DRAWN + 2) // BLOCK)
    engine = DrawingEngine(model, EngineConfig(block_size=BLOCK, max_batch=4, token_budget=64, num_blocks=blocks))
    paused = ask(PROMPTS[3])
    engine.add(paused)
    codes: list[int] = []
    while len(codes) < 5:
        codes += engine.step([paused.request_id]).get(paused.request_id, TokenDelta()).tokens
    assert draw(engine, ask(PROMPTS[2]))[0].codes == expected[2]
    done = False
    while not done:
        delta = engine.step([paused.request_id]).get(paused.request_id, TokenDelta())
        codes += delta.tokens
        done = delta.status.is_done
    assert engine.step([paused.request_id]) == {}
    engine.release(paused.request_id)
    assert tuple(codes) == expected[3]


@pytest.mark.parametrize("known", [1, 7, DRAWN - 1, DRAWN])
def test_another_worker_goes_on_at_any_code(engine: DrawingEngine, expected: list[tuple[int, ...]], known: int) -> None:
    (whole,) = draw(engine, ask(PROMPTS[2]))
    (rest,) = draw(engine, replace(ask(PROMPTS[2]), accepted=expected[2][:known]))
    assert rest.codes == expected[2][known:]
    assert np.array_equal(rest.pixels, whole.pixels)


def test_codes_are_drawn_by_seed_whoever_else_is_there(engine: DrawingEngine) -> None:
    starts = [ask(PROMPTS[1], seed=seed, temperature=1.0, top_k=12, top_p=0.95) for seed in (1, 2, 3)]
    mixed = [one.codes for one in draw(engine, *map(again, starts), ask(PROMPTS[0]), ask(PROMPTS[2]))[:3]]
    assert [draw(engine, again(one))[0].codes for one in starts] == mixed
    assert len(set(mixed)) == 3
    (resumed,) = draw(engine, replace(again(starts[0]), accepted=mixed[0][:6]))
    assert resumed.codes == mixed[0][6:]


def test_guidance_counts(engine: DrawingEngine, plain: Any) -> None:
    for scale in (1.5, 2.5):
        assert draw(engine, ask(PROMPTS[2], scale))[0].codes == codes_of(plain, PROMPTS[2], scale)
    with torch.no_grad():  # of 1 the prompt alone is left
        ids = torch.tensor([[*PROMPTS[2], BEGIN_IMAGE]])
        states = plain.model.language_model(ids).last_hidden_state[:, -1]
        first = int(plain.model.generation_head(states).argmax())
    assert draw(engine, ask(PROMPTS[2], 1.0))[0].codes[0] == first


def test_a_prompt_may_end_where_a_picture_begins(engine: DrawingEngine, expected: list[tuple[int, ...]]) -> None:
    assert draw(engine, ask((*PROMPTS[1], BEGIN_IMAGE)))[0].codes == expected[1]


def test_one_that_leaves_gives_back_all_it_has(engine: DrawingEngine) -> None:
    free, start = engine.language.free_blocks, ask(PROMPTS[1])
    for steps in (0, 1, 5, DRAWN + 1):
        engine.add(start)
        for _ in range(steps):
            engine.step([start.request_id])
        engine.release(start.request_id)
        assert engine.language.free_blocks == free


def test_no_text_finds_what_was_computed_of_a_picture(model: DrawingModel, folder: Path) -> None:
    """The ids that the language model would have said to a picture are never looked up."""
    engine = DrawingEngine(model, EngineConfig(block_size=4, max_batch=4))
    start = ask(PROMPTS[1])
    engine.add(start)
    said: list[int] = []
    while len(said) < DRAWN:
        engine.step([start.request_id])
        found = engine.language._scheduler.sequences.get(start.request_id)
        said = said if found is None else list(found.row.output)
        if found is None:
            break
    engine.release(start.request_id)
    same = ask((*PROMPTS[1], BEGIN_IMAGE, *said, 5), None, max_new_tokens=8, ignore_eos=True)
    assert generate(engine, [same]) == generate(Engine(load(folder)), [again(same)])


@pytest.mark.parametrize("part", ["language", "codes", "pixels"])
def test_a_step_that_fails_can_be_repeated(
    engine: DrawingEngine, expected: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    owner: Any = {"language": engine.language, "codes": DrawingModel, "pixels": Pixels}[part]
    name = {"language": "step", "codes": "scores", "pixels": "of"}[part]
    real, calls = getattr(owner, name), [0]

    def sometimes(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] % 2:
            raise RuntimeError("not now" if part != "pixels" else "out of memory")
        return real(*args)

    monkeypatch.setattr(owner, name, sometimes)
    step, failures = engine.step, [0]

    def stubborn(active: Any) -> Any:
        try:
            return step(active)
        except RuntimeError:
            failures[0] += 1
            return stubborn(active)

    monkeypatch.setattr(engine, "step", stubborn)
    starts = [ask(PROMPTS[0]), ask(PROMPTS[1])]
    assert [one.codes for one in draw(engine, *starts)] == expected[:2]
    assert failures[0] > 1 or part == "pixels"
    assert calls[0] > 2


def test_pixels_that_fail_are_not_made_again_and_fail_their_picture_alone(
    engine: DrawingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def never(*_: Any) -> Any:
        calls[0] += 1
        raise RuntimeError("no pixels")

    said, failed = text(1, 100), ask(PROMPTS[0])
    (expected,) = generate(engine, [again(said)])
    monkeypatch.setattr(Pixels, "of", never)
    for one in (said, failed):
        engine.add(one)
    with pytest.raises(RuntimeError, match="no pixels"):
        run_out(engine, failed.request_id)
    tokens: list[int] = []
    for _ in range(5):  # as often as anybody asks, and at once
        with pytest.raises(RuntimeError, match="no pixels"):
            engine.step([said.request_id, failed.request_id])
        with pytest.raises(RuntimeError, match="no pixels"):
            engine.step([failed.request_id])
        tokens += engine.step([said.request_id]).get(said.request_id, TokenDelta()).tokens
    assert calls == [1]
    engine.release(failed.request_id)
    while len(tokens) < len(expected):
        tokens += engine.step([said.request_id]).get(said.request_id, TokenDelta()).tokens
    engine.release(said.request_id)
    assert tuple(tokens) == expected


def test_one_whose_scores_are_no_numbers_is_named_and_the_others_go_on(
    engine: DrawingEngine, expected: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = ask(PROMPTS[0]), ask(PROMPTS[1])
    scores, poison = engine.model.scores, [1.0, 1.0, float("nan"), 1.0]
    monkeypatch.setattr(DrawingModel, "scores", lambda _, states: scores(states) * torch.tensor(poison)[:, None])
    engine.add(good)
    engine.add(bad)
    engine.step([good.request_id, bad.request_id])  # their prompts, but for the last ids
    with pytest.raises(SequenceError, match=str(bad.request_id)):
        engine.step([good.request_id, bad.request_id])
    engine.release(bad.request_id)
    poison = [1.0, 1.0]
    codes: list[int] = []
    while len(codes) < DRAWN:
        codes += engine.step([good.request_id]).get(good.request_id, TokenDelta()).tokens
    engine.release(good.request_id)
    assert tuple(codes) == expected[0]


def test_a_device_that_is_lost_while_pixels_are_made(engine: DrawingEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any) -> Any:
        raise RuntimeError("gone")

    monkeypatch.setattr(Pixels, "of", lose)
    monkeypatch.setattr("max_engines.drawing.engine.device_lost", lambda problem, device: True)
    start = ask(PROMPTS[0])
    engine.add(start)
    with pytest.raises(DeviceLost, match="gone"):  # in the step of the last code already, if the thread is quick
        run_out(engine, start.request_id)
    engine.release(start.request_id)


@pytest.mark.filterwarnings("ignore:maxpipe was installed without")
def test_codes_are_the_same_without_compiled_operations_and_without_the_fused_decoder(
    folder: Path,
    expected: list[tuple[int, ...]],
    without_compiled: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_compiled()
    starts = [ask(prompt) for prompt in PROMPTS]
    config = EngineConfig(block_size=BLOCK, max_batch=8, token_budget=10)
    assert [one.codes for one in draw(DrawingEngine(load_drawing(folder), config), *starts)] == expected
    monkeypatch.setattr(fused_decoder, "SAME_MODELS", ())
    assert [one.codes for one in draw(DrawingEngine(load_drawing(folder), config), *map(again, starts))] == expected


def test_bfloat16_draws(folder: Path) -> None:
    engine = DrawingEngine(load_drawing(folder, dtype="bfloat16"), EngineConfig(block_size=BLOCK, max_batch=8))
    found = draw(engine, ask(PROMPTS[0]), ask(PROMPTS[1]))
    assert [len(one.codes) for one in found] == [DRAWN, DRAWN]
    assert engine.model.decoder.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prompt": tuple(words(1, 239))}, r"has 240 tokens: at most 239 fit, for a picture has 16 codes"),
        ({"prompt": (500,)}, r"token 500 is not in the vocabulary of 150"),
        ({"prompt": ()}, "needs at least one token"),
        ({"accepted": (CODES,)}, rf"accepted: token {CODES} is not in the vocabulary of {CODES}"),
        ({"accepted": (0,) * 17}, r"accepted has 17 codes: a picture has 16"),
        ({"media": (Feature.of("pixel_values", np.zeros((1, 3, 4, 4), np.float32)),)}, "drawn of text alone"),
        ({"voice": "Ethan"}, r"voice: cannot be had for a picture"),
        ({"adapter": "a"}, r"adapter: cannot be had for a picture"),
        ({"sampling_params": SamplingParams(beam_width=2)}, "a picture has no beams"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(engine: DrawingEngine, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        engine.add(replace(ask(PROMPTS[0]), **change))


def test_where_there_is_no_room_for_two_sequences(model: DrawingModel, engine: DrawingEngine) -> None:
    with pytest.raises(ValueError, match="a picture is two sequences"):
        DrawingEngine(model, EngineConfig(block_size=BLOCK, max_batch=1)).add(ask(PROMPTS[0]))
    with pytest.raises(ValueError, match=r"at most 7 fit, .* takes memory twice"):
        DrawingEngine(model, EngineConfig(block_size=BLOCK, num_blocks=7)).add(ask((1, *words(1, 7))))
    with pytest.raises(ValueError, match=r"guidance = 5.0: this model does not draw"):
        engine.language.add(ask(PROMPTS[0]))
    start = ask(PROMPTS[0])
    engine.add(start)
    with pytest.raises(ValueError, match="is running already"):
        engine.add(start)
    engine.release(start.request_id)


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        (
            "generation_config.json",
            {"generation_kwargs": None},
            "boi_token_id = None: must be an id",
        ),
        ("generation_config.json", {"pad_token_id": 150}, r"pad_token_id = 150: must be an id, below 150"),
        ("preprocessor_config.json", {"image_std": [0.5, 0, 0.5]}, "image_mean and image_std must be three numbers"),
        ("preprocessor_config.json", None, "it cannot draw"),
    ],
)
def test_a_checkpoint_that_cannot_draw_is_refused(
    folder: Path, tmp_path: Path, file: str, change: dict[str, Any] | None, why: str
) -> None:
    for path in folder.iterdir():
        if path.name != file:
            (tmp_path / path.name).symlink_to(path)
    if change is not None:
        (tmp_path / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **change}))
    with pytest.raises(ValueError, match=f"cannot load the model .*{why}"):
        load_drawing(tmp_path)


def test_which_models_draw(folder: Path, tmp_path: Path) -> None:
    assert draws(folder)
    save_checkpoint(tmp_path / "llama", "llama")
    assert not draws(tmp_path / "llama")
    with pytest.raises(ValueError, match="its architecture does not draw"):
        load_drawing(tmp_path / "llama")


def test_pixels_that_are_no_numbers_are_refused() -> None:
    pixels = Pixels(np.array(MEAN, np.float32), np.array(STD, np.float32))
    assert pixels.of(np.zeros((1, 1, 3), np.float32)).tolist() == [[[122, 117, 104]]]
    assert pixels.of(np.full((1, 1, 3), 1e9, np.float32)).tolist() == [[[255, 255, 255]]]
    with pytest.raises(ValueError, match="no numbers"):
        pixels.of(np.full((1, 1, 3), np.nan, np.float32))


def test_its_processor_is_the_checkpoints(tmp_path: Path) -> None:
    model = load_drawing(save_with_processor(tmp_path, "janus"))
    assert model.pixels.mean.tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])
