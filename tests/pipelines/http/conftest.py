"""Servers that the tests of one file share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.pipelines.http.facing import Facing, facing, trivial
from tests.tiny_encoders import make_encoder, serving
from tests.tiny_text import make_tiny_text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def text(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as face:
        yield face


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def voice() -> AsyncIterator[Facing]:
    async with facing(trivial()) as face:
        yield face


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vectors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    folder = make_encoder(tmp_path_factory.mktemp("encoder"), "bert", "pooling_mode_mean_tokens")
    async with facing(serving(folder, transport="thread")) as face:
        yield face
