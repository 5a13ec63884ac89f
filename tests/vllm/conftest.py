"""What needs vLLM, in an environment of its own: `make test-vllm`. Elsewhere all of it is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from max_pipelines.config import Config
from tests.tiny_text import make_tiny_text

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without vLLM nothing here runs; with it, what it warns of while it is imported is no error of ours."""
    absent = importlib.util.find_spec("vllm") is None
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.timeout(600))
            if absent:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed here: make test-vllm"))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A text model with tiny random weights, and heads as large as vLLM wants them on a CPU."""
    return make_tiny_text(tmp_path_factory.mktemp("text"), head_dim=32)
