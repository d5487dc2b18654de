# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.requests: what is asked is done once or not at all, and who asked learns which."""

from __future__ import annotations

import json
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from dynamosd import files, requests, status
from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable
from dynamosd.requests import Inbox, ask, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 120.0
"""Seconds in which whoever shall answer has done so, even on a busy machine."""


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """Give that of a daemon that runs."""
    status.write(tmp_path, {"pid": os.getpid(), "policies": []})
    made = Inbox(tmp_path)
    made.open()
    return made


@pytest.fixture
def served(inbox: Inbox) -> Iterator[Callable[[requests.Json], None]]:
    """Serve the inbox in another thread, with one answer, until the test is over."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(answer: requests.Json) -> None:
        def run() -> None:
            while not over.is_set():
                for request in inbox.take():
                    inbox.answer(request, {**answer, "said": request.said, "uid": request.uid})
                time.sleep(0.001)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield serve
    over.set()
    for thread in threads:
        thread.join()


def names(inbox: Inbox) -> list[str]:
    """Give what is in the folder."""
    return sorted(path.name for path in inbox.folder.iterdir())


def test_answer_comes_back_and_nothing_stays(
    inbox: Inbox, served: Callable[[requests.Json], None]
) -> None:
    served({"done": True})
    answer = ask(inbox.runtime_dir, {"command": "x"}, PATIENCE)
    assert (answer["done"], answer["said"]["command"]) == (True, "x")
    assert answer["uid"] == os.geteuid()
    assert names(inbox) == []


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (Refused("no", hint="h"), Refused, 6),
        (InvalidInput("no", hint="h"), InvalidInput, 1),
        (Unreachable("no", hint="h"), Unreachable, 5),
        (DynamosError("no", hint="h"), DynamosError, 1),
    ],
)
def test_error_comes_back_as_itself(
    inbox: Inbox,
    served: Callable[[requests.Json], None],
    error: DynamosError,
    kind: type[DynamosError],
    code: int,
) -> None:
    served(refusal(error))
    with pytest.raises(kind, match="no") as caught:
        ask(inbox.runtime_dir, {}, PATIENCE)
    assert (type(caught.value), caught.value.exit_code, caught.value.hint) == (kind, code, "h")


def test_request_that_nobody_takes_is_withdrawn(inbox: Inbox) -> None:
    with pytest.raises(Unreachable, match="it is withdrawn"):
        ask(inbox.runtime_dir, {}, 0.1)
    assert inbox.take() == []
    assert names(inbox) == []


def kept_waiting(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Have the time be over when it is looked at for the second time; ``meanwhile`` comes first."""
    times = iter((0.0, 100.0))

    def monotonic() -> float:
        meanwhile()
        return next(times)

    slow = SimpleNamespace(monotonic=monotonic, monotonic_ns=time.monotonic_ns, sleep=time.sleep)
    monkeypatch.setattr(requests, "time", slow)


def test_request_that_is_taken_and_not_answered(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[requests.Request] = []
    kept_waiting(monkeypatch, lambda: taken.extend(inbox.take()))
    with pytest.raises(Unreachable, match="has taken the request, and not answered"):
        ask(inbox.runtime_dir, {}, 1.0)
    assert len(taken) == 1


def test_answer_that_came_while_nobody_could_look(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> None:
        for request in inbox.take():
            inbox.answer(request, {"done": True})

    kept_waiting(monkeypatch, answer)
    assert ask(inbox.runtime_dir, {}, 1.0) == {"done": True}
    assert names(inbox) == []


def wait_for(inbox: Inbox) -> list[requests.Request]:
    """Give the next requests."""
    while True:
        if found := inbox.take():
            return found
        time.sleep(0.001)


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no daemon is running"):
        ask(tmp_path, {}, 1.0)
    status.write(tmp_path, {"pid": os.getpid()})
    with pytest.raises(Unreachable, match="takes no requests"):
        ask(tmp_path, {}, 1.0)


def test_daemon_that_goes_away(inbox: Inbox) -> None:
    def leave() -> None:
        wait_for(inbox)
        status.remove(inbox.runtime_dir)

    thread = threading.Thread(target=leave)
    thread.start()
    with pytest.raises(Unreachable, match="went away"):
        ask(inbox.runtime_dir, {}, PATIENCE)
    thread.join()


def test_daemon_of_somebody_else(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(files, "replace", refuse)
    with pytest.raises(Unreachable, match="not ours to ask") as caught:
        ask(inbox.runtime_dir, {}, 1.0, hint="become root")
    assert caught.value.hint == "become root"


def test_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir(mode=0o777)
    (tmp_path / "requests" / "1-old.json").write_text("{}")
    inbox = Inbox(tmp_path)
    inbox.open()
    assert inbox.folder.stat().st_mode & 0o777 == 0o700
    assert names(inbox) == []


def test_folder_that_leads_elsewhere_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    (tmp_path / "requests").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DynamosError, match="not a folder of ours"):
        Inbox(tmp_path).open()
    assert (tmp_path / "elsewhere" / "precious").exists()


@pytest.mark.timeout(120)
def test_what_is_no_request_does_no_harm(inbox: Inbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"command": "pause"}')
    (inbox.folder / "1.json").symlink_to(secret)
    os.mkfifo(inbox.folder / "2.json")
    (inbox.folder / "3.json").write_text("{" * 10**6)
    (inbox.folder / "4.json").write_text("[]")
    (inbox.folder / "5.json").write_bytes(b"\xff")
    (inbox.folder / "6.json").mkdir()
    (inbox.folder / ".7.json").write_text('{"command": "half"}')
    (inbox.folder / "8.json").write_text('{"command": "x"}')
    assert [each.said for each in inbox.take()] == [{}, {}, {}, {}, {"command": "x"}]
    assert [each.said for each in inbox.take()] == []


def test_answers_that_nobody_fetches_do_not_pile_up(inbox: Inbox) -> None:
    for number in range(200):
        (inbox.folder / f"{number}.json").write_text("{}")
        (request,) = inbox.take()
        inbox.answer(request, {"number": number})
    assert len(names(inbox)) == 64
    assert json.loads((inbox.folder / "199.answer").read_text()) == {"number": 199}
