"""A model that writes a frame a step says what transformers says, whoever is in the batch and whatever goes wrong."""

from __future__ import annotations

import contextlib
import json
import shutil
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from max_codecs.constraint import FrameBounds, SlotOrder
from max_codecs.layout import SpeechLayout
from max_codecs.prompt import PromptFormat
from max_codecs.slots import depth_first
from max_engines import fused_decoder
from max_engines import sequence as engine_sequence
from max_engines.config import EngineConfig
from max_engines.csm import CsmEngine, load_csm
from max_engines.csm.constraint import CodebookMasks
from max_engines.kernels import kernels_for
from max_engines.rules import SequenceError
from max_engines.weights import WeightOptions
from max_interfaces import GenerationStatus, RequestID
from max_interfaces.protocols import Feature, SequenceStart, TokenDelta
from tests.engines.tiny_models import again, generate, run, save_checkpoint, start
from tests.tiny_codecs import CODES
from tests.tiny_csm import AUDIO, AUDIO_EOS, CODEBOOKS, SIZE, TEXT, save_csm, tiny_csm

FRAMES = 12
TOKENS = FRAMES * CODEBOOKS
CONFIG = EngineConfig(block_size=8)
Ids = tuple[int, ...]
LAYOUT = SpeechLayout(
    TEXT, CODES, (AUDIO_EOS,), PromptFormat((), (), ()), depth_first((1,) * CODEBOOKS), ids_per_slot=SIZE
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint."""
    return save_csm(tmp_path_factory.mktemp("csm"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> CsmEngine:
    """An engine that several tests use, one after the other."""
    return CsmEngine(load_csm(folder), CONFIG)


@pytest.fixture(scope="module")
def plain() -> Any:
    """The model as transformers runs it."""
    return tiny_csm()


def words(seed: int, count: int) -> Ids:
    return tuple(int(token) for token in np.random.default_rng(seed).integers(AUDIO_EOS + 1, TEXT, count))


def frames(seed: int, count: int) -> Ids:
    """Ids of a sound."""
    return tuple(LAYOUT.ids(np.random.default_rng(seed).integers(0, CODES, (count, CODEBOOKS))).tolist())


def ask(prompt: Sequence[int], **fields: Any) -> SequenceStart:
    return start(prompt, **{"max_new_tokens": TOKENS, **fields})


def drawn(seed: int) -> SequenceStart:
    """Of all kinds of prompts and sampling."""
    turn = (*frames(seed, 5), AUDIO_EOS, *words(seed + 90, 4))
    prompt = words(seed, 3 + 7 * seed % 40) + turn * (seed % 2)
    return ask(prompt, seed=seed, temperature=0.5 + seed % 3, top_k=30 if seed % 3 else -1, top_p=0.9)


def said_by_transformers(plain: Any, ids: Sequence[int], count: int = FRAMES, **sound: Any) -> Ids:
    """Its frames, greedily, as ids."""
    options = {"max_new_tokens": count, "do_sample": False, "depth_decoder_do_sample": False}
    found = plain.generate(input_ids=torch.tensor([list(ids)]), **sound, **options)[0]
    codebooks = plain.config.num_codebooks
    return tuple((found + TEXT + SIZE * torch.arange(codebooks)).flatten().tolist())


PROMPTS = [words(seed, length) for seed, length in enumerate((1, 7, 16, 33, 70))]


def test_frames_are_those_of_transformers_alone_and_in_a_mixed_batch(engine: CsmEngine, plain: Any) -> None:
    expected = [said_by_transformers(plain, prompt) for prompt in PROMPTS]
    assert [generate(engine, [ask(prompt)])[0] for prompt in PROMPTS] == expected
    others = [drawn(seed) for seed in range(4)]
    starts = [ask(prompt) for prompt in PROMPTS]
    assert generate(engine, [*starts, *others], {i: 2 * i for i in range(9)})[: len(starts)] == expected


def test_frames_after_a_turn_with_sound_are_those_of_transformers(engine: CsmEngine, plain: Any) -> None:
    sound = torch.randn(1, 1, 48 * 9, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        codes = plain.codec_model.encode(sound).audio_codes[0].T
    said, asked = words(21, 8), words(22, 10)
    read = (*said, *(AUDIO,) * len(codes), AUDIO_EOS, *asked)
    expected = said_by_transformers(
        plain, read, input_values=sound, input_values_cutoffs=torch.tensor([[sound.shape[-1]]])
    )
    written = LAYOUT.ids(codes.numpy().astype(np.int64)).tolist()
    assert generate(engine, [ask((*said, *written, AUDIO_EOS, *asked))]) == [expected]
    assert expected != said_by_transformers(plain, said + asked)


def forget_compiled(without_compiled: Callable[[], None]) -> None:
    without_compiled()
    with pytest.warns(UserWarning, match="without its compiled operations"):
        assert kernels_for(torch.float32, torch.device("cpu")) is None


@pytest.mark.parametrize("compiled", [True, False])
def test_frames_are_the_same_with_little_memory_in_small_chunks_and_without_compiled_operations(
    engine: CsmEngine,
    folder: Path,
    without_compiled: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    compiled: bool,
) -> None:
    starts = [drawn(seed) for seed in range(8)]
    greedy = [ask(prompt) for prompt in PROMPTS]
    alone = [generate(engine, [again(one)])[0] for one in [*greedy, *starts]]
    if not compiled:
        forget_compiled(without_compiled)
    small = CsmEngine(load_csm(folder), EngineConfig(block_size=4, num_blocks=24, token_budget=16, max_batch=8))
    lost: list[int] = []  # frames of those that had to give their memory up
    forget = engine_sequence.Sequence.forget

    def noted(sequence: engine_sequence.Sequence) -> list[int]:
        if sequence.status is GenerationStatus.ACTIVE:
            lost.append(sequence.row.position)
        return forget(sequence)

    monkeypatch.setattr(engine_sequence.Sequence, "forget", noted)
    found = generate(small, [*greedy, *starts])
    assert any(lost)
    assert found[: len(greedy)] == alone[: len(greedy)]
    if compiled:  # else the last bits differ, and a draw may fall otherwise
        assert found == alone
    else:
        assert [generate(small, [again(one)])[0] for one in starts] == found[len(greedy) :]
    assert small.backbone.free_blocks == small.backbone.blocks


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 20), frame=st.integers(0, FRAMES), company=st.integers(0, 3))
def test_what_is_drawn_depends_on_the_seed_alone_and_goes_on_where_another_worker_was(
    engine: CsmEngine, seed: int, frame: int, company: int
) -> None:
    (whole,) = generate(engine, [drawn(seed)])
    assert len(whole) == TOKENS
    known = whole[: frame * CODEBOOKS]
    others = [drawn(100 + number) for number in range(company)]
    (rest, *_) = generate(engine, [again(drawn(seed), known), *others], {n: n for n in range(company + 1)})
    assert known + rest == whole


def test_other_seeds_draw_other_frames(engine: CsmEngine) -> None:
    first = drawn(1)
    assert generate(engine, [first]) != generate(engine, [replace(again(first), seed=2)])


def test_the_codes_of_a_frame_are_drawn_from_numbers_of_their_own(engine: CsmEngine) -> None:
    flat = [ask(words(1, 9), seed=seed, temperature=100.0, max_new_tokens=CODEBOOKS) for seed in range(60)]
    codes = np.array(generate(engine, flat)) - TEXT - SIZE * np.arange(CODEBOOKS)
    correlated = np.abs(np.corrcoef(codes.T) - np.eye(CODEBOOKS))
    assert correlated.max() < 0.5  # one number for all would make them rise and fall together
    assert all(len(set(column)) > 20 for column in codes.T)


def test_a_prompt_that_begins_with_the_same_frames_is_not_read_again(engine: CsmEngine) -> None:
    voice = words(31, 5) + frames(31, 20) + (AUDIO_EOS,)
    first, second = ask(voice + words(32, 6)), ask(voice + words(33, 6))
    alone = generate(CsmEngine(engine._model, replace(CONFIG, prefix_caching=False)), [again(second)])
    generate(engine, [first])
    deltas = run(engine, [second])
    assert [token for delta in deltas[0] for token in delta.tokens] == list(alone[0])
    report = next(delta.prompt for delta in deltas[0] if delta.prompt is not None)
    assert report.cached_tokens >= 24


def test_of_a_prompt_with_a_sample_the_places_of_the_sample_are_found(engine: CsmEngine) -> None:
    voice = words(35, 4) + frames(35, 11) + (AUDIO_EOS,)  # 4 + 11 + 1 places
    text = words(36, 30)
    generate(engine, [replace(ask(voice + text), shared_prefix=len(voice))])
    (deltas,) = run(engine, [ask(voice + text)])
    report = next(delta.prompt for delta in deltas if delta.prompt is not None)
    assert report.cached_tokens == 16


@pytest.mark.parametrize("codebook", range(CODEBOOKS))
def test_frames_that_differ_in_one_code_are_read_apart(engine: CsmEngine, codebook: int) -> None:
    sound = list(frames(41, 16))
    generate(engine, [ask((*sound, AUDIO_EOS, 9))])
    at = 3 * CODEBOOKS + codebook
    sound[at] += 1 if sound[at] + 1 < TEXT + SIZE * (codebook + 1) else -1
    (deltas,) = run(engine, [ask((*sound, AUDIO_EOS, 9))])
    report = next(delta.prompt for delta in deltas if delta.prompt is not None)
    assert report.cached_tokens <= 3


def ending(folder: Path, code: int) -> tuple[CsmEngine, Any]:
    """A model of two codebooks for which a code of the first one ends the sound, and its twin of transformers."""
    fields = {"num_codebooks": 2, "codebook_eos_token_id": code}
    return CsmEngine(load_csm(save_csm(folder, **fields)), CONFIG), tiny_csm(**fields)


def test_a_sound_ends_where_transformers_ends_it(tmp_path: Path) -> None:
    _, plain = ending(tmp_path / "a", 1)
    prompt = words(3, 9)
    first = said_by_transformers(plain, prompt)[::2]
    at = next(n for n in range(3, FRAMES) if first[n] not in first[:n])
    engine, plain = ending(tmp_path / "b", first[at] - TEXT)
    expected = said_by_transformers(plain, prompt)
    assert len(expected) == 2 * (at + 1)
    others = [replace(again(ask(prompt)), prompt=words(seed, 20)) for seed in range(3)]
    asked = replace(ask(prompt, max_new_tokens=2 * FRAMES), eos_token_ids=frozenset((AUDIO_EOS,)))
    for one in (alone := again(asked), *others):
        engine.add(one)
    while not engine.step([alone.request_id]).get(alone.request_id, TokenDelta()).status.is_done:
        pass
    assert engine.backbone.free_blocks == engine.backbone.blocks  # before anybody releases it
    assert engine.step([alone.request_id]) == {}
    for one in (alone, *others):
        engine.release(one.request_id)
    (deltas, *_) = run(engine, [asked, *others])
    said = tuple(token for delta in deltas for token in delta.tokens)
    assert said == (*expected[:-2], AUDIO_EOS)
    assert deltas[-1].status is GenerationStatus.END_OF_SEQUENCE
    (ignoring,) = generate(
        engine, [again(replace(asked, sampling_params=replace(asked.sampling_params, ignore_eos=True)))]
    )
    assert ignoring[: len(expected)] == expected
    assert len(ignoring) == 2 * FRAMES
    least = replace(asked.sampling_params, min_new_tokens=2 * at + 2)
    (later,) = generate(engine, [again(replace(asked, sampling_params=least))])
    assert later[: 2 * at] == expected[: 2 * at]
    assert len(later) > len(said)
    ((over,),) = run(engine, [again(asked, said)])
    assert (over.tokens, over.status) == ((), GenerationStatus.END_OF_SEQUENCE)
    assert engine.backbone.free_blocks == engine.backbone.blocks


@pytest.mark.parametrize("seed", range(4))
def test_a_constraint_over_all_ids_holds_in_every_codebook(engine: CsmEngine, seed: int) -> None:
    order = SlotOrder(LAYOUT, engine.ids.vocab_size, FrameBounds(min_frames=3, max_frames=7))
    asked = replace(drawn(seed), constraint=order, eos_token_ids=frozenset((AUDIO_EOS,)))
    asked = replace(asked, sampling_params=replace(asked.sampling_params, temperature=9.0, top_k=-1))
    (deltas,) = run(engine, [asked])
    said = [token for delta in deltas for token in delta.tokens]
    assert said[-1] == AUDIO_EOS
    assert deltas[-1].status is GenerationStatus.END_OF_SEQUENCE
    assert LAYOUT.frames(np.array(said[:-1])).shape == (7, CODEBOOKS)  # and no code that is no sound
    assert len(deltas[-1].tokens) == CODEBOOKS + 1
    for known in (2, 7):
        (rest,) = generate(engine, [again(asked, said[: known * CODEBOOKS])])
        assert rest == tuple(said[known * CODEBOOKS :])


class Failing:
    """Allows everything, and fails once, in the midst of a frame."""

    def __init__(self, at: int) -> None:
        self._at = at

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        if len(tokens) == self._at:
            self._at = -1
            raise RuntimeError("a failure that passes")
        return None


@pytest.mark.parametrize("codebook", range(CODEBOOKS))
def test_a_step_that_fails_changes_nothing_and_can_be_repeated(engine: CsmEngine, codebook: int) -> None:
    asked = [drawn(seed) for seed in range(3)]
    expected = generate(engine, [again(one) for one in asked])
    asked[1] = replace(asked[1], constraint=Failing(2 * CODEBOOKS + codebook))
    assert despite_failures(engine, asked) == (expected, 1)


def test_a_step_that_fails_behind_the_last_code_can_be_repeated(
    engine: CsmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [replace(drawn(seed), eos_token_ids=frozenset((AUDIO_EOS,))) for seed in range(3)]
    expected = generate(engine, [again(one) for one in asked])
    asked[1] = replace(asked[1], constraint=Failing(2 * CODEBOOKS))  # when it is asked whether anything may follow
    assert despite_failures(engine, asked) == (expected, 1)
    asked = [again(one) for one in asked[:1]] + [again(replace(one, constraint=None)) for one in asked[1:]]
    rest, calls = engine._model.embeddings.rest, [0]

    def sometimes(codes: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] % 3 == 0:
            raise RuntimeError("a failure that passes")
        return rest(codes)

    for one in asked:
        engine.add(one)
    monkeypatch.setattr(engine._model.embeddings, "rest", sometimes)
    said, failures = despite_failures(engine, asked, add=False)
    assert said == expected
    assert failures > 2


def test_frames_that_failed_steps_have_begun_are_written_as_many_at_once_as_there_are_lanes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CsmEngine(load_csm(folder), replace(CONFIG, max_batch=2))
    lanes = engine._depth.lanes
    asked = [ask(words(seed, 5), max_new_tokens=2 * CODEBOOKS) for seed in range(2 * lanes + 1)]
    expected = [generate(engine, [again(one)])[0] for one in asked]
    for one in asked:
        engine.add(one)
    with monkeypatch.context() as patch:
        patch.setattr(engine._sampler, "sample", fail)
        for one in asked:
            for _ in range(2):  # it may have to read its prompt first
                with contextlib.suppress(RuntimeError):
                    engine.step([one.request_id])
    assert sum(utterance.begun for utterance in engine._utterances.values()) == len(asked)
    said, failures = despite_failures(engine, asked, add=False)
    assert (said, failures) == (expected, 0)


def test_more_frames_than_lanes_are_refused(engine: CsmEngine) -> None:
    rows = engine._depth.lanes + 1
    with pytest.raises(ValueError, match=f"first has {rows} codes: at most {rows - 1} frames"):
        engine._depth.unroll(torch.zeros(rows, 64), torch.zeros(rows, dtype=torch.int64), lambda scores: scores[:, 0])


def fail(*_: object) -> Any:
    raise RuntimeError("a failure that passes")


def despite_failures(
    engine: CsmEngine, asked: Sequence[SequenceStart], *, add: bool = True
) -> tuple[list[tuple[int, ...]], int]:
    """What is said to all if a step that fails is repeated, with fewer first; and how many have failed."""
    said: dict[RequestID, list[int]] = {one.request_id: [] for one in asked}
    active, failures = [*said], 0
    for one in asked if add else ():
        engine.add(one)
    for _ in range(400):
        for few in (active[:1], active):
            try:
                deltas = engine.step(few)
            except RuntimeError:
                failures += 1
                continue
            for key, delta in deltas.items():
                said[key] += delta.tokens
                if delta.status.is_done:
                    active.remove(key)
        if not active:
            break
    for one in asked:
        engine.release(one.request_id)
    return [tuple(tokens) for tokens in said.values()], failures


def test_what_was_cut_from_a_mask_outlives_it_and_is_not_taken_for_anothers(engine: CsmEngine) -> None:
    masks, source = CodebookMasks(engine.ids), np.random.default_rng(3)
    whole = source.random(engine.ids.vocab_size) < 0.5
    assert masks.of(1, whole, True) is masks.of(1, whole, True)
    gone = weakref.ref(whole)
    del whole
    assert gone() is None  # a few hundred of these would be much memory
    for _ in range(50):  # in the place of the one before
        whole = source.random(engine.ids.vocab_size) < 0.5
        cut = masks.of(1, whole, True)
        assert cut is not None
        assert np.array_equal(cut, whole[engine.ids.first(1) : engine.ids.first(2)])
        del whole


def step_until(engine: CsmEngine, active: Sequence[RequestID]) -> list[int]:
    """Steps until the last one is done, and what it said."""
    said: list[int] = []
    while len(said) < TOKENS:
        said += engine.step(active).get(active[-1], TokenDelta()).tokens
    return said


def test_a_sequence_that_gives_no_numbers_fails_by_its_name_and_spoils_nobody(
    folder: Path, without_compiled: Callable[[], None]
) -> None:
    forget_compiled(without_compiled)  # which read no slot behind the last one, where such numbers would stay
    engine = CsmEngine(load_csm(folder), CONFIG)
    bad, good = drawn(1), drawn(2)
    (expected,) = generate(engine, [again(good)])
    for one in (bad, good):
        engine.add(one)
    listener = engine._utterances[bad.request_id].listener
    listener.state = torch.full((64,), float("nan"))
    listener.note = lambda first, states: None  # type: ignore[method-assign]
    with pytest.raises(SequenceError) as caught:
        step_until(engine, [bad.request_id, good.request_id])
    assert caught.value.name == str(bad.request_id)
    engine.release(bad.request_id)
    said = step_until(engine, [good.request_id])
    engine.release(good.request_id)
    assert tuple(said) == expected


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"prompt": ()}, "SequenceStart.prompt"),
        ({"prompt": (9, TEXT, TEXT + SIZE)}, "ends within a frame"),
        ({"prompt": (9, TEXT, TEXT + 2 * SIZE, 0, 0)}, r"prompt\[2\] = .*: must be a code of codebook 1"),
        ({"prompt": (9, TEXT, 7, 7, 7)}, r"prompt\[2\] = 7: must be a code, within a frame"),
        ({"prompt": (TEXT + CODEBOOKS * SIZE,) * CODEBOOKS}, r"prompt\[0\] = "),
        ({"prompt": (9,) * 300}, "SequenceStart.prompt has 300 tokens"),
        ({"accepted": (9,)}, "SequenceStart.accepted: frame 0 is the text 9"),
        ({"accepted": (AUDIO_EOS,)}, "SequenceStart.accepted: frame 0 is the text 4"),  # nothing ends this one
        ({"accepted": (TEXT,)}, "SequenceStart.accepted: ends within a frame"),
        ({"eos_token_ids": frozenset((7,))}, "ends with 4 alone"),
        ({"voice": "ann"}, "SequenceStart.voice = 'ann'"),
        ({"adapter": "ann"}, "SequenceStart.adapter = 'ann'"),
        ({"media": (Feature.of("x", np.zeros(1, np.float32)),)}, "SequenceStart.media"),
        ({"bad_words": ((1,),)}, "SequenceStart.bad_words"),
        ({"max_new_tokens": CODEBOOKS - 1}, "must be at least 4, a frame"),
        ({"logprobs": 1}, "SamplingParams.logprobs"),
        ({"logit_bias": {1: 1.0}}, "SamplingParams.logit_bias"),
        ({"stop_token_ids": (1,)}, "SamplingParams.stop_token_ids"),
        ({"allowed_token_ids": (1,)}, "SamplingParams.allowed_token_ids"),
        ({"watermark": True}, "SamplingParams.watermark"),
        ({"beam_width": 2}, "SamplingParams.beam_width"),
    ],
)
def test_what_has_no_meaning_for_frames_is_refused_by_name(
    engine: CsmEngine, fields: dict[str, Any], says: str
) -> None:
    own = {name: fields.pop(name) for name in [*fields] if hasattr(SequenceStart, name)}
    with pytest.raises(ValueError, match=says):
        engine.add(replace(ask((9, 9), **fields), **own))
    assert not engine._utterances


def test_who_is_running_or_unknown_is_refused(engine: CsmEngine) -> None:
    asked = ask((9, 9))
    engine.add(asked)
    with pytest.raises(ValueError, match="is running already"):
        engine.add(asked)
    engine.release(asked.request_id)
    engine.release(asked.request_id)
    with pytest.raises(KeyError):
        engine.step([asked.request_id])


def test_a_checkpoint_without_codec_is_enough_and_one_without_depth_decoder_is_not(
    folder: Path, tmp_path: Path
) -> None:
    weights = load_file(folder / "model.safetensors")
    shutil.copytree(folder, tmp_path / "a")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("codec_model")}
    save_file(kept, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    assert generate(CsmEngine(load_csm(tmp_path / "a"), CONFIG), [ask((9, 9))])
    lost = {name: weight for name, weight in kept.items() if "codebooks_head" not in name}
    save_file(lost, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, such as depth_decoder\.codebooks_head"):
        load_csm(tmp_path / "a")


def test_other_models_and_open_configurations_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'llama' is no CSM"):
        load_csm(save_checkpoint(tmp_path / "llama", "llama"))
    shutil.copytree(folder, tmp_path / "open")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "open" / "config.json").write_text(json.dumps({**config, "audio_eos_token_id": [4, 5]}))
    with pytest.raises(ValueError, match="audio_eos_token_id"):
        load_csm(tmp_path / "open")


def test_a_depth_decoder_that_says_otherwise_than_transformers_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_csm(folder)
    with pytest.raises(ValueError, match="other codes than transformers"):
        CsmEngine(replace(model, heads=[model.heads[0], *reversed(model.heads[1:])]), CONFIG)
    monkeypatch.setattr(fused_decoder, "SAME_MODELS", ())
    with pytest.raises(ValueError, match="rotary positions"):
        CsmEngine(load_csm(folder), CONFIG)


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"weights": WeightOptions("int8", 32)}])
def test_it_runs_in_bfloat16_and_with_quantised_weights(folder: Path, options: dict[str, Any]) -> None:
    said = generate(CsmEngine(load_csm(folder, **options), CONFIG), [ask(prompt) for prompt in PROMPTS])
    assert [len(one) for one in said] == [TOKENS] * len(PROMPTS)
