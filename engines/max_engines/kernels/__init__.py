"""What a decoder's step on one CPU core is made of, compiled when the package is installed.

Where it was not compiled (no C++ compiler), does not fit (another device or type, an odd width) or would leave cores
idle (several threads), torch's own operations do the same: slower, and rounded otherwise in the last bit.
"""

from .panels import PanelledWeight, panelled_weight
from .rows import RowKernels, kernels_for
from .tiles import TiledWeight, tiled_weight

__all__ = ["PanelledWeight", "RowKernels", "TiledWeight", "kernels_for", "panelled_weight", "tiled_weight"]
