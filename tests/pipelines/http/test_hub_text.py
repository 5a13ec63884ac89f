"""The hub's own clients, as they come, with our face: only the URL is another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import OverloadedError, ValidationError
from msgspec.structs import replace

from max_pipelines.config import Limits
from tests.pipelines.http.asking import COLOUR
from tests.pipelines.http.facing import PATIENCE_S, Facing, facing, trivial
from tests.tiny_text import CONTEXT, make_tiny_text

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPT = "the quick brown"
BELOW = ["", "/generate", "/models/tiny"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as face:
        yield face


@pytest.mark.parametrize("below", BELOW)
async def test_a_text_at_each_url(below: str, served: Facing) -> None:
    async with AsyncInferenceClient(served.url + below) as client:
        text = await client.text_generation(PROMPT, max_new_tokens=5, return_full_text=False)
        whole = await client.text_generation(PROMPT, max_new_tokens=5, return_full_text=True)
        details = await client.text_generation(
            PROMPT, max_new_tokens=5, details=True, decoder_input_details=True, top_n_tokens=2, return_full_text=False
        )
    assert whole == PROMPT + text
    assert details.generated_text == text
    assert details.details is not None
    assert (details.details.finish_reason, details.details.generated_tokens) == ("length", 5)
    assert len(details.details.prefill) == 3
    assert [len(row) for row in details.details.top_tokens or []] == [2] * 5


@pytest.mark.parametrize("below", BELOW)
async def test_a_stream_at_each_url(below: str, served: Facing) -> None:
    async with AsyncInferenceClient(served.url + below) as client:
        text = await client.text_generation(PROMPT, max_new_tokens=5, return_full_text=False)
        parts = await client.text_generation(PROMPT, max_new_tokens=5, stream=True)
        assert "".join([part async for part in parts]) == text
        events = await client.text_generation(PROMPT, max_new_tokens=5, stream=True, details=True)
        *_, last = [event async for event in events]
    assert last.details is not None
    assert (last.details.finish_reason, last.details.input_length) == ("length", 3)


async def test_sampling_best_of_stops_and_grammars(served: Facing) -> None:
    async with AsyncInferenceClient(served.url + "/generate") as client:
        best = await client.text_generation(PROMPT, max_new_tokens=5, best_of=2, do_sample=True, details=True)
        assert best.details is not None
        assert len(best.details.best_of_sequences or []) == 1
        drawn = [await client.text_generation(PROMPT, max_new_tokens=5, do_sample=True, seed=7) for _ in range(2)]
        assert drawn[0] == drawn[1]
        text = await client.text_generation(PROMPT, max_new_tokens=20)
        stop = text[5:8]
        assert (await client.text_generation(PROMPT, max_new_tokens=20, stop=[stop])).endswith(stop)
        grammar: Any = {"type": "json", "value": COLOUR}
        assert json.loads(await client.text_generation(PROMPT, max_new_tokens=200, grammar=grammar))["colour"]


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_the_hubs_own(stream: bool, served: Facing) -> None:
    async with AsyncInferenceClient(served.url) as client:
        with pytest.raises(ValidationError, match="max_new_tokens"):
            await client.text_generation(PROMPT, max_new_tokens=10_000, stream=stream)


async def test_an_overloaded_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread", max_batch=1)
    limited = replace(config, limits=Limits(max_waiting=0))
    async with facing(limited) as served, AsyncInferenceClient(served.url) as client:
        asked = [client.text_generation(PROMPT, max_new_tokens=300) for _ in range(8)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert any(isinstance(answer, OverloadedError) for answer in answers)
    assert any(isinstance(answer, str) for answer in answers)


async def test_the_plain_client_health_and_info(served: Facing) -> None:
    def ask() -> None:
        client = InferenceClient(served.url, provider="hf-inference")
        assert client.health_check()
        info = client.get_endpoint_info()
        assert (info["model_id"], info["max_total_tokens"]) == ("tiny", CONTEXT)
        text = client.text_generation(PROMPT, max_new_tokens=5, return_full_text=False)
        assert "".join(client.text_generation(PROMPT, max_new_tokens=5, stream=True)) == text

    await asyncio.to_thread(ask)


async def test_the_documents_own_example(served: Facing) -> None:
    """A post by `requests` and its JSON, at the URL of a model, with a token."""
    requests = pytest.importorskip("requests")

    def query(payload: Any) -> Any:
        headers = {"Authorization": "Bearer hf_***"}
        response = requests.post(served.url + "/models/tiny", headers=headers, json=payload, timeout=PATIENCE_S)
        return response.json()

    (output,) = await asyncio.to_thread(query, {"inputs": PROMPT})
    assert output["generated_text"].startswith(PROMPT)


async def test_a_voice_on_a_path_of_its_own() -> None:
    async with facing(trivial()) as served, AsyncInferenceClient(served.url + "/models/voice") as client:
        sound = await client.text_to_speech("Some words.")
        wav = await client.text_to_speech("Some words.", extra_body={"response_format": "wav", "speed": 1.0})
    assert sound.startswith(b"fLaC")
    assert wav.startswith(b"RIFF")
