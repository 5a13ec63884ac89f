"""Checkpoints that are made once, and engines over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from max_engines.blocks import BlockPool
from max_engines.kernels import rows, tiles
from max_engines.kv_cache import KVCache
from max_engines.loading import LoadedModel
from max_engines.scheduler import Scheduler
from tests.engines.tiny_models import load, save_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _all_memory_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After every test each engine that it made is audited, whatever it was in the midst of."""
    made: list[Scheduler] = []
    note = Scheduler.__init__

    def noted(
        scheduler: Scheduler, cache: KVCache, pool: BlockPool, max_batch: int, token_budget: int, **options: bool
    ) -> None:
        note(scheduler, cache, pool, max_batch, token_budget, **options)
        made.append(scheduler)

    monkeypatch.setattr(Scheduler, "__init__", noted)
    yield
    assert [finding for scheduler in made for finding in scheduler.audit()] == []


@pytest.fixture
def without_compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Once called, nothing is compiled for whatever is made from then on."""

    def forget() -> None:
        rows._compiled.cache_clear()
        rows.rows_library.cache_clear()
        tiles._library.cache_clear()

    def leave_out() -> None:
        for module in (rows, tiles):
            monkeypatch.setattr(module, "open_library", lambda source, variant: None)
        forget()

    yield leave_out
    monkeypatch.undo()
    forget()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint, by the name of its architecture."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = save_checkpoint(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def llama(checkpoint: Callable[[str], Path]) -> LoadedModel:
    """A tiny Llama whose attention belongs to the engines of the tests."""
    return load(checkpoint("llama"))


@pytest.fixture(scope="session")
def plain_llama(checkpoint: Callable[[str], Path]) -> LoadedModel:
    """The same Llama as transformers runs it."""
    return load(checkpoint("llama"))
