# SPDX-License-Identifier: GPL-2.0-or-later
"""tests.kernel.torture.answers: each command and what is told of it belong together."""

from __future__ import annotations

import pytest

from tests.kernel.torture.answers import OFF, Attempt, check
from tests.kernel.torture.invariants import Checker, Rule
from tests.unit.torture.build import (
    B_DRAINED,
    BACK,
    DOWN,
    ORIGINAL_DRAINED,
    TO_B,
    UP,
    stream,
)

FIRST = 100 + len(UP) + 1
"""When the first event behind `UP` comes."""

REFUSED = 'refused by=7 errno=110 command="switch s b mode=exclusive" reason="somebody"'


def attempt(line: str, answer: str = "", at: float = FIRST, lasts: float = 0.5) -> Attempt:
    """Give a command of ours that is carried out a moment before or after a time."""
    return Attempt(line, answer, 7, at - lasts, at + lasts)


def violations(lines: tuple[str, ...], *attempts: Attempt) -> list[Rule]:
    checker = Checker()
    events = stream(*UP, *lines)
    for event in events:
        checker.take(event)
    assert not checker.violations
    return [violation.rule for violation in check(events, attempts, checker)]


TO_B_TWICE = (TO_B, ORIGINAL_DRAINED, BACK, B_DRAINED, TO_B, ORIGINAL_DRAINED, BACK, B_DRAINED)

RIGHT = {
    "nothing": ((), ()),
    "each switch has its command": (
        TO_B_TWICE,
        (
            attempt("switch s b mode=concurrent"),
            attempt("switch s original", at=FIRST + 2),
            attempt("switch s b", at=FIRST + 4),
            attempt("switch s original mode=concurrent", at=FIRST + 6),
        ),
    ),
    "a switch to where it is already": (
        (TO_B, ORIGINAL_DRAINED),
        (attempt("switch s b"), attempt("switch s b", at=FIRST + 1)),
    ),
    "two at once, of which one finds it done": (
        (TO_B,),
        (attempt("switch s b mode=concurrent"), attempt("switch s b mode=exclusive", lasts=2)),
    ),
    "two that may each have made the first of two switches, and one only that": (
        (TO_B, BACK, B_DRAINED, TO_B, BACK),
        (
            attempt("switch s b mode=concurrent", lasts=9),
            attempt("switch s b mode=concurrent", lasts=9),
            attempt("switch s original", at=FIRST + 1),
            attempt("switch s original mode=concurrent", at=FIRST + 3, lasts=3),
        ),
    ),
    "objects that change already": (
        ("switched subsystem=s from=original to=b mode=per-object by=7 us=5",),
        (
            attempt("switch s b mode=per-object"),
            attempt("switch s b mode=per-object objects=keep", at=FIRST + 3),
        ),
    ),
    "a refusal": ((REFUSED,), (attempt("switch s b mode=exclusive", "ETIMEDOUT"),)),
    "a refusal of a long line": (
        (f'refused by=7 errno=22 command="{"x" * 120}" reason="no"',),
        (attempt("x" * 200, "EINVAL"),),
    ),
    "another one's switch": ((TO_B.replace("by=7", "by=8"),), ()),
    "a quarantine takes calls away": (
        (TO_B, BACK, "quarantined subsystem=s edition=b why=command by=7"),
        (attempt("switch s b"), attempt("quarantine s b", at=FIRST + 1)),
    ),
    "switching the module off takes calls away": (
        (TO_B, "disabled by=7", BACK, "enabled by=7"),
        (attempt("switch s b"), attempt(OFF, at=FIRST + 1.5, lasts=0.8)),
    ),
    "switching the module off is refused a switch": (
        (
            TO_B,
            "disabled by=7",
            'refused by=7 errno=110 command="switch s original" reason="somebody"',
            "enabled by=7",
        ),
        (attempt("switch s b"), attempt(OFF, "ETIMEDOUT", at=FIRST + 1.5, lasts=0.8)),
    ),
    "a move that is undone on the way to the original": (
        (
            TO_B,
            "switched subsystem=s from=b to=c mode=per-object by=8 us=5",
            "switched subsystem=s from=c to=b mode=exclusive by=7 us=5",
            BACK,
        ),
        (attempt("switch s b"), attempt("switch s original", at=FIRST + 2.5, lasts=1)),
    ),
    "a refusal while the module is off": (
        ("disabled by=7", 'refused by=7 errno=1 command="switch s b" reason="off"', "enabled by=7"),
        (
            attempt(OFF, at=FIRST, lasts=0.1),
            attempt("switch s b", "EPERM", at=FIRST + 1),
        ),
    ),
}

WRONG = {
    "a switch that nobody asked for": (Rule.ANSWER, ((TO_B,), (attempt("who s", at=1),))),
    "a switch that is told twice": (
        Rule.ANSWER,
        (TO_B_TWICE[:5], (attempt("switch s b", lasts=9), attempt("switch s original", lasts=9))),
    ),
    "a move that is undone by a switch that does not do so": (
        Rule.ANSWER,
        (
            (
                TO_B,
                "switched subsystem=s from=b to=c mode=per-object by=8 us=5",
                "switched subsystem=s from=c to=b mode=exclusive by=7 us=5",
                BACK,
            ),
            (
                attempt("switch s b"),
                attempt("switch s original mode=concurrent", at=FIRST + 2.5, lasts=1),
            ),
        ),
    ),
    "a switch in another mode": (
        Rule.ANSWER,
        ((TO_B,), (attempt("switch s b mode=exclusive"),)),
    ),
    "a switch that was done and did nothing": (
        Rule.ANSWER,
        (
            (TO_B, BACK),
            (
                attempt("switch s b"),
                attempt("switch s original", at=FIRST + 1),
                attempt("switch s b", at=FIRST + 3),
            ),
        ),
    ),
    "a switch outside of its command's time": (
        Rule.ANSWER,
        ((TO_B,), (attempt("switch s b", at=FIRST + 3),)),
    ),
    "a refusal that nobody was told of": (Rule.ANSWER, ((), (attempt("who s", "ENOENT"),))),
    "a refusal of what was not refused": (Rule.ANSWER, ((REFUSED,), (attempt("who s"),))),
    "a refusal that is told twice": (
        Rule.ANSWER,
        ((REFUSED, REFUSED), (attempt("switch s b mode=exclusive", "ETIMEDOUT", lasts=3),)),
    ),
    "a refusal with another errno": (
        Rule.ANSWER,
        (
            (REFUSED.replace("110", "22"), REFUSED),
            (attempt("switch s b mode=exclusive", "ETIMEDOUT", lasts=3),),
        ),
    ),
    "a switch while the module is off": (
        Rule.ENABLE,
        (
            ("disabled by=7", TO_B, BACK, "enabled by=7"),
            (attempt("switch s b", at=FIRST + 1), attempt("switch s original", at=FIRST + 2)),
        ),
    ),
    "a switch that ends when the module is off": (
        Rule.ENABLE,
        (
            ("disabled by=7", TO_B, "enabled by=7", BACK),
            (
                attempt(OFF, lasts=0.1),
                attempt("switch s b", lasts=2),
                attempt("switch s original", at=FIRST + 3),
            ),
        ),
    ),
}


@pytest.mark.parametrize(("lines", "attempts"), RIGHT.values(), ids=RIGHT.keys())
def test_what_belongs_together(lines: tuple[str, ...], attempts: tuple[Attempt, ...]) -> None:
    assert violations(lines, *attempts) == []


@pytest.mark.parametrize(("rule", "story"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not(rule: Rule, story: tuple[tuple[str, ...], tuple[Attempt, ...]]) -> None:
    lines, attempts = story
    assert set(violations(lines, *attempts)) == {rule}


def test_after_a_loss_nothing_is_said() -> None:
    checker = Checker()
    checker.lost = 1
    assert check([], [attempt("who s", "ENOENT")], checker) == []


def test_the_life_that_these_stand_in_can_end() -> None:
    assert violations(DOWN) == []
