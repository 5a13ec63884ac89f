"""Addresses, and who may have one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from max_interfaces import ConfigError
from max_pipelines.address import check_address, claimed, private_folder


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://0.0.0.0:5555", "not be encrypted"),
        ("inproc://here", "no address"),
        ("ipc://", "no address"),
        ("ipc://@hidden", "no address"),
        ("ipc://*", "no address"),
        ("ipc:///tmp/", "no address"),
        ("/run/maxpipe", "no address"),
        ("ipc:///" + "x" * 120, "107 bytes"),
    ],
)
def test_refused_addresses(address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_address(address)


def test_an_address_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/server"
    for _ in range(2):
        with claimed(address), pytest.raises(ConfigError, match="in use"), claimed(address):
            pass
    assert not list(tmp_path.iterdir())


def test_a_dead_servers_leftover_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "server"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (tmp_path / "server.lock").touch()
    with claimed(f"ipc://{path}"):
        assert not path.exists()


def test_a_strangers_living_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "stranger"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen()
        with pytest.raises(ConfigError, match="in use"), claimed(f"ipc://{path}"):
            pass
        assert path.is_socket()
    assert [file.name for file in tmp_path.iterdir()] == ["stranger"]


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises(ConfigError, match="no socket"), claimed(f"ipc://{path}"):
        pass
    assert path.read_text() == "years of work"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be created"), claimed(f"ipc://{tmp_path}/no/server"):
        pass


def test_the_private_folder_is_private_and_goes() -> None:
    with private_folder() as folder:
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert not folder.exists()
