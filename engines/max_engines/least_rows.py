"""How many rows torch's products of float32 take on this CPU for their number not to change a row's last bits."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch.nn.functional import linear

INPUTS, OUTPUTS = 256, 704  # no shape has been seen to matter
ROWS_A_THREAD = 16  # that are tried


def least_rows() -> int:
    """The number, tried once in some 5 ms, for weights as `loading.store_input_major` leaves them.

    MKL has other kernels for few rows. On one thread they end before 2 rows on Intel's processors, before 4 on AMD's;
    several threads share rows out, and it takes more. Where no number will do there is a warning, and it is 1.
    """
    return _least_rows(torch.get_num_threads())


@cache
@torch.inference_mode()
def _least_rows(threads: int) -> int:
    source = torch.Generator("cpu").manual_seed(0)
    weight = torch.randn(INPUTS, OUTPUTS, generator=source, dtype=torch.float32, device="cpu").t()
    row = torch.randn(1, INPUTS, generator=source, dtype=torch.float32, device="cpu")
    most = ROWS_A_THREAD * threads
    rows = row.expand(most, -1).contiguous()
    expected = linear(rows, weight)[:1]
    for count in range(most, 0, -1):
        if bool((linear(rows[:count], weight) == expected).all()):
            continue
        if count < most:
            return count + 1
        what = f"on {threads} threads, scores in float32 may change in the last bit with the size of a batch"
        warnings.warn(what, stacklevel=3)
        break
    return 1
