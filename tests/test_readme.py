"""Every snippet of the README runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_text import make_tiny_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run as a user would, from a folder that looks like the project's, with our commands on the path."""
    for name in ("configs", "engines", "hatch_build.py", "Makefile", "pyproject.toml", "constraints.txt", ".venv"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": f"{BIN}:{folder}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


FACES = [code for code in snippets("python") if "from max_pipelines.llm" in code]
SPEECH = [code for code in snippets("python") if "TextGenerationRequest" not in code and code not in FACES]


@pytest.mark.parametrize("code", SPEECH)
def test_python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.skipif(not (ROOT / ".venv" / "testing").exists(), reason="the environment is not one that make made")
def test_make_speak(tmp_path: Path) -> None:
    (line,) = (snippet for snippet in snippets("bash") if snippet.startswith("make speak"))
    done = shell(line, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hello.wav").stat().st_size > 16_000


def test_serve_and_speak(tmp_path: Path) -> None:
    """The player is a stand-in that reads to the end; the address is a fresh one, which the speakers wait for."""
    (serve,) = (snippet for snippet in snippets("bash") if snippet.startswith("maxpipe serve"))
    (speak,) = (snippet for snippet in snippets("bash") if "--connect" in snippet)
    player = tmp_path / "aplay"
    player.write_text("#!/bin/sh\ncat > played.wav\n")
    player.chmod(0o755)
    text = (serve.rstrip() + " --port 0\n" + speak).replace("ipc:///tmp/voice", f"ipc://{tmp_path}/voice")
    lines = text.strip().splitlines()
    lines[0] = f"exec 3< <({lines[0]}); server=$!; trap 'kill $server' EXIT"
    lines.insert(1, "read -r _ <&3; read -r _ <&3")  # "loading …", "serving …"
    done = shell("\n".join(lines), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hello.wav").stat().st_size > 16_000
    assert (tmp_path / "played.wav").stat().st_size > 16_000


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(tmp_path: Path) -> None:
    (ask,) = (snippet for snippet in snippets("bash") if snippet.startswith("curl"))
    serve = f"maxpipe serve configs/speech.yaml --address ipc://{tmp_path}/voice --port 0"
    lines = [
        f"exec 3< <({serve}); server=$!; trap 'kill $server' EXIT",
        "read -r _ <&3; read -r _ <&3; read -r line <&3",  # "loading …", "serving …", "and over HTTP at …"
        ask.replace("http://127.0.0.1:8000", "${line##* }"),
    ]
    done = shell("\n".join(lines), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hello.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "hello.wav").stat().st_size > 16_000


def test_text(tmp_path: Path) -> None:
    """The commands and the snippet with a tiny model in the place of those of the hub, which tests do not fetch."""
    folder = tmp_path / "model"
    make_tiny_text(folder)
    (commands,) = (snippet for snippet in snippets("bash") if snippet.startswith("maxpipe generate"))
    (code,) = (code for code in snippets("python") if code not in SPEECH + FACES)
    address = f"ipc://{tmp_path}/text"
    config = tmp_path / "text.yaml"
    ours = re.sub(r"path: \S+", f"path: {folder}", (ROOT / "configs" / "text.yaml").read_text(encoding="utf-8"))
    config.write_text(ours + "http:\n  port: 0\n", encoding="utf-8")
    *generate, serve = re.sub(r"Qwen/\S+", str(folder), commands).strip().splitlines()
    serve = serve.replace("ipc:///tmp/text", address).replace("configs/text.yaml", str(config))
    (tmp_path / "snippet.py").write_text(code.replace("ipc:///tmp/text", address), encoding="utf-8")
    lines = [
        *(f"{line} --max-new-tokens 8" for line in generate),
        f"exec 3< <({serve}); server=$!; trap 'kill $server' EXIT",
        "read -r _ <&3; read -r _ <&3",  # "loading …", "serving …"
        f"{sys.executable} snippet.py",
    ]
    done = shell("\n".join(lines), tmp_path)
    assert done.returncode == 0, done.stderr
    assert {line[0] for line in done.stdout.splitlines() if line[:2] in ("0 ", "1 ", "2 ")} == {"0", "1", "2"}


@pytest.mark.parametrize("code", FACES)
def test_faces(code: str, tmp_path: Path) -> None:
    """Likewise."""
    make_tiny_text(tmp_path)
    code = re.sub(r"Qwen/[\w.-]+", str(tmp_path), code)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hello, my name is ")


@pytest.mark.parametrize("module", re.findall(r"python -m (max_voices\.recipe\.\w+)", README))
def test_the_recipe_is_there(module: str) -> None:
    pytest.importorskip("pocketsphinx")
    subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, timeout=60, check=True)


def test_the_tree_names_what_is_there() -> None:
    (tree,) = (
        block
        for block in re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
        if "max_interfaces/" in block
    )
    for name in re.findall(r"^(\S+)", tree, re.MULTILINE):
        assert (ROOT / name).exists(), name
