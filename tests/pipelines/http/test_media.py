"""Images and sounds in a chat over HTTP: in its body, or from the hosts that the config names."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from max_engines.tokenizer import load_tokenizer
from max_pipelines.config import HttpConfig
from max_pipelines.media import given
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import image, png, serving_checkpoint, shown_by_transformers, sound, wav
from tests.pipelines.http.asking import CHAT, answered, streamed
from tests.pipelines.http.facing import Body, Facing, facing
from tests.pipelines.media.serving import serving_media
from tests.pipelines.test_media_road import read

pytestmark = pytest.mark.asyncio(loop_scope="module")
COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("omni")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sees(folder: Path) -> AsyncIterator[Facing]:
    async with facing(serving_checkpoint(folder, "qwen2.5-omni", transport="thread")) as face:
        yield face


def url_of(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def seeing(url: str) -> Body:
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def hearing(data: bytes) -> Body:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def asking(*parts: str | Body, **fields: Any) -> Body:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    message = {"role": "user", "content": content}
    return {"messages": [message], "max_tokens": COUNT, "temperature": 0, "ignore_eos": True} | fields


async def test_a_chat_of_images_and_a_sound_is_answered_as_transformers_does(sees: Facing, folder: Path) -> None:
    body = asking("is ", seeing(url_of(png(1))), " ", hearing(wav(1)), "? ", seeing(url_of(png(2, 40, 60))))
    text = read("is ", "<vb><img><ve>", " ", "<ab><snd><ae>", "? ", "<vb><img><ve>")
    shown = shown_by_transformers(folder, text, [image(1), image(2, 40, 60)], [sound(1)])
    expected = said_by_transformers(plain_multimodal(folder), shown, COUNT)
    said = load_tokenizer(folder).decode(expected)
    answer = await answered(sees, CHAT, body)
    assert answer["choices"][0]["message"]["content"] == said
    assert answer["usage"]["prompt_tokens"] == len(shown.prompt)
    events = await streamed(sees, CHAT, body)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == said


async def test_voxtral_hears(tmp_path: Path) -> None:
    async with facing(serving_checkpoint(tmp_path, "voxtral", transport="thread")) as face:
        shown = shown_by_transformers(tmp_path, read("is ", "<ab><snd>", " or ", "<ab><snd>"), [], [sound(1), sound(2)])
        expected = said_by_transformers(plain_multimodal(tmp_path), shown, COUNT)
        answer = await answered(face, CHAT, asking("is ", hearing(wav(1)), " or ", hearing(wav(2))))
        assert answer["choices"][0]["message"]["content"] == load_tokenizer(tmp_path).decode(expected)
        refused = await face.post(CHAT, asking("see ", seeing(url_of(png(1)))))
        assert (refused.status_code, "this model takes text and audio" in refused.text) == (422, True), refused.text


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (seeing("data:image/png;base64,AAAA"), "images[0]: is no image of a known format"),
        (seeing("data:image/png;base64,"), "images[0]: is empty"),
        (seeing("data:image/png;base64,*"), "images[0]: a data: URL whose base64 cannot be read"),
        (seeing("file:///etc/passwd"), "images[0]: URLs are not fetched here"),
        (seeing("https://example.com/a.png"), "images[0]: URLs are not fetched here"),
        (seeing("/etc/hostname"), "is no URL, data: URL or base64"),
        (hearing(b"RIFF"), "audios[0]: "),
        ({"type": "video_url", "video_url": {"url": "data:,"}}, "videos[0]: is empty"),
        ({"type": "video_url", "video_url": {"url": "file:///a.mp4"}}, "videos[0]: URLs are not fetched here"),
        ({"type": "file", "file": {"file_data": "data:,"}}, "a part of type 'file'; there are text, refusal"),
        ({"type": "input_audio"}, "has no input_audio"),
        ({"type": "image_url", "image_url": {}}, "missing required field `url`"),
    ],
)
async def test_what_is_no_image_or_sound_is_refused(part: Body, says: str, sees: Facing) -> None:
    answer = await sees.post(CHAT, asking("see ", part))
    assert (answer.status_code, says in answer.text) == (422, True), answer.text


async def test_conversations_with_images_are_tokenized(sees: Facing) -> None:
    answer = await sees.post("/chat_tokenize", asking("see ", seeing(url_of(png(1)))))
    assert answer.status_code == 200
    assert answer.json()["templated_text"].count("<img>") > 1


async def test_openais_own_package(sees: Facing) -> None:
    content: Any = asking("see ", seeing(url_of(png(1))), hearing(wav(1)))["messages"]
    async with openai.AsyncOpenAI(base_url=f"{sees.url}/v1", api_key="none", max_retries=0) as sdk:
        answer = await sdk.chat.completions.create(model="tiny", messages=content, max_tokens=4)
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0


@asynccontextmanager
async def fetching(folder: Path, http: HttpConfig) -> AsyncIterator[Facing]:
    """A face that may fetch from some hosts."""
    async with facing(serving_checkpoint(folder, "llava", transport="thread"), http) as face:
        yield face


async def test_urls_are_fetched_from_the_hosts_of_the_config_alone(tmp_path: Path) -> None:
    with serving_media() as media, serving_media() as other:
        media.files["/a.png"] = png(1)
        media.redirects["/away"] = f"{other.url}/a.png"
        async with fetching(tmp_path, HttpConfig(private_media_hosts=(media.host,))) as face:
            fetched = await answered(face, CHAT, asking("see ", seeing(f"{media.url}/a.png")))
            own = await answered(face, CHAT, asking("see ", seeing(url_of(png(1)))))
            assert fetched["choices"] == own["choices"]
            for url, says in (
                (f"{other.url}/a.png", "is not among the hosts that URLs may name here"),
                (f"{media.url}/away", "is not among the hosts that URLs may name here"),
                (f"{media.url}/none.png", "404"),
            ):
                answer = await face.post(CHAT, asking("see ", seeing(url)))
                assert (answer.status_code, says in answer.text) == (422, True), answer.text
            media.asked.clear()
            answer = await face.post(
                CHAT, asking("hear ", {"type": "input_audio", "input_audio": {"data": f"{media.url}/a"}})
            )
            assert "this model takes text and image" in answer.text
            assert media.asked == other.asked == []


async def test_a_listed_host_at_a_private_address_is_refused(tmp_path: Path) -> None:
    with serving_media() as media:
        async with fetching(tmp_path, HttpConfig(media_hosts=(media.host,))) as face:
            answer = await face.post(CHAT, asking("see ", seeing(f"{media.url}/a.png")))
            assert (answer.status_code, "at a private address" in answer.text) == (422, True), answer.text
        assert media.asked == []


async def test_many_large_files_are_not_held_together(sees: Facing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MAX_BYTES", len(png(1)) + len(png(2)) - 1)
    answer = await sees.post(CHAT, asking(seeing(url_of(png(1))), seeing(url_of(png(2))), seeing("data:,")))
    assert (answer.status_code, "images[1]: all media of a request have" in answer.text) == (422, True), answer.text
