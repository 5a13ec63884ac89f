"""Addresses, and who may have one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from max_interfaces import ConfigError
from max_pipelines.address import (
    IpcAddress,
    TcpAddress,
    TcpListen,
    check_address,
    parse_address,
    parse_listen,
    private_folder,
)
from max_pipelines.security.keys import KeyPair, PublicKey
from max_pipelines.server.claiming import claimed

KEY = PublicKey(bytes(range(32)))


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


@pytest.mark.parametrize("host", ["127.0.0.1", "gpu-1.example.org", "localhost", "[::1]", "[fe80::1%eth0]"])
@pytest.mark.parametrize("port", [1, 5555, 65535])
def test_a_tcp_address_is_one_string(host: str, port: int) -> None:
    address = parse_address(f"tcp://{host}:{port}#{KEY.text}")
    assert address == TcpAddress(host, port, KEY)
    assert isinstance(address, TcpAddress)
    assert address.endpoint == str(address) == f"tcp://{host}:{port}"
    assert address.full == f"tcp://{host}:{port}#{KEY.text}"
    assert address.ipv6 is host.startswith("[")
    assert parse_listen(address.endpoint).served(KEY) == address


def test_an_ipc_address_is_its_path() -> None:
    assert parse_address("ipc:///run/a#b") == IpcAddress("ipc:///run/a#b")
    assert str(IpcAddress("ipc:///run/voice")) == "ipc:///run/voice"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://gpu:5555", "the server's public key is missing; give the whole address"),
        ("tcp://gpu:5555#", "no public key"),
        ("tcp://gpu:5555#AAAA", "no public key"),
        (f"tcp://gpu:5555#{KEY.text}A", "no public key"),
        (f"tcp://gpu:5555#{KEY.text}\n", "no public key"),
        (f"tcp://gpu:5555#{KEY.text[:-1]}9", "no public key"),  # bits beyond the 32 bytes
        (f"tcp://gpu:0#{KEY.text}", "from 1 to 65535"),
        (f"tcp://gpu:65536#{KEY.text}", "from 1 to 65535"),
        (f"tcp://gpu#{KEY.text}", "no address"),
        (f"tcp://gpu:#{KEY.text}", "no address"),
        (f"tcp://gpu:*#{KEY.text}", "no address"),
        (f"tcp://gpu:١#{KEY.text}", "no address"),  # a digit, though not one of ours
        (f"tcp://:5555#{KEY.text}", "no host"),
        (f"tcp://*:5555#{KEY.text}", "no host"),
        (f"tcp://::1:5555#{KEY.text}", "no address"),
        (f"tcp://[gpu]:5555#{KEY.text}", "no IPv6 address"),
        (f"tcp://10.0.0.1:1;gpu:5555#{KEY.text}", "no address"),  # libzmq's source address
        (f"tcp://10.0.0.1;gpu:5555#{KEY.text}", "no host"),
        (f"tcp://gpu :5555#{KEY.text}", "no host"),
        (f"TCP://gpu:5555#{KEY.text}", "no address"),
        (f"ws://gpu:5555#{KEY.text}", "no address"),
        ("inproc://here", "no address"),
        ("", "no address"),
    ],
)
def test_addresses_that_nobody_can_connect_to(address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as problem:
        parse_address(address)
    assert KEY.text not in str(problem.value)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"tcp://*:5555#{KEY.text}", "give no key"),
        ("tcp://*", "no address"),
        ("tcp://*:70000", "from 1 to 65535"),
        ("tcp://a b:5555", "no host"),
        ("tcp://[::1:5555", "no address"),
        ("ipc:///run/voice", "no address"),
        ("5555", "no address"),
    ],
)
def test_addresses_that_nobody_can_listen_at(address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_listen(address)


def test_who_listens_everywhere_is_called_by_the_hosts_name() -> None:
    for host in ("*", "0.0.0.0", "[::]"):
        assert parse_listen(f"tcp://{host}:5555").served(KEY) == TcpAddress(socket.gethostname(), 5555, KEY)
    assert TcpListen("*", 0).endpoint == "tcp://*:0"  # any free port


def test_an_address_in_an_error_shows_no_key() -> None:
    secret = KeyPair.new().secret.to_file()
    for text in (f"tcp://gpu:5555#{secret}!", f"tcp://gpu:5555{secret}", f"tcp{secret}", f"tcp://gpu:99999#{secret}"):
        for parse in (parse_address, parse_listen, check_address):
            with pytest.raises(ConfigError) as problem:
                parse(text)
            assert secret not in str(problem.value)


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
