"""``python -m max_voices.recipe.evaluate``: how well the voice is understood, and how fast it speaks.

The 100 sentences were written before any training and are never filtered. The judge hears the teacher, the codec alone
(the teacher's sound through codes and back) and the voice with three seeds.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from max_voices.embedded import FOLDER
from max_voices.recipe.autoencoder import Autoencoder, encode
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.data import WORK, trimmed
from max_voices.recipe.flite import SAMPLE_RATE, Teacher
from max_voices.recipe.generate import Speaker
from max_voices.recipe.judge import Hearing, Judge, word_error_rate
from max_voices.recipe.layout import interleave
from max_voices.recipe.tools import restore
from max_voices.text import spell

Sound = npt.NDArray[np.float32]
_RUNAWAY, _CUT = 1.6, 0.6  # times the teacher's own duration
_AUDIBLE = 0.01  # of full scale


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the sentences."""

    name: str
    wer: float
    runaway: int = 0
    empty: int = 0
    cut: int = 0


def audible(sound: Sound) -> bool:
    return bool((np.abs(sound) > _AUDIBLE).sum() > SAMPLE_RATE // 50)


def teacher_sounds(texts: Sequence[str]) -> list[Sound]:
    teacher = Teacher("slt")
    return [trimmed(teacher.speak(text))[0].astype(np.float32) / np.float32(32768) for text in texts]


def judged(name: str, judge: Judge, texts: Sequence[str], sounds: Sequence[Sound]) -> tuple[Round, list[Hearing]]:
    hearings = [judge.hear(text, sound) for text, sound in zip(tqdm(texts, desc=name), sounds, strict=True)]
    return Round(name, word_error_rate(hearings)), hearings


def through_codec(work: Path, speaker: Speaker, sounds: Sequence[Sound]) -> list[Sound]:
    """The teacher's sounds through codes and back: what the codec alone costs."""
    autoencoder = Autoencoder().eval()
    restore(autoencoder, work / "autoencoder.safetensors")
    codes = (encode(autoencoder, torch.from_numpy(sound)[None]) for sound in sounds)
    return [speaker.sound(interleave([level.numpy() for level in levels])) for levels in codes]


def spoken(
    seed: int,
    judge: Judge,
    speaker: Speaker,
    texts: Sequence[str],
    teacher: Sequence[Sound],
    heat: float | None,
    share: float | None,
) -> tuple[Round, list[Hearing]]:
    """The voice itself. A runaway has no end or is too long; a cut one ends far too early; an empty one is silent."""
    written = speaker.write(texts, seed, temperature=heat, top_p=share)
    sounds = [speaker.sound(one.audio_ids) for one in written]
    ratio = [len(sound) / len(other) for sound, other in zip(sounds, teacher, strict=True)]
    result, hearings = judged(f"voice, seed {seed}", judge, texts, sounds)
    return Round(
        result.name,
        result.wer,
        sum(not one.ended or r > _RUNAWAY for one, r in zip(written, ratio, strict=True)),
        sum(not audible(sound) for sound in sounds),
        sum(r < _CUT for r in ratio),
    ), hearings


def speed(speaker: Speaker, text: str) -> dict[str, float]:
    """One stream on one core, plain loop: tokens a second and real-time factor, decoder included."""
    torch.set_num_threads(1)
    speaker.write(["hello."], 1)
    started = time.process_time()
    written = speaker.write([text], 1)[0]
    wrote = time.process_time()
    sound = speaker.sound(written.audio_ids)
    ended = time.process_time()
    seconds = len(sound) / SAMPLE_RATE
    return {
        "tokens_per_s": len(written.tokens) / (wrote - started),
        "rtf": (ended - started) / seconds,
        "decoder_times_real_time": seconds / (ended - wrote),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the voice to judge")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--sentences", type=int, default=100, help="the first so many")
    parser.add_argument("--every", type=int, default=1, help="every n-th sentence, for a quick look")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--only", choices=("teacher", "codec", "voice"), help="leave the rest out")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--show", action="store_true", help="print what was heard")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = [spell(text) for text in everyday_sentences()[: options.sentences : options.every]]
    judge, teacher, speaker = Judge(), teacher_sounds(texts), Speaker(options.folder)
    rounds, heard = list[Round](), list[Hearing]()

    def add(result: tuple[Round, list[Hearing]]) -> None:
        rounds.append(result[0])
        heard.extend(result[1])

    if options.only in (None, "teacher"):
        add(judged("teacher", judge, texts, teacher))
    if options.only in (None, "codec") and (options.work / "autoencoder.safetensors").exists():
        add(judged("codec alone", judge, texts, through_codec(options.work, speaker, teacher)))
    if options.only in (None, "voice"):
        for seed in options.seeds:
            add(spoken(seed, judge, speaker, texts, teacher, options.temperature, options.top_p))
    for one in rounds:
        print(f"{one.name:16} WER {one.wer:.3f}  runaway {one.runaway} empty {one.empty} cut {one.cut}")
    voices = [one.wer for one in rounds if one.name.startswith("voice")]
    figures = speed(speaker, texts[len(texts) // 2])
    if voices:
        print(f"{'voice, mean':16} WER {np.mean(voices):.3f}")
    print("  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    if options.show:
        for hearing in heard:
            print(f"{hearing.errors:2} {hearing.said}\n   {hearing.heard}", file=sys.stderr)
    if options.json:
        rows = {
            one.name: {"wer": one.wer, "runaway": one.runaway, "empty": one.empty, "cut": one.cut} for one in rounds
        }
        mean = {"voice_wer": float(np.mean(voices))} if voices else {}
        options.json.write_text(
            json.dumps({"rounds": rows, **mean, **figures, "sentences": len(texts)}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
