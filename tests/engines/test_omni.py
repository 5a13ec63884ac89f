"""A model that speaks says what transformers says, while it writes; who wants text alone has nothing to do with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2_5OmniForConditionalGeneration

from max_engines import fused_decoder
from max_engines.config import EngineConfig
from max_engines.omni import OmniEngine, OmniModel, OmniSettings, load_omni, without_speech
from max_engines.omni.noise import noise
from max_engines.omni.speakers import read_speakers
from max_engines.omni.token2wav import Voice
from max_interfaces import GenerationStatus, RequestID, SamplingParams
from max_interfaces.protocols import Feature, SequenceStart, StreamStart
from tests.engines import tiny_multimodal
from tests.engines.tiny_omni import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    CODE_END,
    CODE_PAD,
    IMAGE,
    SPEAKERS,
    VISION_END,
    VISION_START,
    save_omni,
    tiny_omni,
)
from tests.engines.tiny_omni import speaker as tiny_omni_speaker
from tests.tiny_text import make_tiny_text

Samples = NDArray[np.float32]
GREEDY = SamplingParams(temperature=0, repetition_penalty=1.05, max_new_tokens=60)
SETTINGS = OmniSettings(talker=GREEDY, steps=3)
CONFIG = EngineConfig(block_size=8)
TOKENS = 24
SEED = 3


@dataclass
class Heard:
    """What came of one text, and how much of it had come when its first sound did."""

    tokens: list[int] = field(default_factory=list)
    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    tokens_at_first_sound: int | None = None
    status: GenerationStatus = GenerationStatus.ACTIVE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint."""
    return save_omni(tmp_path_factory.mktemp("omni"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Callable[[], OmniModel]:
    """Reads it; an engine takes a model over, so each has its own."""
    return lambda: load_omni(folder)


@pytest.fixture(scope="module")
def engine(loaded: Callable[[], OmniModel]) -> OmniEngine:
    """An engine that several tests use, one after the other."""
    return OmniEngine(loaded(), CONFIG, SETTINGS)


@pytest.fixture(scope="module")
def plain() -> Qwen2_5OmniForConditionalGeneration:
    """The model as transformers runs it."""
    return tiny_omni()


def words(seed: int, count: int) -> tuple[int, ...]:
    return tuple(int(token) for token in np.random.default_rng(seed).integers(3, 290, count))


def ask(prompt: tuple[int, ...], voice: str | None = "Ethan", **params: Any) -> SequenceStart:
    wanted = {"temperature": 0, "max_new_tokens": TOKENS, "ignore_eos": True, **params}
    return SequenceStart(RequestID(), prompt, SamplingParams(**wanted), SEED, voice=voice)


def hear(engine: OmniEngine, *starts: SequenceStart) -> list[Heard]:
    """All at once, to their ends."""
    found = {start.request_id: Heard(list(start.accepted)) for start in starts}
    for start in starts:
        engine.add(start)
    active = [start.request_id for start in starts]
    for _ in range(500):
        for key, delta in engine.step(active).items():
            heard = found[key]
            heard.tokens += delta.tokens
            heard.status = delta.status
            if delta.samples is not None:
                if heard.tokens_at_first_sound is None:
                    heard.tokens_at_first_sound = len(heard.tokens)
                heard.samples = np.concatenate((heard.samples, delta.samples))
        active = [key for key in active if not found[key].status.is_done]
        if not active:
            break
    for start in starts:
        engine.release(start.request_id)
    return [found[start.request_id] for start in starts]


def codes_of(engine: OmniEngine, *starts: SequenceStart) -> list[int]:
    """What the talker says for all of them."""
    found: list[int] = []
    step = engine.talker.step

    def told(active: Any) -> Any:
        deltas = step(active)
        for delta in deltas.values():
            found.extend(delta.tokens)
        return deltas

    engine.talker.step = told  # type: ignore[method-assign]
    try:
        hear(engine, *starts)
    finally:
        del engine.talker.step
    return found


def said_by_transformers(
    plain: Any, prompt: tuple[int, ...], voice: str, arrays: dict[str, Tensor]
) -> tuple[list[int], list[int]]:
    """Its text and its codes, greedily.

    With a padding token in front: for a mask of ones alone `generate` gives the talker no mask, and the talker without
    one leaves out what begins its codes, and the places of images. Pixels it would give to the talker, which refuses
    them.
    """
    codes: list[int] = []
    generate = plain.talker.generate

    def noted(*args: Any, **options: Any) -> Tensor:
        result: Tensor = generate(*args, **options)
        codes.extend(result[0, len(prompt) + 3 :].tolist())
        return result

    plain.talker.generate = noted
    try:
        ids = torch.tensor([(0, *prompt)])
        for_thinker = {"do_sample": False, "eos_token_id": None}
        given = {f"thinker_{name}" if name == "pixel_values" else name: array for name, array in arrays.items()}
        output = plain.generate(
            input_ids=ids,
            attention_mask=(torch.arange(ids.shape[1])[None] > 0).long(),
            speaker=voice,
            thinker_max_new_tokens=TOKENS,
            talker_do_sample=False,
            talker_max_new_tokens=60,
            talker_eos_token_id=[CODE_END, CODE_PAD],
            token2wav_num_steps=2,
            **{f"thinker_{name}": value for name, value in for_thinker.items()},
            **given,
        )
    finally:
        plain.talker.generate = generate
    return output[0][0, ids.shape[1] :].tolist(), codes


def shown() -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """A prompt with an image of 6 tokens and a sound of 8, and the arrays for them."""
    prompt = (*words(1, 4), AUDIO_START, *(AUDIO,) * 8, AUDIO_END)
    prompt += (*words(2, 3), VISION_START, *(IMAGE,) * 6, VISION_END, *words(30, 5))
    mask = torch.zeros(1, 40, dtype=torch.int64)
    mask[:, :32] = 1
    return prompt, {
        "pixel_values": tiny_multimodal.patches(1, 4, 6),
        "image_grid_thw": torch.tensor([[1, 4, 6]]),
        "input_features": tiny_multimodal.mel(1, 40),
        "feature_attention_mask": mask,
    }


@pytest.mark.parametrize("voice", SPEAKERS)
@pytest.mark.parametrize("seed", [2, 3])
def test_text_and_codes_are_those_of_transformers(
    engine: OmniEngine, plain: Qwen2_5OmniForConditionalGeneration, voice: str, seed: int
) -> None:
    prompt = words(seed, 17)
    text, codes = said_by_transformers(plain, prompt, voice, {})
    assert len(codes) > 10
    assert codes_of(engine, ask(prompt, voice)) == codes
    assert hear(engine, ask(prompt, voice))[0].tokens == text


def test_codes_after_an_image_and_a_sound_are_those_of_transformers(
    engine: OmniEngine, plain: Qwen2_5OmniForConditionalGeneration
) -> None:
    prompt, arrays = shown()
    text, codes = said_by_transformers(plain, prompt, "Chelsie", arrays)
    media = tuple(Feature.of(name, array.numpy()) for name, array in arrays.items())
    start = replace(ask(prompt, "Chelsie"), media=media)
    assert len(codes) > 10
    assert codes_of(engine, start) == codes
    assert hear(engine, replace(start, request_id=RequestID()))[0].tokens == text


@pytest.mark.parametrize("fused", [True, False])
def test_codes_are_the_same_in_small_chunks_without_much_memory_and_without_the_fused_decoder(
    engine: OmniEngine, loaded: Callable[[], OmniModel], monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    if not fused:
        monkeypatch.setattr(fused_decoder, "SAME_MODELS", ())
    starts = [ask(words(seed, 11 + seed)) for seed in range(4)]
    expected = [hear(engine, replace(start, request_id=RequestID()))[0] for start in starts]
    little = EngineConfig(block_size=8, num_blocks=14, token_budget=7, max_batch=4)
    for one, other in zip(expected, hear(OmniEngine(loaded(), little, SETTINGS), *starts), strict=True):
        assert one.tokens == other.tokens
        assert one.samples.size == other.samples.size
        if fused:
            assert np.array_equal(one.samples, other.samples)


def test_sound_comes_before_the_last_token(engine: OmniEngine) -> None:
    heard = hear(engine, ask(words(3, 17), "Chelsie", max_new_tokens=60))[0]
    assert heard.tokens_at_first_sound is not None
    assert heard.tokens_at_first_sound < len(heard.tokens) == 60
    assert np.abs(heard.samples).max() > 0.01


class Calls:
    """Counts how often the parts that make sound are called."""

    def __init__(self, engine: OmniEngine) -> None:
        self.count = 0
        talker, sound = engine.model.talker.model.module, engine.model.token2wav
        modules = [*talker.modules(), *sound.modules()]
        self._handles = [module.register_forward_pre_hook(self._called) for module in modules]
        self._step = engine.talker.step
        engine.talker.step = self._stepped  # type: ignore[method-assign]

    def _called(self, *_: object) -> None:
        self.count += 1

    def _stepped(self, active: Any) -> Any:
        self.count += 1
        return self._step(active)


def test_text_alone_never_calls_what_speaks(loaded: Callable[[], OmniModel]) -> None:
    engine = OmniEngine(loaded(), CONFIG, SETTINGS)
    calls = Calls(engine)
    spoken = hear(engine, ask(words(3, 17)))[0]
    assert calls.count > 0
    calls.count = 0
    written = hear(engine, ask(words(3, 17), None))[0]
    assert calls.count == 0
    assert written.samples.size == 0
    assert written.tokens == spoken.tokens


def test_all_at_once_are_as_each_alone(engine: OmniEngine) -> None:
    starts = [ask(words(n, 9 + n), (*SPEAKERS, None)[n % 3], max_new_tokens=12 + 3 * n) for n in range(6)]
    alone = [hear(engine, replace(start, request_id=RequestID()))[0] for start in starts]
    for one, other in zip(alone, hear(engine, *starts), strict=True):
        assert one.tokens == other.tokens
        assert np.array_equal(one.samples, other.samples)


def test_the_talker_waits_for_a_thinker_that_is_held_up(engine: OmniEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    start = ask(words(3, 17))
    expected = hear(engine, start)[0]
    step, calls = engine.thinker.step, [0]

    def held_up(active: Any) -> Any:
        calls[0] += 1
        return step(active) if calls[0] % 3 == 0 else {}

    monkeypatch.setattr(engine.thinker, "step", held_up)
    found = hear(engine, replace(start, request_id=RequestID()))[0]
    assert found.tokens == expected.tokens
    assert np.array_equal(found.samples, expected.samples)


def test_a_seed_gives_one_sound_and_another_another(loaded: Callable[[], OmniModel]) -> None:
    engine = OmniEngine(loaded(), CONFIG, replace(SETTINGS, talker=SamplingParams(max_new_tokens=30)))
    start = ask(words(1, 9))
    first, again, other = (
        hear(engine, replace(start, request_id=RequestID(), seed=seed))[0].samples for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("at", [1, 10, TOKENS])
def test_another_engine_goes_on_where_one_was(engine: OmniEngine, at: int) -> None:
    start = ask(words(3, 17))
    whole = hear(engine, start)[0]
    heard = min(2000, whole.samples.size // 2)
    rest = replace(start, request_id=RequestID(), accepted=tuple(whole.tokens[:at]), next_sample=heard)
    found = hear(engine, rest)[0]
    assert found.tokens == whole.tokens
    assert np.array_equal(found.samples, whole.samples[heard:])


def test_what_another_engine_has_told_stands(engine: OmniEngine) -> None:
    """In bfloat16 an engine might say something else itself."""
    told = hear(engine, ask(words(3, 17), None))[0].tokens[:5]
    told[-1] = (told[-1] + 1) % 290
    start = replace(ask(words(3, 17)), accepted=tuple(told))
    spoken = hear(engine, start)[0]
    written = hear(engine, replace(start, request_id=RequestID(), voice=None))[0]
    assert spoken.tokens[:5] == told
    assert spoken.tokens == written.tokens


def test_an_end_of_text_is_told_with_the_end_of_the_sound(engine: OmniEngine) -> None:
    tokens = hear(engine, ask(words(3, 17)))[0].tokens
    end = next(token for token in tokens[8:] if token not in tokens[:8])
    start = replace(ask(words(3, 17), ignore_eos=False), eos_token_ids=frozenset((end,)))
    heard = hear(engine, start)[0]
    assert heard.status is GenerationStatus.END_OF_SEQUENCE
    assert heard.tokens == tokens[: tokens.index(end) + 1]
    engine.add(replace(start, request_id=(key := RequestID())))
    ends = [delta for _ in range(200) for delta in engine.step([key]).values() if end in delta.tokens]
    engine.release(key)
    assert [delta.status for delta in ends] == [GenerationStatus.END_OF_SEQUENCE]
    assert ends[0].samples is not None


def test_a_text_of_one_token_has_no_sound(engine: OmniEngine) -> None:
    heard = hear(engine, ask(words(3, 17), max_new_tokens=1))[0]
    assert heard.status is GenerationStatus.MAXIMUM_LENGTH
    assert len(heard.tokens) == 1
    assert heard.samples.size == 0


@pytest.mark.parametrize("part", ["talker", "sound"])
def test_a_step_that_fails_can_be_repeated(engine: OmniEngine, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    start = ask(words(3, 17))
    expected = hear(engine, start)[0]
    owner: Any = engine.talker if part == "talker" else Voice
    name = "step" if part == "talker" else "decode"
    real, calls = getattr(owner, name), [0]

    def sometimes(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] % 2:
            raise RuntimeError("not now")
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
    found = hear(engine, replace(start, request_id=RequestID()))[0]
    assert failures[0] > 0
    assert found.tokens == expected.tokens
    assert np.array_equal(found.samples, expected.samples)


def test_what_cannot_be_spoken_is_refused_by_name(engine: OmniEngine) -> None:
    with pytest.raises(ValueError, match=r"voice = 'Nobody': must be one of Chelsie, Ethan"):
        engine.add(ask(words(1, 4), "Nobody"))
    with pytest.raises(ValueError, match="searched for cannot be spoken"):
        engine.add(ask(words(1, 4), beam_width=2))
    with pytest.raises(ValueError, match=r"at most 509 can be answered aloud"):
        engine.add(ask(words(1, 510)))


@pytest.fixture(scope="module")
def voice(engine: OmniEngine) -> Voice:
    """One of the voices, as a codec."""
    return Voice(engine.model.token2wav, engine.model.speakers["Chelsie"], SETTINGS)


def some_codes(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 60, count)


def streamed(voice: Voice, codes: NDArray[np.int64], cuts: Iterator[int] | list[int], first: int = 0) -> Samples:
    stream = voice.open(StreamStart(seed=SEED, next_sample=first))
    parts = [stream.push(part[:, None]) for part in np.split(codes, sorted(cuts))]
    return np.concatenate([*parts, stream.flush()])


def test_sound_in_one_piece_is_that_of_transformers(
    voice: Voice, plain: Qwen2_5OmniForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, mine = some_codes(20), torch.randn
    chosen = plain.speaker_map["Chelsie"]
    monkeypatch.setattr(torch, "randn", lambda *size, **_: noise(SEED, 0, 40, 8)[None])
    with torch.no_grad():
        theirs = plain.token2wav(torch.from_numpy(codes)[None], chosen["cond"], chosen["ref_mel"], num_steps=3)
    monkeypatch.setattr(torch, "randn", mine)
    np.testing.assert_allclose(voice.decode(codes, 0, SEED), theirs.numpy(), atol=1e-5)


@given(cuts=st.lists(st.integers(0, 40), max_size=6), first=st.integers(0, 40 * 480))
@settings(max_examples=8, deadline=None)
def test_any_pieces_of_codes_make_one_sound(voice: Voice, cuts: list[int], first: int) -> None:
    codes = some_codes(40)
    whole = streamed(voice, codes, [])
    assert whole.size == 40 * voice.frame_samples
    assert np.array_equal(streamed(voice, codes, cuts, first), whole[first:])


def test_a_stream_is_near_the_sound_in_one_piece_and_nearer_with_more_context(engine: OmniEngine) -> None:
    codes = some_codes(48)
    ratios = []
    for around in (1, 2, 4, 12):
        wide = replace(SETTINGS, ahead=around, behind=around + 1, steps=10)
        voice = Voice(engine.model.token2wav, engine.model.speakers["Chelsie"], wide)
        whole = voice.decode(codes, 0, SEED)
        error = streamed(voice, codes, list(range(48))) - whole
        ratios.append(10 * np.log10((whole**2).mean() / max(1e-20, (error**2).mean())))
    assert ratios == sorted(ratios)
    assert ratios[1] > 45  # dB, with the default context
    assert ratios[-1] > 100  # all codes of the text are around


def test_noise_belongs_to_a_frame(voice: Voice) -> None:
    whole = noise(5, 0, 30, 8)
    assert torch.equal(noise(5, 7, 19, 8), whole[7:19])
    assert not torch.equal(noise(6, 0, 30, 8), whole)
    assert abs(float(noise(5, 0, 2000, 8).std()) - 1) < 0.05


@pytest.fixture
def mute(folder: Path, tmp_path: Path) -> Path:
    """The checkpoint without its voices."""
    for path in folder.iterdir():
        if path.name != "spk_dict.pt":
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_a_checkpoint_without_voices_is_refused(folder: Path, mute: Path) -> None:
    assert without_speech(folder) is None
    assert without_speech(mute) == "it has no spk_dict.pt with its voices"
    with pytest.raises(ValueError, match=r"it has no spk_dict.pt with its voices"):
        load_omni(mute)
    make_tiny_text(mute / "text")
    assert without_speech(mute / "text") == "its architecture 'llama' does not speak"


def test_voices_are_read_from_what_is_published_or_from_safetensors(mute: Path) -> None:
    voices = {"Eve": tiny_omni_speaker(1), "Ada": tiny_omni_speaker(2)}
    torch.save(voices, mute / "spk_dict.pt")
    published = load_omni(mute).speakers
    assert list(published) == ["Ada", "Eve"]
    values = {f"{voice}.{name}": torch.as_tensor(value) for voice, of in voices.items() for name, value in of.items()}
    save_file(values, mute / "spk_dict.safetensors")
    (mute / "spk_dict.pt").write_bytes(b"not looked at")
    for name, voice in load_omni(mute).speakers.items():
        assert voice.begin_id == published[name].begin_id == voices[name]["bos_token"]
        assert torch.equal(voice.conditioning, published[name].conditioning)
        assert torch.equal(voice.reference_mel, published[name].reference_mel)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cond": None}, "the voice 'Eve' must have bos_token, cond, ref_mel"),
        ({"more": torch.zeros(1)}, "and nothing else"),
        ({"bos_token": torch.tensor(-1)}, "must be one id, below 320"),
        ({"bos_token": torch.tensor([1, 2])}, "must be one id"),
        ({"bos_token": torch.tensor(3.0)}, "must be one id"),
        ({"cond": torch.zeros(8)}, "must be numbers"),
        ({"cond": torch.zeros(2, 8)}, "must be numbers"),
        ({"cond": torch.zeros(1, 8, dtype=torch.int64)}, "must be numbers"),
        ({"ref_mel": torch.full((1, 20, 8), float("nan"))}, "must be numbers"),
        ({"ref_mel": torch.zeros(1, 0, 8)}, "must be numbers"),
    ],
)
@pytest.mark.parametrize("file", ["spk_dict.safetensors", "spk_dict.pt"])
def test_a_voice_that_is_none_is_refused(mute: Path, file: str, change: dict[str, Any], why: str) -> None:
    values = {name: value for name, value in ({**tiny_omni_speaker(1), **change}).items() if value is not None}
    if file == "spk_dict.pt":
        torch.save({"Eve": values}, mute / file)
    else:
        save_file({f"Eve.{name}": torch.as_tensor(value) for name, value in values.items()}, mute / file)
    with pytest.raises(ValueError, match=rf"{file}: .*{why}"):
        read_speakers(str(mute), None, 320)


class Hostile:
    """What a pickle of it says is to be called when it is read."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._called = call, arguments

    def __reduce__(self) -> Any:
        return self._called


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(mute: Path, wrapped: bool) -> None:
    mark = mute / "run"
    hostile = Hostile(os.system, f"touch {mark}")
    torch.save({"Eve": {**tiny_omni_speaker(1), "cond": hostile}} if wrapped else hostile, mute / "spk_dict.pt")
    with pytest.raises(
        ValueError, match=r"spk_dict.pt: it is broken, or has more than tensors .* nothing of it was run"
    ):
        load_omni(mute)
    assert not mark.exists()
    torch.load(mute / "spk_dict.pt", weights_only=False)  # it would have
    assert mark.exists()


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ([1], "must be a table of voices"),
        ({1: tiny_omni_speaker(1)}, "must be a table of voices"),
        ({"Eve": torch.zeros(1)}, "must be a table of voices"),
        ({"Eve": {"cond": "text"}}, "must be a table of voices"),
        ({"Eve": {1: torch.zeros(1)}}, "must be a table of voices"),
        ({}, "it names 0 voices: must be 1 to 256"),
        ({str(number): tiny_omni_speaker(1) for number in range(257)}, "it names 257 voices"),
        ({"E" * 81: tiny_omni_speaker(1)}, "must be 1 to 80 printable characters"),
        ({"Eve\n": tiny_omni_speaker(1)}, "must be 1 to 80 printable characters"),
        ({"Eve": {**tiny_omni_speaker(1), "cond": torch.zeros(1).expand(1, 10**12)}}, "must be numbers"),
        ({"Eve": {**tiny_omni_speaker(1), "cond": torch.eye(1).to_sparse()}}, "must be numbers"),
        ({"Eve": {**tiny_omni_speaker(1), "cond": torch.zeros(1, 8, device="meta")}}, "must be numbers"),
        ({"Eve": {**tiny_omni_speaker(1), "cond": torch.zeros(1, 20_000_000)}}, "80,0.* bytes: must be at most 67,1"),
    ],
)
def test_what_is_no_table_of_voices_is_refused(mute: Path, held: Any, why: str) -> None:
    torch.save(held, mute / "spk_dict.pt")
    with pytest.raises(ValueError, match=rf"spk_dict.pt: .*{why}"):
        read_speakers(str(mute), None, 320)


@pytest.mark.parametrize("file", ["spk_dict.safetensors", "spk_dict.pt"])
def test_a_broken_file_of_voices_is_refused(mute: Path, file: str) -> None:
    (mute / file).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=rf"{file}: "):
        read_speakers(str(mute), None, 320)


def test_a_packed_file_is_not_unpacked_beyond_the_bound(mute: Path) -> None:
    torch.save({"Eve": {**tiny_omni_speaker(1), "cond": torch.zeros(1, 20_000_000)}}, mute / "long")
    with ZipFile(mute / "long") as long, ZipFile(mute / "spk_dict.pt", "w", ZIP_DEFLATED) as packed:
        for part in long.namelist():
            packed.writestr(part, long.read(part))
    assert (mute / "spk_dict.pt").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"spk_dict.pt: it has 80,0.* bytes: must be at most 67,108,864"):
        read_speakers(str(mute), None, 320)
