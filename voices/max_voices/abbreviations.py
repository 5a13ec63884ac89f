"""The words that are written with a full stop: what they say, and whether a sentence may end with one.

Of use to what reads them out, `max_voices.normalizing`, and to what cuts a text into sentences.
"""

from __future__ import annotations

TITLES = {"mr": "mister", "mrs": "missus", "ms": "miss", "dr": "doctor", "prof": "professor"}
BEFORE_NAMES = TITLES | {
    "gov": "governor", "gen": "general", "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "rev": "reverend",
    "sen": "senator", "mt": "mount", "st": "saint",
}  # fmt: skip
BEHIND_NAMES = {
    "jr": "junior", "sr": "senior", "inc": "incorporated", "ltd": "limited", "corp": "corporation", "ave": "avenue",
    "rd": "road", "blvd": "boulevard",
}  # fmt: skip
BEFORE_NUMBERS = {"no": "number", "nos": "numbers", "p": "page", "pp": "pages", "ch": "chapter", "sec": "section"}
ANYWHERE = {
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department", "est": "established",
    "fig": "figure", "vol": "volume",
}  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
SHORT_MONTHS = {name[:3]: name for name in MONTHS if name != "May"} | {"Sept": "September"}

NEVER_LAST = frozenset((*BEFORE_NAMES, "vs", "approx", "e.g", "i.e"))  # in a sentence
PERHAPS_LAST = frozenset((*BEHIND_NAMES, *ANYWHERE, *map(str.lower, SHORT_MONTHS), "ph.d")) - NEVER_LAST
