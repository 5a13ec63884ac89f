"""Where a model runs if nobody says."""

from __future__ import annotations

import ctypes
import ctypes.util


def default_device() -> str:
    """cuda:0 where the driver finds a GPU, else cpu. Asks the driver itself: torch takes seconds to import."""
    name = ctypes.util.find_library("cuda")
    if name is None:
        return "cpu"
    try:
        driver, count = ctypes.CDLL(name), ctypes.c_int(0)
        found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except (OSError, AttributeError):
        return "cpu"
    return "cuda:0" if found else "cpu"
