"""Voices that are added: what a recording must be, what becomes of it, and that nothing else is touched."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from max_codecs.sound.loudness import TARGET_LUFS, loudness
from max_interfaces import ConfigError
from max_pipelines.cli import main
from max_pipelines.config import CodecConfig, Config, VoicesConfig
from max_pipelines.encoders import build_encoder
from max_pipelines.media.access import NOTHING, Access
from max_pipelines.voices.adding import add_voice
from max_pipelines.voices.file import MAX_BYTES, MAX_TRANSCRIPT, About, StoredVoice, read_voice
from max_pipelines.voices.folder import MAX_VOICES, VoiceFolder, default_folder, folder_of
from max_pipelines.voices.sample import MARGIN_S, WINDOW_S, clean_sample, trimmed
from tests.tiny_voice import make_tiny_voice

RATE = 8000
Samples = NDArray[np.float32]
MARK = "0123456789abcdef" * 2


def speech(seconds: float, rate: int = RATE, loud: float = 0.2) -> Samples:
    """Something like a voice: a buzz that swells and falls."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 9))
    return (loud * buzz * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> Samples:
    return (1e-5 * np.random.default_rng(0).standard_normal(round(seconds * rate))).astype(np.float32)


def wav(samples: NDArray[np.floating], rate: int = RATE, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form)
    return file.getvalue()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_tiny_voice(tmp_path_factory.mktemp("cloner"), cloning=True)


@pytest.fixture
def fresh(config: Config, tmp_path: Path) -> Config:
    """With a voices folder of its own, which is not there yet."""
    return with_folder(config, tmp_path / "data" / "voices")


def with_folder(config: Config, folder: Path) -> Config:
    assert config.speech is not None
    voices = msgspec.structs.replace(config.speech.voices, folder=str(folder))
    return msgspec.structs.replace(config, speech=msgspec.structs.replace(config.speech, voices=voices))


def add(config: Config, name: str, sample: bytes | None = None, words: str = "a cat sat") -> Path:
    return add_voice(config, name, wav(speech(0.5)) if sample is None else sample, words, NOTHING)


def all_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# -- what becomes of a recording -------------------------------------------------------------------------------------


def test_a_voice_is_ids_in_safetensors_and_json(fresh: Config) -> None:
    path = add(fresh, "Anna-2", words="A  cat\nsat. ")
    assert path == Path(fresh.speech.voices.folder) / "Anna-2.safetensors"  # type: ignore[union-attr, arg-type]
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["maxpipe_voice"])
        tokens = file.get_tensor("speech_tokens")
    encoder, form = build_encoder(fresh), fresh.speech.spoken  # type: ignore[union-attr]
    samples = clean_sample(wav(speech(0.5)), RATE, fresh.speech.voices, TARGET_LUFS, NOTHING)  # type: ignore[union-attr]
    np.testing.assert_array_equal(tokens, form.layout.ids(encoder.encode(samples)))
    assert len(np.unique(tokens)) > 50
    assert about["transcript"] == "A cat sat."
    assert about["fingerprint"] == folder_of(fresh).fingerprint
    assert about["seconds"] == pytest.approx(0.5, abs=0.02)
    assert set(about) == {"transcript", "fingerprint", "created", "seconds", "version", "consent"}
    voice = folder_of(fresh).find("Anna-2")
    assert voice is not None
    np.testing.assert_array_equal(voice.tokens, tokens)
    assert os.stat(path).st_mode & 0o077 == 0  # a voice is its owner's


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_any_rate_and_channels_are_the_same_sound(rate: int, channels: int, form: str) -> None:
    sound = speech(0.5, rate)
    given = np.stack([1.5 * sound, 0.5 * sound], 1) if channels == 2 else sound
    clean = clean_sample(wav(given, rate, form), RATE, VoicesConfig(min_sample_s=0.2), TARGET_LUFS, NOTHING)
    direct = clean_sample((speech(0.5), RATE), RATE, VoicesConfig(min_sample_s=0.2), TARGET_LUFS, NOTHING)
    shared = min(len(clean), len(direct))
    assert abs(len(clean) - len(direct)) < 50
    assert np.corrcoef(clean[:shared], direct[:shared])[0, 1] > 0.98


@pytest.mark.parametrize("loud", [0.003, 0.05, 0.3])
def test_it_becomes_as_loud_as_voices_are(loud: float) -> None:
    clean = clean_sample((speech(2, loud=loud), RATE), RATE, VoicesConfig(), TARGET_LUFS, NOTHING)
    assert loudness(clean, RATE) == pytest.approx(TARGET_LUFS, abs=0.7)
    assert abs(clean).max() <= 1


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 0.7), st.floats(0.1, 0.6), st.floats(0, 0.7))
def test_silence_around_it_is_cut_and_nothing_else(before: float, spoken: float, after: float) -> None:
    whole = np.concatenate([silence(before), speech(spoken), silence(after)])
    kept = trimmed(whole, RATE)
    slack = round((MARGIN_S + 2 * WINDOW_S) * RATE)
    assert round(spoken * RATE) - slack <= len(kept) <= round(spoken * RATE) + 2 * slack
    assert np.square(kept).sum() > 0.995 * np.square(whole).sum()


def test_a_pause_within_it_stays() -> None:
    whole = np.concatenate([speech(0.4), silence(0.5), speech(0.4)])
    assert len(trimmed(whole, RATE)) >= len(whole) - round(0.1 * RATE)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (lambda: wav(np.zeros(RATE)), "sample: is silent"),
        (lambda: wav(silence(2)), "sample: is silent"),
        (lambda: wav(np.full(RATE, 1e-4)), "sample: is silent"),
        (
            lambda: wav(np.concatenate([silence(3), speech(0.05), silence(3)])),
            r"has 0\.\d\d s of sound.*at least 0\.2 s",
        ),
        (lambda: wav(speech(31)), r"has 31\.\d\d s of sound; cut it, with its transcript, to 30 s"),
        (lambda: b"", "sample: is empty"),
        (lambda: b"I am no sound, but a text. " * 99, "sample: "),
        (lambda: wav(speech(1))[:30], "sample: "),
        (lambda: wav(np.zeros(0)), "sample: holds no samples"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused(
    fresh: Config, tmp_path: Path, sample: Callable[[], bytes], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        add(fresh, "ann2", sample())
    assert not all_files(tmp_path)


@pytest.mark.parametrize("words", ["", "  \n ", "?!", "🙂🙂", "…—"])
def test_a_transcript_without_words_is_refused(fresh: Config, tmp_path: Path, words: str) -> None:
    with pytest.raises(ValueError, match=r"transcript .*: has nothing that can be spoken"):
        add(fresh, "x", words=words)
    with pytest.raises(ValueError, match="at most 1000 are taken"):
        add(fresh, "x", words="a" * (MAX_TRANSCRIPT + 1))
    assert not all_files(tmp_path)


def test_a_name_that_is_taken_is_refused(fresh: Config) -> None:
    path = add(fresh, "cat")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'cat': there is such a voice; `maxpipe voices remove cat` first"):
        add(fresh, "cat", wav(speech(0.7)))
    with pytest.raises(ValueError, match="'ann': is one of the model's own"):
        add(fresh, "ann")
    assert path.read_bytes() == before
    assert all_files(path.parent) == {path}


NAMES = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["", ".", "..", "../x", "a/b", "/etc/x", "a\\b", "a\0b", "~", "CON.", "a.b", "-x", "ä", "x\n", " x", "x" * 65]
    ),
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z"),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Either it is refused, or one file is written into the folder, found by the same name, and removed again."""
    beside = tmp_path / "beside.safetensors"
    beside.write_bytes(b"mine")
    folder = VoiceFolder(tmp_path / "voices", MARK)
    voice = StoredVoice(np.arange(7), About("a", MARK, "2026-01-01", 1.0))
    try:
        path = folder.add(name, voice)
    except ValueError as problem:
        assert "must be 1 to 64 letters, digits" in str(problem)  # noqa: PT017
        assert folder.find(name) is None
        with pytest.raises(ValueError, match="must be 1 to 64"):
            folder.remove(name)
        assert all_files(tmp_path) == {beside}
        return
    assert path.parent == folder.path
    assert all_files(tmp_path) == {beside, path}
    assert folder.all == (name,) == folder.names
    assert folder.find(name) is not None
    folder.remove(name)
    assert all_files(tmp_path) == {beside}


def test_a_name_that_differs_in_case_alone_is_the_models_own(fresh: Config) -> None:
    with pytest.raises(ValueError, match="'ANN': is one of the model's own"):
        add(fresh, "ANN")


def test_a_transcript_is_as_long_as_it_is_read(fresh: Config) -> None:
    with pytest.raises(ValueError, match="transcript: has 15 words when written out; this model takes 12 at most"):
        add(fresh, "x", words="a 9 " * 7 + "b")
    with pytest.raises(ValueError, match="and 1403 when written out; at most 1000 are taken"):
        add(fresh, "x", words="7" * 234)


def test_a_sample_is_no_longer_than_the_model_was_trained_for(fresh: Config) -> None:
    assert fresh.speech is not None
    form = fresh.speech.spoken
    assert form.layout.prompt.reference is not None
    reference = msgspec.structs.replace(form.layout.prompt.reference, max_frames=12)
    prompt = msgspec.structs.replace(form.layout.prompt, reference=reference)
    layout = msgspec.structs.replace(form.layout, prompt=prompt)
    speech_ = msgspec.structs.replace(fresh.speech, format=msgspec.structs.replace(form, layout=layout))
    bounded = msgspec.structs.replace(fresh, speech=speech_)
    assert len(build_encoder(bounded).encode(speech(1.0))) > 12
    with pytest.raises(ValueError, match=r"sample: has 1\.\d s of sound; this model goes on from 0\.\d s at most"):
        add(bounded, "x", wav(speech(1.0)))
    assert not all_files(Path(str(fresh.speech.voices.folder)))


def test_a_constant_is_silence(fresh: Config) -> None:
    with pytest.raises(ValueError, match="sample: is silent"):
        add(fresh, "x", wav(np.full(RATE, 0.5, np.float32)))


def test_a_model_that_takes_no_samples_says_so(tiny_voice: Config, fresh: Config) -> None:
    with pytest.raises(ConfigError, match="model tiny: has no format for a reference voice: it can take no samples"):
        add(tiny_voice, "x")
    with pytest.raises(ConfigError, match=r"codec\.kind tones: no encoder is installed for it"):
        add(msgspec.structs.replace(fresh, codec=CodecConfig(kind="tones")), "x")


# -- the folder ------------------------------------------------------------------------------------------------------


def stored(mark: str = MARK, tokens: NDArray[np.int64] | None = None) -> StoredVoice:
    return StoredVoice(np.arange(7) if tokens is None else tokens, About("a cat", mark, "2026-01-01T00:00:00", 1.0))


def test_voices_of_another_codec_are_told_apart(tmp_path: Path) -> None:
    mine, other = VoiceFolder(tmp_path, MARK), VoiceFolder(tmp_path, MARK[::-1])
    mine.add("a", stored())
    other.add("b", stored(MARK[::-1]))
    assert (mine.names, other.names, mine.all) == (("a",), ("b",), ("a", "b"))
    with pytest.raises(
        ValueError, match="voice = 'b': its sample was encoded for another codec or layout; add it again"
    ):
        mine.find("b")
    mine.remove("b")
    with pytest.raises(ValueError, match="'b': no such voice was added; there are: a"):
        mine.remove("b")


def test_other_weights_or_ids_are_another_codec(fresh: Config, tmp_path: Path) -> None:
    first = folder_of(fresh).fingerprint
    assert folder_of(with_folder(fresh, tmp_path / "elsewhere")).fingerprint == first
    encoder = Path(fresh.codec.path) / "encoder.safetensors"
    encoder.write_bytes(b"another encoder")
    assert folder_of(fresh).fingerprint == first
    encoder.unlink()
    assert fresh.speech is not None
    form = fresh.speech.spoken
    moved = msgspec.structs.replace(form, layout=msgspec.structs.replace(form.layout, audio_base=65))
    speech_ = msgspec.structs.replace(fresh.speech, format=moved)
    assert folder_of(msgspec.structs.replace(fresh, speech=speech_)).fingerprint != first
    weights = Path(fresh.codec.path) / "model.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + b"\1")
        assert folder_of(fresh).fingerprint != first
    finally:
        weights.write_bytes(before)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no voice file"),
        (b"\xff" * 64, "is no voice file"),
        (b"x" * (MAX_BYTES + 1), "more than 1048576 bytes"),
        (save({"speech_tokens": np.arange(3)}), "is no voice file"),
        (save({"speech_tokens": np.arange(3)}, {"maxpipe_voice": "{}"}), "missing required field"),
        (
            save({"other": np.arange(3)}, {"maxpipe_voice": msgspec.json.encode(stored().about).decode()}),
            "speech_tokens",
        ),
        (stored(tokens=np.arange(3, dtype=np.int32)).to_bytes(), "must be int64"),
        (stored(tokens=np.zeros(0, np.int64)).to_bytes(), "must be int64, 1 to 65536"),
        (stored(tokens=np.array([-1])).to_bytes(), "must be 0 to"),
        (stored().to_bytes()[:-4], "is no voice file"),
    ],
)
def test_a_file_that_is_no_voice_is_named_and_not_listed(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"bad\.safetensors: .*{says}"):
        read_voice(file)
    folder = VoiceFolder(tmp_path, MARK)
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        folder.find("bad")


def test_what_is_no_voice_file_is_passed_over(tmp_path: Path) -> None:
    folder = VoiceFolder(tmp_path, MARK)
    folder.add("good", stored())
    (tmp_path / "notes.txt").write_text("hi", encoding="utf-8")
    (tmp_path / "b d.safetensors").write_bytes(stored().to_bytes())
    (tmp_path / ".x.partial").write_bytes(b"half")
    (tmp_path / "torn.safetensors").write_bytes(b"half")
    (tmp_path / "folder.safetensors").mkdir()
    assert folder.names == ("good",)
    assert VoiceFolder(tmp_path / "nowhere", MARK).names == ()


def test_no_more_voices_than_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_VOICES == 1024
    monkeypatch.setattr("max_pipelines.voices.folder.MAX_VOICES", 2)
    folder = VoiceFolder(tmp_path, MARK)
    folder.add("a", stored())
    folder.add("b", stored())
    with pytest.raises(ValueError, match="holds 2 voices already; remove one first"):
        folder.add("c", stored())


def test_where_voices_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "maxpipe" / "voices"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local/share/maxpipe/voices"


def test_without_a_folder_there_are_no_voices() -> None:
    nowhere = VoiceFolder(None, MARK)
    assert (nowhere.names, nowhere.all, nowhere.find("x")) == ((), (), None)
    with pytest.raises(ConfigError, match="no home folder; name a folder for voices"):
        nowhere.add("x", stored())


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_adds_lists_and_removes(fresh: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, sample = tmp_path / "tiny.yaml", tmp_path / "sample.wav"
    file.write_bytes(msgspec.yaml.encode(fresh))
    sample.write_bytes(wav(speech(0.5)))
    where = ["--config", str(file)]
    assert main(["voices", "add", "cat", str(sample), "a cat sat", *where]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'data/voices/cat.safetensors'}\n"
    for listing in (["voices", *where], ["voices", "list", *where], ["voices", *where, "list"]):
        assert main(listing) == 0
        assert capsys.readouterr().out.split() == ["ann", "bob", "cat"]
    folder_of(fresh).add("dog", stored())
    assert main(["voices", *where]) == 0
    assert capsys.readouterr() == ("ann\nbob\ncat\n", "maxpipe voices: of another model's codec, or unreadable: dog\n")
    assert main(["voices", "remove", "cat", *where]) == 0
    assert main(["voices", "remove", "cat", *where]) == 2
    assert "no such voice was added" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("../cat", "{sample}", "a cat"), 2, "voice name '../cat': must be 1 to 64"),
        (("cat", "{sample}", " "), 2, "has nothing that can be spoken"),
        (("cat", "/nowhere.wav", "a cat"), 2, "sample: "),
        (("cat", "{folder}", "a cat"), 2, "sample: "),
        (("cat", "{sample}", "a cat"), 2, "sample: is silent"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    fresh: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, says: str
) -> None:
    file, sample = tmp_path / "tiny.yaml", tmp_path / "sample.wav"
    file.write_bytes(msgspec.yaml.encode(fresh))
    sample.write_bytes(wav(np.zeros(RATE)))
    filled = [argument.format(sample=sample, folder=tmp_path) for argument in arguments]
    assert main(["voices", "add", *filled, "--config", str(file)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert all_files(tmp_path) == {file, sample}


def test_a_sample_is_read_by_its_path_only_where_that_is_allowed(fresh: Config, tmp_path: Path) -> None:
    sample = tmp_path / "sample.wav"
    sample.write_bytes(wav(speech(0.5)))
    with pytest.raises(ValueError, match="sample: files are not read by their names here"):
        add_voice(fresh, "x", sample, "a cat", NOTHING)
    assert add_voice(fresh, "x", sample, "a cat", Access(paths=True)).exists()


def test_a_sample_is_softer_where_the_models_voices_are_raised(fresh: Config) -> None:
    """An added voice is raised by what the default voice is, so its sample is as soft as that voice is."""
    assert fresh.speech is not None
    form = fresh.speech.spoken
    own = tuple(msgspec.structs.replace(voice, gain_db=6.0) for voice in form.layout.prompt.voices)
    prompt = msgspec.structs.replace(form.layout.prompt, voices=own)
    assert (prompt.gain_db("bob"), prompt.gain_db("cat"), prompt.gain_db(None)) == (6.0, 6.0, 6.0)
    louder = msgspec.structs.replace(form, layout=msgspec.structs.replace(form.layout, prompt=prompt))
    raised = msgspec.structs.replace(fresh, speech=msgspec.structs.replace(fresh.speech, format=louder))
    add(raised, "cat")
    voice = folder_of(raised).find("cat")
    limits = fresh.speech.voices
    samples = clean_sample(wav(speech(0.5)), RATE, limits, TARGET_LUFS - 6.0, NOTHING)
    assert voice is not None
    np.testing.assert_array_equal(voice.tokens, form.layout.ids(build_encoder(fresh).encode(samples)))
