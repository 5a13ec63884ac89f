"""The example of a pipeline in a package of its own, in a real worker."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from max_interfaces import FailureKind, RequestFailed, RequestID, StartFailed, TextGenerationRequest
from max_pipelines.client import Client
from max_pipelines.config import Config, parse_config
from tests.pipelines.processes import install

EXAMPLE = Path(__file__).parents[2] / "examples" / "shout"
WITH_A_CANARY = """
from dataclasses import replace
import maxpipe_shout
from max_interfaces import RequestID, TextGenerationRequest

def build(config):
    asked = TextGenerationRequest(RequestID(), "shout", config.pipeline.options["canary"])
    return replace(maxpipe_shout.build(config), canary=asked)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install ./examples/shout` does, for the processes that are started from here on."""
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
    install(tmp_path, "maxpipe_shout", (EXAMPLE / "maxpipe_shout.py").read_text(), "".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_a_package_of_its_own_serves() -> None:
    with Client.embedded(EXAMPLE / "shout.yaml") as client:
        request = TextGenerationRequest(RequestID(), "shout", "so be it")
        assert [output.text for output in client.stream(request)] == ["SO! ", "BE! ", "IT! "]
        assert client.generate(request).text == "SO! BE! IT! "
        with pytest.raises(RequestFailed, match="shout needs words") as caught:
            client.generate(TextGenerationRequest(RequestID(), "shout", (1, 2)))
        assert caught.value.failure.kind is FailureKind.INVALID_REQUEST


def proven(tmp_path: Path, canary: str) -> Config:
    """The same pipeline in another package, with a request that it has to serve before it is offered."""
    install(tmp_path, "shout_proven", WITH_A_CANARY, "[maxpipe.pipelines]\nproven = shout_proven:build\n")
    return parse_config(f"model: {{name: shout}}\npipeline: {{kind: proven, options: {{canary: '{canary}'}}}}")


@pytest.mark.usefixtures("installed")
def test_a_pipeline_that_has_served_its_canary_serves(tmp_path: Path) -> None:
    with Client.embedded(proven(tmp_path, "are you well")) as client:
        assert client.generate(TextGenerationRequest(RequestID(), "shout", "yes")).text == "YES! "


@pytest.mark.usefixtures("installed")
def test_a_pipeline_that_cannot_serve_its_canary_cannot_start(tmp_path: Path) -> None:
    client = Client.embedded(proven(tmp_path, " "))
    with pytest.raises(StartFailed, match="shout needs words"):
        client.__enter__()
