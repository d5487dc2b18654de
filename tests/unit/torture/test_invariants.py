# SPDX-License-Identifier: GPL-2.0-or-later
"""tests.kernel.torture.invariants: a legal life passes, and each rule, broken once, is named."""

from __future__ import annotations

import pytest

from dynamosd.events import Event
from tests.kernel.torture.invariants import Checker, Rule
from tests.unit.torture.build import (
    B_DRAINED,
    BACK,
    DOWN,
    ORIGINAL_DRAINED,
    TO_B,
    UP,
    event,
    stream,
)

LEASED = "leased subsystem=s by=7 action=baseline baseline=original grace_ms=1 ttl_ms=0 adopted=0"
LOST_LEASE = "lease_lost subsystem=s by=7 why=closed grace_ms=1"
EXPIRED = "lease_expired subsystem=s action=baseline baseline=original"
QUARANTINED = "quarantined subsystem=s edition=b why=command by=7"
SOME_TO_B = "switched subsystem=s from=original to=b mode=scoped scope=cpus:0 by=7 us=5"
CLEARED = "cleared subsystem=s edition=b by=7"

THERE_AND_BACK = (TO_B, ORIGINAL_DRAINED, BACK, B_DRAINED)

LEGAL = {
    "nothing": (),
    "up and down": (*UP, *DOWN),
    "there and back": (*UP, *THERE_AND_BACK, *DOWN),
    "back before the original has drained": (*UP, TO_B, BACK, B_DRAINED, *DOWN),
    "complained of": (
        *UP,
        TO_B,
        BACK,
        "draining subsystem=s edition=b in_flight=1",
        B_DRAINED,
        *DOWN,
    ),
    "from one to another": (
        *UP,
        TO_B,
        ORIGINAL_DRAINED,
        "switched subsystem=s from=b to=c mode=exclusive by=7 us=5",
        B_DRAINED,
        "switched subsystem=s from=c to=original mode=exclusive by=7 us=5",
        "drained subsystem=s edition=c us=1 last=0 comm=x",
        *DOWN,
    ),
    "scoped, wider, and back to none": (
        *UP,
        "switched subsystem=s from=original to=b mode=scoped scope=cpus:0 by=7 us=5",
        "switched subsystem=s from=original to=b mode=scoped scope=cpus:0-1 by=7 us=5",
        BACK,
        B_DRAINED,
        *DOWN,
    ),
    "scoped to another": (
        *UP,
        "switched subsystem=s from=original to=b mode=scoped scope=cpus:0 by=7 us=5",
        "switched subsystem=s from=original to=c mode=scoped scope=cpus:0 by=7 us=5",
        B_DRAINED,
        "switched subsystem=s from=c to=original mode=concurrent by=7 us=5",
        "drained subsystem=s edition=c us=1 last=0 comm=x",
        *DOWN,
    ),
    "object by object": (
        *UP,
        "switched subsystem=s from=original to=b mode=per-object by=7 us=5",
        "completed subsystem=s edition=b us=5",
        ORIGINAL_DRAINED,
        BACK,
        B_DRAINED,
        *DOWN,
    ),
    "quarantined and cleared": (*UP, QUARANTINED, CLEARED, *THERE_AND_BACK, *DOWN),
    "quarantined while a switch of some calls takes its place": (
        *UP,
        SOME_TO_B,
        QUARANTINED,
        SOME_TO_B.replace("to=b", "to=c"),
        B_DRAINED,
        "switched subsystem=s from=c to=original mode=concurrent by=7 us=5",
        "drained subsystem=s edition=c us=1 last=0 comm=x",
        *DOWN,
    ),
    "quarantined while a switch of some calls that is refused takes its place": (
        *UP,
        SOME_TO_B,
        QUARANTINED,
        BACK.replace("by=7", "by=0"),
        B_DRAINED,
        *DOWN,
    ),
    "unloading ends a quarantine": (
        *UP,
        QUARANTINED,
        "unloaded subsystem=s edition=b module=m_b",
        "loaded subsystem=s edition=b module=m_b",
        *THERE_AND_BACK,
        *DOWN,
    ),
    "tripped": (
        *UP,
        TO_B,
        "tripped subsystem=s edition=b why=oops pid=9 comm=x at=g",
        "quarantined subsystem=s edition=b why=oops by=0",
        "switched subsystem=s from=b to=original mode=concurrent by=0 us=5",
        B_DRAINED,
        *DOWN,
    ),
    "a lease that is given back": (*UP, LEASED, LEASED, "released subsystem=s by=7", *DOWN),
    "a lease that expires": (
        *UP,
        TO_B,
        LEASED,
        LOST_LEASE,
        EXPIRED,
        "switched subsystem=s from=b to=original mode=concurrent by=0 us=5",
        B_DRAINED,
        LEASED,
        *DOWN,
    ),
    "a lease that is taken over": (
        *UP,
        LEASED,
        LOST_LEASE,
        LEASED.replace("by=7", "by=8").replace("adopted=0", "adopted=1"),
        *DOWN,
    ),
    "a lease that lets things be": (
        *UP,
        LEASED.replace("action=baseline", "action=hold"),
        LOST_LEASE,
        EXPIRED.replace("action=baseline", "action=hold"),
        LEASED,
        *DOWN,
    ),
    "off and on": (*UP, "disabled by=7", "enabled by=7", *DOWN),
    "a home that goes and comes": (
        *UP,
        "ungated subsystem=s function=f backend=direct",
        "waiting subsystem=s function=f module=h",
        "gated subsystem=s function=f backend=direct",
        *DOWN,
    ),
    "an edition that was refused": (
        "registered subsystem=s",
        "gated subsystem=s function=f backend=direct",
        "ungated subsystem=s function=f backend=direct",
        'refused by=0 errno=16 command="load s/b" reason="taken"',
        ORIGINAL_DRAINED,
        "unregistered subsystem=s",
    ),
}

ILLEGAL = {
    "an event of no kind": (Rule.KNOWN, (*UP, "shouted subsystem=s", *DOWN)),
    "a subsystem that is not there": (Rule.KNOWN, ("unregistered subsystem=s",)),
    "an edition that is not there": (Rule.KNOWN, (*UP, CLEARED.replace("=b", "=d"), *DOWN)),
    "a subsystem that comes twice": (
        Rule.REGISTRY,
        ("registered subsystem=s", "registered subsystem=s", "unregistered subsystem=s"),
    ),
    "an edition that comes twice": (Rule.REGISTRY, (*UP, UP[-1], *DOWN)),
    "an edition that changes its module": (
        Rule.REGISTRY,
        (*UP, DOWN[0].replace("m_c", "m_d"), *DOWN[1:]),
    ),
    "a subsystem that goes before its edition": (
        Rule.REGISTRY,
        (*UP, *DOWN[:2], DOWN[-1]),
    ),
    "a gate that comes twice": (Rule.GATES, (UP[0], UP[1], *UP[1:], *DOWN)),
    "a gate that goes twice": (Rule.GATES, (*UP, *DOWN[:2], *DOWN[1:])),
    "a gate that changes its kind": (
        Rule.GATES,
        (*UP, DOWN[0], DOWN[1].replace("direct", "ftrace"), *DOWN[2:]),
    ),
    "a gate that stays": (Rule.GATES, (*UP, DOWN[0], *DOWN[2:])),
    "a switch to what is not there": (Rule.SWITCH, (*UP, TO_B.replace("to=b", "to=d"), *DOWN)),
    "a switch from somewhere else": (
        Rule.SWITCH,
        (*UP, TO_B.replace("from=original", "from=c"), ORIGINAL_DRAINED, BACK, B_DRAINED, *DOWN),
    ),
    "a switch to where it is": (
        Rule.SWITCH,
        (*UP, TO_B, ORIGINAL_DRAINED, TO_B, BACK, B_DRAINED, *DOWN),
    ),
    "a completion of something else": (
        Rule.COMPLETED,
        (
            *UP,
            "switched subsystem=s from=original to=b mode=scoped scope=cpus:0 by=7 us=5",
            "completed subsystem=s edition=b us=5",
            BACK,
            B_DRAINED,
            *DOWN,
        ),
    ),
    "drained while it is active": (Rule.DRAIN, (*UP, TO_B, B_DRAINED, BACK, B_DRAINED, *DOWN)),
    "drained twice": (Rule.DRAIN, (*UP, *THERE_AND_BACK, B_DRAINED, *DOWN)),
    "complained of while it is active": (
        Rule.DRAIN,
        (*UP, "draining subsystem=s edition=original in_flight=1", *DOWN),
    ),
    "complained of twice": (
        Rule.DRAIN,
        (*UP, TO_B, BACK, *("draining subsystem=s edition=b in_flight=1",) * 2, B_DRAINED, *DOWN),
    ),
    "unloaded before it has drained": (Rule.UNLOAD, (*UP, TO_B, BACK, *DOWN)),
    "quarantined twice": (Rule.QUARANTINE, (*UP, QUARANTINED, QUARANTINED, *DOWN)),
    "quarantined while calls get it": (
        Rule.QUARANTINE,
        (*UP, TO_B, QUARANTINED, BACK, B_DRAINED, *DOWN),
    ),
    "quarantined while some calls get it": (
        Rule.QUARANTINE,
        (*UP, SOME_TO_B, QUARANTINED, BACK, B_DRAINED, *DOWN),
    ),
    "cleared without a quarantine": (Rule.QUARANTINE, (*UP, CLEARED, *DOWN)),
    "switched to in quarantine": (Rule.QUARANTINE, (*UP, QUARANTINED, *THERE_AND_BACK, *DOWN)),
    "a lease that two take": (Rule.LEASE, (*UP, LEASED, LEASED.replace("by=7", "by=8"), *DOWN)),
    "a lease that is adopted from nobody": (
        Rule.LEASE,
        (*UP, LEASED.replace("adopted=0", "adopted=1"), *DOWN),
    ),
    "a lease that is lost without being held": (Rule.LEASE, (*UP, LOST_LEASE, *DOWN)),
    "a lease that another one loses": (
        Rule.LEASE,
        (*UP, LEASED, LOST_LEASE.replace("by=7", "by=8"), *DOWN),
    ),
    "a lease that expires while it is held": (Rule.LEASE, (*UP, LEASED, EXPIRED, *DOWN)),
    "a lease that expires twice": (
        Rule.LEASE,
        (*UP, LEASED, LOST_LEASE, EXPIRED, EXPIRED, *DOWN),
    ),
    "a lease that is given back twice": (
        Rule.LEASE,
        (*UP, LEASED, *("released subsystem=s by=7",) * 2, *DOWN),
    ),
    "switched off twice": (
        Rule.ENABLE,
        (*UP, "disabled by=7", "disabled by=7", "enabled by=7", *DOWN),
    ),
    "switched on while on": (Rule.ENABLE, (*UP, "enabled by=7", *DOWN)),
    "fewer than none in flight": (
        Rule.IN_FLIGHT,
        (
            *UP,
            TO_B,
            BACK,
            "draining subsystem=s edition=b in_flight=18446744073709551615",
            B_DRAINED,
            *DOWN,
        ),
    ),
    "an edition that is left": (Rule.LEFT_OVER, UP),
    "a module that stays off": (Rule.LEFT_OVER, ("disabled by=7",)),
}


def rules(events: list[Event], *, end: bool = True) -> list[Rule]:
    """Give the rules that do not hold, in the order in which that was seen."""
    checker = Checker()
    for each in events:
        checker.take(each)
    if end:
        checker.end()
    return [violation.rule for violation in checker.violations]


@pytest.mark.parametrize("lines", LEGAL.values(), ids=LEGAL.keys())
def test_what_is_legal(lines: tuple[str, ...]) -> None:
    assert rules(stream(*lines)) == []


@pytest.mark.parametrize(("rule", "lines"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_what_is_not(rule: Rule, lines: tuple[str, ...]) -> None:
    assert rules(stream(*lines)) == [rule]


def test_a_baseline_that_never_comes() -> None:
    owed = rules(stream(*UP, TO_B, LEASED, LOST_LEASE, EXPIRED))
    assert owed == [Rule.LEFT_OVER, Rule.LEASE]


def test_a_number_that_is_missing() -> None:
    events = stream(*UP, *DOWN)
    assert rules(
        [*events[:3], *(event(line, 5 + seq) for seq, line in enumerate([UP[3], *DOWN]))]
    ) == [Rule.SEQUENCE]
    assert rules([*events[:3], events[3], *events[3:]])[0] is Rule.SEQUENCE


def test_a_loss_that_is_told_explains_as_many_numbers_as_it_says() -> None:
    loss = Event(0, 0.0, "lost", {"count": "5"})
    for gap, expected in ((5, []), (6, [Rule.SEQUENCE])):
        late = event(TO_B, len(UP) + 1 + gap)
        assert rules([*stream(*UP), loss, late]) == expected


def test_after_a_loss_what_is_registered_anew_is_followed() -> None:
    loss = Event(0, 0.0, "lost", {"count": "1"})
    lines = [event(line, 2 + seq) for seq, line in enumerate([TO_B, *UP, TO_B, TO_B])]
    assert rules([*stream(UP[0])[:0], loss, *lines], end=False) == [Rule.SWITCH]


def test_time_that_goes_back() -> None:
    early, late = stream(*UP[:2])
    assert rules([early, Event(late.seq, 1.0, late.name, late.fields)], end=False) == [Rule.TIME]


def test_a_violation_says_where_it_is_and_what_should_hold() -> None:
    checker = Checker()
    for each in stream(*UP, TO_B, B_DRAINED):
        checker.take(each)
    [violation] = checker.violations
    said = str(violation)
    assert said.startswith("DRAIN at seq=6 time=106.000000: s b has drained: new calls get it")
    assert Rule.DRAIN.value in said


def test_every_rule_has_been_broken_here() -> None:
    elsewhere = {Rule.SEQUENCE, Rule.TIME, Rule.ANSWER}
    assert {rule for rule, _ in ILLEGAL.values()} | elsewhere == set(Rule)
