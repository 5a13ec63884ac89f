"""How near word timestamps are to the teacher's own times: its sound, encoded; its phones, aligned with the codes.

    python benchmarks/word_times.py [--work voices/work] [--count 100] [--json FILE]

Without `--work`, a training's folder, it is the embedded voice that is measured. The sentences are the 100 that were
written before any training; the teacher is Debian's flite (`apt-get install flite libflite1`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from max_codecs.snac.codebooks import Codebooks
from max_codecs.snac.config import AlignerConfig, SnacConfig, StackConfig
from max_codecs.snac.phone_head import SnacPhones
from max_codecs.snac.weights import folded, part
from max_codecs.spoken_words import SpokenWords
from max_voices import FOLDER
from max_voices.recipe import autoencoder as trained
from max_voices.recipe.corpus import everyday_sentences
from max_voices.recipe.data import trimmed
from max_voices.recipe.flite import PAUSE, SAMPLE_RATE, SPEAKERS, Phone, Teacher
from max_voices.recipe.layout import (
    CODES,
    EOS,
    FIRST_PHONE,
    FRAME,
    PHONES,
    SOC,
    SOS,
    TOKENS,
    clauses,
    frames_of,
    interleave,
    speech_layout,
)
from max_voices.text import spell

LAYOUT = speech_layout()
STEP_S = trained.LATENT_HOP / SAMPLE_RATE
Spans = NDArray[np.float64]  # [words, 2], seconds


def listener(work: Path | None) -> trained.Autoencoder:
    """Encoder, quantizer and head of a training, or of the embedded voice."""
    model = trained.Autoencoder().eval()
    if work is not None:
        model.load_state_dict(load_file(work / "autoencoder.safetensors"))
        return model
    model.encoder.load_state_dict(load_file(FOLDER / "codec" / "encoder.safetensors"))
    model.phones.load_state_dict(load_file(FOLDER / "codec" / "aligner.safetensors"))
    model.quantizer.load_state_dict(part(load_file(FOLDER / "codec" / "model.safetensors"), "quantizer."))
    return model


def head_of(model: trained.Autoencoder) -> SnacPhones:
    """The head as it is served."""
    stack = StackConfig(trained.ALIGNER_WIDTH, trained.ALIGNER_DEPTH)
    config = SnacConfig(
        latent_dim=trained.LATENT,
        codebook_size=CODES,
        codebook_dim=trained.CODE_DIM,
        vq_strides=trained.STRIDES,
        aligner=(aligner := AlignerConfig(stack, FIRST_PHONE, len(PHONES), TOKENS["@" + PAUSE])),
    )
    codebooks = Codebooks(folded(model.quantizer.state_dict()), config, LAYOUT.slots)
    return SnacPhones(aligner, model.phones.state_dict(), codebooks, trained.LATENT, config.latents_per_frame)


def told(model: trained.Autoencoder, head: SnacPhones, text: str, teacher: Teacher) -> tuple[Spans, Spans] | None:
    """The teacher's times of words, and those found in its codes; None where it reads the words differently."""
    said = teacher.speak(text)
    sound, lead = trimmed(said)
    truth = spans_of(said.phones, lead)
    if len(truth) != len(text.split()):
        return None
    levels = trained.encode(model, torch.from_numpy(sound.astype(np.float32) / 32768)[None])
    audio = interleave([level.numpy() for level in levels])
    spoken, tokens = clauses(text, said.phones, lead), list[int]()
    begin, width = 0, LAYOUT.codes_per_frame
    for clause, count in zip(spoken, frames_of(spoken, len(sound) // FRAME), strict=True):
        tokens += [TOKENS["@" + phone] for phone in clause.phones]
        tokens += [SOS, *audio[begin * width : (begin + count) * width].tolist(), SOC]
        begin += count
    words = SpokenWords(LAYOUT, head, np.zeros((0, width), np.int64))
    found = words.push([*tokens[:-1], EOS]) + words.finish()
    return truth, np.array([(word.start, word.end) for word in found], np.float64) * STEP_S


def spans_of(phones: tuple[Phone, ...], lead: float) -> Spans:
    """When each word begins and ends."""
    spans = dict[int, tuple[float, float]]()
    before = 0.0
    for phone in phones:
        if phone.word >= 0:
            spans[phone.word] = spans.get(phone.word, (before - lead, 0.0))[0], phone.end - lead
        before = phone.end
    return np.array(list(spans.values()))


@dataclass
class Errors:
    """Of one speaker, in milliseconds; `skipped` texts it reads as other words."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    skipped: int = 0

    def add(self, truth: Spans, found: Spans) -> None:
        """Those of one text."""
        errors = 1000 * np.abs(truth - found)
        self.starts += errors[:, 0].tolist()
        self.ends += errors[:, 1].tolist()

    def row(self, speaker: str) -> dict[str, str | float]:
        """The figures."""
        start, end, both = (np.array(errors) for errors in (self.starts, self.ends, self.starts + self.ends))
        return {
            "speaker": speaker,
            "words": len(self.starts),
            "skipped texts": self.skipped,
            "start median": round(float(np.median(start)), 1),
            "start p95": round(float(np.quantile(start, 0.95)), 1),
            "end median": round(float(np.median(end)), 1),
            "end p95": round(float(np.quantile(end, 0.95)), 1),
            "median": round(float(np.median(both)), 1),
            "largest": round(float(both.max()), 1),
        }


def measured(model: trained.Autoencoder, speaker: str, texts: list[str]) -> Errors:
    """The errors of a speaker."""
    head, teacher, errors = head_of(model), Teacher(speaker), Errors()
    for text in texts:
        times = told(model, head, text, teacher)
        if times is None:
            errors.skipped += 1
        else:
            errors.add(*times)
    return errors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="a training's folder, with autoencoder.safetensors")
    parser.add_argument("--speakers", nargs="+", default=SPEAKERS, choices=SPEAKERS)
    parser.add_argument("--count", type=int, default=100, help="how many of the sentences")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, texts = listener(options.work), [spell(text) for text in everyday_sentences()][: options.count]
    rows = [measured(model, speaker, texts).row(speaker) for speaker in options.speakers]
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
