"""Where a server has keys, each operation of its document needs one, or is said to need none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from max_pipelines.config import HttpConfig
from max_pipelines.http.openapi.operations import OPERATIONS, Operation
from tests.pipelines.http.facing import Facing, facing, trivial

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPEN = {("get", "/"), ("get", "/health"), ("get", "/ready")}
RIGHT = {"authorization": "Bearer right"}


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


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
async def test_an_operation_needs_a_key_unless_it_is_open(operation: Operation, locked: Facing) -> None:
    async def status(headers: dict[str, str]) -> int:
        path = operation.path.format(name="voice")
        body = {"inputs": "hi"} if operation.body is not None else None
        return (await locked.asks.request(operation.method, path, headers=headers, json=body)).status_code

    is_open = (operation.method, operation.path) in OPEN
    assert (await status({}) == 401) is not is_open
    assert (await status({"authorization": "Bearer wrong"}) == 401) is not is_open
    assert await status(RIGHT) != 401
    assert await status({"bearer": "right"}) != 401
    document = (await locked.asks.get("/openapi.json", headers=RIGHT)).json()
    told = document["paths"][operation.path][operation.method]
    assert (told.get("security") == []) is is_open
    assert ("401" in told["responses"]) is not is_open


async def test_the_document_says_where_a_key_goes(locked: Facing) -> None:
    document = (await locked.asks.get("/openapi.json", headers=RIGHT)).json()
    schemes = document["components"]["securitySchemes"]
    assert document["security"] == [{name: []} for name in schemes]
    assert [(scheme.get("scheme"), scheme.get("name")) for scheme in schemes.values()] == [
        ("bearer", None),
        (None, "Bearer"),
    ]


async def test_the_page_is_only_looked_at_without_a_key(locked: Facing) -> None:
    assert (await locked.asks.head("/")).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await locked.asks.request(method, "/")).status_code == 401
        assert (await locked.asks.request(method, "/page/app.js")).status_code == 401
