"""Codecs with random weights, as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from torch import Tensor

from max_codecs.snac.config import SnacConfig
from max_codecs.snac.model import SnacModel
from tests.random_snac import EMBEDDED, SMALL, SNAC_24KHZ, random_model, random_state


@pytest.fixture(scope="session")
def small_config() -> SnacConfig:
    return SMALL


@pytest.fixture(scope="session")
def make_model() -> Callable[[SnacConfig], SnacModel]:
    return random_model


@pytest.fixture(scope="session")
def small_state() -> dict[str, Tensor]:
    return random_state(SMALL)


@pytest.fixture(scope="session", params=["symmetric", "causal", "dense"])
def small_model(request: pytest.FixtureRequest) -> SnacModel:
    """Tiny models: symmetric and causal with depthwise convolutions, and a causal one without."""
    return random_model(
        msgspec.structs.replace(SMALL, causal=request.param != "symmetric", depthwise=request.param != "dense")
    )


@pytest.fixture(scope="session", params=["snac_24khz", "embedded"])
def real_model(request: pytest.FixtureRequest) -> SnacModel:
    """The configurations that are served, random weights."""
    return random_model(SNAC_24KHZ if request.param == "snac_24khz" else EMBEDDED)
