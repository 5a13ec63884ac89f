"""How much memory the engine may take, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from max_engines.device_memory import available_main_memory, available_memory, memory_size

GIB = 2**30
CPU = torch.device("cpu")


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """One with 8 GiB available and no control groups."""
    write(tmp_path, proc__meminfo="MemTotal: 16777216 kB\nMemFree: 1024 kB\nMemAvailable: 8388608 kB\n")
    return tmp_path


def group(folder: Path, most: str, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_what_the_kernel_calls_available_is_free(machine: Path) -> None:
    assert available_main_memory(machine) == 8 * GIB


def test_the_tightest_control_group_counts_and_file_caches_do_not(machine: Path) -> None:
    write(machine, proc__self__cgroup="0::/outer/inner\n")
    mount = machine / "sys/fs/cgroup"
    group(mount / "outer/inner", "max", 3 * GIB)
    assert available_main_memory(machine) == 8 * GIB
    group(mount / "outer", str(4 * GIB), 3 * GIB, cached=GIB)
    assert available_main_memory(machine) == 2 * GIB
    group(mount / "outer/inner", str(GIB), GIB // 2)
    assert available_main_memory(machine) == GIB // 2
    group(mount, str(GIB), 2 * GIB)
    assert available_main_memory(machine) == 0


@pytest.mark.parametrize(("limit", "free"), [(2**63 - 4096, 8 * GIB), (3 * GIB, 2 * GIB)])
def test_control_groups_of_version_1(machine: Path, limit: int, free: int) -> None:
    write(machine, proc__self__cgroup="3:cpu,cpuacct:/box\n2:memory:/box\n")
    folder = machine / "sys/fs/cgroup/memory/box"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.stat").write_text(f"cache 7\ntotal_inactive_file {GIB}\n")
    assert available_main_memory(machine) == free


def test_without_such_files_the_system_is_asked(tmp_path: Path) -> None:
    assert available_main_memory(tmp_path) > 0


def test_a_fraction_is_of_what_is_free_and_an_int_is_bytes() -> None:
    assert memory_size(123456, CPU) == 123456
    assert memory_size(1, CPU) == 1
    half = memory_size(0.5, CPU)
    assert 0 < half < available_memory(CPU)


@pytest.mark.parametrize("wanted", [0, -1, 0.0, -0.5, 1.01, float("nan"), float("inf")])
def test_what_is_no_amount_of_memory_is_refused(wanted: float) -> None:
    with pytest.raises(ValueError, match="kv_memory = "):
        memory_size(wanted, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_for_itself_what_is_free() -> None:
    device = torch.device("cuda")
    free = available_memory(device)
    held = torch.empty(2**28, dtype=torch.uint8, device=device)
    assert free - available_memory(device) >= len(held)
