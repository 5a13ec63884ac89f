"""The clients in examples/clients, as a user starts them; LiveKit's and Pipecat's by `make test-examples`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from msgspec.structs import replace

from max_pipelines.config import HttpConfig
from tests.hearing import decoded, pitch
from tests.pipelines.http.served import EMBEDDED, Served, serving_file
from tests.pipelines.processes import write
from tests.tiny_text import make_tiny_text

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "examples" / "clients"
OTHERS = ROOT / ".venv-examples" / "bin" / "python"
TEXT = 'This is said by an "example", word for word.'
PATIENCE_S = 100.0

with_others = pytest.mark.skipif(not OTHERS.exists(), reason="`make test-examples` makes its environment")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving_file(EMBEDDED, "--port", "0") as served:
        yield served


@pytest.mark.parametrize(
    ("command", "form"),
    [
        pytest.param(("sh", "curl.sh"), "mp3", marks=pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")),
        ((sys.executable, "openai.py"), "mp3"),
        pytest.param((str(OTHERS), "livekit.py"), "wav", marks=with_others),
        pytest.param((str(OTHERS), "pipecat.py"), "wav", marks=with_others),
    ],
    ids=["curl", "openai", "livekit", "pipecat"],
)
def test_it_speaks(command: tuple[str, str], form: str, served: Served, tmp_path: Path) -> None:
    program, name = command
    ran(program, f"speech_{name}", TEXT, served.url, tmp_path)
    heard = decoded(form, (tmp_path / f"speech.{form}").read_bytes())
    body = {"model": "tts-1", "input": TEXT, "response_format": "wav"}
    ours = decoded("wav", httpx2.post(served.url + "/v1/audio/speech", json=body, timeout=PATIENCE_S).content)
    assert heard.seconds == pytest.approx(ours.seconds, rel=0.2)  # no seed is given
    assert pitch(heard) == pytest.approx(pitch(ours), rel=0.1)


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of text."""
    folder = tmp_path_factory.mktemp("text")
    with serving_file(write(replace(make_tiny_text(folder), http=HttpConfig(port=0)), folder)) as served:
        yield served


def test_a_chat(writing: Served, tmp_path: Path) -> None:
    assert ran(sys.executable, "text_openai.py", TEXT, writing.url, tmp_path).strip()


def test_text_by_the_hubs_client(writing: Served, tmp_path: Path) -> None:
    *_, last = ran(sys.executable, "text_hub.py", TEXT, writing.url, tmp_path).strip().split("\n")
    assert "mean log probability of a token: -" in last


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_text_by_curl(writing: Served, tmp_path: Path) -> None:
    *_, last = ran("sh", "text_curl.sh", TEXT, writing.url, tmp_path).strip().split("\n\n")
    assert json.loads(last.removeprefix("data:"))["generated_text"]


def ran(program: str, name: str, text: str, url: str, folder: Path) -> str:
    """What an example prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = [program, str(CLIENTS / name), text, *([url] if program == "sh" else ["--url", url])]
    done = subprocess.run(
        run, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
