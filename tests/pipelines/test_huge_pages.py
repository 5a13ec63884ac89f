"""The memory of our processes lies in huge pages where Linux lends some, and the user's choice is kept."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from max_engines.compiled import open_library
from max_pipelines import huge_pages
from max_pipelines.client import AsyncClient
from max_pipelines.huge_pages import ARENAS, SETTING, with_huge_pages
from tests.pipelines.processes import children, config, serving, workers_below

ASKED = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
LENT = "GLIBC_TUNABLES" in with_huge_pages({}, SETTING)


@pytest.fixture
def lending(tmp_path: Path) -> Path:
    """A system that lends them to whoever asks."""
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


def test_a_process_asks_for_them(lending: Path) -> None:
    given = with_huge_pages({"HOME": "/home/ann"}, lending)
    assert given == {"HOME": "/home/ann", **ASKED}


def test_what_is_asked_for_is_not_asked_for_again(lending: Path) -> None:
    given = with_huge_pages({}, lending)
    assert with_huge_pages(given, lending) == given


def test_other_tunables_are_kept(lending: Path) -> None:
    given = with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, lending)
    assert sorted(given["GLIBC_TUNABLES"].split(":")) == ["glibc.malloc.arena_max=2", "glibc.malloc.hugetlb=1"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_who_has_set_the_tunable_has_chosen(lending: Path, number: int) -> None:
    chosen = {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={number}:glibc.malloc.arena_max=2"}
    assert with_huge_pages(chosen, lending) == chosen


@pytest.mark.parametrize("libc", ["glibc 2.34", "glibc 2.9", "glibc", "musl 1.2.5", "", None, ValueError(), OSError()])
def test_a_libc_that_cannot_is_not_asked(lending: Path, monkeypatch: pytest.MonkeyPatch, libc: object) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: _or_raised(libc))
    assert with_huge_pages({}, lending) == {}


@pytest.mark.parametrize("libc", ["glibc 2.35", "glibc 2.36", "glibc 2.41", "glibc 3.0"])
def test_a_libc_that_can_is_asked(lending: Path, monkeypatch: pytest.MonkeyPatch, libc: str) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: libc)
    assert with_huge_pages({}, lending) == ASKED


def _or_raised(value: object) -> object:
    if isinstance(value, Exception):
        raise value
    return value


@pytest.mark.parametrize("text", ["always madvise [never]\n", None])
def test_where_there_are_none_nothing_is_set(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "enabled"
    if text is not None:
        file.write_text(text)
    assert with_huge_pages({"HOME": "/"}, file) == {"HOME": "/"}


def test_to_begin_anew_keeps_the_arguments_and_the_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from max_pipelines.huge_pages import begin_anew\n"
        "print(os.getpid(), flush=True)\n"
        "begin_anew()\n"
        "print(os.getpid(), sys.argv[1:], os.environ.get('GLIBC_TUNABLES'), sys.flags.dev_mode, flush=True)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    command = [sys.executable, str(script), "a b", "--c"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    tunables = ASKED["GLIBC_TUNABLES"] if LENT else None
    assert len({line.split()[0] for line in told}) == 1
    assert told[-1].endswith(f"['a b', '--c'] {tunables} False")
    assert len(told) == (3 if LENT else 2)


def test_who_cannot_begin_anew_goes_on(monkeypatch: pytest.MonkeyPatch, lending: Path) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(huge_pages, "with_huge_pages", lambda: {"other": "environment"})
    monkeypatch.setattr(os, "execve", refused)
    huge_pages.begin_anew()
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.delattr(os, "execve")
    huge_pages.begin_anew()


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has chosen nothing, on a system that lends some."""
    if not LENT:
        pytest.skip("this system lends no huge pages")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)


def huge_kib(process: int) -> int:
    """How much of a process's memory lies in huge pages, in KiB."""
    found = re.search(r"AnonHugePages: +(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text())
    assert found is not None
    return int(found[1])


OBJECTS = """
import re, sys
from pathlib import Path
from max_pipelines.huge_pages import place_objects

def kib():
    told = Path("/proc/self/smaps_rollup").read_text()
    return [int(re.search(f"{name}: +([0-9]+) kB", told)[1]) for name in ("Rss", "AnonHugePages")]

early = [str(number) for number in range(60_000)]
place_objects()
start = kib()
objects = [str(number) for number in range(1_000_000)]
full = kib()
del early, objects
left = kib()
print(*(now - before for now, before in zip(full + left, start + start)))
"""


def grown(environment: dict[str, str]) -> list[int]:
    """By how many KiB (resident, of it in huge pages) a process grew with a million objects, and without them again."""
    done = subprocess.run([sys.executable, "-c", OBJECTS], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


needs_arenas = pytest.mark.skipif(
    not (LENT and ARENAS.with_name("arenas-linux.so").exists()), reason="nothing compiled, or no huge pages lent"
)


@needs_arenas
def test_pythons_objects_lie_in_them_and_are_given_back() -> None:
    with_objects, huge, without, huge_left = grown(ASKED)
    assert with_objects > 50_000
    assert huge > 0.8 * with_objects
    assert without < 8192
    assert huge_left < 8192


@pytest.mark.parametrize("tunables", ["", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=10"])
def test_objects_lie_where_python_puts_them_if_the_process_has_no_huge_pages(tunables: str) -> None:
    _, huge, _, _ = grown({"GLIBC_TUNABLES": tunables})
    assert huge == 0


@pytest.mark.parametrize("allocator", ["malloc", "debug", "pymalloc_debug"])
def test_an_allocator_that_the_user_has_chosen_goes_on_working(allocator: str) -> None:
    with_objects, _, without, _ = grown(ASKED | {"PYTHONMALLOC": allocator})
    assert with_objects > without


@needs_arenas
def test_more_than_a_span_and_odd_sizes() -> None:
    library = open_library(ARENAS, "linux")
    assert library is not None
    take, give = library.take, library.give
    take.restype, take.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
    give.restype, give.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    sizes = [1 << 20, 1 << 18, 3 << 20, 1 << 20, 15 << 20, 1 << 12, 16 << 20] * 3
    taken = [(take(None, size), size) for size in sizes]
    for number, (address, size) in enumerate(taken):
        ctypes.memset(address, number + 1, size)
    for number, (address, size) in enumerate(taken):
        assert ctypes.string_at(address, size) == bytes([number + 1]) * size
        give(None, address, size)
    assert take(None, (16 << 20) + 1) is None


@pytest.mark.usefixtures("unset")
async def test_an_embedded_server_has_them() -> None:
    before = children(os.getpid())
    async with AsyncClient.embedded(config("trivial")):
        (server,) = set(children(os.getpid())) - set(before)
        (worker,) = workers_below(server)
        assert min(huge_kib(server), huge_kib(worker)) >= 2048


@pytest.mark.usefixtures("unset")
def test_a_server_from_the_shell_has_them_in_the_process_that_was_started(tmp_path: Path) -> None:
    with serving(config("trivial"), tmp_path) as served:
        (worker,) = served.workers
        assert min(huge_kib(served.process.pid), huge_kib(worker)) >= 2048
