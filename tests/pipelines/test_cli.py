"""The command line, as people use it: real processes, exit codes, one line for what went wrong."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import soundfile

from tests.tiny_voice import make_tiny_voice

TEXT_CONFIG = Path(__file__).parents[2] / "configs" / "text.yaml"
TRIVIAL = Path(__file__).parents[2] / "configs" / "trivial.yaml"  # where it matters not what is said: loads no torch
MAXPIPE = [sys.executable, "-m", "max_pipelines.cli"]


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*MAXPIPE, *map(str, arguments)], input=stdin, capture_output=True, timeout=100, check=False)


def fails(*arguments: str | Path, says: str, stdin: bytes = b"") -> None:
    """It ends with a non-zero code and one clear line."""
    done = run(*arguments, stdin=stdin)
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode in (1, 2), lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("maxpipe ")
    assert says in lines[0]


def edited(file: Path, old: str, new: str, target: Path) -> Path:
    text = file.read_text(encoding="utf-8")
    assert old in text
    target.write_text(text.replace(old, new, 1), encoding="utf-8")
    return target


def test_version_and_help_load_no_torch() -> None:
    for argument in ("--version", "--help"):
        code = (
            "import sys, max_pipelines.cli as c\n"
            f"try: c.main([{argument!r}])\n"
            "except SystemExit: pass\n"
            "print('heavy', sorted({'torch', 'transformers'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
        assert b"maxpipe" in done.stdout
        assert b"heavy []" in done.stdout


def test_speak_writes_a_file(tiny_voice_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "hello.wav"
    done = run("speak", "hello there", "-o", out, "--config", tiny_voice_file, "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == str(out)
    samples, rate = soundfile.read(out)
    assert rate == 8000
    assert samples.size >= 12 * 96
    assert os.listdir(tmp_path) == ["hello.wav"]


def test_speak_writes_down_when_words_are_heard(tmp_path: Path) -> None:
    file, words = tmp_path / "timed.yaml", tmp_path / "words.json"
    file.write_bytes(msgspec.yaml.encode(make_tiny_voice(tmp_path / "voice", timed=True)))
    arguments = ("speak", "hello  there", "-o", tmp_path / "x.wav", "--seed", "3", "--config", file)
    done = run(*arguments, "--timestamps", words)
    assert done.returncode == 0, done.stderr
    first, *_ = json.loads(words.read_text(encoding="utf-8"))
    assert (first["word"], first["text_start"], first["text_end"]) == ("hello", 0, 5)
    assert 0 <= first["start"] <= first["end"] <= soundfile.info(tmp_path / "x.wav").duration
    fails(*arguments, "--timestamps", tmp_path / "nowhere" / "words.json", says="its folder does not exist")
    fails(*arguments, "--timestamps", "-", says="--timestamps -: words are written into a file; name one")
    same = tmp_path / "voice" / ".." / "x.wav"
    fails(*arguments, "--timestamps", same, says="the sound is written there (-o); name another file")


def test_speak_streams_wav_to_standard_output() -> None:
    done = run("speak", "-", "-o", "-", "--config", TRIVIAL, "--seed", "3", stdin=b"hello there")
    assert done.returncode == 0, done.stderr
    assert done.stdout[:4] == b"RIFF"
    assert struct.unpack("<I", done.stdout[40:44]) == (0xFFFFFFFF,)  # the length is not known while it is made
    samples, _ = soundfile.read(
        io.BytesIO(done.stdout[44:]), channels=1, samplerate=24_000, format="RAW", subtype="PCM_16"
    )
    assert samples.size == 5 * 4096


def test_a_reader_who_leaves_ends_it() -> None:
    command = [*MAXPIPE, "speak", "hello there. " * 2000, "-o", "-", "--config", str(TRIVIAL)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(("text", "says"), [("", "nothing to say"), ("  \n", "nothing to say")])
def test_nothing_to_say(text: str, says: str, tmp_path: Path) -> None:
    fails("speak", text, "-o", tmp_path / "x.wav", says=says)
    assert os.listdir(tmp_path) == []


def test_a_word_that_is_too_long_when_written_out(tiny_voice_file: Path, tmp_path: Path) -> None:
    fails("speak", "9" * 40, "-o", tmp_path / "x.wav", "--config", tiny_voice_file, says="12 at most")
    assert os.listdir(tmp_path) == []


def test_an_unknown_voice(tiny_voice_file: Path, tmp_path: Path) -> None:
    arguments = ("speak", "hi", "--voice", "eve", "-o", tmp_path / "x.wav", "--config", tiny_voice_file)
    fails(*arguments, says="there are: ann, bob")
    assert os.listdir(tmp_path) == []


def test_a_key_with_a_typo(tiny_voice_file: Path, tmp_path: Path) -> None:
    file = edited(tiny_voice_file, "max_batch", "max_bach", tmp_path / "typo.yaml")
    fails("speak", "hi", "-o", tmp_path / "x.wav", "--config", file, says="did you mean `max_batch`?")
    fails("serve", file, says="engine.max_bach")


def test_a_missing_model_folder(tiny_voice_file: Path, tiny_voice: object, tmp_path: Path) -> None:
    path = tiny_voice.model.path  # type: ignore[attr-defined]
    file = edited(tiny_voice_file, path, "/nowhere/at/all", tmp_path / "missing.yaml")
    fails("speak", "hi", "-o", tmp_path / "x.wav", "--config", file, says="/nowhere/at/all")
    fails("serve", file, says="/nowhere/at/all")


def test_a_gpu_that_is_not_there(tiny_voice_file: Path, tmp_path: Path) -> None:
    file = edited(tiny_voice_file, "device: cpu", "device: cuda:7", tmp_path / "gpu.yaml")
    fails("speak", "hi", "-o", tmp_path / "x.wav", "--config", file, says="cuda:7")


@pytest.mark.parametrize(("out", "says"), [("no/such/folder/x.wav", "folder does not exist"), (".", "is a folder")])
def test_an_output_that_cannot_be_written(out: str, says: str, tiny_voice_file: Path, tmp_path: Path) -> None:
    fails("speak", "hi", "-o", tmp_path / out, "--config", tiny_voice_file, says=says)


def test_nobody_serves(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/none"
    fails("speak", "hi", "-o", tmp_path / "x.wav", "--connect", address, says=f"no server at {address}")


def test_tcp_is_refused(tiny_voice_file: Path) -> None:
    fails("serve", tiny_voice_file, "--address", "tcp://127.0.0.1:5555", says="not be encrypted")


def test_serve_speak_and_a_second_server(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/socket"
    command = [*MAXPIPE, "serve", str(TRIVIAL), "--no-http", "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert b"loading trivial" in server.stdout.readline()
            assert f"serving trivial at {address}".encode() in server.stdout.readline()
            fails("serve", TRIVIAL, "--no-http", "--address", address, says="in use by another server")
            out = tmp_path / "served.wav"
            assert run("speak", "hello there", "-o", out, "--connect", address).returncode == 0
            assert out.exists()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
    assert not (tmp_path / "socket").exists()


def test_voices(tiny_voice_file: Path) -> None:
    assert run("voices", "--config", tiny_voice_file).stdout.split() == [b"ann", b"bob"]


def test_config(tiny_voice_file: Path) -> None:
    assert json.loads(run("config", "--schema").stdout)["$defs"]["Config"]["additionalProperties"] is False
    assert b"serves tiny" in run("config", tiny_voice_file).stdout


def test_config_knows_which_kinds_are_installed(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {name: m}\npipeline: {kind: txt}", encoding="utf-8")
    fails("config", file, says=f"{file}: pipeline.kind: no pipeline `txt` is installed; did you mean `text`?")
    file.write_text("model: {name: m}\npipeline: {kind: text}\nengine: {kind: trch}", encoding="utf-8")
    fails("config", file, says=f"{file}: engine.kind: no engine `trch` is installed; did you mean `torch`?")


def test_a_full_disk_is_said_and_a_reader_that_left_is_not() -> None:
    command = [*MAXPIPE, "config", str(TEXT_CONFIG)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"maxpipe config: [Errno 28] No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_bench_writes_plain_names(tiny_voice_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "queue.json"
    done = run("bench", "queue", "--requests", "5", "--concurrent", "20", "--json", out)
    assert (done.returncode, done.stderr) == (0, b"")  # a bar is for a terminal
    assert {"idle.p50_ms", "idle.bare_p50_ms", "serial.p50_ms", "chunks_per_s"} <= set(json.loads(out.read_text()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("speak", "hi", "-o", "hello.mp3"), "ends in .wav"),
        (("speak", "hi", "-o", ""), "is empty"),
        (("speak", "hi", "-o", "x.wav", "--connect", ""), "address"),
        (("bench", "queue", "--json", "no/such/folder.json"), "folder does not exist"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_done(arguments: tuple[str, ...], says: str) -> None:
    fails(*arguments, says=says)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_file_behind(number: signal.Signals, tmp_path: Path) -> None:
    out, temporary = tmp_path / "out", tmp_path / "t"
    for folder in (out, temporary):
        folder.mkdir()
    command = [*MAXPIPE, "speak", "hello there. " * 9_000, "-o", str(out / "x.wav"), "--config", str(TRIVIAL)]
    environment = {**os.environ, "TMPDIR": str(temporary)}

    def heed() -> None:
        """Whoever runs the tests may ignore it, as below nohup, and what is started would, too."""
        signal.signal(number, signal.SIG_DFL)

    with subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.PIPE, preexec_fn=heed
    ) as speaking:
        while not os.listdir(out):  # until it speaks
            assert speaking.poll() is None
        os.killpg(speaking.pid, number)
        assert speaking.stderr is not None
        said = speaking.stderr.read().decode()  # until the last process that holds it has ended
        assert speaking.wait(timeout=60) == 128 + number, said
    assert "Traceback" not in said
    assert os.listdir(out) == os.listdir(temporary) == []


def test_a_signal_is_heeded_where_python_ignores_exceptions() -> None:
    program = """
import asyncio, os, signal, sys
from max_pipelines.cli.running import run

class Gone:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

async def work():
    Gone()
    await asyncio.Event().wait()

run(work())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGTERM, b"", b"")


def test_after_its_work_a_command_has_its_handlers_again() -> None:
    program = """
import signal
from max_pipelines.cli.running import run

async def work():
    pass

def heed(number, frame):
    pass

signal.signal(signal.SIGTERM, heed)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
run(work())
print(signal.getsignal(signal.SIGTERM) is heed, signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == (b"True True\n", b"")


def test_a_worker_of_another_model_is_sent_away(tmp_path: Path) -> None:
    other = edited(TRIVIAL, "name: trivial", "name: other", tmp_path / "other.yaml")
    address = f"ipc://{tmp_path}/socket"
    with subprocess.Popen(
        [*MAXPIPE, "serve", str(TRIVIAL), "--no-http", "--address", address], stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            while b"serving" not in server.stdout.readline():
                pass
            stranger = run("worker", other, "--connect", address)
            assert stranger.returncode != 0
            assert "this server serves trivial, not other" in stranger.stderr.decode()
            assert run("speak", "hi", "-o", tmp_path / "x.wav", "--connect", address).returncode == 0
        finally:
            server.send_signal(signal.SIGTERM)
