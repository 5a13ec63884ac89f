"""Films in a chat over HTTP, as vLLM's clients send them."""

from __future__ import annotations

import base64
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from max_engines.tokenizer import load_tokenizer
from max_pipelines.config import HttpConfig
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import film_seen, png, serving_checkpoint
from tests.pipelines.http.asking import CHAT, answered, streamed
from tests.pipelines.http.facing import Body, Facing, facing
from tests.pipelines.media.making import film_file, greys, many_frames, promising
from tests.pipelines.media.serving import MediaServer, serving_media
from tests.pipelines.test_media_road import read

pytestmark = pytest.mark.asyncio(loop_scope="module")
COUNT = 10
FILM = film_file(greys(12, 32, 48), rate=4)
SEEN = "<vb><vid><ve>"
MOST_MB = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qwen3-vl")


@pytest.fixture(scope="module")
def media() -> Iterator[MediaServer]:
    """Whom the face may ask for films."""
    with serving_media() as media:
        yield media


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sees(folder: Path, media: MediaServer) -> AsyncIterator[Facing]:
    served = serving_checkpoint(folder, "qwen3-vl", transport="thread")
    async with facing(served, HttpConfig(private_media_hosts=(media.host,))) as face:
        yield face


def seeing(film: bytes | str) -> Body:
    url = film if isinstance(film, str) else f"data:video/mp4;base64,{base64.b64encode(film).decode()}"
    return {"type": "video_url", "video_url": {"url": url}}


def asking(*parts: str | Body, **fields: Any) -> Body:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    message = {"role": "user", "content": content}
    return {"messages": [message], "max_tokens": COUNT, "temperature": 0, "ignore_eos": True} | fields


@pytest.mark.parametrize("options", [{}, {"fps": 2.7}, {"num_frames": 5, "do_sample_frames": True}])
async def test_a_chat_of_a_film_is_answered_as_transformers_does(
    options: dict[str, Any], sees: Facing, folder: Path
) -> None:
    body = asking("is ", seeing(FILM), "?", **({"mm_processor_kwargs": options} if options else {}))
    shown = film_seen(folder, read("is ", SEEN, "?"), FILM, **options)
    said = load_tokenizer(folder).decode(said_by_transformers(plain_multimodal(folder), shown, COUNT))
    answer = await answered(sees, CHAT, body)
    assert answer["choices"][0]["message"]["content"] == said
    assert answer["usage"]["prompt_tokens"] == len(shown.prompt)
    events = await streamed(sees, CHAT, body)
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == said
    tokenized = await sees.post("/chat_tokenize", body)
    assert len(tokenized.json()["tokenize_response"]) == len(shown.prompt)


async def test_vllms_way_with_openais_own_package(sees: Facing) -> None:
    content: Any = asking("see ", seeing(FILM))["messages"]
    async with openai.AsyncOpenAI(base_url=f"{sees.url}/v1", api_key="none", max_retries=0) as sdk:
        asked = [
            await sdk.chat.completions.create(
                model="tiny", messages=content, max_tokens=4, extra_body={"mm_processor_kwargs": {"fps": fps}}
            )
            for fps in (1, 2.7)
        ]
    few, more = (answer.usage.prompt_tokens for answer in asked if answer.usage is not None)
    assert few < more


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fps": 0}, "processor_options.fps = 0: must be a number above 0"),
        ({"fps": 1, "num_frames": 4}, "fps and num_frames exclude each other"),
        ({"num_frames": 2.5}, "processor_options.num_frames = 2.5"),
        ({"do_sample_frames": "no"}, "processor_options.do_sample_frames = 'no': must be true or false"),
        ({"load_audio_from_video": True}, "this model does not hear"),
        ({"fps": 1, "size": {"shortest_edge": 2**40}}, "processor_options.size: this server's media.processor_options"),
        ({"fps": 4}, "prompt: has "),
    ],
)
async def test_how_a_film_cannot_be_seen(options: Body, says: str, sees: Facing) -> None:
    answer = await sees.post(CHAT, asking(seeing(FILM), mm_processor_kwargs=options))
    assert (answer.status_code, says in answer.text) == (422, True), answer.text


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million frames": (lambda: many_frames(10**6), "has 120001 frames or more, the limit is 120000"),
    "tables of a million": (lambda: promising(FILM, 10**6), "has 1000000 frames or more, the limit is 120000"),
    "a picture": (lambda: png(1), "videos[0]: is no file of a known format"),
    "half of it": (lambda: FILM[: len(FILM) // 2], "videos[0]: "),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_bombs_are_refused_with_a_reason_in_bounded_memory(bomb: str, sees: Facing, media: MediaServer) -> None:
    make, says = BOMBS[bomb]
    film = media.files["/bomb"] = make()
    if len(film) > 2**20:
        assert (await sees.post(CHAT, asking(seeing(film)))).status_code == 413
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await sees.post(CHAT, asking(seeing(f"{media.url}/bomb"), mm_processor_kwargs={"fps": 1}))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (answer.status_code, says in answer.text) == (422, True), answer.text
    assert grown < MOST_MB + 8 * len(film) / 2**20  # it is there as it travels
    assert (await sees.post(CHAT, asking(seeing(FILM)))).status_code == 200


async def test_films_are_fetched_from_the_hosts_of_the_config_alone(sees: Facing, media: MediaServer) -> None:
    with serving_media() as other:
        media.files["/a.mp4"] = FILM
        fetched = await answered(sees, CHAT, asking("see ", seeing(f"{media.url}/a.mp4")))
        own = await answered(sees, CHAT, asking("see ", seeing(FILM)))
        assert fetched["choices"] == own["choices"]
        answer = await sees.post(CHAT, asking("see ", seeing(f"{other.url}/a.mp4")))
        says = "is not among the hosts that URLs may name here"
        assert (answer.status_code, says in answer.text) == (422, True), answer.text
        assert other.asked == []


async def test_a_model_that_sees_images_alone_is_shown_no_film(tmp_path: Path, media: MediaServer) -> None:
    served = serving_checkpoint(tmp_path, "llava", transport="thread")
    media.asked.clear()
    async with facing(served, HttpConfig(private_media_hosts=(media.host,))) as face:
        answer = await face.post(CHAT, asking("see ", seeing(f"{media.url}/a.mp4")))
        says = "a part of type 'video_url'; this model takes text and image"
        assert (answer.status_code, says in answer.text) == (422, True), answer.text
        assert media.asked == []
