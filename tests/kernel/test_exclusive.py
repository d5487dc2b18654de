# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode `exclusive`: no call of the new edition while one is in the old, or nothing happens."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from dynamosd.kmod import Kmod
from dynamosd.model import EditionState
from tests.kernel import control, guest
from tests.kernel.child import Child
from tests.kernel.control import Commander, Controlled, Follower
from tests.kernel.guest import SELFTEST_B, SELFTEST_LAYOUT
from tests.kernel.load import background, holds, storm
from tests.kernel.target import (
    FIRST_VALUE,
    Caller,
    Target,
    blocked,
    gather,
    new,
    parameter,
    parameters,
    release,
    set_parameter,
)

pytestmark = pytest.mark.usefixtures("selftest")

EXCLUSIVE = "mode=exclusive"
LONG = "timeout_ms=60000"
"""Longer than any machine needs for what is done meanwhile."""

ORIGINAL, NEW = 6, 1006
"""What `value 5` gives."""

DEPTH = 10
RECURSED = {
    "original": DEPTH * (DEPTH + 1) // 2,
    "b": DEPTH * (DEPTH + 1) // 2 + 1000 * (DEPTH + 1),
}
OUTER = {"original": 16, "b": 2016, "c": 2016}
SWITCHES = 6

FLIP = ("dynamos_selftest_flip", "dynamos_selftest_flip_b")
ATOMIC = ("dynamos_selftest_atomic", "dynamos_selftest_atomic_b")


@pytest.fixture
def flip(backend: str) -> Controlled:
    """Another subsystem."""
    guest.load_all(FLIP)
    subsystem = Controlled("selftest_flip")
    assert subsystem.backend("target_flip_00") == backend
    subsystem.switch_and_drain("original")
    return subsystem


# ------------------------------------------------------------------------------ it is carried out


def test_with_nobody_inside(selftest: Controlled) -> None:
    target = Target()
    before = selftest.switches()
    with Follower() as events:
        selftest.switch("b", EXCLUSIVE, LONG)
        [event] = events.only("switched")
        events.wait_for("drained", edition="original")
    fields = {key: event.fields[key] for key in ("subsystem", "from", "to", "mode")}
    assert fields == {
        "subsystem": "selftest",
        "from": "original",
        "to": "b",
        "mode": "exclusive",
    }
    assert (selftest.active(), selftest.partial()) == ("b", "none")
    assert selftest.value("mode") == "exclusive"
    assert selftest.switches() == before + 1
    assert target.result("value 5") == NEW
    assert target.result("many") == 987654321 + 1000
    assert target.run("struct 7 2") == {"sum": 1009, "difference": 1005, "a": 1007, "b": 1002}
    assert target.run("pair 7 2") == {"a": 1007, "b": 1002}
    assert target.result("void") == 1001
    assert target.result("tail 1") == 1026
    selftest.switch("original", EXCLUSIVE, LONG)
    assert target.result("value 5") == ORIGINAL


def test_new_callers_wait_and_then_run_the_new_edition(selftest: Controlled) -> None:
    new(1)
    before = {
        function: selftest.number(function, "b", "calls")
        for function in ("target_value", "target_outer", "target_recurse")
    }
    commands = ("value 5", "outer 5", f"recurse {DEPTH}")
    with (
        blocked(1) as inside,
        storm(*commands) as results,
        background(lambda: selftest.switch("b", EXCLUSIVE, LONG)) as switching,
    ):
        guest.wait_until(holds(selftest, len(commands)), "all callers are held")
        assert selftest.in_flight() == 1
        assert selftest.active() == "original"
        assert selftest.state("b") is EditionState.IDLE
        assert not switching.done()
        assert {function: selftest.number(function, "b", "calls") for function in before} == before
        assert [caller.is_over() for caller in inside] == [False]
        release(1, inside)
        switching.result(guest.PATIENCE)
        assert selftest.active() == "b"
    assert results["value 5"] == {ORIGINAL, NEW}
    assert results["outer 5"] == {OUTER["original"], OUTER["b"]}
    assert results[f"recurse {DEPTH}"] == {RECURSED["original"], RECURSED["b"]}
    assert selftest.count("held") == 0


def test_calls_from_inside_pass_and_never_see_two_editions(selftest: Controlled) -> None:
    recurse = f"recurse {DEPTH}"
    with storm(recurse, "outer 5", "value 5") as results:
        for number in range(SWITCHES):
            selftest.switch(("b", "original")[number % 2], EXCLUSIVE, LONG)
    assert results[recurse] <= {RECURSED["original"], RECURSED["b"]}
    assert results["outer 5"] <= {OUTER["original"], OUTER["b"]}
    assert results["value 5"] <= {ORIGINAL, NEW}


def test_no_two_editions_are_ever_entered_at_once(selftest: Controlled) -> None:
    """What the tracepoints say, in the order of one counter for all CPUs."""
    with storm("recurse 2", "value 5"), traced() as trace:
        for name in ("b", "original"):
            selftest.switch(name, EXCLUSIVE, LONG)
    inside: dict[str, list[str]] = {}
    editions: set[str] = set()
    for thread, what, edition in trace:
        calls = inside.setdefault(thread, [])
        if what == "enter":
            calls.append(edition)
            editions.add(edition)
            assert {each for others in inside.values() for each in others} == {edition}
        elif calls:
            # Otherwise it was entered before the trace began.
            calls.pop()
    assert len(editions) == 2


@contextmanager
def traced() -> Iterator[list[tuple[str, str, str]]]:
    """Record entries and exits, by thread; the list is filled when the block has ended."""
    folder = guest.TRACING / "instances/dynamos_exclusive"
    folder.mkdir()
    found: list[tuple[str, str, str]] = []
    line = re.compile(r"-(\d+) .*: edition_(enter|exit): function=\d+ edition=(\d+)")
    events = [folder / f"events/dynamos/edition_{name}/enable" for name in ("enter", "exit")]
    try:
        (folder / "tracing_on").write_text("0")
        (folder / "trace_clock").write_text("counter")
        (folder / "buffer_size_kb").write_text("32768")
        for event in events:
            event.write_text("1")
        (folder / "tracing_on").write_text("1")
        yield found
        (folder / "tracing_on").write_text("0")
        for stats in folder.glob("per_cpu/cpu*/stats"):
            assert "overrun: 0\n" in stats.read_text(), "the beginning is lost"
        matches = line.finditer((folder / "trace").read_text())
        found.extend((match[1], match[2], match[3]) for match in matches)
    finally:
        for event in events:
            event.write_text("0")
        folder.rmdir()


# ------------------------------------------------------------------------------------ it gives up


def test_the_deadline_names_who_was_inside_and_changes_nothing(selftest: Controlled) -> None:
    new(1, 2)
    selftest.switch_and_drain("b")
    before = selftest.switches()
    with blocked(1) as one, blocked(2) as other, storm("value 5") as results, Follower() as events:
        with pytest.raises(TimeoutError):
            selftest.switch("original", EXCLUSIVE, "timeout_ms=300")
        said = [event for event in events.read() if event.name in {"inside", "refused"}]
        assert selftest.active() == "b"
        assert selftest.value("mode") == "concurrent"
        assert selftest.switches() == before
        # Whoever is inside can stay there, and those who waited have gone on.
        calls = selftest.number("target_value", "b", "calls")
        guest.wait_until(
            lambda: selftest.number("target_value", "b", "calls") > calls, "calls go on"
        )
        release(1, one)
        release(2, other)
    pids = {str(caller.pid) for caller in (*one, *other)}
    *named, refused = said
    assert (refused.name, refused.fields["errno"]) == ("refused", str(errno.ETIMEDOUT))
    assert {event.fields["pid"] for event in named} == pids
    for event in named:
        assert event.name == "inside"
        assert event.fields["function"] == "target_block"
        assert event.fields["edition"] == "b"
        assert event.fields["comm"] == "sh"
        assert event.fields["how"] == "gated"
        assert event.fields["at"] == "target_block"
    assert "target_block" in refused.fields["reason"]
    assert any(pid in refused.fields["reason"] for pid in pids)
    assert results["value 5"] == {NEW}
    assert selftest.count("held") == 0


@contextmanager
def only_on(cpu: int, policy: int = os.SCHED_OTHER) -> Iterator[None]:
    """Have this thread, and those that it starts, on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, policy, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, before)


@contextmanager
def hog(cpu: int) -> Iterator[Callable[[], None]]:
    """Give what has nothing that is idle enough run on a CPU any more, but interrupts, at once."""
    throttle = Path("/proc/sys/kernel/sched_rt_runtime_us")
    before = throttle.read_text()
    spin = ("sh", "-c", "kill -STOP $$; while :; do :; done")
    here = ("taskset", "-c", str(cpu))
    throttle.write_text("-1")
    try:
        # Newer kernels give others a share beside real-time tasks: somebody better takes that.
        with (
            Child(*here, "nice", "-n", "-20", *spin) as one,
            Child(*here, "chrt", "-f", "50", *spin) as other,
        ):
            guest.wait_until(lambda: one.is_stopped() and other.is_stopped(), "they are ready")

            def begin() -> None:
                for each in (one, other):
                    each.process.send_signal(signal.SIGCONT)

            yield begin
    finally:
        throttle.write_text(before)


def gets_no_cpu(selftest: Controlled, timeout_ms: int) -> bool:
    """Have callers held, and whoever holds them kept from everything; tell whether it came to that.

    It has not if the switch could give up by itself before: the machine was too slow.
    """

    def switch() -> str:
        with only_on(1, os.SCHED_IDLE):
            return guest.answer(lambda: selftest.switch("b", EXCLUSIVE, f"timeout_ms={timeout_ms}"))

    with (
        only_on(0),
        blocked(1) as inside,
        storm("value 5") as results,
        ExitStack() as hogs,
    ):
        begin = hogs.enter_context(hog(1))
        with background(switch) as switching, hogs:
            guest.wait_until(
                lambda: selftest.count("held") == 1 or switching.done(), "the caller is held"
            )
            begin()
            guest.wait_until(holds(selftest, 0), "the caller is let go")
            kept = not switching.done()
            calls = selftest.number("target_value", "original", "calls")
            guest.wait_until(
                lambda: selftest.number("target_value", "original", "calls") > calls, "calls go on"
            )
            assert not kept or not switching.done()
        assert switching.result() == "ETIMEDOUT"
        assert selftest.active() == "original"
        release(1, inside)
    assert results["value 5"] == {ORIGINAL}
    return kept


def test_callers_are_let_go_also_when_the_switch_is_kept_from_it(selftest: Controlled) -> None:
    """Whoever makes the switch gets no CPU any more."""
    new(1)
    assert any(gets_no_cpu(selftest, timeout_ms) for timeout_ms in (4000, 15000, 60000))


def test_who_is_held_can_be_killed(selftest: Controlled) -> None:
    new(1)
    with (
        blocked(1) as inside,
        storm("value 5") as results,
        background(lambda: selftest.switch("b", EXCLUSIVE, LONG)) as switching,
    ):
        guest.wait_until(holds(selftest, 1), "the caller is held")
        with Caller("value 5") as victim:
            guest.wait_until(holds(selftest, 2), "another one is held")
            victim.kill()
        assert not switching.done()
        assert selftest.count("held") == 1
        release(1, inside)
    assert results["value 5"] == {ORIGINAL, NEW}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_interrupted_is_given_up(
    selftest: Controlled, how: signal.Signals
) -> None:
    new(1)
    before = selftest.switches()
    with blocked(1) as inside, storm("value 5") as results, Follower() as events:
        with Commander(f"switch selftest b {EXCLUSIVE} {LONG}") as commander:
            guest.wait_until(holds(selftest, 1), "the caller is held")
            commander.signal(how)
            refused = events.wait_for("refused", errno=str(errno.EINTR))
        assert refused.fields["by"] == str(commander.pid)
        assert (selftest.active(), selftest.switches()) == ("original", before)
        calls = selftest.number("target_value", "original", "calls")
        guest.wait_until(
            lambda: selftest.number("target_value", "original", "calls") > calls, "calls go on"
        )
        assert not inside[0].is_over()
        release(1, inside)
    assert results["value 5"] == {ORIGINAL}


def test_who_waits_for_a_turn_can_be_interrupted(selftest: Controlled) -> None:
    new(1)
    with (
        blocked(1) as inside,
        storm("value 5"),
        Follower() as events,
        background(lambda: selftest.switch("b", EXCLUSIVE, LONG)),
    ):
        guest.wait_until(holds(selftest, 1), "the first switch waits")
        with Commander("switch selftest c") as second:
            # It is held up by nothing but the first one.
            guest.wait_until(second.is_writing, "the second switch waits for its turn")
            second.signal(signal.SIGINT)
            refused = events.wait_for("refused", errno=str(errno.EINTR))
        assert refused.fields["by"] == str(second.pid)
        release(1, inside)
    assert selftest.active() == "b"


def test_prepare_says_no(selftest: Controlled) -> None:
    counts = ("prepares", "commits", "aborts", "retires")
    before = parameters(SELFTEST_B, *counts)
    set_parameter(SELFTEST_B, "refuse_prepare", 16)
    with Follower() as events:
        assert guest.answer(lambda: selftest.switch("b", EXCLUSIVE, LONG)) == "ECANCELED"
        assert "16" in events.wait_for("refused", errno=str(errno.ECANCELED)).fields["reason"]
    assert selftest.active() == "original"
    assert Target().result("value 5") == ORIGINAL
    assert parameters(SELFTEST_B, *counts) == {**before, "prepares": before["prepares"] + 1}


def test_callers_must_be_able_to_sleep(backend: str) -> None:
    guest.load_all(ATOMIC)
    subsystem = Controlled("selftest_atomic")
    assert subsystem.backend("target_atomic") == backend
    assert "exclusive" not in subsystem.value("editions", "b", "modes").split()
    with Follower() as events:
        assert guest.answer(lambda: subsystem.switch("b", EXCLUSIVE)) == guest.NOT_SUPPORTED
        assert (
            "sleeping" in events.wait_for("refused", errno=str(errno.EOPNOTSUPP)).fields["reason"]
        )
    assert subsystem.active() == "original"
    assert Target().run("atomic 10") == {"hard": 10, "soft": 10, "sum": 40}
    subsystem.switch_and_drain("b")
    assert Target().run("atomic 10") == {"hard": 10, "soft": 10, "sum": 20040}
    subsystem.switch_and_drain("original")


# ---------------------------------------------------------------------------------- data is moved


def test_a_layout_is_converted_while_nobody_is_inside(selftest: Controlled) -> None:
    target = Target()
    keys = range(1, 6)
    new(*keys)
    for key in keys:
        for _ in range(key):
            target.run(f"use {key}")
    before = parameter(SELFTEST_LAYOUT, "converted")
    # Of the modes that it allows, it is the first.
    selftest.switch("layout", LONG)
    assert selftest.value("mode") == "exclusive"
    assert parameter(SELFTEST_LAYOUT, "converted") == before + len(keys)
    assert [target.result(f"use {key}") for key in keys] == [FIRST_VALUE + key for key in keys]
    new(6)
    assert target.result("use 6") == FIRST_VALUE
    selftest.switch("original", LONG)
    assert parameter(SELFTEST_LAYOUT, "converted") == before + 2 * len(keys) + 1
    assert [target.result(f"use {key}") for key in keys] == [FIRST_VALUE + key + 1 for key in keys]
    assert target.result("use 6") == FIRST_VALUE + 1
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


@pytest.mark.parametrize("mode", ["concurrent", "scoped"])
def test_a_layout_cannot_be_switched_to_beside_others(selftest: Controlled, mode: str) -> None:
    options = (f"mode={mode}", "scope=cpus:0") if mode == "scoped" else (f"mode={mode}",)
    assert selftest.value("editions", "layout", "modes").split() == ["exclusive", "per-object"]
    assert guest.answer(lambda: selftest.switch("layout", *options)) == guest.NOT_SUPPORTED
    assert selftest.active() == "original"


def test_transfer_says_no(selftest: Controlled) -> None:
    target = Target()
    new(1, 2)
    counts = ("transfers_into", "transfers_out_of", "converted", "aborts", "commits")
    before = parameters(SELFTEST_LAYOUT, *counts)
    with storm("use 1") as results:
        set_parameter(SELFTEST_LAYOUT, "refuse_transfer", 28)
        assert guest.answer(lambda: selftest.switch("layout", EXCLUSIVE, LONG)) == "ECANCELED"
        assert selftest.active() == "original"
        # They are let go before the answer, and go when they get a CPU.
        guest.wait_until(holds(selftest, 0), "all callers have gone on")
        changed = {**before, "transfers_into": before["transfers_into"] + 1}
        changed["aborts"] += 1
        assert parameters(SELFTEST_LAYOUT, *counts) == changed

        set_parameter(SELFTEST_LAYOUT, "refuse_transfer", 0)
        selftest.switch("layout", EXCLUSIVE, LONG)
        set_parameter(SELFTEST_LAYOUT, "refuse_transfer_out", 28)
        for edition in ("original", "b"):
            said = guest.answer(partial(selftest.switch, edition, EXCLUSIVE, LONG))
            assert said == "ECANCELED"
            assert selftest.active() == "layout"
        set_parameter(SELFTEST_LAYOUT, "refuse_transfer_out", 0)
        selftest.switch("original", EXCLUSIVE, LONG)
    values = results["use 1"]
    assert values == set(range(FIRST_VALUE, max(values) + 1)), "every use got its own value"
    assert target.result("use 2") == FIRST_VALUE
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


def test_values_survive_any_number_of_conversions_under_load(selftest: Controlled) -> None:
    new(1, 2)
    with storm("use 1", "use 2") as results:
        for number in range(SWITCHES):
            selftest.switch(("layout", "original")[number % 2], EXCLUSIVE, LONG)
    for values in results.values():
        assert values == set(range(FIRST_VALUE, max(values) + 1))
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


# ------------------------------------------------------------------------------- beside each other


def test_two_switches_of_one_subsystem_take_turns(selftest: Controlled) -> None:
    new(1)
    with Follower() as events:
        with (
            blocked(1) as inside,
            storm("value 5"),
            background(lambda: selftest.switch("b", EXCLUSIVE, LONG)) as first,
        ):
            guest.wait_until(holds(selftest, 1), "the first switch waits")
            with Commander("switch selftest c mode=concurrent") as second:
                guest.wait_until(second.is_writing, "the second switch waits for its turn")
                assert not first.done()
                assert selftest.active() == "original"
                release(1, inside)
                second.output()
        switched = [(event.fields["from"], event.fields["to"]) for event in events.only("switched")]
    assert switched == [("original", "b"), ("b", "c")]


def test_everything_else_goes_on_meanwhile(selftest: Controlled, flip: Controlled) -> None:
    new(1)
    with (
        blocked(1) as inside,
        storm("value 5"),
        background(lambda: selftest.switch("b", EXCLUSIVE, LONG)) as switching,
    ):
        guest.wait_until(holds(selftest, 1), "the switch waits")
        flip.switch_and_drain("b")
        assert Target().run("flip20 1")["last"] == 1
        flip.switch_and_drain("original", EXCLUSIVE, LONG)
        assert Target().run("flip20 1")["last"] == 0
        with Follower() as events:
            control.command("who selftest")
            assert [event.fields["pid"] for event in events.only("inside")] == [str(inside[0].pid)]
        shown = Kmod().read().subsystems["selftest"]
        assert (shown.active, shown.held, shown.partial) == ("original", 1, None)
        assert not switching.done()
        release(1, inside)
    assert selftest.active() == "b"


def test_many_who_switch_at_once(selftest: Controlled) -> None:
    before = selftest.switches()
    with storm(f"recurse {DEPTH}", "value 5") as results, Follower() as events:
        gather(
            *(
                partial(selftest.switch, edition, EXCLUSIVE, LONG)
                for edition in ("b", "original", "b", "original")
            )
        )
        switched = events.only("switched")
    editions = [switched[0].fields["from"], *(event.fields["to"] for event in switched)]
    assert [event.fields["from"] for event in switched] == editions[:-1]
    assert selftest.switches() == before + len(switched)
    assert results[f"recurse {DEPTH}"] <= set(RECURSED.values())
