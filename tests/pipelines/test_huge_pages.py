"""The memory of our processes lies in huge pages where Linux lends some, and the user's choice is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from max_pipelines import huge_pages
from max_pipelines.client import AsyncClient
from max_pipelines.huge_pages import SETTING, with_huge_pages
from tests.pipelines.processes import children, config, serving, workers_below

LENT = "PYTHONMALLOC" in with_huge_pages({}, SETTING)


@pytest.fixture
def lending(tmp_path: Path) -> Path:
    """A system that lends them to whoever asks."""
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


def test_a_process_asks_for_them(lending: Path) -> None:
    given = with_huge_pages({"HOME": "/home/ann"}, lending)
    assert given == {"HOME": "/home/ann", "PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def test_what_is_asked_for_is_not_asked_for_again(lending: Path) -> None:
    given = with_huge_pages({}, lending)
    assert with_huge_pages(given, lending) == given


def test_who_holds_tensors_keeps_pythons_allocator(lending: Path) -> None:
    of_worker = {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert with_huge_pages({"HOME": "/"}, lending, tensors=True) == of_worker
    of_server = with_huge_pages({"HOME": "/"}, lending)
    assert with_huge_pages(of_server, lending, tensors=True) == of_worker
    assert with_huge_pages(of_worker, lending, tensors=True) == of_worker


@pytest.mark.parametrize("chosen", ["pymalloc", "debug", "malloc"])
def test_who_has_chosen_an_allocator_keeps_it(lending: Path, chosen: str) -> None:
    assert with_huge_pages({"PYTHONMALLOC": chosen}, lending) == {"PYTHONMALLOC": chosen}


def test_other_tunables_are_kept(lending: Path) -> None:
    given = with_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, lending)
    assert sorted(given["GLIBC_TUNABLES"].split(":")) == ["glibc.malloc.arena_max=2", "glibc.malloc.hugetlb=1"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_who_has_set_the_tunable_has_chosen(lending: Path, number: int) -> None:
    chosen = {"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={number}:glibc.malloc.arena_max=2"}
    assert with_huge_pages(chosen, lending) == chosen


def test_who_develops_keeps_what_python_checks(lending: Path) -> None:
    assert with_huge_pages({"PYTHONDEVMODE": "1"}, lending) == {"PYTHONDEVMODE": "1"}


@pytest.mark.parametrize("libc", ["glibc 2.34", "glibc 2.9", "glibc", "musl 1.2.5", "", None, ValueError(), OSError()])
def test_a_libc_that_cannot_is_not_asked(lending: Path, monkeypatch: pytest.MonkeyPatch, libc: object) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: _or_raised(libc))
    assert with_huge_pages({}, lending) == {}


@pytest.mark.parametrize("libc", ["glibc 2.35", "glibc 2.36", "glibc 2.41", "glibc 3.0"])
def test_a_libc_that_can_is_asked(lending: Path, monkeypatch: pytest.MonkeyPatch, libc: str) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: libc)
    assert with_huge_pages({}, lending)["PYTHONMALLOC"] == "malloc"


def test_a_python_without_a_gil_keeps_its_allocator(lending: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    assert with_huge_pages({}, lending) == {}


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
        "begin_anew(tensors=False)\n"
        "print(os.getpid(), sys.argv[1:], os.environ.get('PYTHONMALLOC'), sys.flags.dev_mode, flush=True)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONMALLOC", "GLIBC_TUNABLES")}
    command = [sys.executable, str(script), "a b", "--c"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    allocator = "malloc" if LENT else None
    assert len({line.split()[0] for line in told}) == 1
    assert told[-1].endswith(f"['a b', '--c'] {allocator} False")
    assert len(told) == (3 if LENT else 2)


def test_who_cannot_begin_anew_goes_on(monkeypatch: pytest.MonkeyPatch, lending: Path) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(huge_pages, "with_huge_pages", lambda tensors: {"other": "environment"})
    monkeypatch.setattr(os, "execve", refused)
    huge_pages.begin_anew(tensors=False)
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.delattr(os, "execve")
    huge_pages.begin_anew(tensors=False)


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has chosen nothing, on a system that lends some."""
    if not LENT:
        pytest.skip("this system lends no huge pages")
    for name in ("PYTHONMALLOC", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


def huge_kib(process: int) -> int:
    """How much of a process's memory lies in huge pages, in KiB."""
    found = re.search(r"AnonHugePages: +(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text())
    assert found is not None
    return int(found[1])


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
