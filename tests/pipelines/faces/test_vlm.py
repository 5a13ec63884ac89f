"""mlx-vlm's generate family on this engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from max_engines.engine import Engine
from max_pipelines.vlm import (
    BatchResponse,
    BatchStats,
    GenerationResult,
    Model,
    apply_chat_template,
    batch_generate,
    generate,
    load,
    stream_generate,
)
from max_pipelines.vlm.options import end_ids, resized
from tests.engines.tiny_adapters import adapted, load_all, save_lora, save_soft_prompt
from tests.engines.tiny_models import generate as run_engine
from tests.engines.tiny_models import load as load_engine_model
from tests.tiny_text import CONTEXT, END, make_tiny_text

Loaded = tuple[Model, Any]
PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    make_tiny_text(path)
    return str(path)


@pytest.fixture(scope="module")
def loaded(folder: str) -> Iterator[Loaded]:
    model, processor = load(folder, transport="thread")
    with model:
        yield model, processor


def test_the_text_is_that_of_transformers(loaded: Loaded, folder: str) -> None:
    _, processor = loaded
    ids = torch.tensor([processor.encode(PROMPT)])
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = plain.generate(  # type: ignore[misc]
        ids, do_sample=False, max_new_tokens=12, pad_token_id=0
    )[0, ids.shape[1] :].tolist()
    result = generate(*loaded, PROMPT, max_tokens=12)
    shown = [*stream_generate(*loaded, PROMPT, max_tokens=12)]
    assert [one.token for one in shown] == expected
    assert "".join(one.text for one in shown) == result.text
    assert result.text == processor.decode(expected, skip_special_tokens=False)


def test_each_token_has_a_result_with_all_figures_so_far(loaded: Loaded, folder: str) -> None:
    shown = [*stream_generate(*loaded, PROMPT, max_tokens=5, temperature=0.8, seed=3)]
    count = len(loaded[1].encode(PROMPT))
    assert [one.generation_tokens for one in shown] == [1, 2, 3, 4, 5]
    assert [one.total_tokens for one in shown] == [count + number for number in range(1, 6)]
    assert {one.prompt_tokens for one in shown} == {count}
    assert [one.finish_reason for one in shown] == [None] * 4 + ["length"]
    assert all(one.prompt_tps > 0 and one.peak_memory > 0.01 for one in shown)
    assert all(one.generation_tps > 0 for one in shown[1:])
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = plain(torch.tensor([loaded[1].encode(PROMPT)])).logits[0, -1]
    assert shown[0].logprobs is not None
    assert np.allclose(shown[0].logprobs, torch.log_softmax(logits, -1).numpy(), atol=1e-4)


def test_the_names_of_the_fields() -> None:
    nine = ["text", "token", "logprobs", "prompt_tokens", "generation_tokens", "total_tokens", "prompt_tps"]
    assert [field.name for field in fields(GenerationResult)][:9] == [*nine, "generation_tps", "peak_memory"]
    seven = ["prompt_tokens", "prompt_tps", "prompt_time", "generation_tokens", "generation_tps", "generation_time"]
    assert [field.name for field in fields(BatchStats)] == [*seven, "peak_memory"]
    assert [field.name for field in fields(BatchResponse)] == ["texts", "stats", "image_sizes"]


def test_an_end_of_the_text_and_further_ends(loaded: Loaded) -> None:
    ended = generate(*loaded, PROMPT, logit_bias={END: 100})
    assert (ended.finish_reason, ended.token, ended.generation_tokens) == ("stop", END, 1)
    tokens = [one.token for one in stream_generate(*loaded, PROMPT, max_tokens=6)]
    by_id = [*stream_generate(*loaded, PROMPT, max_tokens=6, eos_tokens=[tokens[-1]])]
    assert [one.token for one in by_id] == tokens[: tokens.index(tokens[-1]) + 1]
    assert by_id[-1].finish_reason == "stop"
    assert len([*stream_generate(*loaded, PROMPT, max_tokens=6)]) == 6  # forgotten after the call
    assert end_ids(["</s>", 7], loaded[1]) == (END, 7)
    with pytest.raises(ValueError, match="an end must be one"):
        generate(*loaded, PROMPT, eos_tokens=["two words"])
    with pytest.raises(ValueError, match="'two words' is"):  # one text, not its letters
        generate(*loaded, PROMPT, eos_tokens="two words")


def test_a_batch_gives_the_texts_of_single_calls(loaded: Loaded) -> None:
    prompts = [PROMPT, "a list", "naïve"] * 4
    response = batch_generate(*loaded, prompts=prompts, max_tokens=10)
    assert response.texts == [generate(*loaded, prompt, max_tokens=10).text for prompt in prompts]
    assert response.image_sizes is None
    stats = response.stats
    assert stats.prompt_tokens == sum(len(loaded[1].encode(prompt)) for prompt in prompts)
    assert 0 < stats.generation_tokens <= 120
    assert min(stats.prompt_time, stats.generation_time, stats.prompt_tps, stats.generation_tps) > 0
    assert stats.peak_memory > 0.01
    each = batch_generate(*loaded, prompts=[PROMPT] * 3, max_tokens=[1, 2, 3])
    assert each.stats.generation_tokens == 6
    with pytest.raises(ValueError, match="max_tokens: 2 of them for 3 prompts"):
        batch_generate(*loaded, prompts=[PROMPT] * 3, max_tokens=[1, 2])
    with pytest.raises(ValueError, match="must not be empty"):
        batch_generate(*loaded, prompts=[])


def test_templates_are_applied_once_and_begin_once(loaded: Loaded) -> None:
    model, processor = loaded
    prompt = apply_chat_template(processor, model.config, "where is the fox?")
    assert prompt == processor.apply_chat_template(
        [{"role": "user", "content": "where is the fox?"}], tokenize=False, add_generation_prompt=True
    )
    ids = processor.encode(prompt, add_special_tokens=False)
    assert generate(*loaded, prompt, max_tokens=4).text == generate(*loaded, ids, max_tokens=4).text
    messages = apply_chat_template(
        processor, model.config, ["one", {"role": "assistant", "content": "two"}], return_messages=True
    )
    assert messages == [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    with pytest.raises(ValueError, match="num_images = 1: this model takes no image"):
        apply_chat_template(processor, model.config, "x", num_images=1)


def test_it_prints_what_it_does_if_asked(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    result = generate(*loaded, PROMPT, max_tokens=4, verbose=True)
    shown = capsys.readouterr().out
    assert f"Prompt: {PROMPT}" in shown
    assert result.text in shown
    assert "Generation: 4 tokens" in shown
    assert "Peak memory:" in shown
    batch_generate(*loaded, prompts=[PROMPT], max_tokens=2, verbose=True)
    assert "Generation: 2 tokens" in capsys.readouterr().out
    generate(*loaded, PROMPT, max_tokens=2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("step", [1, 7, 2048])
def test_a_prompt_is_read_in_steps_of_any_size(step: int, loaded: Loaded) -> None:
    long = PROMPT * 12
    assert (
        generate(*loaded, long, max_tokens=8, prefill_step_size=step).text == generate(*loaded, long, max_tokens=8).text
    )


def test_functions_as_logits_processors_see_all_ids(loaded: Loaded) -> None:
    seen: list[int] = []

    def only_nine(tokens: list[int], scores: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        return torch.full_like(scores, -torch.inf).index_fill_(0, torch.tensor([9]), 0.0)

    shown = [*stream_generate(*loaded, [10, 11], max_tokens=3, logits_processors=[only_nine])]
    assert [one.token for one in shown] == [9, 9, 9]
    assert seen == [2, 3, 4]


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"tempurature": 1}, TypeError, "did you mean 'temperature'"),
        ({"sampler": len}, ValueError, "sampler = .* is not to be had here"),
        ({"top_p": 2}, ValueError, "top_p"),
        ({"max_tokens": -1}, ValueError, "max_tokens"),
        ({"resize_shape": (1, 2, 3)}, ValueError, "must be 1 or 2 integers"),
        ({"image": "a.png"}, ValueError, "image: this model reads text only"),
        ({"audio": ["a.wav"]}, ValueError, "audio: this model reads text only"),
    ],
)
def test_what_cannot_be_had_is_refused(
    given: dict[str, Any], kind: type[Exception], words: str, loaded: Loaded
) -> None:
    with pytest.raises(kind, match=words):
        generate(*loaded, PROMPT, **given)


def test_a_prompt_that_is_too_long_is_refused_and_the_next_is_served(loaded: Loaded) -> None:
    with pytest.raises(ValueError, match=f"at most {CONTEXT - 1} fit"):
        generate(*loaded, [9] * 600)
    with pytest.raises(ValueError, match=f"at most {CONTEXT - 1} fit"):
        batch_generate(*loaded, prompts=[PROMPT, [9] * 600])
    assert generate(*loaded, PROMPT, max_tokens=2).generation_tokens == 2


def test_shapes_are_one_number_or_two() -> None:
    assert (resized(7), resized([7]), resized((7, 9))) == ((7, 7), (7, 7), (7, 9))
    with pytest.raises(ValueError, match="must be 1 or 2 integers"):
        resized(True)


def test_loading(folder: str, tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json in .*/a: name the folder that peft's"):
        load(folder, tmp_path / "a")
    model, processor = load(folder, lazy=True)
    assert model.config.model_type == "llama"
    assert generate(model, processor, PROMPT, max_tokens=2).generation_tokens == 2
    model.close()
    model.close()


@pytest.mark.parametrize("kind", ["lora", "soft"])
def test_an_adapter_is_said_with_by_every_function(kind: str, folder: str, loaded: Loaded, tmp_path: Path) -> None:
    save = {"lora": save_lora, "soft": save_soft_prompt}[kind]
    adapter = save(tmp_path / "adapter", Path(folder))
    chosen = {kind: "it", "lora" if kind == "soft" else "soft": None}
    engine = Engine(load_engine_model(Path(folder)))
    load_all(engine, {"it": adapter})
    ids = loaded[1].encode(PROMPT)
    (expected,) = run_engine(engine, [adapted(ids, chosen["lora"], chosen["soft"], max_new_tokens=8)])
    model, processor = load(folder, adapter, transport="thread")
    with model:
        shown = [*stream_generate(model, processor, PROMPT, max_tokens=8)]
        text = generate(model, processor, PROMPT, max_tokens=8).text
        assert batch_generate(model, processor, prompts=[PROMPT] * 2, max_tokens=8).texts == [text] * 2
    assert tuple(one.token for one in shown) == expected
    assert text == processor.decode(list(expected)) != generate(*loaded, PROMPT, max_tokens=8).text
