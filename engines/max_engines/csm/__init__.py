"""CSM, which writes a frame of codes a step: a backbone, and a depth decoder (https://github.com/SesameAILabs/csm)."""

from .engine import CsmEngine
from .model import CsmModel, load_csm

__all__ = ["CsmEngine", "CsmModel", "load_csm"]
