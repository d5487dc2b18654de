# SPDX-License-Identifier: GPL-2.0-or-later
"""The subsystem `spinning`: a mutex is one in every edition, and who wants it may sleep at once.

`spinning_load.c` has threads want the same mutex, and checks that no two had it at once. How much
the edition gains, and where it harms, is measured by `make bench-editions`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel import guest
from tests.kernel.control import Controlled
from tests.kernel.load import run_program, switching

SPINNING = "dynamos_spinning"
NO_SPIN = f"{SPINNING}_no_spin"
FUNCTION = "mutex_spin_on_owner"
LOADS = ((2, 20000, 64), (4, 4000, 4096), (16, 2000, 65536), (4, 4000, 4096, 200))
LONG = (2, 2000, 65536)
"""One thread for each CPU: the original has no reason to let one sleep."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[Controlled]:
    """Give the subsystem `spinning` with its edition."""
    guest.unload_all()
    guest.load_all((guest.CORE, SPINNING, NO_SPIN))
    yield Controlled("spinning")
    guest.unload_all()


@pytest.fixture
def spinning(loaded: Controlled) -> Iterator[Controlled]:
    """Give the same with `original` active, before and after."""
    yield loaded
    loaded.switch_and_drain("original")


def load(*words: int) -> dict[str, int]:
    """Run a load to its end; every record came once. Give what it has counted."""
    return run_program("spinning_load", words)


def asked(spinning: Controlled, edition: str) -> bool:
    """Whether somebody asks an edition while threads want the same mutex."""
    before = spinning.number(FUNCTION, edition, "calls")
    load(*LONG)
    return spinning.number(FUNCTION, edition, "calls") > before


@pytest.mark.parametrize("edition", ["original", "no_spin"])
def test_nobody_shares_the_mutex(spinning: Controlled, edition: str) -> None:
    spinning.switch_and_drain(edition)
    for each in LOADS:
        load(*each)
    guest.wait_until(lambda: asked(spinning, edition), f"{edition} is asked")


@pytest.mark.parametrize("options", [(), ("mode=scoped", "scope=share:1/2")], ids=["all", "half"])
def test_nobody_shares_it_while_editions_come_and_go(
    spinning: Controlled, options: tuple[str, ...]
) -> None:
    before = spinning.switches()
    with switching(spinning, ("original",), ("no_spin", *options)):
        for each in LOADS:
            load(*each)
    assert spinning.switches() > before
    guest.wait_until(lambda: spinning.in_flight() == 0, "nobody spins any more")


def test_who_wants_the_mutex_sleeps_with_no_spin_and_only_then(spinning: Controlled) -> None:
    switches = {"original": 0, "no_spin": 0}
    # By turns: each switch back is seen to be one, and what else the machine does hits both.
    for _ in range(3):
        for edition in switches:
            spinning.switch_and_drain(edition)
            switches[edition] += load(*LONG)["switches"]
    assert switches["no_spin"] > 3 * switches["original"], switches
