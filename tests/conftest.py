"""Small models that tests of the road serve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from max_pipelines.config import Config
from tests.tiny_text import make_tiny_text
from tests.tiny_voice import make_tiny_voice


@pytest.fixture(scope="session")
def tiny_voice(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A speech model with tiny random weights."""
    return make_tiny_voice(tmp_path_factory.mktemp("tiny-voice"))


@pytest.fixture(scope="session")
def tiny_voice_file(tiny_voice: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a YAML file."""
    path = tmp_path_factory.mktemp("tiny-config") / "tiny.yaml"
    path.write_bytes(msgspec.yaml.encode(tiny_voice))
    return path


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A text model with tiny random weights."""
    return make_tiny_text(tmp_path_factory.mktemp("tiny-text"))
