"""`maxpipe bench text`: who is measured, what is made of it, and what is said of those who cannot take part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_pipelines.bench.text.contender import Contender, contenders
from max_pipelines.bench.text.messages import Facts, Job, Setup
from max_pipelines.bench.text.plot import svg
from max_pipelines.bench.text.process_tree import cpu_seconds, peak_bytes, tree
from max_pipelines.bench.text.race import Race, run_race
from max_pipelines.bench.text.report import Figures, Report, Row, table
from max_pipelines.bench.text.running import ContenderError, Running
from max_pipelines.bench.text.scenarios import FIRST_ID, SCENARIOS, Scenario, chosen
from max_pipelines.bench.text.shapes import SHAPES, write_checkpoint

ROOT = Path(__file__).parents[2]
TWO = Scenario("two", "2 requests, 4 → 5 tokens", 2, 4, 5)
LONG = Scenario("long", "1 request, 90 → 20 tokens", 1, 90, 20)
CONTEXT = 64

# A contender without a model: a token comes every `gap` seconds; each job is as fast as `gaps` says, in turn.
FAKE = """
import json, sys, time
mode, setup = sys.argv[1:]
facts = {"version": "fake 1", "weight_bytes": 10**6, "kv_token_bytes": 10**3}
if mode == "cuda":
    facts["copy_bytes_per_s"] = 10**9
if mode == "absent":
    sys.exit("it is not installed")
print(json.dumps(facts), flush=True)
gaps = [0.5, 0.02, 0.01, 0.04]
for number, line in enumerate(sys.stdin):
    job = json.loads(line)
    if mode == "dies" and number:
        raise MemoryError("no more of it\\n")
    if mode == "hangs":
        time.sleep(60)
    tokens = job["new_tokens"] - (mode == "short")
    times = [gaps[number % 4] * (at + 1) for at in range(tokens)]
    print(json.dumps({"arrivals": [times] * len(job["prompts"])}), flush=True)
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """The fake's file."""
    file = tmp_path / "fake.py"
    file.write_text(FAKE, encoding="utf-8")
    return file


def contender(file: Path, mode: str, name: str = "") -> Contender:
    return Contender(name or mode, (sys.executable, str(file), mode))


def raced(folder: Path, racing: list[Contender], *scenarios: Scenario, rounds: int = 3, device: str = "cpu") -> Report:
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"vocab_size": 100, "max_position_embeddings": CONTEXT}))
    return run_race(Race("a model", model, "float32", device, 1, rounds, scenarios, racing), folder)


def figures(report: Report, name: str) -> Figures:
    (found,) = [row.figures for row in report.rows if row.contender == name]
    assert found is not None
    return found


def test_figures_are_those_of_the_fastest_round(fake: Path, tmp_path: Path) -> None:
    report = raced(tmp_path, [contender(fake, "fine")], TWO)
    found = figures(report, "fine")  # the first job warms up; of the others the second is the fastest
    assert found.tokens_per_s == pytest.approx(2 * 5 / (5 * 0.01))
    assert found.ttft_ms == pytest.approx(10)
    assert found.gap_p50_ms == pytest.approx(10)
    assert found.gap_p99_ms == pytest.approx(10)
    assert found.bandwidth_share is None
    assert report.versions == {"fine": "fake 1"}


def test_the_share_of_the_bandwidth(fake: Path, tmp_path: Path) -> None:
    found = figures(raced(tmp_path, [contender(fake, "cuda")], TWO, device="cuda"), "cuda")
    read = 10**6 + 2 * (4 + 5 / 2) * 10**3  # the weights, and two requests' keys and values half-way
    assert found.bandwidth_share == pytest.approx(read / 0.01 / 10**9)


def test_who_cannot_take_part_is_not_measured_and_says_why(fake: Path, tmp_path: Path) -> None:
    racing = [contender(fake, mode) for mode in ("fine", "absent", "dies", "short")]
    racing += [contender(tmp_path / "no-such-file", "lost"), Contender("nowhere", (str(tmp_path / "python"),))]
    racing += [Contender("unnamed", ("", "script"))]
    report = raced(tmp_path, racing, TWO, rounds=1)
    reasons = {row.contender: row.not_measured for row in report.rows}
    assert reasons.pop("fine") is None
    assert reasons.pop("absent") == "it is not installed"
    assert reasons.pop("dies") == "MemoryError: no more of it"
    assert "5 tokens for each of 2" in str(reasons.pop("short"))
    assert "No such file" in str(reasons.pop("lost"))
    assert "No such file" in str(reasons.pop("nowhere"))
    assert "--vllm" in str(reasons.pop("unnamed"))
    assert not reasons


def test_a_scenario_that_nobody_can_run(fake: Path, tmp_path: Path) -> None:
    report = raced(tmp_path, [contender(fake, "fine")], LONG, SCENARIOS["256-streams"], TWO, rounds=1)
    reasons = {row.scenario: row.not_measured for row in report.rows}
    assert reasons == {
        "long": f"it takes 110 tokens of context, the model has {CONTEXT}",
        "256-streams": "no CUDA device was used",
        "two": None,
    }


def test_one_that_hangs_is_ended(fake: Path, tmp_path: Path) -> None:
    setup = Setup("", "float32", "cpu", 1, 1, 10, 10)
    with Running(contender(fake, "hangs"), setup, frozenset(), tmp_path / "log") as running:
        for _ in range(2):  # the second time at once: it has gone
            with pytest.raises(ContenderError, match=r"no answer within 0\.3 s"):
                running.ask(Job([[3]], 2), 0.3)


def test_the_table_and_the_picture_show_every_row() -> None:
    fast, slow = (Figures(rate, 1.0, 2.0, 3.0, 100.0, 0.5) for rate in (1500.0, 500.0))
    rows = [
        Row("two", "ours", fast),
        Row("two", "a <peer>", slow),
        Row("two", "another", not_measured="it is not installed"),
    ]
    report = Report("a model", "float32", "cpu", 1, 2, 3, {"two": "2 requests"}, {"ours": "1"}, rows)
    lines = [line for line in table(report).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines[:5]}) == 1  # every line has every column
    assert lines[5:] == [
        "| on a GPU (use --device cuda --shape llama-3b) | ours |",
        "|---|---:|",
        "| single stream, share of the bandwidth limit | not measured |",
        "| 256 requests, 64 → 1,000 tokens, tokens/s | not measured |",
    ]
    assert "| ours | 1,500 | 1.00 |" in table(report)
    assert "| a <peer> | 500 | 3.00 |" in table(report)
    assert "| another | not measured: it is not installed |" in table(report)
    picture = ElementTree.fromstring(svg(report))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ours", "a <peer>", "another", "1,500", "500", "not measured"} <= set(texts)
    widths = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert widths[0] == pytest.approx(3 * widths[1], rel=0.01)


def test_the_rows_of_a_gpu() -> None:
    figures = Figures(20_000.0, 1.0, 2.0, 3.0, 100.0, 0.5, 0.75)
    rows = [Row("alone", "ours", figures), Row("256-streams", "ours", figures)]
    scenarios = {row.scenario: "" for row in rows}
    report = Report("llama-3b Llama", "bfloat16", "cuda", 1, 2, 3, scenarios, {}, rows, 3.5e12)
    assert "| single stream, share of the bandwidth limit | 75% |" in table(report)
    assert "| 256 requests, 64 → 1,000 tokens, tokens/s | 20,000 |" in table(report)
    assert "3,500 GB/s" in table(report)


@given(st.sampled_from(sorted(SCENARIOS)), st.integers(0, 2**32), st.integers(FIRST_ID + 2, 200_000))
def test_prompts(name: str, seed: int, vocabulary: int) -> None:
    scenario = SCENARIOS[name]
    prompts = scenario.prompts(vocabulary, seed)
    assert prompts == scenario.prompts(vocabulary, seed)
    assert len(prompts) == scenario.requests
    assert {len(prompt) + scenario.new_tokens for prompt in prompts} == {scenario.longest}
    assert all(FIRST_ID <= token < vocabulary for prompt in prompts for token in prompt)
    assert all(a[: scenario.shared] == b[: scenario.shared] for a, b in pairwise(prompts))
    assert prompts != scenario.prompts(vocabulary, seed + 1)


def test_scenarios_by_name() -> None:
    assert chosen([]) == list(SCENARIOS.values())
    assert [scenario.name for scenario in chosen(["16-at-once", "alone"])] == ["alone", "16-at-once"]


def test_shapes_have_the_sizes_that_they_are_known_by(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_checkpoint(SHAPES["tiny"], "float32", tmp_path)
    module = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert sum(p.numel() for p in module.parameters()) == SHAPES["tiny"].parameters
    assert {name: round(shape.parameters / 1e5) / 10 for name, shape in SHAPES.items() if name != "tiny"} == {
        "small": 8.3,
        "mid": 199.3,
        "llama-3b": 3212.7,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_process_and_its_children() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        processes = tree(process.pid)
        assert len(processes) == 2
        assert processes[0] == process.pid
        one, both = peak_bytes(processes[:1]), peak_bytes(processes)
        assert one is not None
        assert both is not None
        assert both > one > 2**20
        process.communicate(b"\n")
    assert (cpu_seconds([os.getpid()]) or 0) > 0
    assert cpu_seconds([process.pid]) is None
    assert peak_bytes([process.pid]) is None


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "max_pipelines.cli", "bench", "text", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scenarios", "alone,at-night"), "--scenarios at-night: there are alone, 16-at-once"),
        (("--contenders", "theirs"), "--contenders theirs: there are ours, ours (whole road), generate"),
        (("--shape", "huge"), "--shape huge: there are tiny, small"),
        (("--model", "/nowhere/at/all"), "--model /nowhere/at/all: there is no config.json"),
        (("--plot", "no/such/folder/x.svg"), "folder does not exist"),
    ],
)
def test_what_was_asked_wrongly(arguments: tuple[str, ...], says: str) -> None:
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def measured(folder: Path, racing: str, scenarios: str) -> Report:
    """The report of a run with the tiny shape, and without vLLM: its environment is to be this one."""
    files = ("--json", folder / "f.json", "--plot", folder / "f.svg")
    options = ("--shape", "tiny", "--dtype", "float32", "--rounds", "1", "--scenarios", scenarios)
    done = run(*options, "--contenders", racing, "--vllm", sys.executable, *files)
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((folder / "f.json").read_bytes(), type=Report)
    assert table(report) == done.stdout.rstrip("\n")
    assert [row.contender for row in report.rows] == racing.split(",") * len(report.scenarios)
    assert ",".join(report.scenarios) == scenarios
    ElementTree.parse(folder / "f.svg")
    for row in report.rows:
        if row.figures is not None:
            assert row.figures.tokens_per_s > 0
            assert 0 < row.figures.gap_p50_ms <= row.figures.gap_p99_ms
            assert sys.platform != "linux" or (row.figures.peak_mib or 0) > 10
    return report


def test_ours_beside_generate_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    report = measured(tmp_path, "ours (whole road),generate,vLLM (eager)", "alone")
    assert [row.not_measured for row in report.rows] == [None, None, "ModuleNotFoundError: No module named 'vllm'"]
    assert report.versions.keys() == {"ours (whole road)", "generate"}
    assert not list(temporary.glob("maxpipe*"))


def test_nothing_measured_is_a_failure() -> None:
    options = ("--shape", "tiny", "--scenarios", "alone", "--rounds", "1")
    done = run(*options, "--contenders", "vLLM (eager)", "--vllm", "/nowhere/python")
    assert done.returncode == 1
    assert "not measured: /nowhere/python: No such file or directory" in done.stdout
    assert done.stderr == "maxpipe bench: nothing could be measured; the table says why\n"


@pytest.mark.soak
def test_everybody_in_every_scenario(tmp_path: Path) -> None:
    racing = ",".join(contender.name for contender in contenders(None))
    report = measured(tmp_path, racing, ",".join(SCENARIOS))
    for row in report.rows:
        if row.scenario == "256-streams":
            assert row.not_measured == "no CUDA device was used"
        else:
            assert (row.figures is None) == row.contender.startswith("vLLM"), row.not_measured


def test_the_script_for_vllm_needs_nothing_of_ours() -> None:
    names = [contender for contender in contenders("python") if contender.own_environment]
    assert [contender.name for contender in names] == ["vLLM (compiled)", "vLLM (eager)"]
    script = Path(names[0].command[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, "eager", "{}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "No module named 'vllm'" in done.stderr  # and nothing that it needs before it


def test_host_step_measures_a_step(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/host_step.py",
        "--batch",
        "4",
        "--steps",
        "20",
        "--json",
        str(tmp_path / "f"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f").read_text())
    assert all(value > 0 for value in found.values())
    assert len(found) == 6


@pytest.mark.soak
def test_start_time_measures_a_start(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/start_time.py",
        "--shape",
        "tiny",
        "--runs",
        "1",
        "--json",
        str(tmp_path / "f"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f").read_text())
    assert found["import"] < found["process start to first token"]


def test_facts_need_a_version_alone() -> None:
    assert msgspec.json.decode(b'{"version": "vLLM 1"}', type=Facts) == Facts("vLLM 1")
