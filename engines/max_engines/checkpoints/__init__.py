"""Checkpoints whose own `quantization_config` says that their weights are quantised: read as floats.

transformers asks for a package, and often a GPU, for each method; here the published formula is enough.
"""

from .opening import open_quantized, own_quantization

__all__ = ["open_quantized", "own_quantization"]
