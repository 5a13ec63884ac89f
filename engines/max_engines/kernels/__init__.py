"""What a decoder's step on one CPU core is made of, compiled when the package is installed.

Where it was not compiled (no C++ compiler), does not fit (another device or type, an odd width) or would leave cores
idle (several threads), torch's own operations do the same: slower, and rounded otherwise in the last bit.
"""

from .panels import PANEL, PanelledWeight, panelled_weight
from .quantized import multiplies_quantized, multiply_quantized
from .rows import RowKernels, kernels_for
from .tiles import TiledWeight, tiled_weight

__all__ = [
    "PANEL",
    "PanelledWeight",
    "RowKernels",
    "TiledWeight",
    "kernels_for",
    "multiplies_quantized",
    "multiply_quantized",
    "panelled_weight",
    "tiled_weight",
]
