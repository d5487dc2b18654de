# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.api.server: it answers, and no client keeps it from answering others."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from dynamosd.api import connection
from dynamosd.api.address import parse_address
from dynamosd.api.connection import CONNECTIONS
from dynamosd.api.documents import View
from dynamosd.api.server import ApiServer
from dynamosd.errors import DynamosError, InvalidInput
from dynamosd.status import SOCKET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.api.conftest import Answers


def get(server: ApiServer, path: str, method: str = "GET") -> tuple[int, bytes, str]:
    """Ask at the metrics' address; give status, body and type."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    return _ask(client, path, method)


def head(server: ApiServer, path: str) -> http.client.HTTPMessage:
    """Ask for the headers of an answer."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(client):
        client.request("HEAD", path)
        with client.getresponse() as answer:
            return answer.headers


def get_local(folder: Path, path: str, method: str = "GET") -> tuple[int, bytes, str]:
    """Ask at the socket."""
    client = http.client.HTTPConnection("dynamosd")
    client.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.sock.settimeout(60)
    found = os.open(folder, os.O_PATH)
    client.sock.connect(f"/proc/self/fd/{found}/{SOCKET}")
    os.close(found)
    return _ask(client, path, method)


def _ask(client: http.client.HTTPConnection, path: str, method: str) -> tuple[int, bytes, str]:
    with contextlib.closing(client):
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, answer.read(), answer.headers["Content-Type"]


def connect(server: ApiServer) -> socket.socket:
    """Connect, and say nothing."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def get_at_last(server: ApiServer, path: str) -> bytes:
    """Ask until there is a free connection; pytest's own deadline ends it."""
    while True:
        with contextlib.suppress(OSError):
            return get(server, path)[1]


def test_metrics(server: ApiServer) -> None:
    status, body, kind = get(server, "/metrics?x=1")
    assert (status, body) == (200, b"dynamos_build_info 1.0\n")
    assert kind.startswith("text/plain; version=0.0.4")


def test_health(server: ApiServer, answers: Answers) -> None:
    assert get(server, "/-/healthy")[:2] == (200, b"healthy\n")
    assert get(server, "/-/ready")[:2] == (200, b"ready\n")
    answers.ready = False
    assert get(server, "/-/ready")[:2] == (503, b"not ready\n")
    assert get(server, "/-/healthy")[0] == 200
    assert get(server, "/")[0] == 200
    assert get(server, "/etc/passwd")[0] == 404


def test_other_methods_are_refused(server: ApiServer) -> None:
    with connect(server) as client:
        client.sendall(b"POST /metrics HTTP/1.0\r\n\r\n")
        assert b"405" in client.recv(100)


def test_client_that_connects_and_hangs_does_not_keep_others_out(server: ApiServer) -> None:
    with connect(server):
        assert get(server, "/metrics")[0] == 200


def test_too_many_clients_are_turned_away_and_the_rest_go_on(server: ApiServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(connect(server))
        with connect(server) as late:
            late.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert late.recv(100) == b""
    assert get_at_last(server, "/metrics")


def test_clients_that_drip_are_cut_off(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DEADLINE_SECONDS", 0.0)
    server = ApiServer(("127.0.0.1", 0), tmp_path, answers.shown, answers.inbox)
    with connect(server) as client:
        client.sendall(b"GET /met")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    server.close()


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\n\n\n", b"GET\r\n\r\n", b"\xff" * 70_000])
def test_garbage(server: ApiServer, garbage: bytes) -> None:
    with connect(server) as client, contextlib.suppress(OSError):
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert get_at_last(server, "/-/healthy") == b"healthy\n"


def test_port_in_use(server: ApiServer, answers: Answers, tmp_path: Path) -> None:
    with pytest.raises(DynamosError, match="cannot listen on") as caught:
        ApiServer(("127.0.0.1", server.port), tmp_path, answers.shown, answers.inbox)
    assert "--metrics-address" in caught.value.hint


def test_host_that_is_none(answers: Answers, tmp_path: Path) -> None:
    with pytest.raises(DynamosError, match="cannot listen"):
        ApiServer(("no such host", 0), tmp_path, answers.shown, answers.inbox)


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


API = "/api/v1alpha1"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("status", "DaemonStatus"),
        ("policies", "PolicyList"),
        ("subsystems", "SubsystemList"),
        ("subsystems/readahead", "Subsystem"),
        ("timeline", "Timeline"),
        ("journal", "JournalList"),
    ],
)
def test_documents(server: ApiServer, answers: Answers, path: str, kind: str) -> None:
    answers.journal.chmod(0o644)
    for status, body, form in (
        get(server, f"{API}/{path}"),
        get_local(answers.journal.parent, f"{API}/{path}"),
    ):
        assert (status, form) == (200, "application/json")
        assert json.loads(body)["kind"] == kind


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/metrics", 405),
        ("DELETE", f"{API}/policies", 405),
        ("GET", "/etc/passwd", 404),
        ("GET", f"{API}/nothing", 404),
        ("GET", f"{API}/subsystems/none", 404),
        ("GET", f"{API}/journal?limit=0", 400),
        ("GET", f"{API}/journal?limit=1.5", 400),
        ("GET", f"{API}/journal?since=nan", 400),
        ("GET", f"{API}/journal?kind=a&kind=b", 400),
        ("GET", f"{API}/status?kind=a", 400),
    ],
)
def test_problems(server: ApiServer, method: str, path: str, status: int) -> None:
    found, body, form = get(server, path, method)
    assert (found, form) == (status, "application/problem+json")
    assert json.loads(body)["status"] == status
    assert json.loads(body)["detail"]


def test_before_the_first_tick_and_without_the_module(server: ApiServer, answers: Answers) -> None:
    answers.view = View(answers.journal)
    assert get(server, f"{API}/status")[0] == 503
    assert get(server, f"{API}/subsystems")[0] == 503


def test_journal_is_filtered(server: ApiServer, answers: Answers) -> None:
    def ask(query: str) -> tuple[list[float], bool]:
        found = json.loads(get_local(answers.journal.parent, f"{API}/journal?{query}")[1])
        return [each["time_seconds"] for each in found["records"]], found["complete"]

    assert server.port
    assert ask("limit=2") == ([3.0, 4.0], False)
    assert ask("since=3&kind=switch&subsystem=a") == ([3.0, 4.0], True)
    assert ask("kind=pause") == ([], True)
    answers.journal.unlink()
    assert ask("") == ([], True)


def test_journal_that_only_root_may_read_is_not_on_the_network(
    server: ApiServer, answers: Answers
) -> None:
    assert get(server, f"{API}/journal")[0] == 403
    assert get_local(answers.journal.parent, f"{API}/journal")[0] == 200


def test_socket_is_for_its_owner_and_group(answers: Answers, tmp_path: Path) -> None:
    made = ApiServer(("127.0.0.1", 0), tmp_path, answers.shown, answers.inbox)
    assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o660
    made.close()
    assert not (tmp_path / SOCKET).exists()


def test_socket_that_was_left_behind(answers: Answers, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        found = os.open(tmp_path, os.O_PATH)
        old.bind(f"/proc/self/fd/{found}/{SOCKET}")
        os.close(found)
    made = ApiServer(("127.0.0.1", 0), tmp_path, answers.shown, answers.inbox)
    assert get_local(tmp_path, "/-/healthy")[0] == 200
    made.close()


def test_many_scrape_some_hang_and_the_loop_goes_on(server: ApiServer, answers: Answers) -> None:
    """Ten hang in mid-request, fifty scrape, and whoever shows new views never meets them."""
    found: list[int] = []

    def scrape() -> None:
        found.extend(get(server, f"{API}/{what}")[0] for what in ("status", "subsystems"))
        found.append(get(server, "/metrics")[0])

    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(server)).sendall(b"GET /metrics HTTP/1.1\r\nHost: x")
        threads = [threading.Thread(target=scrape) for _ in range(50)]
        for each in threads:
            each.start()
        ticks = 0
        while any(each.is_alive() for each in threads):
            answers.view = View(answers.journal, answers.view.status, answers.view.kernel)
            ticks += 1
        for each in threads:
            each.join()
        assert ticks > 0
    assert found == [200] * 150


def read_all(client: socket.socket) -> bytes:
    """Read to the end."""
    return b"".join(iter(lambda: client.recv(4096), b""))


def test_what_is_no_http_gets_a_problem_and_is_no_event(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server) as client:
        client.sendall(b"GET / HTTP/9.x\r\n\r\n")
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert b" 400 " in head
    assert b"application/problem+json" in head
    assert json.loads(body)["detail"] == "this is no HTTP request"
    assert caplog.records == []


def test_mistake_of_ours_is_a_problem_for_programs_and_said_once(
    server: ApiServer, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    answers.view = View(answers.journal, "no JSON")
    status, body, form = get(server, f"{API}/status")
    assert (status, form) == (500, "application/problem+json")
    assert json.loads(body)["detail"] == "the daemon could not answer this"
    assert len(caplog.records) == 1
