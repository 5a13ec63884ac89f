"""Each sequence of a batch with its own adapter, held to what peft makes of it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PromptEncoderConfig

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.kernels import kernels_for
from max_engines.loading import LoadedModel, load_model
from max_engines.reference import ReferenceEngine
from max_interfaces.errors import AdapterRefused
from max_interfaces.identity import RequestID
from max_interfaces.lora import LoRAStatus
from tests.engines.test_overlap import recording
from tests.engines.tiny_adapters import (
    EVERYTHING,
    adapted,
    greedy,
    load_all,
    log_probabilities,
    save,
    save_lora,
    save_soft_prompt,
    theirs,
)
from tests.engines.tiny_models import CONTEXT, again, generate, load, prompts, run, save_checkpoint, start

TARGETS = {
    "gpt2": ("c_attn", "c_proj", "c_fc"),  # Conv1D, with a weight that stands on its side
    "phi3-window": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "mixtral": EVERYTHING[:4],  # its experts are no linear layers
}
FOUR = {"a": (1, 8), "b": (2, 4), "c": (3, 16), "d": (4, 1)}  # seeds and ranks


@pytest.fixture(scope="module")
def folders(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four LoRA adapters and two soft prompts for the tiny Llama."""
    base, place = checkpoint("llama"), tmp_path_factory.mktemp("adapters")
    made = {name: save_lora(place / name, base, seed=seed, rank=rank) for name, (seed, rank) in FOUR.items()}
    made["partial"] = save_lora(place / "partial", base, seed=5, targets=("k_proj", "down_proj"))
    made["soft"] = save_soft_prompt(place / "soft", base)
    return made


@pytest.fixture
def engine(llama: LoadedModel, folders: dict[str, Path]) -> Engine:
    made = Engine(llama, EngineConfig())
    load_all(made, folders)
    return made


def test_four_adapters_and_the_bare_model_in_one_batch_of_16(
    engine: Engine, folders: dict[str, Path], checkpoint: Callable[[str], Path]
) -> None:
    """Each row as peft's merged model gives it alone; log probabilities to 1e-4, where logits are about 8."""
    names = [None, *FOUR]
    texts = prompts(16)
    starts = [adapted(text, names[i % 5], logprobs=-1) for i, text in enumerate(texts)]
    for request in starts:
        engine.add(request)
    first = engine.step([request.request_id for request in starts])
    models = {name: theirs(checkpoint("llama"), None if name is None else folders[name]) for name in names}
    for i, (request, text) in enumerate(zip(starts, texts, strict=True)):
        scores = first[request.request_id].log_probabilities if request.request_id in first else None
        if scores is not None and scores.all_log_probabilities is not None:
            found = torch.tensor(scores.all_log_probabilities[0])
            torch.testing.assert_close(found, log_probabilities(models[names[i % 5]], text), atol=1e-4, rtol=0)
        engine.release(request.request_id)
    assert sum(bool(delta.tokens) for delta in first.values()) >= 3  # the step has room for some prompts alone
    said = generate(engine, [again(request) for request in starts])
    assert said == [greedy(models[names[i % 5]], text) for i, text in enumerate(texts)]
    bare = generate(engine, [start(text) for text in texts])
    assert [one != other for one, other in zip(said, bare, strict=True)] == [i % 5 > 0 for i in range(16)]


@pytest.mark.parametrize(
    "architecture", ["qwen2", "qwen3", "llama-multi-head", "gemma2", "gpt2", "phi3-window", "mixtral"]
)
def test_other_architectures(architecture: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = checkpoint(architecture)
    with warnings.catch_warnings(action="ignore"):
        lora = save_lora(tmp_path / "lora", base, targets=TARGETS.get(architecture, EVERYTHING))
    soft = save_soft_prompt(tmp_path / "soft", base)
    engine = Engine(load(base), EngineConfig(token_budget=16))
    load_all(engine, {"lora": lora, "soft": soft})
    chosen = [(None, None), ("lora", None), ("soft", None), ("lora", "soft"), (None, "soft")]
    texts = prompts(5, 30)
    said = generate(engine, [adapted(text, *names) for text, names in zip(texts, chosen, strict=True)])
    models = [theirs(base), theirs(base, lora), theirs(base, None, soft), theirs(base, lora, soft)]
    models.append(models[2])
    assert said == [greedy(model, text) for model, text in zip(models, texts, strict=True)]


@pytest.mark.parametrize("operations", ["compiled", "torch"])
def test_alone_in_a_batch_in_chunks_preempted_and_resumed(
    operations: str,
    checkpoint: Callable[[str], Path],
    folders: dict[str, Path],
    without_compiled: Callable[[], None],
) -> None:
    """To the last bit of each log probability, with the compiled operations and with torch's own."""
    if operations == "torch":
        without_compiled()
        with warnings.catch_warnings(action="ignore"):  # that is said once
            assert kernels_for(torch.float32, torch.device("cpu")) is None
    model = load(checkpoint("llama"))
    roomy = Engine(model, EngineConfig())
    tight = Engine(model, EngineConfig(max_batch=5, token_budget=13, num_blocks=9))
    load_all(roomy, folders)
    load_all(tight, folders)
    names = [("a", None), (None, None), ("b", "soft"), ("a", None), ("partial", None), ("soft", None), ("c", "soft")]
    starts = [
        adapted(text, *names[i], seed=i, temperature=i % 3 / 2, max_new_tokens=30, logprobs=3)
        for i, text in enumerate(prompts(7))
    ]
    alone = [run(roomy, [again(one)])[0] for one in starts]
    tokens = [tuple(token for delta in deltas for token in delta.tokens) for deltas in alone]
    chances = [[delta.log_probabilities for delta in deltas if delta.tokens] for deltas in alone]
    for engine in (roomy, tight):
        deltas = run(engine, [again(one) for one in starts], join={i: 2 * i for i in range(7)})
        assert [[d.log_probabilities for d in several if d.tokens] for several in deltas] == chances
    for request, said in zip(starts, tokens, strict=True):
        for count in (1, 17, 29):
            assert generate(roomy, [again(request, said[:count])]) == [said[count:]]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mix_says_what_each_says_alone(data: st.DataObject, engine: Engine) -> None:
    names = st.sampled_from([None, "a", "b", "partial", "soft"])
    mix = [(data.draw(names), data.draw(st.sampled_from([None, "soft"]))) for _ in range(data.draw(st.integers(1, 6)))]
    mix = [(name, None if name == "soft" else soft) for name, soft in mix]
    texts = prompts(len(mix), 40, seed=data.draw(st.integers(0, 99)))
    starts = [adapted(text, *names, max_new_tokens=6) for text, names in zip(texts, mix, strict=True)]
    alone = [generate(engine, [again(one)])[0] for one in starts]
    join = {i: data.draw(st.integers(0, 6)) for i in range(len(mix))}
    assert generate(engine, starts, join) == alone


def test_prefixes_are_shared_within_one_adapter_alone(engine: Engine, folders: dict[str, Path]) -> None:
    text = prompts(1, 60)[0] * 3

    def cached(adapter: str | None, soft: str | None = None) -> int:
        reports = [delta.prompt for delta in run(engine, [adapted(text, adapter, soft)])[0] if delta.prompt]
        return reports[0].cached_tokens

    for names in ((None, None), ("a", None), ("b", None), ("soft", None), ("a", "soft")):
        assert (cached(*names), cached(*names)) == (0, len(text) - 1), names
    engine.adapters.unload("a")
    engine.adapters.load("a", str(folders["a"]))  # who could say that these are the weights of before?
    assert (cached("a"), cached("a", "soft")) == (0, 0)


def test_p_tuning_is_a_soft_prompt_too(engine: Engine, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    config = PromptEncoderConfig(num_virtual_tokens=4, task_type="CAUSAL_LM", encoder_hidden_size=16)
    folder = save(tmp_path / "p", checkpoint("llama"), config)
    engine.adapters.load("p", str(folder))
    text = prompts(1)[0]
    assert generate(engine, [adapted(text, "p")]) == [greedy(theirs(checkpoint("llama"), None, folder), text)]


def test_a_soft_prompt_takes_positions(engine: Engine) -> None:
    longest = CONTEXT - 5 - 1
    with pytest.raises(ValueError, match=rf"at most {longest} fit \(.*soft prompt 5\)"):
        engine.add(adapted([3] * (longest + 1), "soft"))
    deltas = run(engine, [adapted([3] * longest, "soft")])[0]
    assert sum(len(delta.tokens) for delta in deltas) == 1
    with pytest.raises(ValueError, match="prompt_logprobs: what follows a soft prompt is not scored"):
        engine.add(adapted([3], "a", "soft", prompt_logprobs=0))


def test_scores_of_a_prompt_are_those_of_the_adapted_model(
    engine: Engine, checkpoint: Callable[[str], Path], folders: dict[str, Path]
) -> None:
    text = prompts(1)[0]
    report = next(d.prompt for d in run(engine, [adapted(text, "b", prompt_logprobs=0)])[0] if d.prompt)
    assert report.log_probabilities is not None
    with torch.inference_mode():
        scores = (
            theirs(checkpoint("llama"), folders["b"])(input_ids=torch.tensor([text])).logits[0, :-1].log_softmax(-1)
        )
    expected = scores.gather(1, torch.tensor(text[1:])[:, None])[:, 0].tolist()
    assert report.log_probabilities.token_log_probabilities == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("adapter", "soft", "said"),
    [
        ("x", None, r"adapter = 'x': no adapter of that name is loaded \(loaded: a, b, c, d, partial, soft\)"),
        (None, "x", r"prompt_adapter = 'x': no adapter of that name"),
        ("a", "b", "prompt_adapter = 'b': is a LoRA adapter; name it as adapter"),
        ("soft", "soft", "prompt_adapter = 'soft': adapter is a soft prompt, too"),
    ],
)
def test_a_wrong_name_is_refused(adapter: str | None, soft: str | None, said: str, engine: Engine) -> None:
    with pytest.raises(ValueError, match=said):
        engine.add(adapted([3, 4], adapter, soft))


def test_the_reference_takes_none(plain_llama: LoadedModel) -> None:
    for names in (("a", None), (None, "a")):
        with pytest.raises(ValueError, match=r"SequenceStart\.(prompt_)?adapter: the reference takes no adapters"):
            ReferenceEngine(plain_llama).add(adapted([3], *names))


def test_who_runs_keeps_its_weights_though_its_name_is_gone_or_means_others(
    engine: Engine, folders: dict[str, Path]
) -> None:
    text = prompts(1)[0]
    old, new = (generate(engine, [adapted(text, name)])[0] for name in "ab")
    running = adapted(text, "a")
    engine.add(running)
    said = [engine.step([running.request_id])[running.request_id].tokens]
    engine.adapters.unload("a")
    with pytest.raises(ValueError, match="no adapter of that name is loaded"):
        engine.add(adapted(text, "a"))
    engine.adapters.load("a", str(folders["b"]))
    other = adapted(text, "a")
    assert generate(engine, [other]) == [new]
    said += [engine.step([running.request_id])[running.request_id].tokens for _ in range(19)]
    assert sum(said, ()) == old
    engine.release(running.request_id)


def test_names_are_taken_once_and_there_is_room_for_some(llama: LoadedModel, folders: dict[str, Path]) -> None:
    engine = Engine(llama, EngineConfig(max_adapters=2))
    table = engine.adapters
    assert list(table.names) == []
    load_all(engine, {name: folders[name] for name in ("a", "soft")})
    assert list(table.names) == ["a", "soft"]

    def refusal(name: str, path: str = "b") -> AdapterRefused:
        with pytest.raises(AdapterRefused) as caught:
            table.load(name, str(folders[path]))
        return caught.value

    assert refusal("a").status is LoRAStatus.LOAD_NAME_EXISTS
    assert refusal("b").status is LoRAStatus.LOAD_ERROR
    running = adapted([3, 4], "a")
    engine.add(running)
    table.unload("a")
    assert "1 of which are unloaded and still in use" in str(refusal("b"))
    engine.release(running.request_id)
    table.load("b", str(folders["b"]))
    with pytest.raises(AdapterRefused) as caught:
        table.unload("a")
    assert caught.value.status is LoRAStatus.UNLOAD_NAME_NONEXISTENT


def live_bytes() -> int:
    """Of all tensors that there are."""
    gc.collect()
    with warnings.catch_warnings(action="ignore"):  # asking some of torch's own objects for their class
        tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    plain = [tensor for tensor in tensors if tensor.device.type == "cpu" and tensor.layout == torch.strided]
    return sum(tensor.untyped_storage().nbytes() for tensor in plain)  # what is sparse has several, and is not ours


def test_200_loads_and_unloads_under_load_harm_nobody_and_leave_nothing(
    engine: Engine, folders: dict[str, Path]
) -> None:
    """Amid eight sequences, which come and go; some run with what is unloaded while they do."""
    engine.adapters.unload("d")
    texts = prompts(8, 20)
    names = [None, "a", "b", "c", "partial", "soft", "a", None]
    expected = [generate(engine, [adapted(text, name)])[0] for text, name in zip(texts, names, strict=True)]
    fleeting = generate(engine, [adapted(texts[0], "b", max_new_tokens=3)])[0]
    before = live_bytes(), engine.adapters.held, engine.free_blocks
    running: dict[int, tuple[RequestID, list[int]]] = {}
    rounds = 0
    for number in range(200):
        name = f"fleeting {number % 3}"
        engine.adapters.load(name, str(folders["b"]))
        guest = adapted(texts[0], name, max_new_tokens=3)
        engine.add(guest)
        engine.adapters.unload(name)
        own: list[int] = []
        for i in range(8):
            if i not in running:
                one = adapted(texts[i], names[i])
                engine.add(one)
                running[i] = one.request_id, []
        for _ in range(3):
            ids = dict(running.values())
            deltas = engine.step([*ids, guest.request_id])
            for request_id, delta in deltas.items():
                (own if request_id == guest.request_id else ids[request_id]).extend(delta.tokens)
        assert tuple(own) == fleeting[: len(own)]
        engine.release(guest.request_id)
        for i, (request_id, tokens) in list(running.items()):
            assert tuple(tokens) == expected[i][: len(tokens)]
            if len(tokens) == 20:
                engine.release(request_id)
                del running[i]
                rounds += 1
    for request_id, _ in running.values():
        engine.release(request_id)
    assert rounds > 100
    assert (live_bytes(), engine.adapters.held, engine.free_blocks) == before


def test_a_step_that_fails_is_repeated_as_if_nothing_had_been(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = prompts(1)[0]
    expected, bare = generate(engine, [adapted(text, "a", "soft")])[0], generate(engine, [start(text)])[0]
    request = adapted(text, "a", "soft")
    engine.add(request)
    forward = engine._runner._forward

    def failing(*arguments: object) -> torch.Tensor:
        forward(*arguments)  # type: ignore[arg-type]
        raise RuntimeError("a kernel has failed")

    monkeypatch.setattr(engine._runner, "_forward", failing)
    with pytest.raises(RuntimeError, match="a kernel has failed"):
        engine.step([request.request_id])
    monkeypatch.undo()
    assert generate(engine, [start(text)]) == [bare]  # nothing is left in the model
    said = [engine.step([request.request_id])[request.request_id].tokens for _ in range(20)]
    assert sum(said, ()) == expected
    engine.release(request.request_id)


@pytest.mark.parametrize("overlap", [False, True])
def test_an_engine_that_replays_says_the_same(
    overlap: bool, llama: LoadedModel, folders: dict[str, Path], engine: Engine
) -> None:
    """Steps with adapters are not recorded ones."""
    config = EngineConfig(max_batch=3, token_budget=16, block_size=4, num_blocks=120)
    replaying = recording(llama, replace(config, overlap=overlap))
    load_all(replaying, folders)
    texts = prompts(9, 20)
    names: list[tuple[str | None, str | None]] = [(None, None), ("a", None), ("b", "soft")]
    starts = [adapted(text, *names[i % 3], max_new_tokens=5 + i) for i, text in enumerate(texts)]
    join = {i: 4 * i for i in range(9)}
    assert generate(replaying, [again(one) for one in starts], join) == generate(engine, starts, join)


def test_a_step_in_bfloat16(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base", "llama")
    engine = Engine(load_model(base, dtype="bfloat16"), EngineConfig())
    engine.adapters.load("a", str(save_lora(tmp_path / "a", base)))
    text = prompts(1)[0]
    deltas = run(engine, [adapted(text, "a", logprobs=-1, max_new_tokens=1)])[0]
    scores = next(d.log_probabilities for d in deltas if d.log_probabilities)
    assert scores.all_log_probabilities is not None
    found = torch.tensor(scores.all_log_probabilities[0])
    expected, bare = (log_probabilities(theirs(base, adapter), text) for adapter in (tmp_path / "a", None))
    assert (found - expected).abs().mean() < 0.1 * (expected - bare).abs().mean()
