"""By which names a server may be called."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from max_pipelines.config import HttpConfig
from max_pipelines.http.hosts import checked_hosts
from tests.pipelines.http.facing import Facing, facing, trivial

STREAM = "/v1/audio/speech/stream"


async def status(served: Facing, host: str, path: str = "/v1/models") -> int:
    return (await served.asks.get(path, headers={"host": host})).status_code


async def test_this_hosts_own_names_will_do_and_another_sites_that_leads_here_will_not() -> None:
    own = ("localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:1", "127.8.9.1", "[::1]:80", "[::1]")
    others = ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.1")
    odd = ("0.0.0.0", "[fe80::1]:80", "127.0.0.1:80:80", "localhost@evil.example", "localhost, evil.example")
    async with facing(trivial()) as served:
        assert {host: await status(served, host) for host in own} == dict.fromkeys(own, 200)
        assert {host: await status(served, host) for host in others + odd} == dict.fromkeys(others + odd, 403)


async def test_a_refusal_says_what_to_do() -> None:
    async with facing(trivial()) as served:
        answer = await served.asks.post("/v1/audio/speech", json={}, headers={"host": "evil.example"})
        assert answer.status_code == 403
        assert "http.hosts" in answer.json()["error"]["message"]
        assert answer.json()["error_type"] == "unknown_host"
        assert await status(served, "10.0.0.7:8000", "/health") == 200  # a probe knows no name
        assert await status(served, "10.0.0.7:8000", "/ready") == 200


async def test_names_that_are_listed() -> None:
    async with facing(trivial(), HttpConfig(hosts=("Voice.example:443", "::2"))) as served:
        assert await status(served, "voice.example") == 200
        assert await status(served, "voice.EXAMPLE:8000") == 200
        assert await status(served, "[::2]:8000") == 200
        assert await status(served, "localhost") == 200
        assert await status(served, "other.example") == 403


async def test_websockets_as_well() -> None:
    """A page's origin is then the same as the host that it asks."""
    async with facing(trivial()) as served:
        port = served.url.rpartition(":")[2]
        evil, good = f"ws://evil.example:{port}{STREAM}", f"ws://localhost:{port}{STREAM}"
        with pytest.raises(InvalidStatus) as refused:
            await connect(evil, host="127.0.0.1", port=int(port), origin=f"http://evil.example:{port}")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        async with connect(good, host="127.0.0.1", port=int(port)):
            pass


async def test_where_keys_are_asked_for_any_name_will_do(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    async with facing(trivial(), HttpConfig(keys=str(keys))) as served:
        answer = await served.asks.get("/v1/models", headers={"host": "a.example", "authorization": "Bearer secret"})
        assert answer.status_code == 200


def test_a_server_for_others_is_called_by_any_name_unless_names_are_given() -> None:
    assert checked_hosts(HttpConfig(), "0.0.0.0") is None
    assert checked_hosts(HttpConfig(), "192.168.0.1") is None
    assert checked_hosts(HttpConfig(), "127.0.0.1") == frozenset()
    assert checked_hosts(HttpConfig(), "::1") == frozenset()
    assert checked_hosts(HttpConfig(hosts=("a.example",)), "0.0.0.0") == frozenset({"a.example"})
    assert checked_hosts(HttpConfig(hosts=("a.example",), keys="keys"), "127.0.0.1") == frozenset({"a.example"})
