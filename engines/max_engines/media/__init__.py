"""Images, sounds and films in a prompt: encoders run once for each, and the language model is one like any other."""

from .encoders import Encoders
from .perceived import TEXT_ALONE, Perceived
from .positions import Positions
from .slices import Slices

__all__ = ["TEXT_ALONE", "Encoders", "Perceived", "Positions", "Slices"]
