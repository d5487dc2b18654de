# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.sources.prometheus: one number from a server, whatever the server does."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from dynamosd.model import Source
from dynamosd.sources import check_url
from dynamosd.sources.prometheus import MAX_ANSWER_BYTES, SourceError, Unanswered, fetch

TIMEOUT = 0.5
"""For questions that have no answer in time."""

PATIENCE = 60.0
"""A question is over by then, even on a busy machine."""

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(talk: Talk) -> Iterator[str]:
    """Serve one connection after the other with ``talk``; give the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            assert not thread.is_alive()


def answer(
    body: str | bytes, status: str = "200 OK", headers: str = "", heard: list[str] | None = None
) -> Talk:
    """Answer a request like that; ``heard`` gets its first line."""
    raw = body.encode() if isinstance(body, str) else body

    def talk(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request and (data := connection.recv(4096)):
            request += data
        if heard is not None:
            heard.append(request.split(b"\r\n")[0].decode())
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{headers}\r\n"
        connection.sendall(head.encode() + raw)

    return talk


def result(kind: str, value: object) -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": value}})


def sample(value: object) -> dict[str, object]:
    return {"metric": {"queue": "a"}, "value": [1.5, value]}


def ask(url: str, timeout: float = PATIENCE) -> float:
    return fetch(Source("depth", url, 'sum(queue{a="ä b"})', 15.0, 60.0, timeout))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (result("vector", [sample("12.5")]), 12.5),
        (result("scalar", [1700000000.1, "-3e2"]), -300.0),
        (result("vector", [sample("0")]), 0.0),
    ],
)
def test_one_sample_is_the_value(body: str, value: float) -> None:
    with server(answer(body)) as url:
        assert ask(url) == value


def test_the_query_is_asked_below_the_path_of_the_url() -> None:
    heard: list[str] = []
    with server(answer(result("scalar", [1, "1"]), heard=heard)) as url:
        ask(f"{url}/prefix")
    method, target, version = heard[0].split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    assert urlsplit(target).path == "/prefix/api/v1/query"
    assert parse_qs(urlsplit(target).query) == {"query": ['sum(queue{a="ä b"})']}


DEEP = "[" * 30000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (result("vector", []), "the query gives 0 samples, not one"),
        (result("vector", [sample("1"), sample("2")]), "the query gives 2 samples, not one"),
        (result("matrix", []), "the query gives a matrix, not a scalar or a vector"),
        (result("string", [1, "5"]), "the query gives a string, not a scalar or a vector"),
        (result("vector", [sample("NaN")]), "the result is NaN"),
        (result("scalar", [1, "+Inf"]), "the result is +Inf"),
        (result("scalar", [1, "many"]), "the result is not a number: 'many'"),
        (result("scalar", [1, 5]), "the answer is not one of Prometheus"),
        (result("scalar", "5"), "the answer is not one of Prometheus"),
        (result("vector", [7]), "the answer is not one of Prometheus"),
        (result("vector", {"a": 1}), "the query gives a vector, not a scalar or a vector"),
        ('{"status": "success", "data": []}', "the answer is not one of Prometheus"),
        ("[1, 2]", "the answer is not one of Prometheus"),
        ("<html>hello</html>", "the answer is not one of Prometheus"),
        (b"\xff\xfe\x00", "the answer is not one of Prometheus"),
        (DEEP, "the answer is not one of Prometheus"),
        ("9" * 5000, "the answer is not one of Prometheus"),
        ("", "the answer is not one of Prometheus"),
        ("[" + " " * MAX_ANSWER_BYTES + "]", "the answer is longer than 64 KiB"),
    ],
)
def test_what_is_not_one_number_is_no_data(body: str | bytes, reason: str) -> None:
    with server(answer(body)) as url, pytest.raises(SourceError) as caught:
        ask(url)
    assert str(caught.value) == reason
    assert not isinstance(caught.value, Unanswered)


@pytest.mark.parametrize(
    ("status", "body", "reason", "unanswered"),
    [
        ("400 Bad Request", '{"error": "parse error\\n1:2"}', "parse error 1:2", False),
        ("404 Not Found", "nothing here", "HTTP 404", False),
        ("302 Found", "", "HTTP 302: redirects are not followed", False),
        ("204 No Content", "", "HTTP 204", False),
        ("503 Service Unavailable", '{"error": "query timed out"}', "query timed out", True),
        ("200 OK", '{"status": "error", "error": "no", "data": {}}', "the server says: no", False),
    ],
)
def test_what_the_server_refuses_is_said(
    status: str,
    body: str,
    reason: str,
    unanswered: bool,  # noqa: FBT001 - a table's column
) -> None:
    headers = "Location: http://127.0.0.1:1/\r\n"
    with server(answer(body, status, headers)) as url, pytest.raises(SourceError) as caught:
        ask(url)
    assert reason in str(caught.value)
    assert isinstance(caught.value, Unanswered) is unanswered


def test_a_redirect_is_not_followed() -> None:
    heard: list[str] = []
    with server(answer(result("scalar", [1, "1"]), heard=heard)) as other:
        redirect = answer("", "307 Temporary Redirect", f"Location: {other}/\r\n")
        with server(redirect) as url, pytest.raises(SourceError, match="not followed"):
            ask(url)
    assert heard == []


def drip(connection: socket.socket, start: bytes, more: bytes) -> None:
    """Send a byte now and then, each well before a socket would have waited too long."""
    connection.sendall(start)
    end = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < end:
        connection.sendall(more)
        time.sleep(TIMEOUT / 10)


def says_nothing(connection: socket.socket) -> None:
    connection.settimeout(2 * PATIENCE)
    while connection.recv(4096):
        pass


@pytest.mark.parametrize(
    "talk",
    [
        says_nothing,
        lambda connection: drip(connection, b"", b"H"),
        lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        lambda connection: drip(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 9, b"H"),
        lambda connection: drip(
            connection, b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b" "
        ),
        lambda connection: drip(
            connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
        ),
    ],
    ids=["silent", "status", "headers", "continue", "body", "chunks"],
)
def test_a_slow_answer_is_given_up_in_time(talk: Talk) -> None:
    with server(talk) as url:
        begin = time.monotonic()
        with pytest.raises(Unanswered):
            ask(url, TIMEOUT)
        assert time.monotonic() - begin < PATIENCE


@pytest.mark.parametrize(
    "raw", [b"\0" * 100, b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200, b""]
)
def test_what_is_no_http_is_said(raw: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(raw)

    with server(talk) as url, pytest.raises(Unanswered, match=r"answers no HTTP|cannot be asked"):
        ask(url)


def test_an_endless_answer_is_cut() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)

    with server(talk) as url, pytest.raises(SourceError, match="longer than 64 KiB"):
        ask(url)


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unanswered, match="cannot be asked: Connection refused"):
        ask(f"http://127.0.0.1:{port}")


def test_a_plain_server_does_not_speak_tls() -> None:
    with server(answer("")) as url, pytest.raises(Unanswered):
        ask(url.replace("http:", "https:"), TIMEOUT)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("http://127.0.0.1:9090", "http://127.0.0.1:9090"),
        ("https://prometheus.example/prefix/", "https://prometheus.example/prefix"),
        ("http://[::1]:9090", "http://[::1]:9090"),
    ],
)
def test_urls(url: str, used: str) -> None:
    assert check_url(url) == used


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:9090", "written such as"),
        ("file:///etc/passwd", "written such as"),
        ("ftp://host", "written such as"),
        ("http://", "written such as"),
        ("http://host:99999", "written such as"),
        ("http://host:0", "written such as"),
        ("http://host:x", "written such as"),
        ("http://[::1", "written such as"),
        ("http://user:secret@host", "no user and no password"),
        ("http://host/?query=up", "ends with its path"),
        ("http://host/#top", "ends with its path"),
        ("http://host/a b", "neither spaces"),
        ("http://host/\r\nX: y", "neither spaces"),
        ("http://hést", "neither spaces"),
    ],
)
def test_urls_that_cannot_be_asked(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_url(url)
