"""Qwen2.5-Omni, which speaks while it writes: thinker, talker and token2wav (https://arxiv.org/abs/2503.20215)."""

from .engine import OmniEngine
from .model import OmniModel, load_omni, without_speech
from .settings import OmniSettings

__all__ = ["OmniEngine", "OmniModel", "OmniSettings", "load_omni", "without_speech"]
