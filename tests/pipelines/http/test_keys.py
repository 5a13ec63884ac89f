"""Where a server has keys, what needs one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from max_pipelines.config import HttpConfig
from tests.pipelines.http.facing import Facing, facing, trivial

pytestmark = pytest.mark.asyncio(loop_scope="module")


def with_keys(folder: Path) -> HttpConfig:
    """A config whose only key is `right`."""
    keys = folder / "keys"
    keys.write_text("right\n")
    keys.chmod(0o600)
    return HttpConfig(keys=str(keys))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(trivial(), with_keys(tmp_path_factory.mktemp("keys"))) as face:
        yield face


async def test_the_page_is_only_looked_at_without_a_key(locked: Facing) -> None:
    assert (await locked.asks.head("/")).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await locked.asks.request(method, "/")).status_code == 401
        assert (await locked.asks.request(method, "/page/app.js")).status_code == 401
