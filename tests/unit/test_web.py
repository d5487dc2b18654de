# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.web: what is asked is answered, and no client can hurt."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from dynamosd import web
from dynamosd.errors import DynamosError, InvalidInput
from dynamosd.web import CONNECTIONS, WebServer, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator


class Answers:
    """What the server shows; a test may change it."""

    def __init__(self) -> None:
        """Be ready."""
        self.ready = True

    def text(self) -> bytes:
        """Give a page."""
        return b"dynamos_build_info 1.0\n"


@pytest.fixture
def answers() -> Answers:
    """Give what the server shows."""
    return Answers()


@pytest.fixture
def server(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """Run a server on a port of the system's choice, which cuts nobody off for being slow."""
    monkeypatch.setattr(web, "DEADLINE_SECONDS", 3600.0)
    monkeypatch.setattr(web._Handler, "timeout", 3600.0)
    server = WebServer(("127.0.0.1", 0), answers.text, lambda: answers.ready)
    yield server
    server.close()


def get(server: WebServer, path: str) -> tuple[int, bytes, str]:
    """Ask; give status, body and type."""
    url = f"http://127.0.0.1:{server.port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers["Content-Type"]


def connect(server: WebServer) -> socket.socket:
    """Connect, and say nothing."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def get_at_last(server: WebServer, path: str) -> bytes:
    """Ask until there is a free connection; pytest's own deadline ends it."""
    while True:
        with contextlib.suppress(OSError):
            return get(server, path)[1]


def test_metrics(server: WebServer) -> None:
    status, body, kind = get(server, "/metrics?x=1")
    assert (status, body) == (200, b"dynamos_build_info 1.0\n")
    assert kind.startswith("text/plain; version=0.0.4")


def test_health(server: WebServer, answers: Answers) -> None:
    assert get(server, "/-/healthy")[:2] == (200, b"healthy\n")
    assert get(server, "/-/ready")[:2] == (200, b"ready\n")
    answers.ready = False
    assert get(server, "/-/ready")[:2] == (503, b"not ready\n")
    assert get(server, "/-/healthy")[0] == 200
    assert get(server, "/")[0] == 200
    assert get(server, "/etc/passwd")[0] == 404


def test_other_methods_are_refused(server: WebServer) -> None:
    with connect(server) as client:
        client.sendall(b"POST /metrics HTTP/1.0\r\n\r\n")
        assert b"501" in client.recv(100)


def test_client_that_connects_and_hangs_does_not_keep_others_out(server: WebServer) -> None:
    with connect(server):
        assert get(server, "/metrics")[0] == 200


def test_too_many_clients_are_turned_away_and_the_rest_go_on(server: WebServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(connect(server))
        with connect(server) as late:
            late.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert late.recv(100) == b""
    assert get_at_last(server, "/metrics")


def test_clients_that_drip_are_cut_off(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "DEADLINE_SECONDS", 0.0)
    server = WebServer(("127.0.0.1", 0), answers.text, lambda: True)
    with connect(server) as client:
        client.sendall(b"GET /met")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    server.close()


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\n\n\n", b"GET\r\n\r\n", b"\xff" * 70_000])
def test_garbage(server: WebServer, garbage: bytes) -> None:
    with connect(server) as client, contextlib.suppress(OSError):
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert get_at_last(server, "/-/healthy") == b"healthy\n"


def test_port_in_use(server: WebServer, answers: Answers) -> None:
    with pytest.raises(DynamosError, match="cannot listen on") as caught:
        WebServer(("127.0.0.1", server.port), answers.text, lambda: True)
    assert "--metrics-address" in caught.value.hint


def test_host_that_is_none(answers: Answers) -> None:
    with pytest.raises(DynamosError, match="cannot listen"):
        WebServer(("no such host", 0), answers.text, lambda: True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9947", ("127.0.0.1", 9947)),
        ("[::1]:80", ("::1", 80)),
        (":9947", ("", 9947)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "9947", "localhost", "localhost:", "a:x", "a:70000", "a:-1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not an address"):
        parse_address(text)
