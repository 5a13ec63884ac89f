"""What is no request: each path answers it with a clear 4xx, and serves on. Bad heads are in `test_heads.py`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from max_pipelines.http.openapi.operations import OPERATIONS
from tests.pipelines.http.facing import Facing

pytestmark = pytest.mark.asyncio(loop_scope="module")
GOOD: dict[str, dict[str, Any]] = {
    "/v1/audio/speech": {"model": "voice", "input": "Some words.", "response_format": "pcm"},
    "/dev/captioned_speech": {
        "model": "voice",
        "input": "Some words.",
        "response_format": "pcm",
        "return_timestamps": False,
    },
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    "/v1/completions": {"prompt": "hi", "max_tokens": 2},
    "/v1/embeddings": {"input": "hi"},
    "/models/tiny/v1/embeddings": {"input": "hi"},
    "/models/tiny/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    "/models/tiny/v1/completions": {"prompt": "hi", "max_tokens": 2},
    "/generate": {"inputs": "hi", "parameters": {"max_new_tokens": 2}},
    "/generate_stream": {"inputs": "hi", "parameters": {"max_new_tokens": 2}},
    "/": {"inputs": "hi", "parameters": {"max_new_tokens": 2}},
    "/models/tiny": {"inputs": "hi", "parameters": {"max_new_tokens": 2}},
    "/tokenize": {"inputs": "hi"},
    "/chat_tokenize": {"messages": [{"role": "user", "content": "hi"}]},
}
STATEFUL = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}  # not the same twice: test_adapters.py
DEEP = b"[" * 100_000 + b"]" * 100_000
BAD: dict[str, tuple[bytes, str, tuple[int, ...]]] = {
    "no JSON": (b"{", "application/json", (400,)),
    "nothing": (b"", "application/json", (400,)),
    "bad UTF-8": (
        b'{"inputs": "\xff", "input": "\xff", "prompt": "\xff", "messages": "\xff"}',
        "application/json",
        (400, 422),
    ),
    "NaN": (b'{"inputs": "a", "temperature": NaN}', "application/json", (400,)),
    "Infinity": (b'{"inputs": 1e999, "parameters": {"temperature": 1e999}}', "application/json", (400, 422)),
    "a list": (b"[]", "application/json", (422,)),
    "a text": (b'"words"', "application/json", (422,)),
    "null": (b"null", "application/json", (422,)),
    "fields missing": (b"{}", "application/json", (422,)),
    "deep": (b'{"inputs": ' + DEEP + b"}", "application/json", (400, 422)),
    "deep where anything may stand": (
        b'{"inputs": "a", "parameters": {"grammar": {"type": "json", "value": ' + DEEP + b"}}}",
        "application/json",
        (400, 422),
    ),
    "3 MB": (b'{"inputs": "' + b"a" * 3_000_000 + b'"}', "application/json", (413,)),
    "a form": (b"inputs=a", "application/x-www-form-urlencoded", (415,)),
    "plain text": (b'{"inputs": "a"}', "text/plain", (415,)),
    "no type": (b'{"inputs": "a"}', "", (415,)),
}
WRONG: Any = [[], {}, "x", -1, 1.5, True, None]


@pytest.fixture(params=GOOD)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(path: str, text: Facing, voice: Facing, vectors: Facing) -> Facing:
    if "embeddings" in path:
        return vectors
    return voice if "speech" in path else text


def is_refused(answer: httpx2.Response, path: str, statuses: tuple[int, ...]) -> None:
    assert answer.status_code in statuses, answer.text[:300]
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    message = said["error"]["message"] if "/v1/" in path else said["error"]
    assert message
    assert isinstance(message, str)
    assert isinstance(said["error_type"], str)


@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_request_is_refused(kind: str, path: str, served: Facing) -> None:
    body, content_type, statuses = BAD[kind]
    if kind.startswith("deep where") and path not in ("/generate", "/generate_stream", "/", "/models/tiny"):
        pytest.skip("has no such place")
    headers = {"content-type": content_type} if content_type else {}
    is_refused(await served.asks.post(path, content=body, headers=headers), path, statuses)
    assert (await served.post(path, GOOD[path])).status_code == 200


async def test_each_field_of_a_wrong_type_is_refused_or_served(path: str, served: Facing) -> None:
    """Never a failure of the server, whatever stands where."""
    for field in GOOD[path]:
        for wrong in WRONG:
            answer = await served.post(path, {**GOOD[path], field: wrong})
            if answer.status_code != 200:
                is_refused(answer, path, (404, 422))


async def test_a_method_that_there_is_not(path: str, served: Facing) -> None:
    answer = await served.asks.put(path, json=GOOD[path])
    is_refused(answer, path, (405,))
    assert "POST" in answer.headers["allow"]


async def test_a_length_that_is_too_much_is_refused_before_it_comes(path: str, served: Facing) -> None:
    reader, writer = await asyncio.open_connection(*served.url.removeprefix("http://").split(":"))
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\n\r\n"
    )
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_each_path_that_takes_a_body_is_in_this_file() -> None:
    taking = {operation.path.format(name="tiny") for operation in OPERATIONS if operation.body is not None}
    assert taking == set(GOOD) | STATEFUL
