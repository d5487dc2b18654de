# SPDX-License-Identifier: GPL-2.0-or-later
"""Every step that may fail is made to, one after the other; afterwards all is as it was before.

The module counts its steps itself (kmod/fail.c). An operation is carried out as often as it has
steps, each time with the next one failing. It then either fails as a whole, or does without what
failed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import control, guest, target
from tests.kernel.allocations import Allocations
from tests.kernel.control import Controlled, Follower
from tests.kernel.guest import CORE, SELFTEST, SELFTEST_B, SELFTEST_LAYOUT, TARGET

STEP = Path("/sys/module", CORE, "parameters/fail_step")
MOST = 500
"""More steps than any operation has."""

VOLATILE = {"calls", "switches", "id", "index", "address", "mode"}
"""What sysfs shows that may be another number after all has been undone."""

SOURCES = Path(__file__).parents[2] / "kmod"

State = Mapping[str, str]


def sysfs() -> dict[str, str]:
    """All that sysfs shows, by path, but what may change."""
    files = [path for path in control.SYSFS.rglob("*") if path.is_file()]
    return {
        str(path): path.read_text().strip()
        for path in files
        if path.name not in VOLATILE and "parameters" not in path.parts
    }


def modules() -> dict[str, str]:
    """Our modules, and by how many each is used."""
    lines = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
    return {line[0]: line[2] for line in lines if line[0].startswith(CORE)}


def state() -> State:
    """What an operation that has been undone must leave as it was."""
    traced = {f"traced {line}": "" for line in guest.enabled_functions().splitlines()}
    return {**sysfs(), **modules(), **traced}


def settled() -> State:
    """Give the state, once the module's works have come to rest."""
    last = state()

    def stays() -> bool:
        nonlocal last
        time.sleep(0.5)
        before, last = last, state()
        return before == last

    guest.wait_until(stays, "the state stays the same")
    return last


def expect(before: State) -> None:
    """Wait until everything is as it was before; works of the module may still be undoing it."""

    def is_so() -> bool:
        return state() == before

    with suppress(AssertionError):
        guest.wait_until(is_so, "the state is the one before")
    assert state() == before


def steps() -> tuple[int, str]:
    """How many steps there were since the parameter was set, and which of them was made to fail."""
    words = dict(word.split("=") for word in STEP.read_text().split())
    return int(words["steps"]), words["failed"]


@contextmanager
def failing(number: int) -> Iterator[None]:
    STEP.write_text(str(number))
    try:
        yield
    finally:
        failed.add(steps()[1])
        STEP.write_text("0")


failed: set[str] = set()
"""The functions of the core in which a step was made to fail, in all tests of this file."""


@dataclass(frozen=True)
class Operation:
    """Something that can be done and undone."""

    act: Callable[[], object]
    undo: Callable[[], object]

    def fail_each(self, *, must_fail: bool) -> None:
        """Carry it out with each of its steps failing, then with none."""
        before = settled()
        said: set[str] = set()
        for number in range(1, MOST):
            with Follower() as events, failing(number):
                answer = guest.answer(self.act)
                _, where = steps()
                refused = [event for event in events.read() if event.name == "refused"]
            said.add(answer)
            if answer:
                assert where != "none", f"failed by itself: {answer}"
                assert all(event.fields["reason"] for event in refused)
            else:
                self.undo()
            expect(before)
            if where == "none":
                break
        assert number > 1, "it has no step that may fail"
        assert not must_fail or said - {""}, "no step was needed"


@pytest.mark.usefixtures("bare")
def test_loading_the_core() -> None:
    """Its own parameter says which step: it is not there to be written before."""
    untouched = guest.enabled_functions()
    for number in range(1, MOST):
        said = guest.answer(partial(guest.insert, CORE, f"fail_step={number}"))
        if not said:
            break
        assert said == "ENOMEM"
        assert CORE not in guest.loaded()
        assert not control.SYSFS.exists()
        assert not control.DEVICE.exists()
        assert guest.enabled_functions() == untouched
    assert number > 6, "it starts six parts"
    failed.update(
        {"queue_start", "tripwire_start", "functions_start", "sysfs_start", "device_start"}
    )


@pytest.fixture(scope="module")
def memory() -> Iterator[Allocations]:
    """Follow the core's allocations."""
    follower = Allocations()
    yield follower
    follower.close()


@pytest.fixture
def balanced(memory: Allocations) -> Iterator[None]:
    """Load the core, and find everything freed at the end that it has allocated."""
    guest.insert(CORE)
    with memory.followed():
        yield
        guest.unload_all(CORE)
        with suppress(AssertionError):
            guest.wait_until(lambda: not memory.outstanding(), "all is freed")
        assert memory.outstanding() == []


LOADS = {
    "a subsystem": ((), guest.SUBSYSTEM, "direct"),
    "an edition": ((guest.SUBSYSTEM,), guest.RANDOM, "direct"),
    "an edition, back end ftrace": ((guest.SUBSYSTEM,), guest.RANDOM, "ftrace"),
    "an edition, any back end": ((guest.SUBSYSTEM,), guest.RANDOM, "auto"),
    "one more, with parameters": ((TARGET, SELFTEST, SELFTEST_B), SELFTEST_LAYOUT, "direct"),
}


@pytest.mark.parametrize("what", LOADS)
@pytest.mark.usefixtures("bare", "balanced")
def test_loading(what: str) -> None:
    needed, name, backend = LOADS[what]
    with guest.backend(backend):
        guest.load_all(needed)
        loading = Operation(lambda: guest.insert(name), lambda: guest.remove_when_free(name))
        loading.fail_each(must_fail=True)
        guest.unload_all(CORE)


@pytest.mark.usefixtures("bare", "balanced")
def test_a_module_that_a_subsystem_waits_for() -> None:
    """The module is loaded in any case; only its function is not switched."""
    guest.load_all(("dynamos_selftest_atomic", "dynamos_selftest_atomic_b"))
    loading = Operation(lambda: guest.insert(TARGET), lambda: guest.remove_when_free(TARGET))
    loading.fail_each(must_fail=False)


EXCLUSIVELY = ("mode=exclusive", "timeout_ms=60000")
SWITCHES = {
    "concurrent": ("b", "mode=concurrent"),
    "exclusive": ("b", "mode=exclusive timeout_ms=60000"),
    "exclusive, with data": ("layout", "mode=exclusive timeout_ms=60000"),
    "per-object": ("b", "mode=per-object"),
    "per-object, with data": ("layout", "mode=per-object"),
    "by CPU": ("b", "mode=scoped scope=cpus:0"),
    "by task": ("b", f"mode=scoped scope=task:{os.getpid()}"),
    "by cgroup": ("b", "mode=scoped scope=cgroup:/"),
    "by share": ("b", "mode=scoped scope=share:1/2"),
    "by handler": ("handler", "mode=scoped scope=handler"),
}


@pytest.fixture
def objects(selftest: Controlled) -> Controlled:
    """Give the subsystem with two objects, which go with the rest."""
    target.new(1, 2)
    return selftest


def use_all(*keys: int) -> None:
    for key in keys:
        assert target.Target().result(f"use {key}") > 0


@pytest.mark.parametrize("what", SWITCHES)
@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_switching(objects: Controlled, what: str) -> None:
    edition, options = SWITCHES[what]

    def act() -> None:
        objects.switch(edition, options)
        use_all(1, 2)

    def back() -> None:
        how = EXCLUSIVELY if "data" in what else ("mode=concurrent",)
        objects.switch_and_drain("original", *how)

    Operation(act, back).fail_each(must_fail=True)
    assert target.Target().result("wrong") == 0


@pytest.mark.parametrize("what", ["exclusive", "exclusive, with data", "per-object, with data"])
@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_switching_back(objects: Controlled, what: str) -> None:
    edition, options = SWITCHES[what]

    def there() -> None:
        if "per-object" in what:
            # With data to move, it never completes by itself. Objects move when they can.
            objects.switch(edition, options)
            guest.wait_until(are_moved, "both objects are moved")
        else:
            objects.switch_and_drain(edition, options)
            use_all(1, 2)

    def are_moved() -> bool:
        use_all(1, 2)
        return objects.count("objects") == 2

    def back() -> None:
        objects.switch("original", *EXCLUSIVELY)
        use_all(1, 2)

    there()
    Operation(back, there).fail_each(must_fail=True)
    assert target.Target().result("wrong") == 0


@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_the_first_per_object_switch(selftest: Controlled) -> None:
    """What such switches need is made once, and kept as long as the subsystem."""
    modules = (SELFTEST, SELFTEST_B)

    def again() -> None:
        guest.unload_all(CORE, TARGET)
        guest.load_all(modules)

    again()
    Operation(lambda: selftest.switch("b", "mode=per-object"), again).fail_each(must_fail=True)


@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_objects_that_calls_move(objects: Controlled) -> None:
    target.new(3)
    before = 0

    def moves_a_third() -> bool:
        use_all(3)
        return target.parameter(SELFTEST_LAYOUT, "converted") > before

    def again() -> None:
        nonlocal before
        if objects.partial() == "layout":
            objects.switch_and_drain("original", *EXCLUSIVELY)
        before = target.parameter(SELFTEST_LAYOUT, "converted")
        objects.switch("layout", "mode=per-object")
        guest.wait_until(moves_a_third, "calls move objects from now on")

    again()
    Operation(lambda: use_all(1, 2), again).fail_each(must_fail=False)
    assert target.Target().result("wrong") == 0


@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_births_in_a_per_object_switch(selftest: Controlled) -> None:
    def act() -> None:
        target.new(3)
        use_all(3)

    selftest.switch("b", "mode=per-object", "objects=keep")
    Operation(act, lambda: target.free((3,))).fail_each(must_fail=False)


@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_a_shadow(objects: Controlled) -> None:
    objects.switch("layout", *EXCLUSIVELY)
    before = target.parameter(SELFTEST_LAYOUT, "shadow_failures")
    Operation(lambda: use_all(1), lambda: None).fail_each(must_fail=False)
    assert target.parameter(SELFTEST_LAYOUT, "shadow_failures") > before


@pytest.mark.parametrize(
    "line", ["who selftest", "check pipe_write", "set selftest b refuse_prepare=0"]
)
@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
@pytest.mark.usefixtures("selftest")
def test_asking(line: str) -> None:
    Operation(lambda: control.command(line), lambda: None).fail_each(must_fail=True)


@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
@pytest.mark.usefixtures("selftest")
def test_opening_the_device() -> None:
    def act() -> None:
        os.close(os.open(control.DEVICE, os.O_RDWR | os.O_CLOEXEC))

    Operation(act, lambda: None).fail_each(must_fail=True)


def functions_with_steps() -> set[str]:
    """The functions of the core that have a step, as its source says."""
    found = set()
    for source in SOURCES.glob("*.c"):
        function = ""
        for line in source.read_text().splitlines():
            if head := re.match(r"[a-z].*?(\w+)\(", line):
                function = head[1]
            if re.search(r"\bfailable\(", line) and line.startswith("\t"):
                found.add(function)
    return found


def test_no_step_was_left_out() -> None:
    """Runs last in this file: what the others have made to fail is all that there is."""
    left_out = functions_with_steps() - failed
    assert left_out == set(), "these did not fail (all tests of this file have to run)"
