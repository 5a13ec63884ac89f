"""How text, phones and frames become one row of tokens, and where a clause ends.

    <soh> <voice_slt> text <eot> <soa>  phones <sos> frames <soc> phones <sos> frames … <eos>

or, to speak in the voice of a sample, with its words and its frames before that:

    <soh> words <eot> <soa> <sos> frames <eos>  <soh> <voice_sample> text <eot> <soa>  phones <sos> …

The model writes the phones of a clause, then its frames of 7 audio tokens, then the next clause's: so
the first sound need not wait for all the phones. Where to cut is a rule of the training data only; the
model learns it. Audio id = ``AUDIO`` + slot · 1024 + code, the slots interleaved 1-2-4 as in Orpheus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from max_codecs.layout import PhoneFormat, SpeechLayout
from max_codecs.prompt import PromptFormat, ReferenceFormat, Voice
from max_voices.recipe.flite import PAUSE, Phone

FRAME = 2048  # samples: 128 ms at 16 kHz, one code of the coarsest level
SLOTS = 7
CODES = 1024
WORD = "|"  # between the phones of two words

SPECIALS = ("<pad>", "<soh>", "<eot>", "<soa>", "<sos>", "<soc>", "<eos>")
SPEAKER_TOKENS = ("<voice_slt>", "<voice_rms>", "<voice_awb>", "<voice_kal16>")
SAMPLE_TOKEN = "<voice_sample>"  # the voice that was just heard
SAMPLE_FRAMES = range(8, 49)  # of such a sample: 1 to 6 s
_SPARE = tuple(f"<spare_{number}>" for number in range(1, 5))
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyz ',.?!")
_CONSONANTS = [
    "b",
    "ch",
    "d",
    "dh",
    "f",
    "g",
    "hh",
    "jh",
    "k",
    "l",
    "m",
    "n",
    "ng",
    "p",
    "r",
    "s",
    "sh",
    "t",
    "th",
    "v",
    "w",
    "y",
    "z",
    "zh",
]
_VOWELS = ["aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"]
PHONES = (WORD, PAUSE, *_CONSONANTS, *(vowel + stress for vowel in _VOWELS for stress in "01"))
AUDIO = 160  # the first audio id
VOCABULARY = AUDIO + SLOTS * CODES

_NAMES = (*SPECIALS, *SPEAKER_TOKENS, SAMPLE_TOKEN, *_SPARE, *CHARACTERS, *PHONES)
# Phones start with an @ in the vocabulary: "b" is a letter already.
TOKENS = {("@" + name if number >= len(_NAMES) - len(PHONES) else name): number for number, name in enumerate(_NAMES)}
PAD, SOH, EOT, SOA, SOS, SOC, EOS = range(len(SPECIALS))
FIRST_PHONE = TOKENS["@" + WORD]
LAST_PHONE = FIRST_PHONE + len(PHONES) - 1

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Clause:
    """A few words in one breath: ``phones`` with word borders, each phone's end in seconds."""

    phones: tuple[str, ...]
    ends: tuple[float, ...]


# A clause is cut before one of these once it is long enough: a phrase starts there.
_OPENERS = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "my",
        "your",
        "his",
        "her",
        "our",
        "their",
        "its",
        "some",
        "in",
        "on",
        "at",
        "to",
        "of",
        "for",
        "from",
        "with",
        "by",
        "into",
        "over",
        "under",
        "near",
        "behind",
        "between",
        "about",
        "and",
        "or",
        "but",
        "so",
        "because",
        "if",
        "when",
        "while",
        "before",
        "after",
        "who",
        "which",
        "than",
        "as",
        "i",
        "you",
        "he",
        "she",
        "we",
        "they",
        "is",
        "are",
        "was",
        "were",
        "will",
        "would",
        "can",
        "could",
        "should",
        "had",
        "has",
        "have",
        "not",
    ]
)


def cut(words: Sequence[str]) -> list[int]:
    """The words that end a clause; the first clause is the shortest, so that sound comes early."""
    ends, start = list[int](), 0
    for number, word in enumerate(words):
        length, (enough, most) = number + 1 - start, ((2, 4) if not ends else (4, 6))
        left = next((i for i, w in enumerate(words[number:]) if w[-1] in ",.?!"), len(words) - 1 - number)
        opens = number + 1 < len(words) and words[number + 1] in _OPENERS
        long = left > 1 and ((length >= enough and opens) or length >= most)
        if word[-1] in ",.?!" or long or number + 1 == len(words):
            ends.append(number)
            start = number + 1
    return ends


def clauses(text: str, phones: Sequence[Phone], lead: float = 0.0) -> list[Clause]:
    """The phones of ``text`` clause by clause, times counted from ``lead``; outer pauses are not written."""
    spoken = list(phones)
    while spoken and spoken[0].token == PAUSE:
        spoken.pop(0)
    while spoken and spoken[-1].token == PAUSE:
        spoken.pop()
    found, tokens, ends, last = list[Clause](), list[str](), list[float](), -1
    borders = cut(text.split())
    for phone in spoken:
        if phone.word != last and phone.word >= 0:
            if borders and last >= borders[0]:
                found.append(Clause(tuple(tokens), tuple(ends)))
                tokens, ends = [], []
                while borders and last >= borders[0]:
                    borders.pop(0)
            elif tokens:
                tokens.append(WORD)
                ends.append(ends[-1])
            last = phone.word
        tokens.append(phone.token)
        ends.append(phone.end - lead)
    found.append(Clause(tuple(tokens), tuple(ends)))
    return found


def frames_of(spoken: Sequence[Clause], total: int) -> list[int]:
    """How many of ``total`` frames belong to each clause.

    A border frame goes to the later clause: what sounds in it has then been written. Every clause has
    at least one frame; raises ``ValueError`` where there are too few.
    """
    borders, at = [0], 0
    for number, clause in enumerate(spoken[:-1]):
        at = max(at + 1, min(int(clause.ends[-1] * 16_000 / FRAME), total - (len(spoken) - 1 - number)))
        borders.append(at)
    borders.append(total)
    counts = [late - early for early, late in pairwise(borders)]
    if min(counts) < 1:
        raise ValueError("fewer frames than clauses")
    return counts


def speech_layout(speakers: Sequence[str] = ()) -> SpeechLayout:
    """The ids above, as serving knows them. Voice tokens of speakers that have not been trained are left out."""
    return SpeechLayout(
        audio_base=AUDIO,
        codebook_size=CODES,
        end_ids=(EOS,),
        prompt=PromptFormat(
            before_text=(SOH,),
            after_text=(EOT,),
            speech=(SOA,),
            voices=tuple(Voice(speaker, (TOKENS[f"<voice_{speaker}>"],)) for speaker in speakers),
            reference=ReferenceFormat(
                before_text=(SOH,),
                after_text=(EOT,),
                before_audio=(SOA, SOS),
                after_audio=(EOS,),
                voice=(TOKENS[SAMPLE_TOKEN],),
                max_frames=SAMPLE_FRAMES[-1],
            ),
        ),
        phones=PhoneFormat(
            phones=((FIRST_PHONE + 1, LAST_PHONE),), start_of_frames=SOS, next_clause=SOC, word_border=FIRST_PHONE
        ),
    )


_LAYOUT = speech_layout()


def interleave(codes: Sequence[npt.NDArray[np.integer]]) -> Ids:
    """Codes of the three levels, [n], [2n] and [4n] → audio ids [7n], slot by slot as in Orpheus."""
    return _LAYOUT.ids(_LAYOUT.from_levels([level.astype(np.int64) for level in codes]))


def deinterleave(ids: Ids) -> list[Ids]:
    """The inverse of ``interleave``: audio ids [7n] → codes [n], [2n], [4n]."""
    return _LAYOUT.levels(_LAYOUT.frames(ids))


def prompt(text: str, speaker: str | None = "slt") -> list[int]:
    """The ids that the model is given: ``<soh> <voice> text <eot> <soa>``; ``speaker`` is None after a sample."""
    voice = SAMPLE_TOKEN if speaker is None else f"<voice_{speaker}>"
    return [SOH, TOKENS[voice], *(TOKENS[character] for character in text), EOT, SOA]


def sample(words: str, audio: Sequence[int]) -> list[int]:
    """The ids of a voice's sample, before a ``prompt``: what it says and its audio ids."""
    return [SOH, *(TOKENS[character] for character in words), EOT, SOA, SOS, *audio, EOS]
