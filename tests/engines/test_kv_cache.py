"""The keys and values: what they cost before they are there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from max_engines.kv_cache import KVCache, KVShape

STATUS = Path("/proc/self/status")
BLOCK = 16


def resident_mb() -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="asks Linux")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_taken_when_it_is_written(dtype: torch.dtype) -> None:
    shape = KVShape(4, 8, 64, dtype)
    blocks = 512 * 2**20 // (shape.bytes_per_token * BLOCK)
    before = resident_mb()
    cache = KVCache(shape, blocks, BLOCK, torch.device("cpu"))
    assert resident_mb() - before < 16
    used = list(range(blocks // 4))
    cache.clear(used)
    assert 100 < resident_mb() - before < 160
    assert not cache.of_layer(3)[: BLOCK * len(used)].any()
    assert cache.of_layer(0).dtype == dtype
