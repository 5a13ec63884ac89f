"""The recipe's own rules, without training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from max_voices.recipe.corpus import LONGEST, everyday_sentences, plain
from max_voices.recipe.data import Record
from max_voices.recipe.flite import Phone
from max_voices.recipe.grammar import sentence
from max_voices.recipe.layout import (
    AUDIO,
    PHONES,
    TOKENS,
    VOCABULARY,
    WORD,
    Clause,
    clauses,
    cut,
    deinterleave,
    frames_of,
    interleave,
    prompt,
    sample,
    speech_layout,
)
from max_voices.recipe.rows import IGNORE, speech_row, speech_rows
from max_voices.text import ALPHABET, spell


def test_a_hundred_sentences_of_1_to_25_words() -> None:
    sentences = everyday_sentences()
    assert len(set(sentences)) == 100
    assert {len(plain(s).split()) <= 25 for s in sentences} == {True}
    assert min(len(plain(s).split()) for s in sentences) == 1


def test_interleaving_is_orpheus_and_reversible() -> None:
    coarse, middle, fine = np.array([1, 2]), np.array([3, 4, 5, 6]), np.arange(8)
    ids = interleave([coarse, middle, fine])
    assert list((ids - 160) % 1024) == [1, 3, 0, 1, 4, 2, 3, 2, 5, 4, 5, 6, 6, 7]
    for level, other in zip((coarse, middle, fine), deinterleave(ids), strict=True):
        assert list(level) == list(other)


def test_special_ids_are_distinct_and_below_audio() -> None:
    assert len(set(TOKENS.values())) == len(TOKENS) <= 160
    assert VOCABULARY == 160 + 7 * 1024
    assert prompt("a b")[0] == TOKENS["<soh>"]
    assert all(character in TOKENS for character in ALPHABET)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("yes, of course not.", ["yes,", "of course not."]),
        ("he has lived in the same small village", ["he has lived", "in the same small village"]),
        ("hello.", ["hello."]),
    ],
)
def test_clauses_are_cut_at_marks_and_phrases(text: str, parts: list[str]) -> None:
    words, ends = text.split(), [-1, *cut(text.split())]
    assert [" ".join(words[a + 1 : b + 1]) for a, b in pairwise(ends)] == parts


def test_phones_go_to_their_clause_and_outer_pauses_are_left_out() -> None:
    spoken = [
        Phone("pau", 0.1, -1),
        Phone("y", 0.2, 0),
        Phone("pau", 0.3, -1),
        Phone("n", 0.4, 1),
        Phone("pau", 0.5, -1),
    ]
    found = clauses("yes, no", spoken, lead=0.1)
    assert [c.phones for c in found] == [("y", "pau"), ("n",)]
    assert found[1].ends == pytest.approx((0.3,))


def test_every_clause_has_a_frame() -> None:
    two = [Clause(("y",), (0.05,)), Clause(("n",), (0.4,))]
    assert frames_of(two, 3) == [1, 2]
    with pytest.raises(ValueError, match="fewer frames"):
        frames_of(two, 1)


def test_the_grammar_writes_what_the_voice_reads() -> None:
    import random

    chance = random.Random(1)
    for _ in range(300):
        text = sentence(chance)
        assert text
        assert set(text) <= ALPHABET, text
        assert spell(text).split() == text.split(), text
    assert {"@" + phone for phone in PHONES} <= set(TOKENS)
    assert LONGEST == 30


def test_a_row_after_a_sample_learns_the_same_and_nothing_of_the_sample() -> None:
    record = Record(
        "yes, no", (Clause(("y", "eh1", "s"), (0.1, 0.15, 0.2)), Clause(("n", "ow1"), (0.3, 0.5))), (1, 3), 0
    )
    codes = [np.arange(4 << level) % 1024 for level in range(3)]
    before = sample("go on", interleave([np.zeros(2 << level, np.int64) for level in range(3)]).tolist())
    plain_row, after = speech_row(record, codes, "rms"), speech_row(record, codes, None, before)
    start = len(before)
    assert list(after.ids[:start]) == before
    assert set(after.target[:start].tolist()) == {IGNORE}
    np.testing.assert_array_equal(after.target[start:], plain_row.target)
    assert [TOKENS["<voice_rms>"], TOKENS["<voice_sample>"]] == [plain_row.ids[1], after.ids[start + 1]]
    for shown, moved in ((plain_row.low, after.low), (plain_row.high, after.high)):
        np.testing.assert_array_equal(np.where(shown < 0, shown, shown + start), moved[start:])


def test_a_sample_is_what_serving_writes_before_the_text() -> None:
    layout, audio = speech_layout(("slt",)), interleave([np.arange(2 << level) for level in range(3)])
    ids = [TOKENS[character] for character in "go on"]
    built = layout.prompt.build(ids, voice=None, reference=layout.reference(ids, audio))
    assert list(built.reference) == sample("go on", audio.tolist())
    assert list(built.ids) == sample("go on", audio.tolist()) + prompt("go on", None)


def write_shard(work: Path, speaker: str, sizes: Sequence[int]) -> list[Record]:
    """Utterances of so many frames each, whose codes tell which they are."""
    first, records = 0, list[Record]()
    for number, frames in enumerate(sizes):
        text = f"text {'abcdefgh'[number]}"
        records.append(Record(text, (Clause(("t", WORD, "eh0"), (0.1, 0.1, 0.2)),), (frames,), first))
        first += frames
    for folder in ("audio", "codes"):
        (work / folder).mkdir(exist_ok=True)
    np.save(work / "audio" / f"{speaker}_00.npy", np.zeros(first * 2048, np.int16))
    lines = [
        json.dumps({**asdict(record), "clauses": [[clause.phones, clause.ends] for clause in record.clauses]})
        for record in records
    ]
    (work / "audio" / f"{speaker}_00.jsonl").write_text("\n".join(lines))
    levels = {f"level{level}": np.arange(first << level, dtype=np.int16) % 1024 for level in range(3)}
    np.savez(work / "codes" / f"{speaker}_00.npz", **levels)  # type: ignore[arg-type]
    return records


def codes_of(record: Record) -> list[int]:
    first, last = record.first, record.first + record.frames
    return [int(token) for token in interleave([np.arange(first << n, last << n) % 1024 for n in range(3)])]


def test_rows_of_a_shard_name_the_speaker_or_hear_a_sample_of_it(tmp_path: Path) -> None:
    records = write_shard(tmp_path, "rms", (8, 9, 60))
    spoken = {record.text: record for record in records}
    kinds = set[bool]()
    for seed in range(20):
        for record, row in zip(records, speech_rows(tmp_path / "codes" / "rms_00.npz", seed), strict=True):
            ids = row.ids.tolist()
            named = ids[: len(prompt(record.text, "rms"))] == prompt(record.text, "rms")
            kinds.add(named)
            audio = [token for token in ids if token >= AUDIO]
            if named:
                assert audio == codes_of(record)
                continue
            before = next(
                turn for other in spoken.values() if ids[: len(turn := sample(other.text, codes_of(other)))] == turn
            )
            rest = ids[len(before) :]
            assert rest[: len(prompt(record.text, None))] == prompt(record.text, None)
            assert audio == [token for token in before if token >= AUDIO] + codes_of(record)
            assert (row.target[: len(before)] == IGNORE).all()
    assert kinds == {True, False}


def test_a_shard_of_long_utterances_has_no_samples(tmp_path: Path) -> None:
    write_shard(tmp_path, "rms", (60, 70))
    assert all(len(list(speech_rows(tmp_path / "codes" / "rms_00.npz", seed))) == 2 for seed in range(10))
