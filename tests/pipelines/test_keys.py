"""Keys, their folder, the list of those that are let in, and `maxpipe keys`. None of them shows a secret."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import shlex
import threading
import time
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from max_interfaces import ConfigError
from max_pipelines.address import TcpListen
from max_pipelines.cli import main
from max_pipelines.config import parse_config
from max_pipelines.security.allowed import AllowList, Role
from max_pipelines.security.client import connect
from max_pipelines.security.folder import KeyFolder, default_folder
from max_pipelines.security.gate import Gate
from max_pipelines.security.keys import KeyPair, PublicKey, Secret, check_libzmq

MODEL = "model: {name: m}\npipeline: {kind: text}\n"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """With a key in it."""
    folder = KeyFolder(tmp_path / "keys")
    folder.create()
    return folder


# -- keys ------------------------------------------------------------------------------------------------------------


def test_no_key_begins_like_an_option() -> None:
    pairs = [KeyPair.new() for _ in range(300)]  # one of 64 would
    assert "-" not in {text[0] for pair in pairs for text in (pair.public.text, pair.secret.to_file())}


def test_a_public_key_is_43_characters_both_ways() -> None:
    pair = KeyPair.new()
    text = pair.public.text
    assert len(text) == 43
    assert PublicKey.parse(text) == pair.public
    assert len(pair.public.raw) == 32
    assert zmq.curve_public(z85.encode(pair.secret.reveal())) == z85.encode(pair.public.raw)


@pytest.mark.parametrize("text", ["", "short", "A" * 42, "A" * 44, "A" * 42 + "B", "A" * 42 + "=", "A" * 43 + "\n"])
def test_texts_that_are_no_key(text: str) -> None:
    with pytest.raises(ConfigError, match="no public key"):
        PublicKey.parse(text)


def test_keys_of_another_length() -> None:
    for kind in (PublicKey, Secret):
        with pytest.raises(ConfigError, match="32 bytes"):
            kind(b"short")


@pytest.mark.parametrize(
    ("version", "curve", "says"),
    [((4, 3, 4), True, "4.3.4 has known holes; 4.3.5 or newer"), ((4, 3, 5), False, "without CURVE")],
)
def test_a_libzmq_that_cannot_be_trusted(version: tuple[int, int, int], curve: bool, says: str) -> None:
    check_libzmq((4, 3, 5), True)
    with pytest.raises(ConfigError, match=says):
        check_libzmq(version, curve)


# -- the folder ------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "some" / "keys")
    pair = folder.create()
    assert mode(folder.path) == 0o700
    assert mode(folder.path / "secret") == 0o600
    assert folder.load().public == pair.public
    with pytest.raises(ConfigError, match="a key already"):
        folder.create()
    assert folder.load().public == pair.public


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_that_others_can_read_is_refused(bits: int, folder: KeyFolder) -> None:
    (folder.path / "secret").chmod(bits)
    with pytest.raises(ConfigError, match="secret: others may read this key"):
        folder.load()


def test_a_folder_that_others_can_write_to_is_refused(folder: KeyFolder) -> None:
    folder.path.chmod(0o770)
    with pytest.raises(ConfigError, match="others may write there"):
        folder.load()


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\xfe", b"maxpipe secret key: AAAA\n", b"A" * 4096])
def test_a_file_that_holds_no_key(content: bytes, folder: KeyFolder) -> None:
    (folder.path / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match="holds no key"):
        folder.load()


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be created"):
        KeyFolder(tmp_path / "file" / "keys").create()
    with pytest.raises(ConfigError, match="there is no key; make one with `maxpipe keys new --keys"):
        KeyFolder(tmp_path / "none").load()


def test_where_keys_are_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert default_folder() == KeyFolder().path == tmp_path / "xdg" / "maxpipe"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert default_folder() == tmp_path / ".config" / "maxpipe"
    assert KeyFolder("~/keys").path == tmp_path / "keys"


# -- the list --------------------------------------------------------------------------------------------------------


def test_keys_are_allowed_and_revoked_and_notes_stay(folder: KeyFolder) -> None:
    keys = folder.allow_list()
    assert keys.allowed() == ()
    folder.allowed_file.write_text("# our people\n\n  # and their machines", encoding="utf-8")
    ann, gpu = KeyPair.new().public, KeyPair.new().public
    keys.allow(ann, Role.CLIENT, "ann")
    keys.allow(gpu, Role.WORKER, "gpu-1")
    assert [(one.key, one.role, one.name) for one in keys.allowed()] == [
        (ann, Role.CLIENT, "ann"),
        (gpu, Role.WORKER, "gpu-1"),
    ]
    assert mode(folder.allowed_file) == 0o600
    keys.revoke("ann")
    assert folder.allowed_file.read_text(encoding="utf-8") == (
        f"# our people\n\n  # and their machines\n{gpu.text} worker gpu-1\n"
    )
    assert sorted(os.listdir(folder.path)) == ["allowed", "secret"]


def test_what_cannot_be_allowed_or_revoked(folder: KeyFolder, tmp_path: Path) -> None:
    keys, key = folder.allow_list(), KeyPair.new().public
    keys.allow(key, Role.CLIENT, "ann")
    with pytest.raises(ConfigError, match="allowed already, as client ann"):
        keys.allow(key, Role.WORKER, "other")
    with pytest.raises(ConfigError, match="called ann already"):
        keys.allow(KeyPair.new().public, Role.CLIENT, "ann")
    with pytest.raises(ConfigError, match="no key has this name"):
        keys.revoke("bob")
    for name in ("", "two words", "-x", "a\nb", "ünï", "x" * 41, key.text):
        with pytest.raises(ConfigError, match="a name has up to 40"):
            keys.allow(KeyPair.new().public, Role.CLIENT, name)
    with pytest.raises(ConfigError, match="`maxpipe keys new` makes one"):
        AllowList(tmp_path / "none" / "allowed").allow(key, Role.CLIENT, "ann")


def test_a_change_counts_at_once(folder: KeyFolder) -> None:
    reader, writer = folder.allow_list(), folder.allow_list()
    key = KeyPair.new().public
    assert reader.find(key.text) is None
    for _ in range(100):
        writer.allow(key, Role.CLIENT, "ann")
        found = reader.find(key.text)
        assert found is not None
        assert found.name == "ann"
        writer.revoke("ann")
        assert reader.find(key.text) is None


def test_a_change_that_leaves_no_trace_counts_at_once(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the file system's clock nothing but the content may differ."""
    now = time.time_ns() + 10**9
    monkeypatch.setattr("max_pipelines.security.allowed._stamp", lambda status: (now, now, 59, 1, 1))
    old, new = KeyPair.new().public, KeyPair.new().public
    reader, file = folder.allow_list(), folder.allowed_file
    file.touch(0o600)
    for one, other in [(old, new), (new, old)] * 10:
        with open(file, "r+", encoding="utf-8") as stream:
            stream.write(f"{one.text} client ann\n")
        assert reader.find(one.text) is not None
        assert reader.find(other.text) is None


def test_a_file_at_rest_is_not_read_again(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    key = KeyPair.new().public
    keys = folder.allow_list()
    keys.allow(key, Role.CLIENT, "ann")
    monkeypatch.setattr("max_pipelines.security.allowed.SETTLED_NS", -1)  # it has been at rest for long
    first = keys.find(key.text)
    assert keys.find(key.text) is first
    folder.allowed_file.unlink()
    assert keys.find(key.text) is None


def test_changes_at_the_same_time_are_all_kept(folder: KeyFolder) -> None:
    def allow(name: str) -> None:
        folder.allow_list().allow(KeyPair.new().public, Role.CLIENT, name)

    threads = [threading.Thread(target=allow, args=(f"n{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.name for one in folder.allow_list().allowed()} == {f"n{number}" for number in range(8)}


GOOD = PublicKey(bytes(32)).text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"# ours\n{GOOD} client", "line 2: expected KEY"),
        (f"{GOOD} admin ann", "line 1: expected KEY"),
        (f"{GOOD} local ann", "line 1: expected KEY"),
        (f"{GOOD} client ann more", "line 1: expected KEY"),
        (f"ann client {GOOD}", "line 1: expected KEY"),
        (f"{GOOD}x client ann", "line 1: that is no public key"),
        (f"{GOOD} client ann\n{GOOD} worker bob", "line 2: bob: this key or this name is on the list twice"),
        (f"{GOOD} client ann\n{PublicKey(b'x' * 32).text} client ann", "line 2: ann: this key or this name"),
    ],
)
def test_a_list_with_a_mistake_lets_nobody_in(text: str, says: str, folder: KeyFolder) -> None:
    folder.allowed_file.write_text(text, encoding="utf-8")
    folder.allowed_file.chmod(0o600)
    problems: list[str] = []
    keys = AllowList(folder.allowed_file, problems.append)
    with pytest.raises(ConfigError, match=says) as problem:
        keys.allowed()
    assert str(folder.allowed_file) in str(problem.value)
    assert [keys.find(GOOD), keys.find(GOOD)] == [None, None]
    assert len(problems) == 1
    assert GOOD not in problems[0]


def test_lists_that_cannot_be_read(folder: KeyFolder) -> None:
    file = folder.allowed_file
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no UTF-8"):
        folder.allow_list().allowed()
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="longer than"):
        folder.allow_list().allowed()
    file.write_bytes(b"")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="others may write there"):
        folder.allow_list().allowed()
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        folder.allow_list().allowed()
    assert folder.allow_list().find(GOOD) is None


# -- the config ------------------------------------------------------------------------------------------------------


def test_the_config_may_serve_other_hosts() -> None:
    assert parse_config(MODEL).tcp is None
    tcp = parse_config(MODEL + "tcp: {listen: 'tcp://*:5555', keys: ~/keys}").tcp
    assert tcp is not None
    assert (tcp.listen, tcp.keys) == ("tcp://*:5555", "~/keys")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{listen: 'tcp://*:99999'}", "tcp: .*a port is a number from 1 to 65535"),
        ("{listen: 'ipc:///tmp/x'}", "tcp: .*no address"),
        ("{keys: /k}", "tcp: .*listen"),
        ("{listen: 'tcp://*:5555', encrypt: false}", "tcp.encrypt: unknown key"),
    ],
)
def test_a_tcp_section_that_cannot_be(section: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(f"{MODEL}tcp: {section}")


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def keys(*arguments: str) -> tuple[int, str, str]:
        code = main(["keys", *arguments, "--keys", str(tmp_path / "keys")])
        return code, *capsys.readouterr()

    code, key, _ = keys("new")
    assert code == 0
    assert keys("show") == (0, key, "")
    assert PublicKey.parse(key.strip())
    code, _, problem = keys("new")
    assert code == 2
    assert "there is a key already" in problem
    ann, gpu = KeyPair.new().public.text, KeyPair.new().public.text
    assert keys("allow", ann, "ann") == (0, "", "")
    assert keys("allow", gpu, "gpu-1", "--worker") == (0, "", "")
    assert keys("list") == (0, f"{ann} client ann\n{gpu} worker gpu-1\n", "")
    assert keys("revoke", "ann") == (0, "", "")
    assert keys("list") == (0, f"{gpu} worker gpu-1\n", "")
    code, _, problem = keys("allow", "no-key", "bob")
    assert code == 2
    assert problem.startswith("maxpipe keys: that is no public key")
    assert problem.count("\n") == 1


def test_what_security_md_says_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    hosts = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    assert len(hosts) == 2
    for number, commands in enumerate(hosts):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / str(number)))
        for line in commands.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["maxpipe", "keys"]:
                assert main([KeyPair.new().public.text if "_KEY" in word else word for word in words[1:]]) == 0
    (section,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert parse_config(MODEL + section).tcp


# -- nothing shows a secret ------------------------------------------------------------------------------------------


def spellings(key: bytes, text: str) -> set[str]:
    """Every way in which 32 bytes could be shown."""
    return {text, z85.encode(key).decode(), key.hex(), repr(key)[2:-1]}


def test_no_repr_nor_text_shows_a_key(folder: KeyFolder) -> None:
    pair = folder.load()
    hidden = spellings(pair.secret.reveal(), pair.secret.to_file()) | spellings(pair.public.raw, pair.public.text)
    folder.allow_list().allow(pair.public, Role.CLIENT, "ann")
    address = TcpListen("gpu", 5555).served(pair.public)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, Gate(context, folder) as gate:
        things = [pair, pair.secret, pair.public, folder, address, gate, folder.allow_list().allowed(), vars(gate)]
        shown = [each for thing in things for each in (repr(thing), str(thing), f"{thing}")]
    assert not [text for text in shown for secret in hidden if secret in text]


def test_a_secret_does_not_travel(folder: KeyFolder) -> None:
    secret = folder.load().secret
    for travel in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not copied"):
            travel(secret)
    assert not hasattr(secret, "__dict__")


def test_a_secret_in_the_wrong_place_is_not_repeated(
    folder: KeyFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (folder.path / "secret").read_text(encoding="ascii").strip()
    text = folder.load().secret.to_file()
    for key in (line, f"{text} ", z85.encode(folder.load().secret.reveal()).decode()):
        assert main(["keys", "allow", "--keys", str(folder.path), "--", key, "ann"]) == 2
    assert main(["keys", "allow", "--keys", str(folder.path), KeyPair.new().public.text, text]) == 2
    folder.allowed_file.write_text(f"{text} {text} {text}\n{text}\n", encoding="utf-8")
    assert main(["keys", "list", "--keys", str(folder.path)]) == 2
    (folder.path / "secret").write_text(f"{text}{text}", encoding="ascii")
    assert main(["keys", "show", "--keys", str(folder.path)]) == 2
    shown = "".join(capsys.readouterr())
    assert shown.count("maxpipe keys: ") == 6
    assert text not in shown


def test_a_handshake_logs_no_key(
    folder: KeyFolder, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs, stranger = folder.load(), KeyPair.new(), KeyPair.new()
    folder.allow_list().allow(theirs.public, Role.CLIENT, "ann")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with caplog.at_level(logging.DEBUG), context, Gate(context, folder) as gate, context.socket(zmq.ROUTER) as server:
        address = gate.bind(server, TcpListen("127.0.0.1", 0)).served(gate.public)
        for pair in (stranger, theirs):
            with context.socket(zmq.DEALER) as client:
                client.linger = 0
                monitor = client.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
                connect(client, address, pair)
                assert monitor.poll(10_000)
                client.disable_monitor()
                monitor.close()
    logged = caplog.text + "".join(capfd.readouterr())
    for pair in (ours, theirs, stranger):
        keys = spellings(pair.secret.reveal(), pair.secret.to_file()) | spellings(pair.public.raw, pair.public.text)
        assert not [key for key in keys if key in logged]
