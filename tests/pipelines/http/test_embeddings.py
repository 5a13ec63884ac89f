"""`POST /v1/embeddings`, asked by OpenAI's own package and by hand."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import msgspec
import numpy as np
import openai
import pytest
import pytest_asyncio

from max_pipelines.http.openai.embeddings import EmbeddingsAnswer
from tests.pipelines.http.facing import Facing

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXTS = ["the quick brown fox", "a list of words", "naïve"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk(vectors: Facing) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{vectors.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_the_sdk_gets_the_vectors_in_the_order_of_the_texts(sdk: openai.AsyncOpenAI, vectors: Facing) -> None:
    by_default = await sdk.embeddings.create(model="tiny", input=TEXTS)  # which asks for base64, and decodes it
    as_numbers = await sdk.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    expected = await vectors.face.client.embed(TEXTS)
    for answer in (by_default, as_numbers):
        assert [one.index for one in answer.data] == [0, 1, 2]
        assert np.allclose([one.embedding for one in answer.data], expected, atol=1e-6)
        assert answer.model == "tiny"
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 6


async def test_one_text_or_ids_and_fewer_dimensions(sdk: openai.AsyncOpenAI) -> None:
    one = await sdk.embeddings.create(model="tiny", input="fine", dimensions=8)
    ids = await sdk.embeddings.create(model="tiny", input=[9, 10, 11])
    rows = await sdk.embeddings.create(model="tiny", input=[[9, 10, 11], [12]])
    assert [len(one.data), len(one.data[0].embedding)] == [1, 8]
    assert np.allclose(ids.data[0].embedding, rows.data[0].embedding, atol=1e-6)
    assert rows.usage.prompt_tokens == 4


async def test_base64_is_little_endian_float32(vectors: Facing) -> None:
    answer = await vectors.post("/v1/embeddings", {"input": "fine", "encoding_format": "base64"})
    numbers = np.frombuffer(base64.b64decode(answer.json()["data"][0]["embedding"]), "<f4")
    assert np.allclose(numbers, (await vectors.face.client.embed(["fine"]))[0], atol=1e-6)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": ["fine", [9] * 300]}, "text number 1: input: has 300 tokens"),
        ({"input": ["fine", ""]}, "text number 1: "),
        ({"input": [[9], [9, 100_000]]}, "text number 1: input: has the token id 100000"),
        ({"input": []}, "input"),
        ({"input": ["fine", 9]}, "do not go together"),
        ({"input": ""}, "must not be empty"),
        ({"input": "fine", "dimensions": 65}, "this model's embeddings have 64"),
        ({"input": "fine", "encoding_format": "hex"}, "encoding_format"),
        ({"input": ["x"] * 2049}, "may have at most 2048"),
        ({}, "input"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(body: dict[str, object], words: str, vectors: Facing) -> None:
    answer = await vectors.post("/v1/embeddings", body)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error_type"] == "validation"


async def test_the_answer_is_the_one_that_the_document_describes(vectors: Facing) -> None:
    answer = await vectors.post("/v1/embeddings", {"input": TEXTS})
    whole = msgspec.json.decode(answer.content, type=EmbeddingsAnswer)
    assert msgspec.json.decode(msgspec.json.encode(whole)) == answer.json()
    assert [one.index for one in whole.data] == [0, 1, 2]


async def test_tokens_that_were_read_are_counted(vectors: Facing) -> None:
    async def read() -> float:
        (line,) = (
            line
            for line in (await vectors.asks.get("/metrics")).text.splitlines()
            if line.startswith('maxpipe_tokens_total{kind="input"}')
        )
        return float(line.split()[1])

    used = (await vectors.post("/v1/embeddings", {"input": TEXTS})).json()["usage"]["prompt_tokens"]
    before = await read()
    await vectors.post("/v1/embeddings", {"input": TEXTS})
    assert await read() == before + used > used


async def test_the_face_says_what_it_is_for(vectors: Facing) -> None:
    assert (await vectors.asks.get("/info")).json()["model_pipeline_tag"] == "feature-extraction"


async def test_a_long_text_may_be_cut(vectors: Facing) -> None:
    answer = await vectors.post("/v1/embeddings", {"input": "fox " * 400, "truncate": True})
    assert answer.json()["usage"]["prompt_tokens"] == 128


async def test_other_models_and_other_tasks_are_not_found(vectors: Facing, voice: Facing, text: Facing) -> None:
    assert (await vectors.post("/v1/embeddings", {"input": "fine", "model": "other"})).status_code == 404
    assert (await vectors.post("/models/tiny/v1/embeddings", {"input": "fine"})).status_code == 200
    assert (await vectors.post("/v1/completions", {"prompt": "fine"})).status_code == 404
    for face in (voice, text):
        refused = await face.post("/v1/embeddings", {"input": "fine"})
        assert refused.status_code == 404
        assert "not for embeddings_generation" in refused.json()["error"]["message"]


async def test_who_leaves_early_leaves_nothing_behind(vectors: Facing) -> None:
    asking = asyncio.ensure_future(vectors.post("/v1/embeddings", {"input": ["fox " * 60] * 2000}))
    while not (await vectors.gauges())["requests"]:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(30):
        while (await vectors.gauges())["requests"]:
            await asyncio.sleep(0.01)
