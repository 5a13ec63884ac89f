"""Who runs when, and what follows from the times at which tokens came."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .contender import Contender
from .messages import Facts, Job, Setup
from .report import Figures, Report, Row
from .running import ContenderError, Measured, Running, available_processors
from .scenarios import WARM_UP_TOKENS, Scenario

JOB_S = 900.0  # the longest that one job may take


@dataclass(frozen=True, slots=True)
class Race:
    """What is to be measured, of whom, and on what. `name` is how the report calls the checkpoint in `model`."""

    name: str
    model: Path
    dtype: str
    device: str
    threads: int
    rounds: int
    scenarios: Sequence[Scenario]
    contenders: Sequence[Contender]


class _Course:
    """A race under way: who runs, what was measured so far, and who is out of it."""

    def __init__(self, race: Race, logs: Path) -> None:
        self.race = race
        self.logs = logs
        self.processors = available_processors(race.threads)
        self.vocabulary, self.context = _vocabulary_and_context(race.model)
        self.possible = [s for s in race.scenarios if self.refusal(s) is None]
        self.facts: dict[str, Facts] = {}
        self.measured: dict[tuple[str, str], list[Measured]] = {}
        self.out: dict[tuple[str, str], str] = {}

    def refusal(self, scenario: Scenario) -> str | None:
        """Why nobody can run a scenario here; None if they can."""
        if scenario.needs_cuda and not self.race.device.startswith("cuda"):
            return "no CUDA device was used"
        if scenario.longest > self.context:
            return f"it takes {scenario.longest} tokens of context, the model has {self.context}"
        return None

    def setup(self) -> Setup:
        """Room for the largest of the scenarios."""
        return Setup(
            model=str(self.race.model),
            dtype=self.race.dtype,
            device=self.race.device,
            threads=self.race.threads,
            requests=max(s.requests for s in self.possible),
            longest=max(s.longest for s in self.possible),
            tokens=max(s.requests * s.longest for s in self.possible),
        )

    def start(self, contender: Contender, stack: ExitStack) -> Running | None:
        """Its process, warm; None if it cannot take part."""
        log = self.logs / f"{re.sub(r'[^a-z]+', '-', contender.name.lower())}.log"
        try:
            running = stack.enter_context(Running(contender, self.setup(), self.processors, log))
            for scenario in self.possible:
                few = min(WARM_UP_TOKENS, scenario.new_tokens)
                running.ask(Job(scenario.prompts(self.vocabulary, 0), few), JOB_S)
        except ContenderError as problem:
            self.out |= {(scenario.name, contender.name): str(problem) for scenario in self.possible}
            return None
        self.facts[contender.name] = running.facts
        return running

    def run(self, contender: Contender, running: Running, scenario: Scenario, seed: int) -> None:
        """One scenario, once, unless it failed before."""
        key = (scenario.name, contender.name)
        if key in self.out:
            return
        job = Job(scenario.prompts(self.vocabulary, seed), scenario.new_tokens)
        try:
            self.measured.setdefault(key, []).append(running.ask(job, JOB_S))
        except ContenderError as problem:
            self.out[key] = str(problem)
        time.sleep(contender.quiet_after_s)  # so that it takes nothing from the next one

    def row(self, scenario: Scenario, contender: Contender) -> Row:
        """The line of the table for one contender in one scenario."""
        key = (scenario.name, contender.name)
        refusal = self.refusal(scenario) or self.out.get(key)
        if refusal is not None:
            return Row(*key, not_measured=refusal)
        best = min(self.measured[key], key=_seconds)
        return Row(*key, figures=_figures(best, scenario, self.facts[contender.name]))


def run_race(race: Race, logs: Path) -> Report:
    """Measure. `logs` is a folder for what the contenders write to standard error.

    On a CPU all are loaded at once and take turns, so that each round's noise meets all of them; a GPU has no room for
    all, and they come one after the other.
    """
    course = _Course(race, logs)
    load = os.getloadavg()[0]
    shared = not race.device.startswith("cuda")
    groups = [list(race.contenders)] if shared else [[contender] for contender in race.contenders]
    total = len(course.possible) * len(race.contenders) * race.rounds
    with tqdm(total=total, desc="bench text", leave=False, disable=None) as bar:
        for group in groups if course.possible else []:
            _run_group(course, group, bar)
    facts = [facts for facts in course.facts.values() if facts.copy_bytes_per_s is not None]
    return Report(
        model=race.name,
        dtype=race.dtype,
        device=race.device,
        threads=race.threads,
        processors=len(course.processors) or os.cpu_count() or 1,
        rounds=race.rounds,
        scenarios={scenario.name: scenario.says for scenario in race.scenarios},
        versions={name: facts.version for name, facts in course.facts.items()},
        rows=[course.row(scenario, contender) for scenario in race.scenarios for contender in race.contenders],
        copy_bytes_per_s=facts[0].copy_bytes_per_s if facts else None,
        load_before=load,
    )


def _run_group(course: _Course, group: Sequence[Contender], bar: tqdm) -> None:  # type: ignore[type-arg]
    with ExitStack() as stack:
        running: dict[Contender, Running | None] = {}
        for contender in group:
            bar.set_postfix_str(f"starting {contender.name}")
            running[contender] = course.start(contender, stack)
        for seed in range(1, course.race.rounds + 1):
            for scenario in course.possible:
                for contender, process in running.items():
                    bar.set_postfix_str(f"{contender.name}, {scenario.name}")
                    if process is not None:
                        course.run(contender, process, scenario, seed)
                    bar.update()


def _vocabulary_and_context(folder: Path) -> tuple[int, int]:
    """Of the language model in `folder`, from its config.json. ValueError if there is none."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"--model {folder}: there is no config.json in it")
    config = json.loads(file.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    return int(text["vocab_size"]), int(text.get("max_position_embeddings") or 2**20)


def _seconds(measured: Measured) -> float:
    return max(times[-1] for times in measured.answer.arrivals)


def _figures(measured: Measured, scenario: Scenario, facts: Facts) -> Figures:
    arrivals = np.array(measured.answer.arrivals)  # float64[requests, tokens]
    tokens, seconds = arrivals.size, _seconds(measured)
    gaps = np.diff(arrivals, axis=1).ravel() * 1000
    p50, p99 = (float(np.percentile(gaps, p)) for p in (50, 99))
    used = measured.answer.device_bytes or measured.peak_bytes
    return Figures(
        tokens_per_s=tokens / seconds,
        ttft_ms=float(np.median(arrivals[:, 0])) * 1000,
        gap_p50_ms=p50,
        gap_p99_ms=p99,
        peak_mib=None if used is None else used / 2**20,
        cpu_ms_per_token=None if measured.cpu_s is None else measured.cpu_s / tokens * 1000,
        bandwidth_share=_bandwidth_share(scenario, facts, p50),
    )


def _bandwidth_share(scenario: Scenario, facts: Facts, gap_ms: float) -> float | None:
    """What a step of decoding must read, the weights and each request's keys and values, over what could be copied."""
    if facts.copy_bytes_per_s is None or facts.weight_bytes is None or facts.kv_token_bytes is None:
        return None
    context = scenario.shared + scenario.prompt + scenario.new_tokens / 2
    read = facts.weight_bytes + scenario.requests * context * facts.kv_token_bytes
    return read / (gap_ms / 1000) / facts.copy_bytes_per_s
