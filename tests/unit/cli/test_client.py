# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.cli.client: what is asked is done once or not at all, and who asked learns which."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dynamosd.api import handler
from dynamosd.api.documents import View
from dynamosd.api.handler import Shown
from dynamosd.api.server import ApiServer
from dynamosd.cli import client, output
from dynamosd.cli.client import ask
from dynamosd.console import INTERRUPTED
from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable
from dynamosd.files import short_name
from dynamosd.requests import MAX_WAITING, Asker, Inbox
from dynamosd.status import SOCKET
from tests.unit.cli.test_cli import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dynamosd.requests import Json

PATIENCE = 120.0
"""Seconds in which whoever shall answer has done so, even on a busy machine."""
RESUME: Json = {"command": "resume"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a run-time folder whose name is too long for a socket's address."""
    made = tmp_path / ("long" * 30)
    made.mkdir()
    return made


@pytest.fixture
def inbox() -> Inbox:
    """Give that of the daemon."""
    return Inbox()


@pytest.fixture
def server(folder: Path, inbox: Inbox) -> Iterator[ApiServer]:
    """Run the server of a daemon, whose loop is the test."""
    shown = Shown(bytes, lambda: True, lambda: View(folder))
    made = ApiServer(("127.0.0.1", 0), folder, shown, inbox)
    yield made
    with contextlib.suppress(RuntimeError):
        made.close()


@pytest.fixture
def served(server: ApiServer, inbox: Inbox) -> Iterator[Callable[[Json | DynamosError], None]]:
    """Serve the inbox in another thread, with one answer, until the test is over."""
    assert server.port
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(answer: Json | DynamosError) -> None:
        def run() -> None:
            while not over.is_set():
                for request in inbox.take():
                    inbox.answer(request, answer)
                time.sleep(0.001)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield serve
    over.set()
    for thread in threads:
        thread.join()


def test_whatever_is_there_in_its_place_cannot_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Unreachable, match="cannot be asked: Not a directory"):
        ask(file, RESUME, PATIENCE)


def test_answer_comes_back(folder: Path, served: Callable[[Json | DynamosError], None]) -> None:
    served({"done": True})
    assert ask(folder, RESUME, PATIENCE) == {"done": True}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("no", hint="h"), 6),
        (InvalidInput("no", hint="h"), 1),
        (Unreachable("no", hint="h"), 5),
        (DynamosError("no", hint="h"), 1),
    ],
)
def test_error_comes_back_as_itself(
    folder: Path, served: Callable[[Json | DynamosError], None], error: DynamosError, code: int
) -> None:
    served(error)
    with pytest.raises(type(error), match="no") as caught:
        ask(folder, RESUME, PATIENCE)
    assert type(caught.value) is type(error)
    assert (caught.value.exit_code, caught.value.hint) == (code, "h")


# --------------------------------------------------------------------- time-outs and Ctrl-C


@pytest.mark.usefixtures("server")
def test_request_that_nobody_takes_is_withdrawn(folder: Path, inbox: Inbox) -> None:
    with pytest.raises(Unreachable, match="it is withdrawn"):
        ask(folder, RESUME, 0.5)
    assert inbox.take() == []


def late(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Have the time be over at once; ``meanwhile`` comes first."""

    def wait(*_: object) -> None:
        meanwhile()

    monkeypatch.setattr(client, "_wait", wait)


@pytest.mark.usefixtures("server")
def test_request_that_is_taken_and_not_answered(
    folder: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(monkeypatch, inbox.take)
    with pytest.raises(Unreachable, match="has taken the request, and not answered") as caught:
        ask(folder, RESUME, PATIENCE)
    assert "history" in caught.value.hint


@pytest.mark.usefixtures("server")
def test_answer_that_came_while_nobody_could_look(
    folder: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(monkeypatch, lambda: inbox.answer(inbox.take()[0], {"done": True}))
    assert ask(folder, RESUME, PATIENCE) == {"done": True}


@pytest.mark.usefixtures("server")
def test_server_that_says_too_early_that_there_is_no_answer_is_asked_again(
    folder: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, seen = client._Asked.look, []

    def impatient(self: client._Asked, seconds: int, timeout: float) -> Json:
        seen.append(seconds)
        found = look(self, 0, timeout)
        if len(seen) == 1:
            inbox.answer(inbox.take()[0], {"done": True})
        return found

    monkeypatch.setattr(client._Asked, "look", impatient)
    assert ask(folder, RESUME, PATIENCE) == {"done": True}
    assert seen == [120, 120]


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.usefixtures("server")
def test_interrupted_command_withdraws(
    folder: Path, inbox: Inbox, taken: int, capfd: pytest.CaptureFixture[str]
) -> None:
    # Who runs the tests in the background may have them ignore it.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "dynamosd.cli", "resume"]
    command += ["--runtime-dir", str(folder)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        while not inbox.waiting:
            assert process.poll() is None
            time.sleep(0.001)
        # It has the answer to its first question, and asks the second one.
        (entry,) = inbox._entries.values()
        while not entry.listeners:
            assert process.poll() is None
            time.sleep(0.001)
        assert len(inbox.take() if taken else []) == taken
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == INTERRUPTED
    assert inbox.take() == []
    said = capfd.readouterr().err
    assert ("the daemon has taken the request" if taken else "the request is withdrawn") in said


# --------------------------------------------------------------- daemons that are not there


def listen(folder: Path) -> socket.socket:
    """Listen as a daemon that stands still does."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_name(folder) as name:
        made.bind(f"{name}/{SOCKET}")
    made.listen(1)
    return made


def test_who_waits_is_told_for_what(
    folder: Path,
    served: Callable[[Json | DynamosError], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, said = threading.Event(), list[str]()

    def tell(text: str) -> None:
        said.append(text)
        told.set()

    def answer_then() -> None:
        assert told.wait(PATIENCE)
        served({})

    monkeypatch.setattr(output, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(output, "warn", tell)
    threading.Thread(target=answer_then, daemon=True).start()
    assert ask(folder, RESUME, PATIENCE) == {}
    assert said == ["waiting for the daemon, 120 s at most; Ctrl-C withdraws the request"]


def test_no_daemon(folder: Path) -> None:
    with pytest.raises(Unreachable, match="no daemon is running"):
        ask(folder / "nowhere", RESUME, 1.0)
    with pytest.raises(Unreachable, match="no daemon is running"):
        ask(folder, RESUME, 1.0)
    # Killed: its socket is left behind.
    listen(folder).close()
    with pytest.raises(Unreachable, match="no daemon is running"):
        ask(folder, RESUME, 1.0)


def test_daemon_that_stands_still(folder: Path) -> None:
    with listen(folder), pytest.raises(Unreachable, match="does not answer"):
        ask(folder, RESUME, 0.1)


def test_daemon_that_stands_still_when_it_has_the_request(
    folder: Path, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    late(monkeypatch, lambda: server._loop.call_soon_threadsafe(free.wait))
    monkeypatch.setattr(client, "_WITHDRAW_SECONDS", 0.1)
    with pytest.raises(Unreachable, match="it may yet do what was asked"):
        ask(folder, RESUME, PATIENCE)
    free.set()


def knock(client: socket.socket, folder: Path) -> int:
    """Connect, if that can be done at once; give the errno."""
    client.setblocking(False)
    with short_name(folder) as name:
        return client.connect_ex(f"{name}/{SOCKET}")


def test_daemon_that_has_too_many_clients(folder: Path) -> None:
    with listen(folder) as listening, contextlib.ExitStack() as stack:
        listening.listen(0)
        while knock(stack.enter_context(socket.socket(socket.AF_UNIX)), folder) == 0:
            pass
        with pytest.raises(Unreachable, match="too many clients"):
            ask(folder, RESUME, PATIENCE)


def test_daemon_that_goes_away(folder: Path, server: ApiServer, inbox: Inbox) -> None:
    def leave() -> None:
        while not inbox.take():
            time.sleep(0.001)
        server.close()

    thread = threading.Thread(target=leave)
    thread.start()
    with pytest.raises(Unreachable, match=r"went away|no daemon"):
        ask(folder, RESUME, PATIENCE)
    thread.join()


def test_daemon_of_somebody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(client._Connection, "connect", refuse)
    with pytest.raises(Unreachable, match="not ours to ask") as caught:
        ask(folder, RESUME, 1.0)
    assert "root" in caught.value.hint


@pytest.mark.usefixtures("server")
def test_older_daemon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "ACTIONS", ())
    with pytest.raises(Unreachable, match="takes no requests") as caught:
        ask(folder, RESUME, PATIENCE)
    assert "older" in caught.value.hint


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[]", b""])
def test_what_is_no_daemon(folder: Path, answer: bytes) -> None:
    def serve(listening: socket.socket) -> None:
        served, _ = listening.accept()
        with served:
            served.recv(1000)
            served.sendall(answer)

    with listen(folder) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(Unreachable, match="went away"):
            ask(folder, RESUME, PATIENCE)
        thread.join()


@pytest.mark.usefixtures("server")
def test_request_that_is_turned_away(folder: Path, inbox: Inbox) -> None:
    with pytest.raises(InvalidInput, match="command is one of") as caught:
        ask(folder, {"command": "reboot"}, PATIENCE)
    assert "older" in caught.value.hint
    with pytest.raises(InvalidInput, match="needs id") as caught:
        ask(folder, {"command": "accept"}, PATIENCE)
    assert caught.value.hint == ""
    for _ in range(MAX_WAITING):
        inbox.put(Asker(os.getuid(), os.getpid()), RESUME)
    with pytest.raises(Unreachable, match="32 requests wait"):
        ask(folder, RESUME, PATIENCE)
    with pytest.raises(DynamosError, match="at most 16384 bytes"):
        ask(folder, {"command": "resume", "policy": "x" * 20_000}, PATIENCE)
