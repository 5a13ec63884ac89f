"""What a decoder's step on one CPU core is made of, compiled when the package is installed.

Where it was not compiled (no C++ compiler), does not fit (another device or type, an odd width) or would leave cores
idle (several threads), torch's own operations do the same: slower, and rounded otherwise in the last bit.
"""

from .rows import RowKernels, kernels_for
from .tiles import TiledWeight, tiled_weight

__all__ = ["RowKernels", "TiledWeight", "kernels_for", "tiled_weight"]
