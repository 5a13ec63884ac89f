"""`LLM(quantization=…)`: the checkpoint's own, or made when it is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from transformers import AutoTokenizer

from max_engines.checkpoints.methods import METHODS
from max_engines.quantizing import BITS
from max_pipelines.engines import build_generator
from max_pipelines.llm import LLM, AsyncLLM, SamplingParams
from max_pipelines.llm.arguments import Arguments
from max_pipelines.llm.quantization import OF_CHECKPOINTS, WHEN_LOADED
from tests.engines.quantized_files import awq, quantize_checkpoint
from tests.engines.tiny_models import generate, start
from tests.tiny_text import make_tiny_text

COUNT = 24
GREEDY = SamplingParams(temperature=0, max_tokens=COUNT, ignore_eos=True)
PROMPT = "the quick"
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_tiny_text(folder := tmp_path_factory.mktemp("quantised") / "plain")
    return folder


@pytest.fixture(scope="module")
def quantised(plain: Path) -> Path:
    """A checkpoint in AWQ's format; `plain` has what it stands for."""
    quantize_checkpoint(plain, folder := plain.parent / "awq", AWQ, awq())
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(plain / name, folder)
    return folder


def said(folder: Path, quantization: str | None) -> tuple[int, ...]:
    with LLM(str(folder), quantization=quantization, transport="thread") as llm:
        return tuple(llm.generate(PROMPT, GREEDY, use_tqdm=False)[0].outputs[0].token_ids)


@pytest.mark.parametrize("quantization", ["awq", None])
def test_a_checkpoint_says_what_its_floats_say(quantization: str | None, quantised: Path, plain: Path) -> None:
    assert said(quantised, quantization) == said(plain, None)


@pytest.mark.parametrize(("quantization", "ours"), [("int8", "int8"), ("int4", "int4"), ("torchao", "int8")])
def test_weights_become_integers_as_in_the_engine(quantization: str, ours: str, plain: Path) -> None:
    config = Arguments.of(str(plain), {}).config()
    engine = build_generator(replace(config, model=replace(config.model, quantization=ours))).generator
    ids = AutoTokenizer.from_pretrained(plain).encode(PROMPT)
    (expected,) = generate(engine, [start(ids, max_new_tokens=COUNT)])
    assert said(plain, quantization) == expected
    assert Arguments.of(str(plain), {"quantization": quantization}).config().model.quantization == ours


def test_integers_say_something_else_than_floats(plain: Path) -> None:
    assert said(plain, "int4") != said(plain, None)


@pytest.mark.parametrize(
    ("quantization", "of", "words"),
    [
        ("gptq", "quantised", "quantization = 'gptq': the checkpoint '.*awq' is quantised by 'awq'"),
        ("fp8", "plain", "quantization = 'fp8': the checkpoint '.*plain' is not quantised; for int8 or int4"),
    ],
)
def test_what_a_checkpoint_is_not(quantization: str, of: str, words: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ValueError, match=words):
        LLM(str(request.getfixturevalue(of)), quantization=quantization, transport="thread")


async def test_the_asynchronous_twin_sees_it_when_it_opens(plain: Path) -> None:
    llm = AsyncLLM(str(plain), quantization="awq", transport="thread")
    with pytest.raises(ValueError, match="is not quantised"):
        await llm.__aenter__()


def test_the_engines_own_words_are_known() -> None:
    assert set(OF_CHECKPOINTS) == set(METHODS)
    assert set(WHEN_LOADED.values()) == set(BITS)


def test_several_devices_are_told_vllms_word() -> None:
    config = Arguments.of("/m", {"tensor_parallel_size": 2, "quantization": "awq_marlin"}).config()
    assert config.engine.options == {"tensor_parallel_size": 2, "quantization": "awq_marlin"}
    assert config.model.quantization == "none"
