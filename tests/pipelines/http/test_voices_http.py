"""Voices added and removed over HTTP, where the config lets clients; and forms, byte by byte."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_pipelines.config import Config, HttpConfig
from max_pipelines.http.forms import MAX_FIELDS, parse
from max_pipelines.http.problems import HttpProblem
from max_pipelines.voices.file import About, StoredVoice
from max_pipelines.voices.folder import VoiceFolder, folder_of
from tests.pipelines.http.facing import Facing, facing, trivial
from tests.pipelines.test_added_voices_road import with_folder
from tests.pipelines.test_voices import RATE, all_files, speech, wav
from tests.tiny_voice import make_tiny_voice

VOICES = "/v1/audio/voices"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_tiny_voice(tmp_path_factory.mktemp("cloner"), cloning=True)


@pytest.fixture
async def served(weights: Config, tmp_path: Path) -> AsyncIterator[Facing]:
    async with facing(with_folder(weights, tmp_path / "voices"), HttpConfig(voice_uploads=True)) as face:
        yield face


async def add(
    served: Facing, sample: bytes | None = None, fields: dict[str, str] | None = None, origin: str = ""
) -> httpx2.Response:
    given = {"name": "cat", "consent": "the cat's, 2026", "ref_text": "a cat sat", **(fields or {})}
    files = {"audio_sample": ("cat.wav", wav(speech(0.4)) if sample is None else sample, "audio/wav")}
    return await served.asks.post(VOICES, data=given, files=files, headers={"origin": origin} if origin else {})


async def test_a_voice_is_added_spoken_in_and_removed(served: Facing, tmp_path: Path) -> None:
    answer = await add(served)
    assert answer.status_code == 200, answer.text
    voice = answer.json()["voice"]
    assert (voice["name"], voice["consent"], voice["ref_text"]) == ("cat", "the cat's, 2026", "a cat sat")
    assert voice["seconds"] == pytest.approx(0.4, abs=0.02)
    asked = {"model": "tiny", "input": "hello", "response_format": "pcm", "voice": "cat", "max_new_tokens": 90}
    assert (await served.post("/v1/audio/speech", asked)).status_code == 200
    assert (await served.asks.get(VOICES)).json()["uploaded_voices"] == [voice]
    again = await add(served)
    assert (again.status_code, "there is a voice 'cat'" in again.text) == (409, True)
    assert (await served.asks.delete(f"{VOICES}/cat")).json() == {"success": True, "message": "cat is removed"}
    assert (await served.asks.delete(f"{VOICES}/cat")).status_code == 404
    assert not all_files(tmp_path)


async def test_what_cannot_be_used_is_refused(served: Facing, tmp_path: Path) -> None:
    """What needs no encoder is found in this process, the rest by the command."""
    for sample, fields, says in (
        (wav(np.zeros(RATE)), {}, "sample: is silent"),
        (None, {"ref_text": "?!"}, "has nothing that can be spoken"),
        (None, {"name": "../cat"}, "must be 1 to 64 letters"),
        (None, {"name": "-h"}, "must be 1 to 64 letters"),
        (None, {"name": "ann"}, "is one of the model's own"),
        (None, {"consent": " "}, "consent: is missing"),
        (None, {"consent": "c" * 2**18}, "consent: has 262144 characters, at most 1000"),
        (None, {"ref_text": "word " * 2**15}, "ref_text: has 163839 characters, at most 1000"),
        (b"", {}, "audio_sample: is missing"),
    ):
        answer = await add(served, sample, fields)
        assert (answer.status_code, says in answer.text) == (422, True), answer.text
    for origin in ("https://elsewhere.example", "http://["):
        strange = await add(served, origin=origin)
        assert (strange.status_code, "pages of other sites" in strange.text) == (403, True)
    assert (await served.post(VOICES, {"name": "cat"})).status_code == 415
    assert (await served.asks.delete(f"{VOICES}/..%2Fvoice")).status_code == 422
    large = await add(served, bytes(11 * 2**20))
    assert large.status_code == 413
    assert not all_files(tmp_path)


async def test_a_damaged_voice_hides_no_other(served: Facing, weights: Config, tmp_path: Path) -> None:
    folder = folder_of(with_folder(weights, tmp_path / "voices"))
    about = About("a cat sat", folder.fingerprint, "2026-01-01T00:00:00+00:00", 0.4)
    folder.add("cat", StoredVoice(np.arange(9), about))
    damaged = folder.add("dog", StoredVoice(np.arange(9), about))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    answer = await served.asks.get(VOICES)
    assert (answer.status_code, [voice["name"] for voice in answer.json()["uploaded_voices"]]) == (200, ["cat"])


async def test_weights_are_not_read_where_others_wait(weights: Config, tmp_path: Path) -> None:
    """Not even by the first who adds or removes a voice."""
    readers: list[int] = []

    def found(config: Config) -> VoiceFolder:
        readers.append(threading.get_ident())
        return folder_of(config)

    config = with_folder(weights, tmp_path / "voices")
    with patch("max_pipelines.http.uploads.folder_of", found):
        async with facing(config, HttpConfig(voice_uploads=True)) as served:
            assert (await served.asks.delete(f"{VOICES}/cat")).status_code == 404
        async with facing(config, HttpConfig(voice_uploads=True)) as served:
            assert (await add(served, wav(np.zeros(RATE)))).status_code == 422
    assert len(readers) == 2
    assert threading.get_ident() not in readers


async def test_where_nobody_may_it_is_said(tmp_path: Path) -> None:
    async with facing(trivial()) as served:
        answer = await add(served)
        assert (answer.status_code, "http.voice_uploads" in answer.text) == (501, True)
        assert (await served.asks.delete(f"{VOICES}/cat")).status_code == 501
        assert "uploaded_voices" not in (await served.asks.get(VOICES)).json()


# -- forms -----------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.from_regex(r"\A[a-z_]{1,12}\Z"), st.binary(max_size=200), max_size=MAX_FIELDS))
def test_a_form_is_what_was_sent(fields: dict[str, bytes]) -> None:
    """Whatever bytes a file has, line ends and dashes among them."""
    request = httpx2.Request(
        "POST", "http://x", files={name: ("f", data, "audio/wav") for name, data in fields.items()}
    )
    body = request.read()
    if not fields:
        return
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    found = parse(body, boundary)
    assert {name: field.data for name, field in found.items()} == fields
    assert all(field.mime == "audio/wav" for field in found.values())


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=4))
def test_what_is_no_form_is_refused(body: bytes, boundary: bytes) -> None:
    try:
        parse(body, boundary)
    except HttpProblem as problem:
        assert problem.status == 422  # noqa: PT017


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b"--x\r\nno: name\r\n\r\n1\r\n--x--",
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 2 + b"--x--",
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n',
        b"".join(b'--x\r\ncontent-disposition: form-data; name="%d"\r\n\r\n1\r\n' % n for n in range(17)) + b"--x--",
    ],
)
def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(HttpProblem):
        parse(body, b"x")
