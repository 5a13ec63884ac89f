"""What tests ask of OpenAI's text endpoints."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from tests.pipelines.http.facing import Body, Facing

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
COLOUR: Body = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
PAINT: Body = {"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": COLOUR}}
WIPE: Body = {"type": "function", "function": {"name": "wipe"}}


def asking(**fields: object) -> Body:
    """A conversation."""
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8} | fields


def prompting(**fields: object) -> Body:
    """A prompt."""
    return {"model": "tiny", "prompt": "the quick", "max_tokens": 8, "temperature": 0} | fields


def events(answer: httpx2.Response) -> list[Any]:
    """The events of an answer that came to its end."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    *lines, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def answered(served: Facing, path: str, body: Body) -> Any:
    """An answer that is one."""
    answer = await served.post(path, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def streamed(served: Facing, path: str, body: Body) -> list[Any]:
    """The events of an answer."""
    return events(await served.post(path, body | {"stream": True}))
