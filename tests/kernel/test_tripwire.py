# SPDX-License-Identifier: GPL-2.0-or-later
"""Editions that fault, warn, sleep where they must not, or never return: what becomes of them."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dynamosd.model import EditionState
from tests.kernel import control, guest
from tests.kernel.control import Commander, Controlled, Follower
from tests.kernel.load import holds, storm
from tests.kernel.target import (
    FIRST_VALUE,
    KEYS,
    Caller,
    Target,
    blocked,
    new,
    release,
    set_parameter,
    set_parameter_text,
)

BAD = "dynamos_selftest_bad"
ORIGINAL, WRONG = 6, 4006
"""What `value 5` gives."""

FAULTS = (
    *("BUG: kernel NULL pointer", "Oops", "kernel BUG at", "BUG: unable to handle"),
    # What a null pointer is to a kernel with KASAN.
    *("general protection fault", "KASAN: null-ptr-deref"),
)
WARNING = ("WARNING: ",)
# The second line comes if there was a fault before: lockdep does not go on after one.
ASLEEP = ("BUG: scheduling while atomic", "INFO: lockdep is turned off")

EXCLUSIVE = ("mode=exclusive", "timeout_ms=60000")

only_direct = pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
each_fault = pytest.mark.parametrize("deed", ["pointer", "call", "trap"])


@pytest.fixture
def bad(selftest: Controlled) -> Iterator[Controlled]:
    """Give the subsystem `selftest` with an edition that misbehaves when told to."""
    guest.insert(BAD)
    yield selftest
    behave()
    if selftest.active() == "bad" or selftest.partial() == "bad":
        selftest.switch("original")
    guest.remove_when_free(BAD)


@pytest.fixture
def trips_on_warnings(selftest: Controlled) -> Iterator[None]:
    """Have a warning be enough."""
    del selftest
    parameter = Path("/sys/module", guest.CORE, "parameters/tripwire")
    parameter.write_text("warn")
    yield
    parameter.write_text("oops")


def misbehave(deed: str, where: str = "value") -> None:
    set_parameter_text(BAD, "where", where)
    set_parameter_text(BAD, "deed", deed)


def behave() -> None:
    misbehave("nothing")


def dies() -> int:
    """Have another process make a call that is its end; gives its pid."""
    with Caller("value 5") as victim:
        guest.wait_until(victim.is_over, "the caller has died")
        assert victim.process.returncode != 0
        return victim.pid


def is_out(subsystem: Controlled, events: Follower, why: str, pid: int | None = None) -> None:
    """Prove that `bad` has tripped the wire, and that everything is told and as it should be."""
    told = events.wait_for("tripped", edition="bad", why=why).fields
    assert told["subsystem"] == "selftest"
    assert pid is None or told["pid"] == str(pid)
    parts = {"misbehave", "bad_value", "bad_prepare", "bad_abort"}
    assert told["at"].removesuffix(".cold") in {*parts, "dynamos_wrapper_bad_target_value"}
    events.wait_for("quarantined", edition="bad", why=why, by="0")
    guest.wait_until(
        lambda: (subsystem.active(), subsystem.partial()) == ("original", "none"),
        "the original alone is active",
    )
    assert subsystem.value("editions", "bad", "quarantine") == why
    assert Target().result("value 5") == ORIGINAL
    assert guest.answer(lambda: subsystem.switch("bad")) == "ENOTRECOVERABLE"
    refused = events.wait_for("refused", errno=str(errno.ENOTRECOVERABLE))
    assert "quarantine" in refused.fields["reason"]


def is_gone(subsystem: Controlled) -> None:
    """Prove that nobody is taken for being inside any more, and that the module can go."""
    for edition in ("bad", "original"):
        assert subsystem.number("target_value", edition, "in_flight") == 0
    assert subsystem.number("target_value", "bad", "calls") > 0
    subsystem.switch("b", *EXCLUSIVE)
    subsystem.switch_and_drain("original")
    guest.remove_when_free(BAD)
    guest.insert(BAD)
    assert subsystem.value("editions", "bad", "quarantine") == "none"


@only_direct
@each_fault
@pytest.mark.parametrize("how", ["mode=concurrent", "mode=scoped scope=share:1/1"])
def test_a_fault_in_a_call(
    bad: Controlled, kernel_log: guest.KernelLog, deed: str, how: str
) -> None:
    with kernel_log.expect(*FAULTS), Follower() as events:
        bad.switch("bad", *how.split())
        assert Target().result("value 5") == WRONG
        misbehave(deed)
        pid = dies()
        is_out(bad, events, "oops", pid)
        assert bad.count("editions", "bad", "died") == 1
        assert bad.count("editions", "original", "died") == 0
        behave()
        is_gone(bad)


@only_direct
def test_a_fault_below_a_call_that_went_through_the_dispatch_slot(
    bad: Controlled, kernel_log: guest.KernelLog
) -> None:
    """While an exclusive switch waits, calls inside the dispatch slot are counted twice."""
    Target().run("new 1")
    with kernel_log.expect(*FAULTS), Follower() as events, Caller("block 1") as inside:
        guest.wait_until(lambda: Target().waiting() == 1, "somebody is inside")
        bad.switch("bad")
        bad.switch("b", "mode=per-object")
        misbehave("pointer")
        # It is about no object: those calls keep the edition that the others leave.
        pid = dies()
        is_out(bad, events, "oops", pid)
        release(1, [inside])
        behave()
        is_gone(bad)


@only_direct
@pytest.mark.parametrize("where", ["prepare", "commit", "abort", "retire"])
def test_a_fault_in_a_callback(bad: Controlled, kernel_log: guest.KernelLog, where: str) -> None:
    with kernel_log.expect(*FAULTS), Follower() as events:
        misbehave("pointer", where)
        if where == "prepare":
            assert guest.answer(lambda: bad.switch("bad")) == "ECANCELED"
        elif where == "abort":
            Target().run("new 1")
            with Caller("block 1") as inside:
                guest.wait_until(lambda: Target().waiting() == 1, "somebody is inside")
                said = guest.answer(lambda: bad.switch("bad", "mode=exclusive", "timeout_ms=100"))
                assert said == "ETIMEDOUT"
                release(1, [inside])
        else:
            bad.switch("bad")
        if where == "retire":
            bad.switch("original")
        is_out(bad, events, "oops")
        guest.wait_until(lambda: bad.state("bad") is EditionState.IDLE, "nobody is in it any more")
        assert bad.count("editions", "bad", "died") == 1
        behave()
        # Nothing is left locked.
        bad.switch_and_drain("b", *EXCLUSIVE)
        bad.switch_and_drain("original")
        control.command("clear selftest bad")
        bad.switch("bad")
        assert Target().result("value 5") == WRONG


@pytest.fixture
def layout(selftest: Controlled) -> Iterator[Controlled]:
    """Give the subsystem with two objects, and an edition whose transfer faults when told to."""
    new(1, 2)
    yield selftest
    transfer_faults(0)
    if selftest.value("editions", "layout", "quarantine") != "none":
        control.command("clear selftest layout")


def transfer_faults(when: int) -> None:
    set_parameter(guest.SELFTEST_LAYOUT, "fault_transfer", when)


INTO, OUT_OF = 1, 2


def use_both(first: int, second: int) -> None:
    """Use both objects, which have been used so often before."""
    used = [Target().result(f"use {key}") for key in (1, 2)]
    assert used == [FIRST_VALUE + first, FIRST_VALUE + second]
    assert Target().result("wrong") == 0


@only_direct
def test_a_fault_while_data_is_moved_into_an_edition(
    layout: Controlled, kernel_log: guest.KernelLog
) -> None:
    with kernel_log.expect(*FAULTS), Follower() as events:
        transfer_faults(INTO)
        assert guest.answer(lambda: layout.switch("layout", *EXCLUSIVE)) == "ECANCELED"
        events.wait_for("tripped", edition="layout", why="oops")
        assert layout.active() == "original"
        assert layout.value("editions", "layout", "quarantine") == "oops"
        use_both(0, 0)
        # Nothing is left locked, and nobody held.
        transfer_faults(0)
        control.command("clear selftest layout")
        layout.switch("layout", *EXCLUSIVE)
        use_both(1, 1)
        layout.switch_and_drain("original", *EXCLUSIVE)
        use_both(2, 2)


@only_direct
def test_a_fault_while_data_is_moved_out_of_an_edition(
    layout: Controlled, kernel_log: guest.KernelLog
) -> None:
    """Its data is in its own form, which only it can read: it stays active until it can leave."""
    layout.switch("layout", *EXCLUSIVE)
    with kernel_log.expect(*FAULTS), Follower() as events:
        transfer_faults(OUT_OF)
        assert guest.answer(lambda: layout.switch("original", *EXCLUSIVE)) == "ECANCELED"
        events.wait_for("tripped", edition="layout", why="oops")
        events.wait_for("refused", command="switch selftest original", by="0")
        assert layout.active() == "layout"
        use_both(0, 0)
        transfer_faults(0)
        guest.wait_until(lambda: layout.active() == "original", "the module has got it away")
        use_both(1, 1)


@only_direct
def test_a_fault_while_a_call_moves_its_object(
    layout: Controlled, kernel_log: guest.KernelLog
) -> None:
    # The thread that dies has it in use, and so nobody can end it any more.
    lost = KEYS.stop
    new(lost)
    with kernel_log.expect(*FAULTS), Follower() as events:
        transfer_faults(INTO)
        layout.switch("layout", "mode=per-object")

        def is_moved_by_a_call() -> bool:
            with Caller(f"use {lost}") as caller:
                guest.wait_until(caller.is_over, "the call has ended")
                return caller.process.returncode != 0

        used = 0
        while not is_moved_by_a_call():
            used += 1
        events.wait_for("tripped", edition="layout", why="oops")
        transfer_faults(0)
        guest.wait_until(lambda: layout.partial() == "none", "the module has got it away")
        assert layout.active() == "original"
        assert layout.value("editions", "layout", "quarantine") == "oops"
        use_both(0, 0)
        assert Target().result(f"use {lost}") == FIRST_VALUE + used
        layout.switch_and_drain("b", *EXCLUSIVE)
        layout.switch_and_drain("original")
        use_both(1, 1)


@only_direct
def test_an_edition_that_is_cleared_may_fault_again(
    bad: Controlled, kernel_log: guest.KernelLog
) -> None:
    with kernel_log.expect(*FAULTS), Follower() as events:
        for times in (1, 2):
            behave()
            bad.switch("bad")
            misbehave("pointer")
            is_out(bad, events, "oops", dies())
            assert bad.count("editions", "bad", "died") == times
            control.command("clear selftest bad")
            events.wait_for("cleared", edition="bad")
            assert bad.value("editions", "bad", "quarantine") == "none"
        behave()


@only_direct
@pytest.mark.usefixtures("trips_on_warnings")
def test_a_warning_is_enough_where_the_operator_wants_that(
    bad: Controlled, kernel_log: guest.KernelLog
) -> None:
    with kernel_log.expect(*WARNING), Follower() as events:
        bad.switch("bad")
        misbehave("warning")
        assert Target().result("value 5") == WRONG
        behave()
        is_out(bad, events, "warn")
        assert bad.count("editions", "bad", "died") == 0
        is_gone(bad)


@only_direct
@pytest.mark.parametrize(("deed", "words"), [("warning", WARNING), ("atomic", ASLEEP)])
def test_what_kills_nobody_leaves_things_as_they_are(
    bad: Controlled, kernel_log: guest.KernelLog, deed: str, words: tuple[str, ...]
) -> None:
    with kernel_log.expect(*words), Follower() as events:
        bad.switch("bad")
        misbehave(deed)
        assert Target().result("value 5") == WRONG
        behave()
        assert bad.active() == "bad"
        assert bad.value("editions", "bad", "quarantine") == "none"
        bad.switch_and_drain("original")
        assert not events.only("tripped")
        assert Target().result("value 5") == ORIGINAL


@only_direct
def test_the_wire_may_be_taken_away(bad: Controlled, kernel_log: guest.KernelLog) -> None:
    parameter = Path("/sys/module", guest.CORE, "parameters/tripwire")
    parameter.write_text("off")
    try:
        with kernel_log.expect(*FAULTS), Follower() as events:
            bad.switch("bad")
            misbehave("pointer")
            dies()
            behave()
            assert Target().result("value 5") == WRONG
            assert (bad.active(), bad.count("editions", "bad", "died")) == ("bad", 1)
            assert bad.number("target_value", "bad", "in_flight") == 0
            bad.switch_and_drain("original")
            assert not events.only("tripped")
    finally:
        parameter.write_text("oops")


@only_direct
def test_who_never_returns_is_named_and_keeps_only_the_module(bad: Controlled) -> None:
    bad.switch("bad")
    misbehave("forever")
    with Caller("value 5") as caller, Follower() as events:
        guest.wait_until(
            lambda: bad.number("target_value", "bad", "in_flight") == 1, "it is inside"
        )
        bad.switch("original")
        assert Target().result("value 5") == ORIGINAL
        events.wait_for("draining", edition="bad")
        assert events.wait_for("inside", edition="bad").fields["pid"] == str(caller.pid)
        assert guest.answer(lambda: guest.remove(BAD)) == guest.IN_USE
        assert (
            guest.answer(lambda: bad.switch("b", "mode=exclusive", "timeout_ms=100")) == "ETIMEDOUT"
        )
        behave()
        events.wait_for("drained", edition="bad")
        assert caller.result() == WRONG


# ------------------------------------------------------------------------------------ by command


def is_cleared_meanwhile() -> bool:
    """Clear an edition while it is put in quarantine in vain; tell whether it came to that.

    The module gives up after a second, which may be over before anybody looks.
    """
    writing: list[bool] = []

    def begun_or_over() -> bool:
        writing.append(commander.is_writing())
        return writing[-1] or commander.is_over()

    with Follower() as events, Commander("quarantine selftest layout") as commander:
        guest.wait_until(begun_or_over, "calls are to be taken away")
        control.command("clear selftest layout")
        guest.wait_until(commander.is_over, "calls could not be taken away")
        told = [event.name for event in events.read()]
    assert "refused" in told
    assert not {"quarantined", "cleared"} & set(told)
    return writing[-1]


@only_direct
def test_who_clears_waits_for_a_quarantine_that_is_under_way(selftest: Controlled) -> None:
    """An edition is marked first, then calls are taken away, and only then it is told."""
    new(1)
    selftest.switch("layout", *EXCLUSIVE)
    with blocked(1) as inside:
        guest.wait_until(is_cleared_meanwhile, "it is cleared in the middle of it")
        release(1, inside)


@only_direct
def test_quarantine_by_command(bad: Controlled) -> None:
    bad.switch("bad")
    with Follower() as events:
        control.command("quarantine selftest bad")
        assert bad.active() == "original"
        names = [event.name for event in events.read()]
        assert names.index("switched") < names.index("quarantined")
        assert bad.value("editions", "bad", "quarantine") == "command"
        for options in ("", "mode=exclusive", "mode=per-object", "mode=scoped scope=cpus:0"):
            line = f"switch selftest bad {options}"
            assert guest.answer(partial(control.command, line)) == "ENOTRECOVERABLE"
        assert guest.answer(lambda: control.command("quarantine selftest original")) == "EINVAL"
        assert guest.answer(lambda: control.command("quarantine selftest none")) == "ENXIO"
        assert guest.answer(lambda: control.command("clear nothing bad")) == "ENOENT"
        control.command("clear selftest bad")
        control.command("clear selftest bad")
        assert len(events.only("cleared")) == 1
    bad.switch("bad")
    assert Target().result("value 5") == WRONG


# ------------------------------------------------------------------- the original, whatever goes on


@only_direct
def test_the_original_does_not_wait_for_an_author(bad: Controlled) -> None:
    bad.switch("b")
    misbehave("forever", "prepare")
    with Commander("switch selftest bad") as stuck:
        guest.wait_until(lambda: is_preparing(stuck), "the edition is preparing")
        with Commander("switch selftest c mode=concurrent") as waiting:
            guest.wait_until(waiting.is_writing, "another one waits for its turn")
            control.command("switch selftest original")
            assert bad.active() == "original"
            assert Target().result("value 5") == ORIGINAL
            with Follower() as events:
                behave()
                events.wait_for("refused", errno=str(errno.ECANCELED))
            waiting.output()
    assert bad.active() == "c"


@only_direct
def test_what_is_being_prepared_is_given_up_also_when_the_original_is_active(
    bad: Controlled,
) -> None:
    misbehave("forever", "prepare")
    with Commander("switch selftest bad") as stuck, Follower() as events:
        guest.wait_until(lambda: is_preparing(stuck), "the edition is preparing")
        control.command("switch selftest original")
        behave()
        refused = events.wait_for("refused", errno=str(errno.ECANCELED))
        assert refused.fields["by"] == str(stuck.pid)
    assert bad.active() == "original"


@only_direct
@pytest.mark.parametrize("where", ["commit", "retire"])
def test_the_original_does_not_wait_for_what_is_done_afterwards(
    bad: Controlled, where: str
) -> None:
    misbehave("forever", where)
    with Commander("switch selftest bad") as first:
        guest.wait_until(lambda: bad.active() == "bad", "the switch is made")
        if where == "retire":
            first.output()
            bad.switch("c", "mode=concurrent")
            guest.wait_until(is_with_its_author, "the edition is being retired")
        with Follower() as events:
            control.command("switch selftest original")
            assert bad.active() == "original"
            assert Target().result("value 5") == ORIGINAL
            behave()
            if where == "commit":
                first.output()
            # Calls got it: its text stays until none can be in it, and that is told.
            events.wait_for("drained", edition="bad")
    guest.wait_until(lambda: bad.state("bad") is EditionState.IDLE, "nobody is in it any more")


def is_with_its_author() -> bool:
    """Tell whether a callback of `bad` is running: it has a thread of its own."""
    threads = subprocess.run(["ps", "-eo", "comm"], capture_output=True, text=True, check=True)
    return "dynamos/bad" in threads.stdout.split()


def is_preparing(commander: Commander) -> bool:
    """Tell whether a command that was written waits for `bad` to be prepared."""
    return commander.is_writing() and is_with_its_author()


@only_direct
def test_the_original_does_not_wait_for_callers(selftest: Controlled) -> None:
    Target().run("new 1")
    selftest.switch("b")
    with Caller("block 1") as inside, Follower() as events:
        guest.wait_until(lambda: Target().waiting() == 1, "somebody is inside")
        # Calls go on before the switch begins: their first one must have returned.
        with (
            storm("value 5") as results,
            Commander("switch selftest c mode=exclusive timeout_ms=60000") as waiting,
        ):
            guest.wait_until(holds(selftest, 1), "a caller is held")
            selftest.switch("original")
            assert selftest.active() == "original"
            given_up = events.wait_for("refused", errno=str(errno.ECANCELED))
            assert given_up.fields["by"] == str(waiting.pid)
            assert "original" in given_up.fields["reason"]
        assert results["value 5"] == {ORIGINAL, ORIGINAL + 1000}
        release(1, [inside])
    assert Target().result("value 5") == ORIGINAL
