"""`maxpipe serve` with the section `wyoming`: real processes, a real socket."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec
import pytest
from wyoming.tts import Synthesize

from max_interfaces import ConfigError
from max_pipelines.config import HttpConfig, WyomingConfig, parse_config
from tests.pipelines.processes import MAXPIPE, PATIENCE_S, Watch, children, command_of, config, write
from tests.pipelines.wyoming.talking import talking

ANY_PORT = WyomingConfig(port=0)


@dataclass
class Served:
    process: subprocess.Popen[str]
    uri: str
    http: str


def command(folder: Path, http: HttpConfig | None, wyoming: WyomingConfig) -> list[str]:
    file = write(msgspec.structs.replace(config(), http=http, wyoming=wyoming), folder)
    return [*MAXPIPE, "serve", str(file)]


@contextmanager
def serving(folder: Path, http: HttpConfig | None) -> Iterator[Served]:
    """A server that is ready."""
    with subprocess.Popen(command(folder, http, ANY_PORT), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "over Wyoming" in line:
                    break
            where = dict(re.findall(r"over (HTTP|Wyoming) at (\S+)", said))
            yield Served(process, where["Wyoming"], where.get("HTTP", ""))
        finally:
            process.kill()


async def speaks(served: Served) -> bool:
    async with talking(served.uri) as client:
        await client.say(Synthesize("Hello."))
        return bool((await client.listen()).pcm)


@pytest.mark.parametrize("http", [None, HttpConfig(port=0)], ids=["alone", "beside HTTP"])
async def test_it_serves_and_ends(tmp_path: Path, http: HttpConfig | None) -> None:
    with serving(tmp_path, http) as served:
        assert await speaks(served)
        if http is not None:
            assert httpx2.get(served.http + "/health").status_code == 200
        watch = Watch(*children(served.process.pid))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        watch.wait_gone()


async def test_a_face_that_dies_is_started_again_and_nobody_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, None) as served:
        (face,) = (pid for pid in children(served.process.pid) if "max_pipelines.http" in command_of(pid))
        watch = Watch(face)
        os.kill(face, signal.SIGKILL)
        watch.wait_gone()
        assert await speaks(served)  # the socket was there all the time


def test_a_place_that_cannot_be_had_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with serving(tmp_path, None) as served:
        taken = WyomingConfig(port=int(served.uri.rpartition(":")[2]))
        for wyoming, says in (
            (taken, "wyoming: nobody can listen"),
            (WyomingConfig(host="no.such.invalid"), "no such"),
        ):
            refused = command(tmp_path, None, wyoming)
            done = subprocess.run(refused, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            assert done.returncode == 2
            assert says in done.stderr


def test_a_text_model_has_no_voice() -> None:
    text = "model: {name: m}\npipeline: {kind: text}\nwyoming: {}"
    with pytest.raises(ConfigError, match="the section `wyoming` is for voices"):
        parse_config(text)
