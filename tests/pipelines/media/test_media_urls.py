"""Which URLs are fetched, and how much of them."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from max_pipelines.media import IN_PROCESS, NOTHING, Access, MediaLimits, read_image
from max_pipelines.media.addresses import is_public
from tests.pipelines.media.making import image_file, picture
from tests.pipelines.media.serving import MediaServer, serving_media

PICTURE = picture()
PNG = image_file(PICTURE)
PUBLIC = "93.184.216.34"
PLACES: TypeAlias = dict[str, list[str]]


@pytest.fixture
def media() -> Iterator[MediaServer]:
    """A server of one image."""
    with serving_media() as media:
        media.files["/picture.png"] = PNG
        yield media
    # Nobody follows a redirect to it twice, or asks anew after a refusal.
    assert len(media.asked) <= 4


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> PLACES:
    """Names and their addresses, instead of a resolver's. Each look-up takes the next ones; the last stay."""
    places: PLACES = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: int, **kwargs: int) -> object:
        if host not in places:
            return real(host, port, *args, **kwargs)
        found = places[host].pop(0) if len(places[host]) > 1 else places[host][0]
        return [info for address in found.split() for info in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return places


def allowed(media: MediaServer) -> Access:
    """Only this server, though it is at a private address."""
    return Access(private_hosts=frozenset({media.host}))


def why_not(url: str, access: Access, limits: MediaLimits | None = None) -> str:
    """Why it is refused."""
    with pytest.raises(ValueError, match=r"^image: ") as refused:
        read_image(url, limits or MediaLimits(), access)
    return str(refused.value)


def test_a_url_is_fetched(media: MediaServer) -> None:
    media.files["/sch%C3%B6n.png?size=1"] = PNG
    read = read_image(f"{media.url}/schön.png?size=1#part", access=allowed(media))
    np.testing.assert_array_equal(read, PICTURE)
    assert media.asked == ["/sch%C3%B6n.png?size=1"]
    assert media.last["host"] == media.host


def test_private_addresses_are_never_asked(media: MediaServer, names: PLACES) -> None:
    names["inside.example"] = ["127.0.0.1"]
    names["both.example"] = [f"{PUBLIC} 127.0.0.1"]
    port = media.host.rpartition(":")[2]
    for host in (
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "127.1",
        "inside.example",
        "both.example",
        "0.0.0.0",
    ):
        assert "at a private address" in why_not(f"http://{host}:{port}/picture.png", IN_PROCESS)
    for host in ("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]"):
        assert "at a private address" in why_not(f"http://{host}:{port}/picture.png", IN_PROCESS)
    assert not media.asked


def test_a_name_is_looked_up_once(media: MediaServer, names: PLACES, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first address is public, each later one is this host: what was judged is what is connected to."""
    names["rebinding.example"] = [PUBLIC, "127.0.0.1"]
    connected: list[object] = []

    def connect(connection: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    why_not(f"http://rebinding.example:{media.host.rpartition(':')[2]}/picture.png", IN_PROCESS)
    assert [address[0] for address in connected if isinstance(address, tuple)] == [PUBLIC]
    assert not media.asked


def test_redirects_are_judged_anew(media: MediaServer) -> None:
    with serving_media() as other:
        media.redirects |= {"/there": "/picture.png", "/out": f"{other.url}/picture.png", "/file": "file:///etc/passwd"}
        media.redirects |= {"/inside": "http://169.254.169.254/latest/meta-data"}
        np.testing.assert_array_equal(read_image(f"{media.url}/there", access=allowed(media)), PICTURE)
        assert "not among the hosts" in why_not(f"{media.url}/out", allowed(media))
        open_to_all = Access(hosts=None, private_hosts=frozenset({media.host}))
        for path in ("/out", "/inside"):
            assert "at a private address" in why_not(media.url + path, open_to_all)
        media.asked.clear()
        assert "URLs begin with http: or https:" in why_not(f"{media.url}/file", allowed(media))
        assert not other.asked


def test_three_redirects_and_no_more(media: MediaServer) -> None:
    media.redirects |= {"/3": "2", "/2": "/1", "/1": f"{media.url}/picture.png", "/round": "/round"}
    np.testing.assert_array_equal(read_image(f"{media.url}/3", access=allowed(media)), PICTURE)
    media.asked.clear()
    assert "more than 3 redirects" in why_not(f"{media.url}/round", allowed(media))
    assert len(media.asked) == 4


def test_where_no_url_is_fetched(media: MediaServer) -> None:
    assert "URLs are not fetched here" in why_not(f"{media.url}/picture.png", NOTHING)
    assert not media.asked


def test_the_list_of_hosts(media: MediaServer, names: PLACES) -> None:
    names["media.example"] = [PUBLIC]
    names["trap.example"] = ["127.0.0.1"]
    port = media.host.rpartition(":")[2]
    access = Access(hosts=frozenset({"media.example:1", "trap.example:" + port}))
    for url in (f"http://other.example:{port}/", "http://media.example/", "http://media.example.evil.example:1/"):
        assert "not among the hosts" in why_not(url, access)
    assert "at a private address" in why_not(f"http://trap.example:{port}/", access)
    both = Access(private_hosts=frozenset({f"trap.example:{port}"}))
    np.testing.assert_array_equal(read_image(f"http://TRAP.example.:{port}/picture.png", access=both), PICTURE)
    assert media.last["host"] == f"trap.example:{port}"


def test_a_list_of_what_are_no_hosts() -> None:
    for host in ("http://media.example", "Media.example", "media.example/path", "", "*.example", "::1"):
        with pytest.raises(ValueError, match="is no host"):
            Access(hosts=frozenset({host}))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://media.example/x.png", "ftp: URLs begin with http: or https:"),
        ("file:///etc/passwd", "file: URLs begin with"),
        ("gopher://media.example/", "gopher: URLs begin with"),
        ("http://user:secret@media.example/", "a user name or a password"),
        ("http://media.example\\@127.0.0.1/", "a user name or a password"),
        ("http://media.example/a b", "none of them blank"),
        ("http://media.example/a\r\nHost: other", "none of them blank"),
        ("http://media.exa\tmple/", "none of them blank"),
        ("http://media.example:0/", "no host and port"),
        ("http://media.example:99999/", "no host and port"),
        ("http://media.example:x/", "no host and port"),
        ("http:///x.png", "no host and port"),
        ("http://" + "a" * 70 + ".example/", "no host and port"),
        ("http://[::1/", "Invalid IPv6 URL"),
        ("http://media.example/" + "a" * 9000, "at most 8192 characters"),
    ],
)
def test_urls_that_are_none(url: str, why: str, names: PLACES) -> None:
    names["media.example"] = ["127.0.0.1"]
    said = why_not(url, IN_PROCESS)
    assert why in said
    assert "secret" not in said


def test_queries_are_not_repeated_in_errors(media: MediaServer) -> None:
    said = why_not(f"{media.url}/missing?token=secret", allowed(media))
    assert "answered 404" in said
    assert "secret" not in said


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_bodies_end_in_three_ways(media: MediaServer) -> None:
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PNG), PNG)
    media.raw |= {"/chunked": CHUNKED + whole, "/ended": HEAD + b"\r\n" + PNG}
    for path in ("/picture.png", "/chunked", "/ended"):
        np.testing.assert_array_equal(read_image(media.url + path, access=allowed(media)), PICTURE, err_msg=path)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (HEAD + b"Content-Length: 5000\r\n\r\n", "has 5000 bytes, more than 4000"),
        (HEAD + b"\r\n" + bytes(5000), "has more than 4000 bytes"),
        (CHUNKED + b"1388\r\n" + bytes(5000) + b"\r\n0\r\n\r\n", "has more than 4000 bytes"),
        (HEAD + b"Content-Length: 100\r\n\r\nshort", "ended before the answer did"),
        (CHUNKED + b"5\r\nshort", "ended before the answer did"),
        (b"", "ended before the answer did"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is no HTTP"),
        (HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n", "its headers have more than 65536 bytes"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n.", "is sent compressed"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "answered 204"),
        (b"HTTP/1.1 500 Oh\r\nLocation: /picture.png\r\nContent-Length: 0\r\n\r\n", "answered 500"),
        (HEAD + b"Content-Length: 0\r\n\r\n", "is empty"),
    ],
)
def test_answers_that_are_refused(media: MediaServer, answer: bytes, why: str) -> None:
    media.raw["/"] = answer
    assert why in why_not(media.url, allowed(media), MediaLimits(bytes=4000))
    assert media.asked == ["/"]


@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\nsome"])
def test_who_is_slow_is_left(media: MediaServer, answer: bytes) -> None:
    media.raw["/slow"] = answer
    media.waits.add("/slow")
    said = why_not(f"{media.url}/slow", allowed(media), MediaLimits(fetch_seconds=0.2))
    assert "timed out" in said or "took too long" in said


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    access = Access(private_hosts=frozenset({f"127.0.0.1:{port}"}))
    assert "refused" in why_not(f"http://127.0.0.1:{port}/", access)


def test_https_proves_the_name(tmp_path: Path, names: PLACES, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names_it = ("-subj", "/CN=media.example", "-addext", "subjectAltName=DNS:media.example")
    command = ["openssl", "req", "-x509", *curve, *names_it, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names |= {"media.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    with serving_media(context) as media:
        media.files["/picture.png"] = PNG
        port = media.host.rpartition(":")[2]
        hosts = frozenset({f"media.example:{port}", f"other.example:{port}"})
        access = Access(private_hosts=hosts)
        assert "CERTIFICATE_VERIFY_FAILED" in why_not(f"https://media.example:{port}/picture.png", access)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        np.testing.assert_array_equal(read_image(f"https://media.example:{port}/picture.png", access=access), PICTURE)
        assert "CERTIFICATE_VERIFY_FAILED" in why_not(f"https://other.example:{port}/picture.png", access)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("::ffff:8.8.8.8", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("127.255.255.255", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.0.0.1", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("192.168.0.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.255.255.250", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("100::1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("2002:7f00:1::", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("ff0e::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public
