"""The hub's own client, as it comes, in a chat with our face: only the URL is another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.pipelines.http.asking import COLOUR, PAINT
from tests.pipelines.http.facing import Facing, facing
from tests.tiny_text import make_tiny_text

pytestmark = pytest.mark.asyncio(loop_scope="module")
HI: Any = [{"role": "user", "content": "hi"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facing]:
    async with facing(make_tiny_text(tmp_path_factory.mktemp("tiny"), transport="thread")) as face:
        yield face


@pytest.mark.parametrize("below", ["", "/v1", "/v1/chat/completions", "/models/tiny"])
async def test_a_chat_at_each_url(below: str, served: Facing) -> None:
    async with AsyncInferenceClient(served.url + below) as client:
        answer = await client.chat_completion(HI, max_tokens=5, temperature=0.0, logprobs=True, top_logprobs=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


async def test_a_stream(served: Facing) -> None:
    async with AsyncInferenceClient(served.url) as client:
        options: Any = {"include_usage": True}
        chunks = await client.chat_completion(HI, max_tokens=5, temperature=0.0, stream=True, stream_options=options)
        *parts, last = [chunk async for chunk in chunks]
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].choices[0].finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 5


async def test_a_schema(served: Facing) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR, "strict": True}}
    async with AsyncInferenceClient(served.url) as client:
        answer = await client.chat_completion(HI, max_tokens=200, response_format=form)
    assert json.loads(answer.choices[0].message.content or "")["colour"] in ("red", "blue")


async def test_a_tool(served: Facing) -> None:
    tools: Any = [PAINT]
    choice: Any = {"function": {"name": "paint"}}
    async with AsyncInferenceClient(served.url) as client:
        answer = await client.chat_completion(HI, max_tokens=200, tools=tools, tool_choice=choice)
        chunks = await client.chat_completion(HI, max_tokens=200, tools=tools, tool_choice=choice, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in chunks]
    (call,) = answer.choices[0].message.tool_calls or []
    assert (call.type, call.function.name) == ("function", "paint")
    assert json.loads(call.function.arguments)["colour"] in ("red", "blue")
    parts = [call for delta in deltas for call in delta.tool_calls or []]
    assert json.loads("".join(part.function.arguments for part in parts))["colour"] in ("red", "blue")


async def test_an_error(served: Facing) -> None:
    async with AsyncInferenceClient(served.url) as client:
        with pytest.raises(HfHubHTTPError, match="temperature"):
            await client.chat_completion(HI, temperature=-1)
