"""Loading: what is found out about a checkpoint, and the one clear line for what cannot be loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from max_engines.engine import Engine
from max_engines.loading import DType, load_model
from max_engines.tokenizer import load_tokenizer
from max_interfaces.protocols import TokenGenerator, Tokenizer
from tests.engines.tiny_models import CONTEXT, VOCAB, load, save_checkpoint


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
    pickled = save_checkpoint(tmp_path / "pickled", "llama")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    broken = save_checkpoint(tmp_path / "broken", "llama")
    (broken / "model.safetensors").write_bytes(b"nothing")
    unknown = save_checkpoint(tmp_path / "unknown", "llama")
    (unknown / "config.json").write_text(json.dumps({"model_type": "no-such-thing"}))
    for place, words in (
        (tmp_path / "missing", "no model folder at .*missing: check the path"),
        ("./missing", "no model folder at missing"),
        (tmp_path / "empty", "no config.json in .*empty"),
        (pickled, "safetensors"),
        (broken, "cannot load the model"),
        (unknown, "no-such-thing"),
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


def test_remote_code_is_never_run(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "theirs"
    config["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(ValueError, match="cannot load the model"):
        load_model(folder)


def test_an_architecture_that_cannot_run_is_refused_by_name(tmp_path: Path) -> None:
    config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="T5"):
        load_model(tmp_path)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    model = load(save_checkpoint(tmp_path, "llama"))
    for weight in model.module.parameters():
        weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        Engine(model)


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
