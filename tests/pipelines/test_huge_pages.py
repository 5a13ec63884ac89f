"""The memory of our processes lies in huge pages where Linux lends some, and the user's choice is kept."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from max_engines.compiled import open_library
from max_pipelines import huge_pages
from max_pipelines.client import AsyncClient
from max_pipelines.huge_pages import ARENAS, SETTING, with_huge_pages
from tests.pipelines.http.test_serving import serving
from tests.pipelines.processes import children, config, workers_below

ASKED = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
ARENA = 1 << 20
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


def test_where_tunables_are_dropped_a_process_begins_anew_once(tmp_path: Path) -> None:
    """As glibc drops them for a program with rights of its own."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "os.environ.pop('GLIBC_TUNABLES', None)\n"
        "from max_pipelines.huge_pages import begin_anew\n"
        "print('begun', flush=True)\n"
        "begin_anew()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.count("begun") == (2 if LENT else 1)


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
import re
from pathlib import Path
from max_pipelines.huge_pages import place_objects

def resident_kib():
    return int(re.search("Rss: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text())[1])

def huge_kib():
    return int(re.search("AnonHugePages: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text())[1])

early = [str(number) for number in range(60_000)]
place_objects()
before, huge_before = resident_kib(), huge_kib()
objects = [str(number) for number in range(1_000_000)]
grown, huge = resident_kib() - before, huge_kib() - huge_before
assert all(int(objects[number]) == number for number in range(0, 1_000_000, 999))
del early, objects
print("arenas-linux.so" in Path("/proc/self/maps").read_text(), grown, huge, resident_kib() - before)
"""


class Grown(NamedTuple):
    """What a process with a million objects has shown, in KiB."""

    placed: bool
    by: int
    huge: int
    left: int  # without the objects


def grown(environment: dict[str, str]) -> Grown:
    """Grow a process."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("this system does not tell where memory lies")
    done = subprocess.run([sys.executable, "-c", OBJECTS], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    placed, *numbers = done.stdout.split()
    return Grown(placed == "True", *map(int, numbers))


needs_arenas = pytest.mark.skipif(
    not (LENT and ARENAS.with_name("arenas-linux.so").exists()), reason="nothing compiled, or no huge pages lent"
)


@needs_arenas
def test_pythons_objects_lie_in_them_and_are_given_back() -> None:
    process = grown(ASKED)
    assert process.placed
    assert process.by > 50_000
    assert process.huge > 0.5 * process.by  # the system may have no more to lend
    assert process.left < 8192


@pytest.mark.parametrize("tunables", ["", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=10"])
def test_objects_lie_where_python_puts_them_if_the_process_has_no_huge_pages(tunables: str) -> None:
    process = grown({"GLIBC_TUNABLES": tunables})
    assert not process.placed
    assert process.by > 50_000


@pytest.mark.parametrize("allocator", ["malloc", "debug", "pymalloc_debug"])
def test_an_allocator_that_the_user_has_chosen_goes_on_working(allocator: str) -> None:
    process = grown(ASKED | {"PYTHONMALLOC": allocator})
    assert process.by > 50_000


@pytest.fixture
def arenas() -> Arenas:
    """What Python calls, called by hand."""
    library = open_library(ARENAS, "linux")
    if library is None:
        pytest.skip("nothing was compiled")
    take, give = library.take, library.give
    take.restype, take.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]
    give.restype, give.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return Arenas(lambda size: take(None, size), lambda address, size: give(None, address, size))


class Arenas(NamedTuple):
    """The two functions of `arenas.cpp`."""

    take: Callable[[int], int | None]
    give: Callable[[int, int], None]


def mapped(address: int) -> bool:
    """Whether there is memory at an address."""
    bounds = (line.split(" ")[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(first, 16) <= address < int(last, 16) for first, last in bounds)


SIZES = st.sampled_from([ARENA, ARENA, ARENA, 1 << 14, 72_000, 1 << 18, 3 << 20, 17 << 20])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(st.tuples(SIZES, st.integers(0, 30)), min_size=1, max_size=40))
def test_what_is_held_is_nobody_elses(arenas: Arenas, orders: list[tuple[int, int]]) -> None:
    """`orders`: of each piece its size, and which of those that are held is given back before it is taken."""
    held: list[tuple[int, int, int]] = []
    for number, (size, gone) in enumerate(orders):
        if gone < len(held):
            arenas.give(*held.pop(gone)[:2])
        address = arenas.take(size)
        assert address is not None
        ctypes.memset(address, number + 1, size)
        held.append((address, size, number + 1))
    for address, size, mark in held:
        assert ctypes.string_at(address, size) == bytes([mark]) * size
        arenas.give(address, size)


def test_a_page_is_given_back_once_both_halves_are(arenas: Arenas) -> None:
    taken = [arenas.take(ARENA) or 0 for _ in range(64)]
    pages = {address // (2 * ARENA) for address in taken}
    whole = [page * 2 * ARENA for page in pages if {page * 2 * ARENA, page * 2 * ARENA + ARENA} <= set(taken)]
    assert len(whole) >= 24  # a span of 8 pages may have been begun, and its end be left
    for address in taken[::2]:
        arenas.give(address, ARENA)
    assert all(mapped(address) for address in taken)
    again = {arenas.take(ARENA) for _ in taken[::2]}
    assert again == set(taken[::2])  # whose other halves are held
    for address in taken:
        arenas.give(address, ARENA)
    assert not any(mapped(address) for address in whole)


def test_there_is_no_more_than_there_is(arenas: Arenas) -> None:
    assert arenas.take(1 << 60) is None


def places_objects(process: int) -> bool:
    """Whether a process has opened `arenas.cpp`, or cannot, because nothing was compiled."""
    library = ARENAS.with_name("arenas-linux.so")
    return not library.exists() or library.name in Path(f"/proc/{process}/maps").read_text()


@pytest.mark.usefixtures("unset")
async def test_an_embedded_server_has_them() -> None:
    before = children(os.getpid())
    async with AsyncClient.embedded(config("trivial")):
        (server,) = set(children(os.getpid())) - set(before)
        (worker,) = workers_below(server)
        assert min(huge_kib(server), huge_kib(worker)) >= 2048
        assert places_objects(server)
        assert places_objects(worker)


@pytest.mark.usefixtures("unset")
def test_a_server_from_the_shell_has_them_in_the_process_that_was_started(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        ours = [served.process.pid, served.face, served.worker]
        assert min(map(huge_kib, ours)) >= 2048
        assert all(map(places_objects, ours))
