"""`maxpipe bench voice`: who is heard and how, what the table says, and a page to look at and to listen to."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from max_interfaces import InvalidRequest
from max_pipelines.bench.speech import Run
from max_pipelines.bench.voice.measuring import Reading, Utterance, VoiceSounds, figures_of, listen, profiles
from max_pipelines.bench.voice.page import SHOWN, WORST, chosen, page
from max_pipelines.bench.voice.report import MEASURES, VoiceReport, table
from max_pipelines.bench.voice.speaking import Said, Spoken, VoiceBench, speak, spread
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config
from max_voices.hearing.faults import Faults
from max_voices.hearing.profile import profile
from max_voices.hearing.spectra import RATE, Sound
from max_voices.recipe.flite import FliteUnavailable, Teacher
from max_voices.recipe.judge import Hearing
from tests.pipelines.http.chromium import CHROMIUM, browsing

RUNS = (Run(0.05, 0.1, 1.0, 2.0), Run(0.07, 0.1, 1.0, 2.0), Run(0.06, 0.2, 2.0, 4.0))
FINE = Faults(runaway=False, cut=False, empty=False)


class Fluent:
    """A judge who understands everything: the true one takes its time over noise."""

    def hear(self, said: str, samples: Sound) -> Hearing:
        return Hearing(said, said)


def buzz(hertz: float, seconds: float = 0.8, lead: float = 0.1) -> Sound:
    time = np.arange(round(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * hertz * number * time) / number for number in range(1, 12))
    return np.concatenate([np.zeros(round(lead * RATE)), 0.3 * np.asarray(sound)]).astype(np.float32)


def uttered(sound: Sound, said: str = "one two", heard: str = "one two", found: Faults = FINE) -> Utterance:
    return Utterance(sound, Hearing(said, heard), found, None if found.empty else 2.0)


def voice(name: str, hertz: float, *others: Utterance, teacher: bool = True) -> VoiceSounds:
    """Two rounds of one voice; the second has what is given as well."""
    good = tuple(uttered(buzz(hertz * factor)) for factor in (0.98, 1.0, 1.02))
    sounds = tuple(one.sound for one in good)
    reading = Reading(sounds, tuple(one.hearing for one in good), profile(sounds)) if teacher else None
    return VoiceSounds(name, (good, (*good[: 3 - len(others)], *others)), reading, "" if teacher else "nobody", RUNS)


def report_of(*voices: VoiceSounds) -> VoiceReport:
    return VoiceReport("model", 3, (1, 2), tuple(figures_of(voice, profiles(voices)) for voice in voices))


def test_figures_of_two_voices() -> None:
    silence = uttered(np.zeros(RATE, np.float32), "one two", "", Faults(runaway=True, cut=False, empty=True))
    stray = uttered(buzz(240, lead=0.3), "one two", "one too", Faults(runaway=False, cut=True, empty=False))
    low, high = voice("low", 110, silence, stray), voice("high", 240)
    report = report_of(low, high)
    figures, other = report.voices
    assert figures.wer == (0.0, 0.5)  # 3 of 6 words: two of silence, one of the stray
    assert (figures.mean_wer, figures.teacher_wer, figures.above_teacher) == (0.25, 0.0, 0.25)
    assert (figures.runaway, figures.cut, figures.empty, figures.utterances) == (1, 1, 1, 6)
    assert figures.own == pytest.approx(4 / 6)  # silence is like nobody, the stray like the other
    assert other.own == 1.0
    assert figures.pitch_hz == pytest.approx(110, rel=0.03)
    assert figures.lead_ms == pytest.approx(100, abs=2)
    assert figures.lead_worst_ms == 1000  # silence to its end
    assert figures.distance_db == 2.0
    assert figures.spectrum_db is not None
    assert math.isfinite(figures.loudness_lufs)
    assert (figures.ttfa_ms, figures.audible_ms, figures.rtf) == pytest.approx((60, 100, 0.5))
    assert msgspec.json.decode(msgspec.json.encode(report), type=VoiceReport) == report


def test_a_voice_should_be_like_its_teacher_if_each_has_one() -> None:
    low, high = voice("low", 110), voice("high", 240)
    swapped = replace(low, rounds=high.rounds)
    assert report_of(swapped, high).voices[0].own == 0.0
    assert report_of(replace(low, teacher=None), replace(high, teacher=None)).voices[0].own == 1.0


def test_without_a_teacher_there_is_a_dash_and_why() -> None:
    report = report_of(voice("alone", 110, teacher=False))
    (figures,) = report.voices
    assert (figures.cut, figures.teacher_wer, figures.above_teacher, figures.spectrum_db) == (None,) * 4
    assert figures.own is None
    said = table(report)
    assert re.search(r"^  its teacher's +–$", said, re.MULTILINE)
    assert said.endswith("– no teacher for alone: nobody")
    assert len(said.splitlines()) == 3 + len(MEASURES) + 2


def test_a_voice_of_which_nothing_is_heard_is_measured_as_well() -> None:
    silence = uttered(np.zeros(RATE, np.float32), heard="", found=Faults(runaway=False, cut=False, empty=True))
    silent = VoiceSounds("silent", ((silence,), (silence,)), None, "nobody", RUNS)
    report = report_of(silent, voice("other", 110))
    assert (report.voices[0].empty, report.voices[0].wer) == (2, (1.0, 1.0))
    assert math.isnan(report.voices[0].pitch_hz)
    assert "nan" in table(report)
    assert "model" in page(report, (silent, voice("other", 110)))


def test_what_is_held_against_the_teacher() -> None:
    try:
        teacher = Teacher("slt")
    except FliteUnavailable as missing:
        pytest.skip(str(missing))
    sound = np.asarray(teacher.speak("good morning.").samples / 32768, np.float32)
    silence = Said(np.zeros(sound.size, np.float32), True)
    rounds = ((Said(sound, True),), (Said(sound, False),), (silence,), (Said(np.zeros(0, np.float32), True),))
    heard = listen(Fluent(), Spoken("slt", ("good morning.",), rounds, RUNS))
    fine, endless, silent, nothing = heard.utterances
    assert fine.faults == FINE
    assert fine.distance_db is not None
    assert fine.distance_db < 1.5  # the same without some silence
    assert (endless.faults.runaway, endless.distance_db) == (True, None)  # there is no end to align
    assert (silent.faults.empty, silent.distance_db) == (True, None)
    assert (nothing.faults.empty, nothing.faults.cut) == (True, True)
    assert figures_of(heard, profiles([heard])).runaway == 1


def test_sentences_are_spread_evenly() -> None:
    assert spread("abcdefghi", 3) == ["a", "e", "i"]
    assert spread("abc", 5) == ["a", "b", "c"]
    assert spread("abc", 1) == ["a"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sentences": 101}, "sentences = 101: there are 100"),
        ({"sentences": 0}, "ask for 1 to 100"),
        ({"seeds": (1, 1)}, "seeds = 1 1: name each once"),
        ({"seeds": ()}, "seeds = : give at least one"),
        ({"seeds": (-1,)}, "seed"),
        ({"voices": ("a", "a")}, "voices = a a: name each once"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(fields: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        VoiceBench(**fields)  # type: ignore[arg-type]


def test_the_page_shows_the_worst_and_others() -> None:
    wrong = {0: "", 3: "one", 17: "", 18: "five", 19: "one too"}
    every = [uttered(buzz(110), heard=wrong.get(number, "one two")) for number in range(20)]
    shown = chosen(every)
    assert len(shown) == len(set(shown)) == SHOWN
    assert shown == sorted(shown)
    assert {0, 17, 18} < set(shown)
    assert len(set(shown) & set(wrong)) >= WORST
    assert chosen(every[:2]) == [0, 1]


@pytest.mark.skipif(not CHROMIUM, reason="needs Debian's package chromium")
async def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Pictures are pictures; sounds play from where one clicks, one at a time."""
    voices, file = (voice("low", 110), voice("high", 240, teacher=False)), tmp_path / "page.html"
    document = page(report_of(*voices), voices)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", document)  # it needs nothing else
    file.write_text(document, "utf-8")
    async with browsing(tmp_path / "browser") as browser:
        await browser.go(file.as_uri())
        pictures = "[...document.querySelectorAll('img')]"
        assert await browser.tell(f"{pictures}.length") == 3 * 2 + 3  # three sentences, one voice with a teacher
        assert await browser.tell(f"{pictures}.every((one) => one.naturalHeight === 128)")
        await browser.tell("{ [window.first, window.second] = document.querySelectorAll('audio') }")
        await browser.until("Number.isFinite(first.duration + second.duration)")
        click = "new MouseEvent('click', {detail: 1, clientX: box.left + box.width / 2})"
        await browser.tell(
            "{ const button = document.querySelector('.play'), box = button.getBoundingClientRect();"
            f" button.dispatchEvent({click}) }}"
        )
        await browser.until("first.currentTime > 0.49 * first.duration")
        await browser.tell("{ second.play() }")
        await browser.until("second.currentTime > 0")
        assert await browser.tell("first.paused")
        assert not browser.errors


async def test_over_the_road(tiny_voice: Config) -> None:
    bob, ann = await speak(AsyncClient.embedded(tiny_voice), VoiceBench(("bob", "ann"), (5, 7), 2))
    assert (bob.voice, ann.voice) == ("bob", "ann")
    assert bob.texts == ann.texts
    assert [[len(each) for each in one.rounds] for one in (bob, ann)] == [[2, 2], [2, 2]]
    sounds = [one.sound.tobytes() for each in (*bob.rounds, *ann.rounds) for one in each]
    assert len(set(sounds)) == 8  # of each voice, seed and sentence another
    assert 0 < ann.rounds[0][0].sound.size / RATE < 10
    assert ann.runs[0].first > 0
    heard = listen(Fluent(), bob)
    assert "bob" in heard.without  # flite has nobody of that name
    report = report_of(heard)
    assert {measure.name for measure in MEASURES} <= {line[:26].rstrip() for line in table(report).splitlines()}


async def test_a_voice_that_there_is_not(tiny_voice: Config) -> None:
    with pytest.raises(InvalidRequest, match="there are: ann, bob"):
        await speak(AsyncClient.embedded(tiny_voice), VoiceBench(("eve",)))


def bench(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    program = f"import sys\n{before}\nfrom max_pipelines.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "bench", "voice", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_command_writes_a_table_a_page_and_figures(tiny_voice_file: Path, tmp_path: Path) -> None:
    out, html = tmp_path / "voice.json", tmp_path / "voice.html"
    options = ("--sentences", "2", "--seeds", "3", "--voice", "ann")
    fluent = (
        "from max_voices.recipe import judge\njudge.Judge.hear = lambda _, said, samples: judge.Hearing(said, said)"
    )
    files = ("--config", str(tiny_voice_file), "--json", str(out), "--html", str(html))
    done = bench(*options, *files, before=fluent)
    assert (done.returncode, done.stderr) == (0, "")  # a bar is for a terminal
    assert done.stdout.startswith("tiny: 2 sentences, 1 seed\n")
    (figures,) = json.loads(out.read_bytes())["voices"]
    assert (figures["voice"], figures["utterances"]) == ("ann", 2)
    assert "<!doctype html>" in html.read_text("utf-8")


def test_what_is_missing_is_said() -> None:
    absent = "import importlib.util\nimportlib.util.find_spec = lambda name, package=None: None"
    done = bench(before=absent)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'maxpipe[judge]'" in done.stderr
    assert "its folder does not exist" in bench("--html", "no/such/page.html").stderr
