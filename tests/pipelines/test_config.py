"""YAML files: what is valid, and what an error says."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from max_codecs.orpheus import ORPHEUS
from max_engines.rules import Watermark
from max_interfaces import ConfigError
from max_pipelines.client.lease import PING_S
from max_pipelines.config import Config, config_schema, load_config, parse_config
from max_pipelines.config.running import LEAST_SILENCE_S
from max_pipelines.server.dispatcher import BEAT_S
from max_pipelines.worker.loop import HEARTBEAT_S, SLOW_STEP_S

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = "model: {name: m}\npipeline: {kind: trivial}\n"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path) -> None:
    config = load_config(path)
    assert msgspec.yaml.decode(msgspec.yaml.encode(config), type=Config) == config


def test_nobody_who_gives_signs_of_life_in_time_can_be_taken_for_gone() -> None:
    longest_gap = max(PING_S, BEAT_S, HEARTBEAT_S + SLOW_STEP_S)
    assert longest_gap < LEAST_SILENCE_S


def test_orpheus_yaml_says_what_the_code_knows() -> None:
    speech = load_config(CONFIGS / "orpheus.yaml").speech
    assert speech is not None
    assert speech.spoken.layout == ORPHEUS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle: {name: m}\npipeline: {kind: trivial}", "modle: unknown key; did you mean `model`?"),
        (MINIMAL + "workers: {cuont: 2}", "workers.cuont: unknown key; did you mean `count`?"),
        (MINIMAL + "workers: {xyzzy: 2}", "workers.xyzzy: unknown key; valid keys: count, standby, transport"),
        (MINIMAL + "workers: {count: 0}", "workers.count: Expected `int` >= 1"),
        (
            MINIMAL + "workers: {transport: tread}",
            "workers.transport: Invalid enum value 'tread'; valid: process, thread",
        ),
        ("model: {name: m, quantization: fp4}\npipeline: {kind: trivial}", "valid: int4, int8, none"),
        ("model: {name: m, quantization_group_size: 48}\npipeline: {kind: trivial}", "model.quantization_group_size"),
        (
            "model: {name: m, cpu_offload_gb: -1}\npipeline: {kind: trivial}",
            "model.cpu_offload_gb: Expected `float` >= 0",
        ),
        ("model: {name: m, dtype: int8}\npipeline: {kind: trivial}", "valid: auto, bfloat16, float16, float32"),
        (MINIMAL + "speech: {format: 3}", "speech.format: Expected"),
        (MINIMAL + "limits: {lease_s: .nan}", "limits.lease_s"),
        (MINIMAL + "limits: {lease_s: 1.0}", "limits.lease_s: Expected `float` >= 1.3"),
        (MINIMAL + "limits: {silence_s: 0.5}", "limits.silence_s: Expected `float` >= 1.3"),
        (MINIMAL + "engine: {knid: torch}", "engine.knid: unknown key; did you mean `kind`?"),
        (MINIMAL + "engine: {kv_memory: 0}", "engine.kv_memory: Expected `int` >= 65536"),
        (MINIMAL + "engine: {kv_memory: 1}", "engine.kv_memory: Expected `int` >= 65536"),
        (MINIMAL + "engine: {kv_memory: 1.5}", "engine.kv_memory: Expected `float` <= 1.0"),
        (MINIMAL + "engine: {kv_memory: 0.0}", "engine.kv_memory: Expected `float` > 0.0"),
        (MINIMAL + "engine: {kv_memory: half}", "engine.kv_memory: Expected `int | float | null`, got `str`"),
        (MINIMAL + "engine: {watermark: {gama: 0.5}}", "engine.watermark.gama: unknown key; did you mean `gamma`?"),
        (MINIMAL + "engine: {watermark: {gamma: 1.0}}", "engine.watermark.gamma: Expected `float` < 1.0"),
        ("pipeline: {kind: trivial}", "missing required field `model`"),
        ("model: {name: m, device: gpu}\npipeline: {kind: trivial}", "model.device"),
        ("model: {name: m}\npipeline: {kind: speech}", "the section `speech` is missing"),
        ("model: [", "is no valid YAML"),
        ("", "Expected `object`"),
        (
            "model: {name: m}\npipeline: {kind: speech}\nspeech: {format: {layuot: 1}}",
            "speech.format.layuot: unknown key; did you mean `layout`?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file_and_path(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "memory"),
    [("{}", None), ("{kv_memory: 0.5}", 0.5), ("{kv_memory: 1.0}", 1.0), ("{kv_memory: 1073741824}", 2**30)],
)
def test_the_memory_of_the_cache_is_a_fraction_or_bytes(text: str, memory: float | None) -> None:
    engine = parse_config(MINIMAL + f"engine: {text}").engine
    assert engine.kv_memory == memory
    assert type(engine.kv_memory) is type(memory)
    assert (engine.kind, engine.max_batch, engine.token_budget) == ("torch", 16, None)


def test_the_default_watermark_is_the_engines() -> None:
    ours, engines = parse_config(MINIMAL).engine.watermark, Watermark()
    assert (ours.gamma, ours.delta, ours.key) == (engines.gamma, engines.delta, engines.key)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load_config(tmp_path / "none.yaml")


def test_the_schema_is_json_and_knows_every_section() -> None:
    schema = json.dumps(config_schema())
    for field in msgspec.structs.fields(Config):
        assert f'"{field.name}"' in schema
