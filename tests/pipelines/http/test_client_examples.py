"""The clients in examples/clients, as a user starts them; LiveKit's and Pipecat's by `make test-examples`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.hearing import decoded, pitch
from tests.pipelines.http.served import EMBEDDED, Served, serving_file

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
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = [program, str(CLIENTS / f"speech_{name}"), TEXT]
    run += [served.url] if program == "sh" else ["--url", served.url]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    heard = decoded(form, (tmp_path / f"speech.{form}").read_bytes())
    body = {"model": "tts-1", "input": TEXT, "response_format": "wav"}
    ours = decoded("wav", httpx2.post(served.url + "/v1/audio/speech", json=body, timeout=PATIENCE_S).content)
    assert heard.seconds == pytest.approx(ours.seconds, rel=0.2)  # no seed is given
    assert pitch(heard) == pytest.approx(pitch(ours), rel=0.1)
