# SPDX-License-Identifier: GPL-2.0-or-later
"""The subsystem `placement`: whoever is woken gets a CPU that it may use, and the right one.

`placement_load.c` has tasks that wake each other, and checks every message. What an edition gains
is measured by `make bench-editions`, on a machine with more CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import guest
from tests.kernel.child import Child
from tests.kernel.control import Controlled
from tests.kernel.load import run_program, switching
from tests.kernel.target import parameter
from tests.vm.programs import BUILT

PLACEMENT = "dynamos_placement"
EDITIONS = ("sticky",)
FUNCTION = "select_task_rq_fair"
LOADS = ("service 3 300 100", "service 12 100 0", "pinned 2 300 0", "herd 5 60")
LONG = "service 3 1500 100"
ASKED = 500
SERVICE = f"pinned 2 {ASKED} 300"
CPUS = Path("/sys/devices/system/cpu")

WHOLE = [(edition,) for edition in EDITIONS]
PARTS = [
    (edition, "mode=scoped", f"scope={scope}")
    for edition in EDITIONS
    for scope in ("cpus:0", "share:1/3", "cgroup:/")
]


@pytest.fixture(scope="module")
def loaded() -> Iterator[Controlled]:
    """Give the subsystem `placement` with all its editions."""
    guest.unload_all()
    guest.load_all((guest.CORE, PLACEMENT, *map(module, EDITIONS)))
    yield Controlled("placement")
    guest.unload_all()


@pytest.fixture
def placement(loaded: Controlled) -> Iterator[Controlled]:
    """Give the same with `original` active, before and after."""
    yield loaded
    loaded.switch_and_drain("original")


def module(edition: str) -> str:
    """Name the module that has an edition."""
    return f"{PLACEMENT}_{edition}"


def load(arguments: str, *before: str) -> dict[str, int]:
    """Run a load to its end; every message was right. Give what it has counted."""
    return run_program("placement_load", arguments.split(), *before)


def answered(edition: str) -> int:
    """How often an edition has chosen a CPU itself."""
    return parameter(module(edition), "answered")


def groups_of_caches() -> int:
    """How many groups of CPUs there are that share their last cache; here, one for each socket."""
    files = CPUS.glob("cpu[0-9]*/topology/package_cpus_list")
    return len({file.read_text() for file in files})


each_edition = pytest.mark.parametrize("edition", EDITIONS)

# ------------------------------------------------------------------------------ every edition


@each_edition
def test_every_message_arrives(placement: Controlled, edition: str) -> None:
    before = placement.number(FUNCTION, edition, "calls")
    placement.switch(edition)
    for each in LOADS:
        load(each)
    assert placement.number(FUNCTION, edition, "calls") > before


@pytest.mark.parametrize("switches", [WHOLE, PARTS], ids=["whole", "parts"])
def test_every_message_arrives_while_editions_come_and_go(
    placement: Controlled, switches: list[tuple[str, ...]]
) -> None:
    before = placement.switches()

    def were_enough() -> bool:
        for each in LOADS:
            load(each)
        return placement.switches() > before + len(switches)

    with switching(placement, ("original",), *switches):
        # A switch of some of the calls waits for grace periods: there may be few in one pass.
        guest.wait_until(were_enough, "editions have come and gone")
    guest.wait_until(lambda: placement.in_flight() == 0, "nobody is inside")


@each_edition
def test_task_that_may_use_one_cpu_stays_there(placement: Controlled, edition: str) -> None:
    placement.switch(edition)
    assert load("service 3 300 100", "taskset", "-c", "1")["migrations"] == 0


@each_edition
def test_cpu_comes_and_goes_under_load(placement: Controlled, edition: str) -> None:
    """Nobody is lost who has been on a CPU that is gone."""
    placement.switch(edition)
    online = CPUS / "cpu1/online"
    with Child(str(BUILT / "placement_load"), *LONG.split()) as child:
        try:
            for _ in range(5):
                online.write_text("0")
                online.write_text("1")
        finally:
            online.write_text("1")
        child.output()


@each_edition
def test_callers_are_not_held(placement: Controlled, edition: str) -> None:
    """They may not sleep, and there is no object: both modes are refused."""
    for mode in ("exclusive", "per-object"):
        said = guest.answer(partial(placement.switch, edition, f"mode={mode}"))
        assert said == guest.NOT_SUPPORTED, mode


# --------------------------------------------------------------------------------------- sticky


def test_who_is_woken_stays_on_its_idle_cpu(placement: Controlled) -> None:
    """A server that clients on two CPUs ask by turns.

    Where all CPUs share their last cache the original does the same, as far as they are idle.
    """
    without = load(SERVICE)
    placement.switch("sticky")
    before = answered("sticky")
    there = load(SERVICE)
    assert answered("sticky") > before
    if groups_of_caches() > 1:
        assert there["migrations"] < without["migrations"] / 4, (without, there)
