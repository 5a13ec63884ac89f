"""``python -m max_voices.recipe.evaluate``: how well a voice is understood that nobody serves yet, and what codes cost.

The 100 sentences were written before any training and are never filtered. The judge hears the teacher, the codec alone
(the teacher's sound through codes and back) and the voice with three seeds, by the recipe's own plain loop. Whatever
can be served is measured over the whole road by ``maxpipe bench voice``.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from max_voices.embedded import FOLDER
from max_voices.hearing.faults import faults
from max_voices.hearing.spectra import RATE, Sound
from max_voices.recipe.autoencoder import Autoencoder, encode
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.data import WORK
from max_voices.recipe.generate import Speaker
from max_voices.recipe.judge import Hearing, Judge, word_error_rate
from max_voices.recipe.layout import interleave
from max_voices.recipe.reading import read_aloud
from max_voices.recipe.tools import restore
from max_voices.text import spell


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the sentences."""

    wer: float
    runaway: int
    empty: int
    cut: int


class Evaluation:
    """The sentences, as the teacher says them, and what was heard of everybody else."""

    def __init__(self, speaker: str, texts: Sequence[str]) -> None:
        self.speaker, self.texts = speaker, texts
        self.teacher = list(read_aloud(speaker, texts))
        self.judge = Judge()
        self.rounds, self.heard = dict[str, Round](), list[Hearing]()

    def hear(self, name: str, sounds: Iterable[Sound], ended: Sequence[bool] | None = None) -> None:
        """A round of all sentences, each of which came to its end by itself or did not."""
        done = ended or [True] * len(self.texts)
        hearings, found = list[Hearing](), list[tuple[bool, bool, bool]]()
        for text, sound, end, other in zip(tqdm(self.texts, name), sounds, done, self.teacher, strict=True):
            hearings.append(self.judge.hear(text, sound))
            wrong = faults(sound, end, other)
            found.append((wrong.runaway, wrong.empty, wrong.cut))
        runaway, empty, cut = (sum(column) for column in zip(*found, strict=True))
        self.rounds[name] = Round(word_error_rate(hearings), runaway, empty, cut)
        self.heard.extend(hearings)

    def through_codec(self, work: Path, voice: Speaker) -> Iterable[Sound]:
        """The teacher's sounds through codes and back: what the codec alone costs."""
        autoencoder = Autoencoder().eval()
        restore(autoencoder, work / "autoencoder.safetensors")
        for sound in self.teacher:
            levels = encode(autoencoder, torch.from_numpy(sound)[None])
            yield voice.sound(interleave([level.numpy() for level in levels]))


def speed(voice: Speaker, speaker: str, text: str) -> dict[str, float]:
    """One stream on one core, plain loop: tokens a second and real-time factor, decoder included."""
    torch.set_num_threads(1)
    voice.write(["hello."], 1, speaker)
    started = time.process_time()
    written = voice.write([text], 1, speaker)[0]
    wrote = time.process_time()
    sound = voice.sound(written.audio_ids)
    ended = time.process_time()
    seconds = len(sound) / RATE
    return {
        "tokens_per_s": len(written.tokens) / (wrote - started),
        "rtf": (ended - started) / seconds,
        "decoder_times_real_time": seconds / (ended - wrote),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the voice to judge")
    parser.add_argument("--speaker", default="slt")
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
    evaluation, voice = Evaluation(options.speaker, texts), Speaker(options.folder)
    if options.only in (None, "teacher"):
        evaluation.hear("teacher", evaluation.teacher)
    if options.only in (None, "codec") and (options.work / "autoencoder.safetensors").exists():
        evaluation.hear("codec alone", evaluation.through_codec(options.work, voice))
    voiced = [f"voice, seed {seed}" for seed in options.seeds if options.only in (None, "voice")]
    for name, seed in zip(voiced, options.seeds, strict=False):
        written = voice.write(texts, seed, options.speaker, options.temperature, options.top_p)
        evaluation.hear(name, (voice.sound(one.audio_ids) for one in written), [one.ended for one in written])
    figures = speed(voice, options.speaker, texts[len(texts) // 2])
    if voiced:
        figures["voice_wer"] = float(np.mean([evaluation.rounds[name].wer for name in voiced]))
    for name, one in evaluation.rounds.items():
        print(f"{name:16} WER {one.wer:.3f}  runaway {one.runaway} empty {one.empty} cut {one.cut}")
    print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    if options.show:
        for hearing in evaluation.heard:
            print(f"{hearing.errors:2} {hearing.said}\n   {hearing.heard}", file=sys.stderr)
    if options.json:
        rows = {name: asdict(one) for name, one in evaluation.rounds.items()}
        report = {"speaker": options.speaker, "sentences": len(texts), "rounds": rows, **figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
