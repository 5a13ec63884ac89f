"""What the face says of itself is true: schemathesis makes requests from the document, good and bad ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from max_pipelines.http.app import ROUTES
from max_pipelines.http.openapi.operations import OPERATIONS
from tests.pipelines.http.facing import Facing, facing, trivial
from tests.pipelines.http.test_keys import with_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = """
[checks]
# Not all that has the right shape can be had: a model that is not served, a stream of the best of several, an adapter
# where none are loaded, which is 501 as MAX has it.
positive_data_acceptance.expected-statuses = ["2xx", "404", "415", "422", "424", "429", "501"]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""
PATIENCE_S = 600.0


async def checked(
    served: Facing, examples: int, folder: Path, phases: str = "coverage,fuzzing", key: str | None = None
) -> None:
    """Let schemathesis look for what the document does not say, or the face does not do."""
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"]
    command += [f"{served.url}/openapi.json", "--max-examples", str(examples), "--phases", phases]
    command += ["--generation-deterministic"]
    if key is not None:
        command += ["--header", f"Authorization: Bearer {key}"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert (await served.asks.get("/ready")).status_code == 200


async def test_a_server_of_text_is_as_it_says(text: Facing, tmp_path: Path) -> None:
    await checked(text, 3, tmp_path, "fuzzing")  # the coverage of all fields takes a minute: below


async def test_a_server_of_speech_is_as_it_says(voice: Facing, tmp_path: Path) -> None:
    await checked(voice, 3, tmp_path, "fuzzing")


@pytest.mark.soak
async def test_more_of_both(text: Facing, voice: Facing, tmp_path: Path) -> None:
    await checked(text, 100, tmp_path)
    await checked(voice, 100, tmp_path)


@pytest.mark.soak
async def test_a_server_with_keys_lets_nobody_else_in(tmp_path: Path) -> None:
    """schemathesis asks each operation without a key, and with a wrong one."""
    async with facing(trivial(), with_keys(tmp_path)) as served:
        await checked(served, 20, tmp_path, key="right")


async def test_each_schema_says_something(voice: Facing) -> None:
    """What is read later, as plain bytes, is described by hand."""
    components = (await voice.asks.get("/openapi.json")).json()["components"]["schemas"]
    told = {
        (name, field): schema
        for name, component in components.items()
        for field, schema in component.get("properties", {}).items()
    }
    assert not [where for where, schema in told.items() if not schema]
    assert told["Function", "parameters"] == {"type": ["object", "null"]}
    assert told["Asked", "inputs"] == {"type": "string", "minLength": 1, "maxLength": 2**21}
    assert {"exclusiveMinimum": 0, "exclusiveMaximum": 1}.items() <= told["Parameters", "top_p"]["anyOf"][0].items()
    assert components["SpeechBody"]["required"] == ["model", "input"]


async def test_a_status_is_told_where_it_can_be_had(voice: Facing) -> None:
    paths = (await voice.asks.get("/openapi.json")).json()["paths"]
    assert "403" not in paths["/health"]["get"]["responses"]
    assert not {"401", "413", "415", "422", "424"} & set(paths["/v1/models"]["get"]["responses"])
    assert {"400", "404", "413", "415", "422", "429"} <= set(paths["/generate"]["post"]["responses"])


async def test_every_path_is_in_the_document() -> None:
    told = {operation.path for operation in OPERATIONS}
    routes = {getattr(route, "path", "").replace(":path", "") for route in ROUTES}
    assert routes - told == {"/page", "/v1/audio/speech/stream"}, (
        "files, and a WebSocket, which OpenAPI has no words for"
    )
    assert told <= routes


async def test_without_keys_none_is_told_of(voice: Facing) -> None:
    """With them: `test_keys.py`."""
    document = (await voice.asks.get("/openapi.json")).json()
    assert "security" not in document
