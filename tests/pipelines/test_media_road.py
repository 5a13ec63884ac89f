"""The whole road of images and sounds on real parts: client, dispatcher, worker, processor, engine. Tiny weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import soundfile
from PIL import Image

from max_interfaces import (
    MessageRole,
    RequestID,
    SamplingParams,
    TextContentPart,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)
from max_interfaces.text import MediaContentPart, MediaKind
from max_pipelines.client import Client
from tests.engines.tiny_processors import RATE, image, serving_media, sound

SEES, HEARS = MediaContentPart(MediaKind.IMAGE), MediaContentPart(MediaKind.AUDIO)


def png(seed: int, height: int = 50, width: int = 70) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image(seed, height, width)).save(file, "PNG")
    return file.getvalue()


def wav(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(seed), RATE, "FLOAT", format="WAV")
    return file.getvalue()


def chat(
    *parts: object, images: tuple[bytes, ...] = (), audios: tuple[bytes, ...] = (), **fields: Any
) -> TextGenerationRequest:
    content = tuple(TextContentPart(part) if isinstance(part, str) else part for part in parts)
    message = TextGenerationRequestMessage(MessageRole.USER, content)  # type: ignore[arg-type]
    params = SamplingParams(temperature=0.0, max_new_tokens=8, ignore_eos=True)
    return TextGenerationRequest(
        RequestID(), "tiny", messages=(message,), images=images, audios=audios, sampling_params=params, **fields
    )


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client.embedded(serving_media(tmp_path_factory.mktemp("llava"), "llava", transport="thread")) as client:
        yield client


def test_a_chat_with_an_image(llava: Client) -> None:
    out = llava.generate(chat("what is ", SEES, "?", images=(png(1),)))
    print(out)
    other = llava.generate(chat("what is ", SEES, "?", images=(png(2),)))
    assert out.tokens != other.tokens
