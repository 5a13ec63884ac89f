"""English text as it is said: numbers, dates, money, addresses and abbreviations written out in words.

`normalize` keeps everything else as it is: capitals, marks, and words of other scripts. Rules, not a model: a rule that
fits wins, the more particular ones first. Of libraries for this, those that hold up on English are grammars for
transducers, which need a compiled runtime and tens of megabytes, and lose what they do not know; num2words, which knows
numbers alone, is taken.
"""

from max_voices.normalizing.english import normalize

__all__ = ["normalize"]
