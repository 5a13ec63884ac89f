"""Loading: what is found out about a checkpoint, and the one clear line for what cannot be loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from max_engines.engine import Engine
from max_engines.loading import DType, load_model
from max_engines.reference import ReferenceEngine
from max_engines.tokenizer import load_tokenizer
from max_interfaces.protocols import TokenGenerator, Tokenizer
from tests.engines.tiny_models import (
    CONTEXT,
    VOCAB,
    again,
    generate,
    load,
    plain_greedy,
    prompts,
    save_checkpoint,
    start,
)


def test_the_facts_about_a_model(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(checkpoint("llama"))
    assert (model.vocab_size, model.context_length, model.eos_token_ids) == (VOCAB, CONTEXT, frozenset({2}))
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    save_checkpoint(tmp_path, "qwen3", dtype="bfloat16")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert load_model(tmp_path).eos_token_ids == {2, 7, 9}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(checkpoint: Callable[[str], Path], dtype: DType) -> None:
    assert load_model(checkpoint("llama"), dtype=dtype).dtype == getattr(torch, dtype)


def test_an_engine_is_a_token_generator(checkpoint: Callable[[str], Path]) -> None:
    generator: TokenGenerator = Engine(load(checkpoint("gemma")))
    assert generator.step([]) == {}


def test_what_cannot_be_loaded_is_said_in_one_line(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bare = save_checkpoint(tmp_path / "bare", "llama")
    (bare / "model.safetensors").unlink()
    broken = save_checkpoint(tmp_path / "broken", "llama")
    (broken / "model.safetensors").write_bytes(b"nothing")
    unknown = save_checkpoint(tmp_path / "unknown", "llama")
    (unknown / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    picture = save_checkpoint(tmp_path / "picture", "llama")
    (picture / "config.json").write_text(json.dumps({"model_type": "vit"}))
    for place, words in (
        (tmp_path / "missing", "no model folder at .*missing: check the path"),
        ("./missing", "no model folder at missing"),
        (tmp_path / "empty", "no config.json in .*empty"),
        (bare, r"no \*.safetensors in the folder"),
        (broken, "cannot load the model"),
        (unknown, "does not know its architecture 'no-such-thing'"),
        (picture, "its architecture 'vit' is no causal language model"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            load_model(place)
        assert "\n" not in str(caught.value)


def test_a_device_or_dtype_that_is_not_there(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("llama")
    count = torch.cuda.device_count()
    with pytest.raises(ValueError, match=f"this machine has {count} CUDA devices; use cpu"):
        load_model(folder, device=f"cuda:{count}")
    for device in ("tpu", "meta", ""):
        with pytest.raises(ValueError, match="must be cpu, cuda or cuda:N"):
            load_model(folder, device=device)
    with pytest.raises(ValueError, match="dtype = 'int8'"):
        load_model(folder, dtype="int8")  # type: ignore[arg-type]


def change_config(folder: Path, **changes: object) -> None:
    """Write other values into a checkpoint's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Have `change` alter a checkpoint's weights in place."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


THEIRS = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
NORM = "model.layers.1.input_layernorm.weight"


def test_remote_code_is_never_run(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    change_config(folder, model_type="theirs", auto_map=THEIRS)
    (folder / "theirs.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(ValueError, match="its architecture 'theirs' needs code from the checkpoint"):
        load_model(folder)
    with (
        pytest.warns(UserWarning, match="trust_remote_code is ignored") as warned,
        pytest.raises(ValueError, match="its architecture 'theirs' needs code from the checkpoint"),
    ):
        load_model(folder, trust_remote_code=True)
    assert len(warned) == 1


def test_code_beside_an_architecture_that_transformers_has_is_left_alone(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    change_config(folder, auto_map=THEIRS)
    (folder / "theirs.py").write_text("raise SystemExit('remote code ran')")
    with pytest.warns(UserWarning, match="trust_remote_code is ignored"):
        model = load_model(folder, trust_remote_code=True)
    assert type(model.module).__name__ == "LlamaForCausalLM"


FROM_THE_HUB = """
from max_engines.loading import load_model
print(load_model("tiny/llama").vocab_size)
for name in ("tiny/pickled", "tiny/missing"):
    try:
        load_model(name)
    except ValueError as problem:
        print(problem)
"""


def test_a_model_of_the_hub_is_found_by_its_id(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """In the cache, that is, where a download leaves it; nothing is asked of the network."""
    for name in ("llama", "pickled"):
        repository = tmp_path / f"models--tiny--{name}"
        shutil.copytree(checkpoint("llama"), repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
    weights = tmp_path / "models--tiny--pickled" / "snapshots" / "abc" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FROM_THE_HUB], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    loaded, pickled, missing = done.stdout.splitlines()
    assert loaded == str(VOCAB)
    assert pickled.startswith("cannot load the model 'tiny/pickled': it has no safetensors, and nothing else is read")
    assert missing.startswith("cannot load the model 'tiny/missing': ")


def test_pickled_weights_are_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"pytorch_model.bin is a pickle, .*safetensors.*convert it: .*save_pretrained"
    ):
        load_model(folder)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_a_number_is_refused_by_name(tmp_path: Path, wrong: float) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    change_weights(folder, lambda weights: weights[NORM].view(-1)[3:4].fill_(wrong))
    with pytest.raises(ValueError, match=f"its weight {NORM} holds NaN or infinite numbers"):
        load_model(folder)


def test_a_weight_that_is_too_large_for_float16_is_refused_there(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    change_weights(folder, lambda weights: weights[NORM].view(-1)[3:4].fill_(1e6))
    load_model(folder, dtype="bfloat16")
    with pytest.raises(ValueError, match=r"holds NaN or infinite numbers as torch\.float16"):
        load_model(folder, dtype="float16")


def test_a_weight_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    change_weights(folder, lambda weights: weights.pop(NORM))
    with pytest.raises(ValueError, match=f"it lacks 1 weights, such as {NORM}"):
        load_model(folder)


@pytest.mark.parametrize("architecture", ["llama", "llama-multi-head"])  # the latter's embeddings are tied
def test_a_checkpoint_in_several_files_is_the_same_model(tmp_path: Path, architecture: str) -> None:
    whole = save_checkpoint(tmp_path / "whole", architecture)
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(tmp_path / "parts", max_shard_size="50KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    starts = [start(text) for text in prompts(3)]
    expected = generate(ReferenceEngine(load(whole)), starts)
    assert generate(Engine(load(tmp_path / "parts")), [again(one) for one in starts]) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3-moe", "gemma3", "gpt2", "phi3-window"])
def test_half_precision_runs(checkpoint: Callable[[str], Path], architecture: str, dtype: DType) -> None:
    engine = Engine(load_model(checkpoint(architecture), dtype=dtype))
    outputs = generate(engine, [start(text, max_new_tokens=6) for text in prompts(3)])
    assert [len(tokens) for tokens in outputs] == [6] * 3


def test_a_window_that_the_architecture_does_not_have_is_none(tmp_path: Path) -> None:
    """As in the model's own forward pass; transformers' `generate` would shorten its cache all the same."""
    folder = save_checkpoint(tmp_path, "llama", sliding_window=20)
    starts = [start(text) for text in prompts(3)]
    expected = generate(ReferenceEngine(load(folder)), starts)
    assert generate(Engine(load(folder)), [again(one) for one in starts]) == expected


def test_frequencies_that_would_change_with_the_batch_end_the_context(tmp_path: Path) -> None:
    """Beyond the first length, "longrope" turns all positions by other frequencies, also those of other sequences."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    lengths = {"max_position_embeddings": CONTEXT, "original_max_position_embeddings": 64}
    folder = save_checkpoint(tmp_path, "phi3-window", rope_scaling=rope, partial_rotary_factor=1.0, **lengths)
    model = load(folder)
    assert model.context_length == 64
    text = prompts(1, longest=30)[0]
    (expected,) = plain_greedy(folder, [text], 20)
    assert generate(Engine(model), [start(text), start([5] * 50)])[0] == expected


@pytest.fixture
def words(tmp_path: Path) -> Tokenizer:
    """A tokenizer of single characters, with <s> before a text and </s> that ends it."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2, **{c: 3 + i for i, c in enumerate(" abcdefs<>/")}}
    backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    save_checkpoint(tmp_path, "llama")
    fast.save_pretrained(tmp_path)
    return load_tokenizer(tmp_path)


def test_special_tokens_in_a_text_are_plain_characters(words: Tokenizer) -> None:
    assert words.eos_token_ids == {1}
    assert words.encode("ab") == [0, 4, 5]
    spelled = words.encode("a</s>b", add_special_tokens=False)
    assert 1 not in spelled
    assert len(spelled) == 6
    assert words.decode([0, *words.encode("a</s>b", add_special_tokens=False), 1]).replace(" ", "") == "a</s>b"
    assert "</s>" in words.decode([4, 1], skip_special_tokens=False)


@pytest.mark.parametrize("text", ["a<bc>b", "<bc>", "<bc><bc>", "a<<bc>>", "abc"])
def test_added_tokens_that_nobody_flagged_as_special_are_plain_characters_too(words: Tokenizer, text: str) -> None:
    words._inner.add_tokens(["<bc>"])  # type: ignore[attr-defined]
    words = type(words)(words._inner)  # type: ignore[attr-defined, call-arg]
    added = words.encode("<bc>", add_special_tokens=False, parse_special_tokens=True)
    assert len(added) == 1
    assert words.encode(text, add_special_tokens=False) == [words.encode(c, add_special_tokens=False)[0] for c in text]
    assert words.encode(text) == [0, *words.encode(text, add_special_tokens=False)]


def test_a_missing_tokenizer_is_said_in_one_line(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    for place in (tmp_path / "missing", checkpoint("llama")):
        with pytest.raises(ValueError, match=r"no model folder at|cannot load the tokenizer") as caught:
            load_tokenizer(place)
        assert "\n" not in str(caught.value)


def test_importing_the_package_is_light() -> None:
    code = "import sys, max_engines; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
