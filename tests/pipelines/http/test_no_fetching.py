"""A server that fetched what a client names would be a way into the network that it stands in: this one never does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pipelines.http.asking import CHAT, COMPLETIONS
from tests.pipelines.http.facing import Body, Facing

pytestmark = pytest.mark.asyncio(loop_scope="module")
HI: Body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
SPEECH = "/v1/audio/speech"


@pytest.fixture
def url() -> Iterator[str]:
    """Where nobody may ask. The kernel keeps whoever connects until they are looked for, so that none is missed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/secret"
        with pytest.raises(BlockingIOError):
            listening.accept()


def part(kind: str, value: object) -> Body:
    """A message with a part that is no text."""
    content = [{"type": kind, kind: value}, {"type": "text", "text": "What is this?"}]
    return HI | {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("path", [CHAT, "/models/tiny/v1/chat/completions", "/chat_tokenize"])
@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "audio_url", "file", "input_image", "video"])
async def test_a_part_that_is_no_text_is_refused(kind: str, path: str, url: str, text: Facing) -> None:
    values: list[Any] = [url, {"url": url}, {"data": url, "format": "wav"}, {"file_data": url, "file_id": url}]
    for value in values:
        assert (await text.post(path, part(kind, value))).status_code == 422
    own = {name: {"url": url} for name in ("image_url", "video_url")}
    own["input_audio"] = {"data": url, "format": "wav"}
    answer = await text.post(path, part(kind, own.get(kind, url)))
    says = "this model reads text only" if kind in own else "there are text, refusal, image_url, input_audio, video_url"
    assert f"a part of type '{kind}'; {says}" in answer.text


async def test_a_schema_that_is_elsewhere_is_refused(url: str, text: Facing) -> None:
    for schema in ({"$ref": url}, {"$schema": url}, {"type": "object", "properties": {"a": {"$ref": f"{url}#/a"}}}):
        tool = {"type": "function", "function": {"name": "a", "parameters": {"type": "object", **schema}}}
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        given = {"type": "json", "value": schema}
        asked: list[tuple[str, Body]] = [
            (CHAT, HI | {"response_format": form}),
            (CHAT, HI | {"response_format": given}),
            (CHAT, HI | {"tools": [tool], "tool_choice": "required"}),
            ("/generate", {"inputs": "hi", "parameters": {"max_new_tokens": 2, "grammar": given}}),
        ]
        for path, body in asked:
            assert (await text.post(path, body)).status_code == 422


async def test_elsewhere_an_address_is_a_text_like_any_other(url: str, text: Facing, voice: Facing) -> None:
    spoken: Body = {"response_format": "pcm"}
    asked: list[tuple[Facing, str, Body]] = [
        (text, CHAT, HI | {"messages": [{"role": "user", "content": f"![]({url}) <img src='{url}'>"}]}),
        (text, COMPLETIONS, {"prompt": url, "max_tokens": 2, "user": url, "metadata": {"url": url}}),
        (text, "/generate", {"inputs": f"![]({url})", "parameters": {"max_new_tokens": 2}}),
        (text, "/", {"inputs": f"data:{url}", "parameters": {"max_new_tokens": 2}}),
        (text, "/tokenize", {"inputs": url}),
        (voice, SPEECH, {"model": "voice", "input": f"<audio src='{url}'/>", "instructions": url, **spoken}),
        (voice, "/", {"inputs": url, "parameters": spoken}),
    ]
    for served, path, body in asked:
        assert (await served.post(path, body)).status_code == 200
    for served, path, body in (
        (text, CHAT, HI | {"model": url}),
        (voice, SPEECH, {"model": "voice", "input": "a", "voice": url}),
    ):
        assert (await served.post(path, body)).status_code in (404, 422)
    assert (await text.asks.get("/info", headers={"referer": url, "origin": url, "x-forwarded-for": url})).is_success
