"""`engine.kind` in YAML: ours, the reference, and a third party's, over the real road."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import msgspec
import pytest

from max_engines.engine import Engine
from max_engines.reference import ReferenceEngine
from max_interfaces import (
    ConfigError,
    FailureKind,
    RequestFailed,
    RequestID,
    SamplingParams,
    SequenceStart,
    TextGenerationRequest,
    TokenGenerator,
)
from max_pipelines.client import Client
from max_pipelines.config import Config, ModelConfig, parse_config
from max_pipelines.engines import build_generator
from tests.engines.tiny_models import CONTEXT, VOCAB, save_checkpoint, save_model
from tests.pipelines.processes import install

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install ./examples/echo` does, for the processes that are started from here on, and for this one."""
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
    install(tmp_path, "maxpipe_echo", (EXAMPLE / "maxpipe_echo.py").read_text(), "".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


def config(path: Path | str, engine: str) -> Config:
    parsed = parse_config(f"model: {{name: tiny, path: embedded}}\npipeline: {{kind: text}}\nengine: {engine}")
    return msgspec.structs.replace(parsed, model=ModelConfig(name="tiny", path=str(path), dtype="float32"))


def tokens(generator: TokenGenerator, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """Eight greedy tokens."""
    sequence = SequenceStart(RequestID(), prompt, SamplingParams(temperature=0, max_new_tokens=8), seed=0)
    generator.add(sequence)
    said: tuple[int, ...] = ()
    while True:
        delta = generator.step([sequence.request_id])[sequence.request_id]
        said += delta.tokens
        if delta.status.is_done:
            generator.release(sequence.request_id)
            return said


def test_ours_is_the_default_and_the_reference_says_the_same(folder: Path) -> None:
    ours = build_generator(config(folder, "{}"))
    reference = build_generator(config(folder, "{kind: reference}"))
    assert isinstance(ours.generator, Engine)
    assert isinstance(reference.generator, ReferenceEngine)
    for served in (ours, reference):
        assert (served.vocab_size, served.max_length, served.eos_token_ids) == (VOCAB, CONTEXT, frozenset({2}))
    assert tokens(ours.generator, (5, 6, 7)) == tokens(reference.generator, (5, 6, 7))


def test_the_section_reaches_our_engine(folder: Path) -> None:
    small = build_generator(config(folder, "{max_batch: 2, token_budget: 16, block_size: 4, kv_memory: 65536}"))
    assert small.max_length == 128  # of 512 bytes: keys and values, two layers, two heads of 16, float32
    assert len(tokens(small.generator, (5, 6, 7))) == 8


def test_our_engine_tells_how_much_memory_it_has_left(folder: Path) -> None:
    served = build_generator(config(folder, "{max_batch: 2, block_size: 4, kv_memory: 65536}"))
    free = served.gauges()["free_blocks"]
    assert free == served.gauges()["blocks"] > 0
    sequence = SequenceStart(RequestID(), tuple(range(5, 15)), SamplingParams(max_new_tokens=8), seed=0)
    served.generator.add(sequence)
    served.generator.step([sequence.request_id])
    assert served.gauges()["free_blocks"] < free
    served.generator.release(sequence.request_id)
    assert 0 < served.gauges()["free_blocks"] <= free
    assert build_generator(config(folder, "{kind: reference}")).gauges() == {}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("tortch", "engine.kind: no engine `tortch` is installed; did you mean `torch`?"),
        ("ecko", "did you mean `echo`?"),
        ("zzz", "there are: csm, echo, reference, torch, vllm"),
    ],
)
def test_an_unknown_kind_is_named_with_what_there_is(kind: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_generator(config("nowhere", f"{{kind: {kind}}}"))
    assert says in str(caught.value)


def test_what_cannot_be_loaded_is_said_with_the_models_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model tiny: no model folder at .*gone: check the path"):
        build_generator(config(tmp_path / "gone", "{}"))


def test_encoder_decoders_run_only_in_the_reference(tmp_path: Path) -> None:
    sizes = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    folder = save_model(tmp_path, "T5Config", {**sizes, "decoder_start_token_id": 0})
    with pytest.raises(ConfigError, match=r"model tiny: .* T5ForConditionalGeneration .*engine\.kind: reference"):
        build_generator(config(folder, "{}"))
    assert len(tokens(build_generator(config(folder, "{kind: reference}")).generator, (5, 6, 7))) == 8


@pytest.mark.usefixtures("installed")
def test_a_third_partys_engine_serves_text() -> None:
    with Client.embedded(EXAMPLE / "echo.yaml") as client:

        def request(text: str, **params: object) -> TextGenerationRequest:
            sampling = SamplingParams(**{"max_new_tokens": 20, **params})  # type: ignore[arg-type]
            return TextGenerationRequest(RequestID(), "echo", text, sampling_params=sampling)

        assert client.generate(request("so be it")).text == "so be it"
        assert client.generate(request("so be it", max_new_tokens=5)).text == "so be"
        with pytest.raises(RequestFailed, match="echo has no probabilities") as caught:
            client.generate(request("so be it", prompt_logprobs=1))
        assert caught.value.failure.kind is FailureKind.INVALID_REQUEST


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("{options: {tensor_parallel_size: 2}}", "engine.options.tensor_parallel_size: unknown key; there are none"),
        ("{kind: reference, options: {a: 1}}", "engine.options.a: unknown key; there are none"),
        ("{kind: vllm, options: {tensor_paralel_size: 2}}", "did you mean `tensor_parallel_size`?"),
        (
            "{kind: vllm, options: {tensor_parallel_size: 0}}",
            "engine.options.tensor_parallel_size: Expected `int` >= 1",
        ),
        ("{kind: vllm, options: {distributed_executor_backend: mpi}}", "valid: mp, ray"),
    ],
)
def test_options_are_those_of_the_kind(engine: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_generator(config("nowhere", engine))
    assert says in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_vllm_is_an_extra(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.kind vllm needs the package vllm .*pip install maxpipe\[vllm\]"):
        build_generator(config(folder, "{kind: vllm}"))


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("{kind: vllm, block_size: 16}", "engine.block_size is for engine.kind torch"),
        ("{kind: vllm, watermark: {gamma: 0.3}}", "engine.watermark is for engine.kind torch"),
        ("{kind: vllm, kv_memory: 0.5}", "engine.kv_memory = 0.5: engine.kind vllm wants bytes"),
    ],
)
def test_what_only_our_engine_has_is_refused(engine: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError) as caught:
        build_generator(config("nowhere", engine))
    assert says in str(caught.value)
