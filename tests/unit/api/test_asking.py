# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.api.asking: requests get into the inbox, out of it, and are withdrawn."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from dynamosd.api import connection, peer
from dynamosd.api.connection import Connection
from dynamosd.errors import Refused
from dynamosd.requests import MAX_BYTES, MAX_WAITING, Asker, Inbox, Outcome
from tests.unit.api.local import REQUESTS, ask, connect, post
from tests.unit.api.test_server import get

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.api.server import ApiServer
    from tests.unit.api.conftest import Answers

pytestmark = pytest.mark.usefixtures("server")

RESUME = {"command": "resume"}
PROBLEM = "application/problem+json"


@pytest.fixture
def inbox(answers: Answers) -> Inbox:
    """Give that of the server."""
    return answers.inbox


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; pytest's own deadline ends it."""
    while not condition():
        time.sleep(0.001)


def raw(header: bytes) -> bytes:
    """Give a request to resume as it is on the line."""
    head = f"POST {REQUESTS} HTTP/1.1\r\nHost: x\r\nContent-Length: 21\r\n".encode()
    return head + header + b'\r\n\r\n{"command": "resume"}'


def in_thread(found: list[Any], action: Callable[[], Any]) -> threading.Thread:
    """Begin something that waits."""
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    return thread


def test_request_is_taken_in_and_looked_at(inbox: Inbox, tmp_path: Path) -> None:
    status, found, headers = post(tmp_path, RESUME)
    assert (status, found["kind"], found["state"]) == (202, "Request", "waiting")
    where = headers["Location"]
    assert where == f"{REQUESTS}/{found['id']}"
    (request,) = inbox.take()
    assert (request.id, request.said) == (found["id"], RESUME)
    assert ask(tmp_path, "GET", where)[1]["state"] == "taken"
    inbox.answer(request, {"ended": []})
    status, found, _ = ask(tmp_path, "GET", where)
    assert (status, found["state"], found["answer"]) == (200, "answered", {"ended": []})


def test_refusal_is_an_answer(inbox: Inbox, tmp_path: Path) -> None:
    where = post(tmp_path, RESUME)[2]["Location"]
    inbox.answer(inbox.take()[0], Refused("no", hint="h"))
    status, found, _ = ask(tmp_path, "GET", where)
    assert (status, found["answer"]) == (200, None)
    assert found["error"] == {"code": "refused", "message": "no", "hint": "h"}


def test_who_asks_is_who_the_kernel_says(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "proc" / str(os.getpid()) / "loginuid"
    login.parent.mkdir(parents=True)
    monkeypatch.setattr(peer, "PROC", tmp_path / "proc")
    logins = ["1001", "4294967295", "nonsense", None]
    for each in logins:
        login.unlink(missing_ok=True)
        if each is not None:
            login.write_text(each)
        post(tmp_path, RESUME)
    found = [each.by for each in inbox.take()]
    assert found == [Asker(os.geteuid(), os.getpid(), each) for each in (1001, None, None, None)]


# -------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize("preference", ["wait=60", "respond-async, Wait = 60; x=y", 'wait="99"'])
def test_who_would_wait_gets_the_answer(inbox: Inbox, tmp_path: Path, preference: str) -> None:
    found: list[Any] = []
    thread = in_thread(found, lambda: post(tmp_path, RESUME, Prefer=preference))
    wait_for(lambda: inbox.waiting)
    inbox.answer(inbox.take()[0], {"done": True})
    thread.join()
    ((status, document, headers),) = found
    assert (status, document["answer"]) == (200, {"done": True})
    assert headers["Preference-Applied"] == "wait=60"


def test_who_looks_may_wait_as_well(inbox: Inbox, tmp_path: Path) -> None:
    where = post(tmp_path, RESUME)[2]["Location"]
    found: list[Any] = []
    threads = [
        in_thread(found, lambda: ask(tmp_path, "GET", where, Prefer="wait=60")) for _ in range(8)
    ]
    inbox.answer(inbox.take()[0], {"done": True})
    for each in threads:
        each.join()
    assert [document["answer"] for _, document, _ in found] == [{"done": True}] * 8


def test_time_that_is_over(inbox: Inbox, tmp_path: Path) -> None:
    status, found, headers = post(tmp_path, RESUME, Prefer="wait=1")
    assert (status, found["state"]) == (202, "waiting")
    assert headers["Location"].endswith(found["id"])
    assert inbox.waiting == 1


@pytest.mark.parametrize("preference", ["wait=soon", "wait=-1", "wait", "wait=1.5", "wait=0"])
def test_who_does_not_say_how_long_does_not_wait(
    inbox: Inbox, tmp_path: Path, preference: str
) -> None:
    assert post(tmp_path, RESUME, Prefer=preference)[0] == 202
    assert inbox.waiting == 1


def test_who_waits_has_a_later_deadline(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[float] = []
    allow = Connection.allow

    def spy(self: Connection, seconds: float) -> None:
        allowed.append(seconds)
        allow(self, seconds)

    monkeypatch.setattr(Connection, "allow", spy)
    where = post(tmp_path, RESUME)[2]["Location"]
    inbox.answer(inbox.take()[0], {})
    ask(tmp_path, "GET", where, Prefer="wait=7")
    assert allowed == [7]


def test_deadline_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(seconds: float) -> bool:
        monkeypatch.setattr(connection, "DEADLINE_SECONDS", 0.0)
        made = Connection(Mock(), loop=asyncio.get_running_loop())
        transport = made.transport = Mock()
        made.begin(transport)
        made.allow(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
        return bool(transport.abort.called)

    assert asyncio.run(play(0.0))
    assert not asyncio.run(play(3600.0))


def test_server_that_is_slow_does_not_hold_the_loop(
    inbox: Inbox, server: ApiServer, tmp_path: Path
) -> None:
    found: list[Any] = []
    thread = in_thread(found, lambda: post(tmp_path, RESUME, Prefer="wait=60"))
    wait_for(lambda: inbox.waiting)
    free, is_held = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        free.wait()

    server._loop.call_soon_threadsafe(hold)
    is_held.wait()
    # The loop's part, while the server's thread stands still.
    inbox.answer(inbox.take()[0], {"done": True})
    assert found == []
    free.set()
    thread.join()
    assert found[0][1]["answer"] == {"done": True}


# ------------------------------------------------------------------------------ withdrawing


def test_withdrawn_request_is_not_done(inbox: Inbox, tmp_path: Path) -> None:
    where = post(tmp_path, RESUME)[2]["Location"]
    assert ask(tmp_path, "DELETE", where)[:2] == (204, None)
    assert inbox.take() == []
    for method in ("GET", "DELETE"):
        status, found, headers = ask(tmp_path, method, where)
        assert (status, headers["Content-Type"]) == (404, PROBLEM)
        assert found["detail"]


def test_request_that_is_taken_is_not_withdrawn(inbox: Inbox, tmp_path: Path) -> None:
    where = post(tmp_path, RESUME)[2]["Location"]
    inbox.answer(inbox.take()[0], {})
    status, found, _ = ask(tmp_path, "DELETE", where)
    assert (status, "has taken" in found["detail"]) == (409, True)


def test_who_waits_for_what_is_withdrawn_learns_of_it(inbox: Inbox, tmp_path: Path) -> None:
    where = post(tmp_path, RESUME)[2]["Location"]
    found: list[Any] = []
    thread = in_thread(found, lambda: ask(tmp_path, "GET", where, Prefer="wait=60"))
    entry = inbox._entries[where.rpartition("/")[2]]
    wait_for(lambda: entry.listeners)
    assert ask(tmp_path, "DELETE", where)[0] == 204
    thread.join()
    assert found[0][0] == 404


def test_client_that_hangs_up_while_it_waits_withdraws(inbox: Inbox, tmp_path: Path) -> None:
    with connect(tmp_path) as client:
        client.sendall(raw(b"Prefer: wait=60"))
        wait_for(lambda: inbox.waiting)
    wait_for(lambda: not inbox.waiting)
    assert inbox.take() == []
    (withdrawn,), _ = inbox.take_undone()
    assert (withdrawn.said, withdrawn.result) == (RESUME, "withdrawn")


def test_request_of_a_client_that_has_gone_is_not_taken_in(
    inbox: Inbox, server: ApiServer, tmp_path: Path
) -> None:
    free = threading.Event()
    server._loop.call_soon_threadsafe(free.wait)
    with connect(tmp_path) as client:
        client.sendall(raw(b"Accept: */*"))
    free.set()
    # What came after it is answered after it.
    for _ in range(5):
        assert ask(tmp_path, "GET", f"{REQUESTS}/none")[0] == 404
    assert inbox.waiting == 0


# ----------------------------------------------------------------------------- turned away


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", REQUESTS), ("GET", f"{REQUESTS}/x"), ("DELETE", f"{REQUESTS}/x"), ("PUT", REQUESTS)],
)
def test_nothing_is_asked_at_the_metrics_address(
    inbox: Inbox, server: ApiServer, method: str, path: str
) -> None:
    status, body, kind = get(server, path, method)
    assert (status, kind) == (403, PROBLEM)
    assert b"at the Unix socket" in body
    assert (inbox.waiting, inbox.take_undone()) == (0, ([], 0))


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"command": "reboot"}, "command"),
        ({"command": "resume", "for": 1}, "for"),
        ({"command": "accept"}, "id"),
        ([], ""),
    ],
)
def test_wrong_body_names_the_field(
    inbox: Inbox, tmp_path: Path, said: dict[str, Any], field: str
) -> None:
    status, found, headers = post(tmp_path, said)
    assert (status, headers["Content-Type"], found["field"]) == (422, PROBLEM, field)
    assert inbox.waiting == 0
    (noted,), _ = inbox.take_undone()
    assert (noted.by.uid, noted.result) == (os.geteuid(), "invalid")
    assert noted.error.startswith(field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"pause",
        b"\xff",
        b'{"command": "pause", "for": NaN}',
        b'{"command": "pause", "for": -Infinity}',
        b'{"command": "pause"',
        b"[" * MAX_BYTES,
        b"1" * MAX_BYTES,
    ],
)
def test_what_is_no_json(inbox: Inbox, tmp_path: Path, body: bytes) -> None:
    status, found, headers = ask(tmp_path, "POST", REQUESTS, body)
    assert (status, headers["Content-Type"]) == (400, PROBLEM)
    assert "JSON" in found["detail"]
    ((noted,), _), waiting = inbox.take_undone(), inbox.waiting
    assert (noted.said, noted.result, waiting) == ({}, "invalid", 0)


def test_body_that_is_too_long(inbox: Inbox, tmp_path: Path) -> None:
    status, found, _ = ask(tmp_path, "POST", REQUESTS, b" " * (MAX_BYTES + 1))
    assert (status, found["detail"]) == (413, "a request has at most 16384 bytes")
    assert inbox.waiting == 0


def test_body_that_is_packed_is_not_unpacked(inbox: Inbox, tmp_path: Path) -> None:
    body = gzip.compress(b'{"command": "resume"}' + b" " * 10_000_000)
    assert ask(tmp_path, "POST", REQUESTS, body, **{"Content-Encoding": "gzip"})[0] in {400, 413}
    assert inbox.waiting == 0


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"Content-Length: 100\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
    ],
)
def test_body_that_is_broken(
    inbox: Inbox, tmp_path: Path, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(tmp_path) as client:
        client.sendall(f"POST {REQUESTS} HTTP/1.1\r\nHost: x\r\n".encode() + rest)
        client.shutdown(1)
        head = b"".join(iter(lambda: client.recv(4096), b""))
    assert head == b"" or b" 400 " in head.splitlines()[0]
    assert (inbox.waiting, caplog.records) == (0, [])


def test_when_enough_wait_the_next_is_turned_away(inbox: Inbox, tmp_path: Path) -> None:
    for _ in range(MAX_WAITING):
        assert post(tmp_path, RESUME)[0] == 202
    status, found, headers = post(tmp_path, RESUME)
    assert (status, headers["Content-Type"], headers["Retry-After"]) == (503, PROBLEM, "1")
    assert "32 requests wait" in found["detail"]
    me = Asker(os.geteuid(), os.getpid(), inbox.take()[0].by.login)
    assert inbox.take_undone() == ([Outcome(me, RESUME, "refused", found["detail"])], 0)
    assert post(tmp_path, RESUME)[0] == 202


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", REQUESTS, "POST"),
        ("PUT", REQUESTS, "POST"),
        ("POST", f"{REQUESTS}/x", "GET, DELETE"),
    ],
)
def test_other_methods(tmp_path: Path, method: str, path: str, allowed: str) -> None:
    status, _, headers = ask(tmp_path, method, path)
    assert (status, headers["Allow"]) == (405, allowed)


def test_query_is_a_slip(inbox: Inbox, tmp_path: Path) -> None:
    assert ask(tmp_path, "POST", f"{REQUESTS}?wait=1", '{"command": "resume"}')[0] == 400
    assert inbox.waiting == 0


def test_many_ask_at_once(inbox: Inbox, tmp_path: Path) -> None:
    """Those who hang in mid-request keep nobody out, and each gets an answer of its own."""
    found: list[Any] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            for each in inbox.take():
                inbox.answer(each, {"policy": each.said["policy"]})

    loop = threading.Thread(target=serve)
    loop.start()

    def say(number: int) -> tuple[int, Any]:
        said = {"command": "resume", "policy": str(number)}
        return number, post(tmp_path, said, Prefer="wait=60")

    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(tmp_path)).sendall(b"POST /api")
        threads = [in_thread(found, partial(say, each)) for each in range(30)]
        for each in threads:
            each.join()
    over.set()
    loop.join()
    assert len(found) == 30
    for number, (status, document, _) in found:
        assert (status, document["answer"]) == (200, {"policy": str(number)})
