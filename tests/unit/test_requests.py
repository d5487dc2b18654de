# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.requests: what may be asked, and that what is asked is done once or not at all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from dynamosd.errors import InvalidInput, Refused
from dynamosd.requests import (
    COMMANDS,
    MAX_ANSWERS,
    MAX_TEXT,
    MAX_WAITING,
    Asker,
    Inbox,
    Outcome,
    State,
    WrongField,
    check,
)

if TYPE_CHECKING:
    from dynamosd.requests import Json

ME = Asker(1, 2, 3)
SAID: Json = {"command": "resume"}


# ------------------------------------------------------------------------- what may be asked


@pytest.mark.parametrize(
    "said",
    [
        {"command": "pause"},
        {"command": "pause", "policy": "storm", "subsystem": "", "for": None, "reason": "é\0"},
        {"command": "pause", "for": 0.5},
        {"command": "mute", "id": "a", "for": 3600},
        {"command": "clear", "subsystem": "a", "edition": "b"},
    ],
)
def test_request(said: Json) -> None:
    assert check(said) == said


@pytest.mark.parametrize(
    ("said", "name", "why"),
    [
        (None, "", "is an object"),
        ([], "", "is an object"),
        ("pause", "", "is an object"),
        ({}, "command", "pause, resume"),
        ({"command": "reboot"}, "command", "pause, resume"),
        ({"command": ["pause"]}, "command", "pause, resume"),
        ({"command": {}}, "command", "pause, resume"),
        ({"command": "resume", "for": 1}, "for", "no such field; it has policy, subsystem"),
        ({"command": "accept"}, "id", "needs id"),
        ({"command": "clear", "subsystem": "a"}, "edition", "needs edition"),
        ({"command": "accept", "id": None}, "id", "id is text"),
        ({"command": "accept", "id": 1}, "id", "id is text"),
        ({"command": "pause", "for": "1h"}, "for", "number of seconds"),
        ({"command": "pause", "for": True}, "for", "number of seconds"),
        ({"command": "pause", "policy": {}}, "policy", "policy is text"),
        ({"command": "pause", "reason": "x" * (MAX_TEXT + 1)}, "reason", "at most 1000"),
        ({"command": "pause", "reason": "\ud800"}, "reason", "half a character"),
    ],
)
def test_what_is_no_request(said: object, name: str, why: str) -> None:
    with pytest.raises(WrongField, match=why) as caught:
        check(said)
    assert caught.value.field == name


# --------------------------------------------------------------------------------- the inbox


@pytest.fixture
def inbox() -> Inbox:
    """Give an empty one."""
    return Inbox()


def seen(inbox: Inbox, which: str) -> Json:
    """Give what is known of a request, without what says which it is."""
    found = inbox.look(which)
    assert found is not None
    return {key: found[key] for key in ("state", "answer", "error")}


def test_answer_of_a_request(inbox: Inbox) -> None:
    which = inbox.put(ME, SAID)
    assert seen(inbox, which) == {"state": "waiting", "answer": None, "error": None}
    (request,) = inbox.take()
    assert (request.id, request.by, request.said) == (which, ME, SAID)
    assert inbox.take() == []
    assert seen(inbox, which)["state"] == "taken"
    inbox.answer(request, {"done": True})
    assert seen(inbox, which) == {"state": "answered", "answer": {"done": True}, "error": None}


def test_refusal_of_a_request(inbox: Inbox) -> None:
    which = inbox.put(ME, SAID)
    (request,) = inbox.take()
    inbox.answer(request, InvalidInput("no", hint="h"))
    error = {"code": "invalid", "message": "no", "hint": "h"}
    assert seen(inbox, which) == {"state": "answered", "answer": None, "error": error}


def test_requests_are_given_in_the_order_in_which_they_came(inbox: Inbox) -> None:
    ids = [inbox.put(ME, SAID) for _ in range(5)]
    assert [each.id for each in inbox.take()] == ids


def test_withdrawn_request_is_never_taken(inbox: Inbox) -> None:
    first, second = inbox.put(ME, SAID), inbox.put(ME, SAID)
    assert inbox.withdraw(first) is State.WAITING
    assert inbox.withdraw(first) is None
    assert [each.id for each in inbox.take()] == [second]
    assert inbox.take_undone() == ([Outcome(ME, SAID, "withdrawn")], 0)
    assert inbox.take_undone() == ([], 0)


def test_taken_request_cannot_be_withdrawn(inbox: Inbox) -> None:
    which = inbox.put(ME, SAID)
    (request,) = inbox.take()
    assert inbox.withdraw(which) is State.TAKEN
    inbox.answer(request, {})
    assert inbox.withdraw(which) is State.ANSWERED
    assert inbox.take_undone() == ([], 0)


def test_of_withdrawing_and_taking_one_wins(inbox: Inbox) -> None:
    """Two threads at once, again and again: each request has one end."""
    ids, taken = [], set()
    over = threading.Event()

    def take() -> None:
        while not over.is_set() or inbox.waiting:
            for request in inbox.take():
                taken.add(request.id)
                inbox.answer(request, {})

    loop = threading.Thread(target=take)
    loop.start()
    withdrawn = set()
    for _ in range(300):
        which = inbox.put(ME, SAID)
        ids.append(which)
        if inbox.withdraw(which) is State.WAITING:
            withdrawn.add(which)
    over.set()
    loop.join()
    assert withdrawn & taken == set()
    assert withdrawn | taken == set(ids)


def test_so_many_wait_and_no_more(inbox: Inbox) -> None:
    for _ in range(MAX_WAITING):
        inbox.put(ME, SAID)
    with pytest.raises(Refused, match="32 requests wait already"):
        inbox.put(ME, SAID)
    assert (inbox.waiting, len(inbox.take())) == (MAX_WAITING, MAX_WAITING)
    assert inbox.put(ME, SAID)


def test_answers_that_nobody_fetches_do_not_pile_up(inbox: Inbox) -> None:
    ids = []
    for number in range(200):
        ids.append(inbox.put(ME, SAID))
        (request,) = inbox.take()
        inbox.answer(request, {"number": number})
    kept = [each for each in ids if inbox.look(each) is not None]
    assert kept == ids[-MAX_ANSWERS:]
    assert seen(inbox, ids[-1])["answer"] == {"number": 199}


def test_oldest_answer_goes_first_whenever_it_was_asked_for(inbox: Inbox) -> None:
    late = inbox.put(ME, SAID)
    (request,) = inbox.take()
    for _ in range(MAX_ANSWERS):
        inbox.put(ME, SAID)
        inbox.answer(inbox.take()[0], {})
    inbox.answer(request, {"late": True})
    assert seen(inbox, late)["answer"] == {"late": True}


def test_what_was_turned_away_does_not_pile_up(inbox: Inbox) -> None:
    for _ in range(MAX_ANSWERS + 7):
        inbox.note(Outcome(ME, {}, "invalid", "no"))
    undone, more = inbox.take_undone()
    assert (len(undone), more) == (MAX_ANSWERS, 7)


def test_who_listens_is_told_once(inbox: Inbox) -> None:
    told: list[str] = []
    answered, withdrawn, other = (inbox.put(ME, SAID) for _ in range(3))
    assert inbox.listen(answered, lambda: told.append("answered"))
    assert inbox.listen(withdrawn, lambda: told.append("withdrawn"))

    def never() -> None:
        told.append("never")

    assert inbox.listen(other, never)
    inbox.unlisten(other, never)
    inbox.withdraw(withdrawn)
    assert told == ["withdrawn"]
    for request in inbox.take():
        inbox.answer(request, {})
    assert told == ["withdrawn", "answered"]
    assert not inbox.listen(answered, never)
    assert not inbox.listen("unknown", never)
    inbox.unlisten("unknown", never)


def test_closed_inbox_takes_nothing_in(inbox: Inbox) -> None:
    which = inbox.put(ME, SAID)
    inbox.close()
    with pytest.raises(Refused, match="leaves"):
        inbox.put(ME, SAID)
    assert [each.id for each in inbox.take()] == [which]


def test_fields_can_be_described() -> None:
    for fields in COMMANDS.values():
        assert "command" not in fields
        for kind in fields.values():
            assert kind.schema["type"]
