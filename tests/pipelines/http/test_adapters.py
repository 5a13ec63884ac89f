"""Adapters over HTTP: loaded, listed, chosen by `model`, unloaded, and refused with a status that says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from max_interfaces import Attempt, AudioGenerationRequest, PipelineTask
from max_pipelines import registry
from max_pipelines.config import Config, EngineConfig, HttpConfig, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from tests.fakes import Shelf
from tests.pipelines.http.asking import CHAT, COMPLETIONS, answered, asking, prompting, streamed
from tests.pipelines.http.facing import Facing, facing
from tests.pipelines.http.parrot import ADAPTER, parrot
from tests.pipelines.http.test_malformed import BAD, WRONG, is_refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
WHO = [{"role": "user", "content": ADAPTER}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    folder = tmp_path_factory.mktemp("adapters")
    for name in ("one", "two", "wide", "torn"):
        (folder / name).mkdir()
    async with parrot(adapter_folder=str(folder)) as face:
        yield face


async def loaded(served: Facing) -> list[str]:
    """The adapters that are listed as models."""
    models = (await served.asks.get("/v1/models")).json()["data"]
    return sorted(model["id"] for model in models if model.get("parent") == "tiny")


async def refused(served: Facing, path: str, body: dict[str, str]) -> tuple[int, str]:
    """The status and the words of a refusal, in OpenAI's form."""
    answer = await served.post(path, body)
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return answer.status_code, error["message"]


async def test_an_adapter_from_its_loading_to_its_unloading(served: Facing) -> None:
    assert await loaded(served) == ["given"]
    done = await answered(served, LOAD, {"lora_name": "ann", "lora_path": "one"})
    assert done == {"status": "success", "message": "ann is loaded"}
    assert await loaded(served) == ["ann", "given"]
    entry = (await served.asks.get("/v1/models/ann")).json()
    assert (entry["id"], entry["parent"], entry["object"]) == ("ann", "tiny", "model")
    done = await answered(served, UNLOAD, {"lora_name": "ann"})
    assert done["status"] == "success"
    assert await loaded(served) == ["given"]
    assert (await served.asks.get("/v1/models/ann")).status_code == 404


async def test_its_name_as_the_model_chooses_it(served: Facing) -> None:
    await answered(served, LOAD, {"lora_name": "bob", "lora_path": "two"})
    chat = await answered(served, CHAT, asking(model="bob", messages=WHO))
    assert (chat["choices"][0]["message"]["content"], chat["model"]) == ("bob", "bob")
    text = await answered(served, COMPLETIONS, prompting(model="bob", prompt=ADAPTER))
    assert (text["choices"][0]["text"], text["model"]) == ("bob", "bob")
    chunks = await streamed(served, CHAT, asking(model="given", messages=WHO))
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert said == "given"
    base = await answered(served, CHAT, asking(model="tiny", messages=WHO))
    assert (base["choices"][0]["message"]["content"], base["model"]) == ("None", "tiny")
    await answered(served, UNLOAD, {"lora_name": "bob"})
    gone = await served.post(CHAT, asking(model="bob", messages=WHO))
    assert gone.status_code == 404
    assert "bob" in gone.text


async def test_the_hosted_api_names_it_beside_the_model(served: Facing) -> None:
    body: dict[str, Any] = {"inputs": ADAPTER, "parameters": {"adapter_id": "given"}}
    assert (await answered(served, "/generate", body))["generated_text"] == "given"
    unknown = await served.post("/generate", {"inputs": "x", "parameters": {"adapter_id": "nobody"}})
    assert (unknown.status_code, unknown.json()["error_type"]) == (422, "validation")
    assert "no adapter 'nobody' is loaded" in unknown.json()["error"]


async def test_an_answer_of_an_adapter_whose_name_may_change_hands_is_not_kept(served: Facing) -> None:
    body: dict[str, Any] = {"inputs": ADAPTER, "parameters": {"adapter_id": "given"}}
    for _ in range(2):
        assert (await served.post("/generate", body)).headers["x-cache"] == "miss"


@pytest.mark.parametrize(
    ("path", "name", "folder", "status", "says"),
    [
        (LOAD, "given", "one", 409, "is loaded already"),
        (LOAD, "tiny", "one", 409, "the name of a model"),
        (LOAD, "new", "absent", 400, "no such folder"),
        (LOAD, "new", "/etc", 400, "does not lie in this server's folder"),
        (LOAD, "new", "../..", 400, "does not lie in this server's folder"),
        (LOAD, "new", "wide", 400, "r = 99"),
        (LOAD, "new", "torn", 400, "RuntimeError"),
        (UNLOAD, "new", "", 404, "no adapter of the name 'new' is loaded"),
        (UNLOAD, "given", "", 400, "the config's own"),
        (LOAD, "", "one", 422, "lora_name"),
        (LOAD, "new", "x" * 5000, 422, "lora_path"),
    ],
)
async def test_refusals(served: Facing, path: str, name: str, folder: str, status: int, says: str) -> None:
    told = await refused(served, path, {"lora_name": name, "lora_path": folder})
    assert told[0] == status
    assert says in told[1]
    assert await loaded(served) == ["given"]


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_request_is_refused(served: Facing, path: str, kind: str) -> None:
    body, content_type, statuses = BAD[kind]
    headers = {"content-type": content_type} if content_type else {}
    is_refused(await served.asks.post(path, content=body, headers=headers), path, (*statuses, 422))
    for wrong in WRONG:
        answer = await served.post(path, {"lora_name": wrong, "lora_path": wrong})
        is_refused(answer, path, (400, 404, 422))


async def test_a_server_without_a_folder_says_so() -> None:
    async with parrot() as served:
        for path in (LOAD, UNLOAD):
            status, message = await refused(served, path, {"lora_name": "ann", "lora_path": "one"})
            assert status == 501
            assert "engine.adapter_folder" in message


async def test_a_key_is_needed_where_there_are_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-of-ann ann\n")
    keys.chmod(0o600)
    async with parrot(adapter_folder=str(tmp_path), http=HttpConfig(keys=str(keys))) as served:
        assert (await served.post(LOAD, {"lora_name": "ann", "lora_path": "one"})).status_code == 401


async def test_a_voice_speaks_with_an_adapter(tmp_path: Path) -> None:
    heard: list[str | None] = []

    class Singer(TrivialPipeline):
        def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
            heard.append(attempt.request.adapter_id)
            super().admit(attempt)

    def build(config: Config) -> ServedPipeline[Any, Any]:
        task, options = PipelineTask.AUDIO_GENERATION, TrivialOptions(chunks=2)
        return ServedPipeline(
            Singer(options), AudioGenerationRequest, task, sample_rate=24_000, adapters=Shelf("given")
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "build_pipeline", build)
        patch.setattr("max_pipelines.worker.loop.build_pipeline", build)
        config = Config(
            model=ModelConfig(name="voice"),
            pipeline=PipelineConfig(kind="trivial"),
            workers=WorkersConfig(transport="thread"),
            engine=EngineConfig(adapter_folder=str(tmp_path)),
        )
        async with facing(config) as served:
            body = {"model": "given", "input": "One. Two.", "response_format": "wav"}
            assert (await served.post("/v1/audio/speech", body)).status_code == 200
            assert (await served.post("/v1/audio/speech", body | {"to_be_continued": True})).status_code == 200
            assert (await served.post("/v1/audio/speech", body | {"model": "voice"})).status_code == 200
    assert set(heard[:-2]) == {"given"}
    assert heard[-1] is None
