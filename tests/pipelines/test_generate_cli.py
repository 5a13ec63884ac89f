"""`maxpipe generate`, as people use it: real processes, exit codes, one line for what went wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from max_pipelines.config import Config, load_config
from tests.pipelines.processes import serving

MAXPIPE = [sys.executable, "-m", "max_pipelines.cli"]


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [*MAXPIPE, "generate", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=100, check=False, text=True)


def fails(*arguments: str | Path, says: str) -> None:
    """It ends with a non-zero code and one clear line."""
    done = run(*arguments)
    lines = done.stderr.strip().splitlines()
    assert done.returncode in (1, 2), lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("maxpipe generate: ")
    assert says in lines[0]


@pytest.fixture(scope="module")
def address(tiny_text: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a tiny model is served."""
    with serving(tiny_text, tmp_path_factory.mktemp("served")) as served:
        yield served.address
        served.signal(signal.SIGTERM)
        assert served.wait() == 0


@pytest.fixture(scope="module")
def whole(address: str) -> str:
    """What the model greedily writes."""
    done = run("the quick", "--max-new-tokens", "20", "--connect", address)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")
    return done.stdout


def test_a_model_of_a_folder_goes_on_from_a_prompt(whole: str, tiny_text: Config) -> None:
    """The built-in config, with this model; on the way to a terminal or a file nothing but the text is printed."""
    done = run("the quick", "--model", tiny_text.model.path, "--max-new-tokens", "20")
    assert (done.returncode, done.stdout, done.stderr) == (0, whole, "")


def test_a_config_of_ones_own(whole: str, tiny_text: Config, tmp_path: Path) -> None:
    file = tmp_path / "text.yaml"
    file.write_bytes(msgspec.yaml.encode(tiny_text))
    assert run("the quick", "--config", file, "--max-new-tokens", "20").stdout == whole


def test_a_stream_of_standard_input_is_the_same_text(whole: str, address: str) -> None:
    done = run("-", "--max-new-tokens", "20", "--stream", "--connect", address, stdin="the quick\n")
    assert (done.returncode, done.stdout) == (0, whole)  # the line's end is the shell's, and no part of the prompt


def test_a_terminal_is_told_what_it_cost(address: str) -> None:
    terminal, end = pty.openpty()
    command = [*MAXPIPE, "generate", "the quick", "--max-new-tokens", "5", "--connect", address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as process:
        os.close(end)
        assert process.wait(timeout=60) == 0
    said = os.read(terminal, 65_536).decode()
    os.close(terminal)
    assert re.search(r"2 prompt tokens.* in [\d.]+ s, 5 new ones at [\d.]+ a second, \d+ MiB", said)


def test_a_stop_text_ends_it(whole: str, address: str) -> None:
    stop = whole[len(whole) // 2 :].strip()[:2]
    done = run("the quick", "--max-new-tokens", "20", "--stop", stop, "--stop", "never", "--connect", address)
    assert done.stdout == whole[: whole.index(stop)] + "\n"


def test_a_search_may_find_something_likelier(whole: str, address: str) -> None:
    options = ("--max-new-tokens", "20", "--connect", address)
    assert run("the quick", "--beam-width", "1", *options).stdout == whole
    found = run("the quick", "--beam-width", "4", "--length-penalty", "0", *options)
    assert (found.returncode, found.stderr) == (0, "")
    refused = run("the quick", "--length-penalty", "0", *options)
    assert (refused.returncode, "means nothing without a beam_width" in refused.stderr) == (2, True)


def test_keys_and_values_may_be_kept_smaller(whole: str, address: str) -> None:
    options = ("--max-new-tokens", "20", "--connect", address)
    assert run("the quick", "--kv-bits", "8", "--max-kv-size", "400", *options).stdout == whole  # it is short
    done = run("the quick", "--kv-bits", "4", "--quantized-kv-start", "0", "--max-kv-size", "16", *options)
    assert (done.returncode, done.stderr) == (0, "")
    refused = run("the quick", "--kv-bits", "5", *options)  # by the engine
    assert (refused.returncode, "kv_bits = 5: must be 4 or 8" in refused.stderr) == (1, True)
    refused = run("the quick", "--max-kv-size", "5", *options)  # before anything is sent
    assert (refused.returncode, "max_kv_size = 5" in refused.stderr) == (2, True)


def test_a_seed_says_it_again(address: str) -> None:
    options = ("--temperature", "1", "--top-p", "0.9", "--max-new-tokens", "9", "--connect", address)
    first, again, other = (run("hi", "--seed", seed, *options).stdout for seed in "334")
    assert first == again != other


def test_it_answers_in_json(address: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": [{"age": 3}, {"age": 12}]}', encoding="utf-8")
    done = run("how old?", "--system", "be brief", "--json-schema", schema, "--connect", address)
    assert json.loads(done.stdout) in ({"age": 3}, {"age": 12})


def test_json_that_was_cut_is_a_failure(address: str, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"type": "integer"}, "minItems": 50}', encoding="utf-8")
    done = run("hi", "--json-schema", schema, "--max-new-tokens", "4", "--connect", address)
    assert done.returncode == 1
    assert done.stderr == "maxpipe generate: the JSON is cut; --max-new-tokens 4 was too few for it\n"


def test_what_the_server_refuses_is_said(address: str) -> None:
    fails("hi", "--connect", address, "--model", "huge", says="served: tiny")
    fails("the " * 2000, "--connect", address, says="shorten it")


def test_text_is_not_spoken(address: str, tmp_path: Path) -> None:
    command = [*MAXPIPE, "speak", "hi", "-o", str(tmp_path / "x.wav"), "--connect", address]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("maxpipe speak: model = 'tiny': cannot speak a text")
    assert not (tmp_path / "x.wav").exists()


def test_a_schema_that_is_no_json_is_named(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "obj', encoding="utf-8")
    fails("hi", "--json-schema", schema, says=f'--json-schema {schema}: Json.text = \'{{"type": "obj\': is no JSON (')


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("",), "nothing to go on from"),
        (("hi", "--model", "/nowhere/at/all"), "/nowhere/at/all"),
        (("hi", "--temperature", "-1"), "SamplingParams.temperature"),
        (("hi", "--json-schema", "no/such/file"), "no/such/file"),
        (("hi", "--connect", "ipc:///nowhere", "--device", "cpu"), "--device"),
        (("hi", "--device", "tpu"), "model.device: Expected"),
        (("hi", "--model", ""), "model.path: Expected"),
        (("hi", "--connect", "ipc:///nowhere"), "no server at"),
    ],
)
def test_what_cannot_work_is_said(arguments: tuple[str, ...], says: str) -> None:
    fails(*arguments, says=says)


def test_the_built_in_config_is_valid_and_names_a_public_model() -> None:
    config = load_config(Path(__file__).parents[2] / "configs" / "text.yaml")
    assert config.pipeline.kind == "text"
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", config.model.path)
