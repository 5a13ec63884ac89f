"""Janus, which sees and draws: one language model for texts and for the codes of pictures
(https://arxiv.org/abs/2410.13848).
"""

from .engine import DrawingEngine
from .model import DrawingModel, draws, load_drawing

__all__ = ["DrawingEngine", "DrawingModel", "draws", "load_drawing"]
