"""The embedded voice: weights, what serving must know of them, and the recipe that made them.

``import max_voices`` imports neither torch nor the recipe, nor what ``max_voices.text`` needs to write numbers out.
"""

from max_voices.embedded import FOLDER, load_voice

__all__ = ["FOLDER", "load_voice"]
