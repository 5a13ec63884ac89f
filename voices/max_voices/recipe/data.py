"""``python -m max_voices.recipe.data``: the teacher reads thousands of texts aloud.

Each shard is a pair: ``speaker_00.npy`` int16 samples, utterances one after the other, each padded to
whole frames, and ``speaker_00.jsonl`` with text, phones, times and place of each.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from max_voices.recipe.corpus import texts
from max_voices.recipe.flite import PAUSE, SAMPLE_RATE, SPEAKERS, Teacher, Utterance
from max_voices.recipe.layout import FRAME, Clause, clauses, frames_of

WORK = Path("voices/work")  # not in git; every command takes --work
_LEAD, _TAIL = 0.03, 0.10  # seconds of silence kept: flite starts with 0.16 s that would only delay the first sound
_FADE = 64  # samples

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Record:
    """One utterance in a shard: frames ``first`` to ``first + frames`` are its sound."""

    text: str
    clauses: tuple[Clause, ...]
    counts: tuple[int, ...]  # frames per clause
    first: int

    @property
    def frames(self) -> int:
        return sum(self.counts)


def trimmed(utterance: Utterance) -> tuple[Samples, float]:
    """The sound without most of its outer pauses, padded to whole frames, and the seconds cut in front."""
    phones = utterance.phones
    lead = max(0.0, phones[0].end - _LEAD) if phones[0].token == PAUSE else 0.0
    end = phones[-2].end + _TAIL if phones[-1].token == PAUSE else phones[-1].end
    sound = utterance.samples[int(lead * SAMPLE_RATE) : int(end * SAMPLE_RATE)].astype(np.float32)
    ramp = np.linspace(0, 1, _FADE, dtype=np.float32)
    sound[:_FADE] *= ramp
    sound[-_FADE:] *= ramp[::-1]
    return np.pad(sound, (0, -len(sound) % FRAME)).astype(np.int16), lead


def seed_of(speaker: str) -> int:
    """Every speaker reads texts of their own, so that more words are heard."""
    return 11 + SPEAKERS.index(speaker)


def make_shard(work: Path, speaker: str, shard: int, shards: int, count: int, seed: int) -> float:
    """Writes shard number ``shard``; returns hours of sound. Texts are dealt round robin to the shards."""
    teacher = Teacher(speaker)
    name = work / "audio" / f"{speaker}_{shard:02d}"
    sounds, lines, first = list[Samples](), list[str](), 0
    for text in itertools.islice(texts(seed), shard, count, shards):
        utterance = teacher.speak(text)
        if max(phone.word for phone in utterance.phones) + 1 != len(text.split()):
            continue  # flite split a word: the clause borders would be off
        sound, lead = trimmed(utterance)
        spoken = clauses(text, utterance.phones, lead)
        frames = len(sound) // FRAME
        try:
            counts = frames_of(spoken, frames)
        except ValueError:
            continue
        listed = [[list(c.phones), [round(e, 4) for e in c.ends]] for c in spoken]
        lines.append(json.dumps({"text": text, "clauses": listed, "counts": counts, "first": first}))
        sounds.append(sound)
        first += frames
    part = name.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, np.concatenate(sounds), allow_pickle=False)
    name.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")
    part.rename(name.with_suffix(".npy"))  # last: a shard that has its .npy is whole
    return first * FRAME / SAMPLE_RATE / 3600


def shards_of(folder: Path, speakers: Sequence[str], suffix: str) -> list[Path]:
    """The shards of these speakers that are in ``folder``, the first of each speaker first."""
    found = [path for speaker in speakers for path in folder.glob(f"{speaker}_*{suffix}")]
    return sorted(found, key=lambda path: (path.stem.rsplit("_", 1)[1], path.stem))


def load_shard(path: Path) -> tuple[list[Record], Samples]:
    """The records of the shard at ``path`` (its ``.npy``), and its samples, mapped into memory."""
    records = list[Record]()
    for line in path.with_suffix(".jsonl").read_text().splitlines():
        row = json.loads(line)
        spoken = tuple(Clause(tuple(phones), tuple(ends)) for phones, ends in row["clauses"])
        records.append(Record(row["text"], spoken, tuple(row["counts"]), row["first"]))
    samples: Samples = np.load(path, mmap_mode="r", allow_pickle=False)
    return records, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="where audio and checkpoints go")
    parser.add_argument("--speakers", nargs="+", default=SPEAKERS, choices=SPEAKERS)
    parser.add_argument("--count", type=int, default=7_000, help="texts of each; 1,000 are about one hour of sound")
    parser.add_argument("--shards", type=int, default=10, help="of each speaker")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    (options.work / "audio").mkdir(parents=True, exist_ok=True)
    wanted = [(speaker, n) for n in range(options.shards) for speaker in options.speakers]
    missing = [(speaker, n) for speaker, n in wanted if not (options.work / f"audio/{speaker}_{n:02d}.npy").exists()]
    context = get_context("spawn")  # flite keeps global state: no fork of a process that has loaded it
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        jobs = [
            pool.submit(make_shard, options.work, speaker, n, options.shards, options.count, seed_of(speaker))
            for speaker, n in missing
        ]
        hours = sum(job.result() for job in tqdm(as_completed(jobs), total=len(jobs), desc="shards"))
    print(f"{hours:.1f} hours in {options.work / 'audio'}", file=sys.stderr)


if __name__ == "__main__":
    main()
