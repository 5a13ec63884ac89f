"""`maxpipe serve` with its face: real processes, a real socket."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from max_pipelines.config import HttpConfig
from tests.pipelines.http.asking import CHAT, COMPLETIONS, asking, events, prompting
from tests.pipelines.http.served import Served, serving_file
from tests.pipelines.processes import MAXPIPE, PATIENCE_S, Watch, children, command_of, config, write
from tests.tiny_text import make_tiny_text

TEXT_CONFIG = Path(__file__).parents[3] / "configs" / "text.yaml"
SPEECH = {"model": "voice", "input": "Hello.", "response_format": "pcm"}


@contextmanager
def serving(folder: Path, http: HttpConfig | None = None, *options: str) -> Iterator[Served]:
    """A server of a small pipeline."""
    file = write(msgspec.structs.replace(config(), http=http or HttpConfig(port=0)), folder)
    with serving_file(file, *options) as served:
        yield served


def test_it_serves_and_ends(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert httpx2.post(served.url + "/v1/audio/speech", json=SPEECH).status_code == 200
        watch = Watch(*children(served.process.pid))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        watch.wait_gone()


def test_the_text_config_serves_text(tmp_path: Path) -> None:
    """With a tiny model in the place of the hub's."""
    make_tiny_text(tmp_path / "model")
    ours = re.sub(r"path: \S+", f"path: {tmp_path / 'model'}", TEXT_CONFIG.read_text(encoding="utf-8"))
    file = tmp_path / "text.yaml"
    file.write_text(ours, encoding="utf-8")
    with serving_file(file, "--port", "0") as served, httpx2.Client(base_url=served.url, timeout=PATIENCE_S) as asks:
        (model,) = asks.get("/v1/models").json()["data"]
        assert (model["id"], model["task"]) == ("qwen2.5-0.5b", "text_generation")
        body = asking(model=model["id"], temperature=0)
        assert asks.post(CHAT, json=body).json()["usage"]["completion_tokens"] == 8
        assert len(events(asks.post(CHAT, json=body | {"stream": True}))) > 2
        assert asks.post(COMPLETIONS, json=prompting(model="dummy")).json()["choices"][0]["text"]


def test_a_face_that_dies_is_started_again_and_nobody_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        before = served.face
        os.kill(before, signal.SIGKILL)
        answer = httpx2.post(served.url + "/v1/audio/speech", json=SPEECH, timeout=PATIENCE_S)
        assert answer.status_code == 200  # the socket was there all the time
        assert served.face != before


def test_a_killed_server_takes_its_face_with_it(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        watch = Watch(*children(served.process.pid))
        served.process.kill()
        watch.wait_gone()


def test_the_command_line_says_where(tmp_path: Path) -> None:
    with serving(tmp_path, HttpConfig(port=1), "--port", "0", "--host", "localhost") as served:
        assert httpx2.get(served.url + "/health").status_code == 200


def refused(folder: Path, http: HttpConfig, *options: str) -> str:
    """What a server says that does not start."""
    file = write(msgspec.structs.replace(config(), http=http), folder)
    command = [*MAXPIPE, "serve", str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    return done.stderr


def test_a_place_that_cannot_be_had_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        port = served.url.rpartition(":")[2]
        assert f"nobody can listen at 127.0.0.1:{port}" in refused(tmp_path, HttpConfig(port=int(port)))
    assert "no such host" in refused(tmp_path, HttpConfig(host="no.such.host.invalid"))


@pytest.mark.parametrize(("text", "mode", "says"), [("", 0o600, "no API key"), ("key\n", 0o644, "chmod 600")])
def test_keys_that_cannot_be_used(text: str, mode: int, says: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(text)
    keys.chmod(mode)
    assert says in refused(tmp_path, HttpConfig(port=0, keys=str(keys)))


def test_http_can_be_left_out(tmp_path: Path) -> None:
    file = write(msgspec.structs.replace(config(), http=HttpConfig(port=1)), tmp_path)
    with subprocess.Popen([*MAXPIPE, "serve", str(file), "--no-http"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("serving" in line for line in process.stdout)
            assert not any("max_pipelines.http" in command_of(pid) for pid in children(process.pid))
        finally:
            process.kill()
