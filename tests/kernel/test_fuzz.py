# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines at random into the device: what is no command is refused, said why, and changes nothing.

`fuzz_device.c` writes them and checks each answer; here is looked at what is left of them all.
`DYNAMOS_FUZZ` says how many lines; `make fuzz` writes 1,000,000 on each kernel. What failed
prints its seed, the line's number and its bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import control, guest, target
from tests.kernel.child import Child
from tests.vm.programs import BUILT

LINES = int(os.environ.get("DYNAMOS_FUZZ", "20000"))
EACH_OF_TWO = MIXED = LINES * 8 // 100
MIXED_EACH_OF_TWO = min(LINES * 3 // 100, 3000)
"""Few: some are commands that wait for somebody in vain, a second each, or as long as they say."""
ALONE = LINES - 2 * EACH_OF_TWO - MIXED - 2 * MIXED_EACH_OF_TWO

SEED = int(os.environ.get("DYNAMOS_FUZZ_SEED", "1"))
SLOWEST_LINES_A_SECOND = 20
PATIENCE = max(guest.PATIENCE, LINES / SLOWEST_LINES_A_SECOND)

# Counters, and what is found by looking at objects and stacks, which somebody does now and then.
UNSTEADY = {"calls", "in_flight", "before_gate", "unreliable", "objects"}
# Callbacks are called for a switch that is refused in the end.
COUNTED = {"prepares", "aborts"}

FEW = 8

pytestmark = [
    pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module"),
    pytest.mark.timeout(PATIENCE + guest.PATIENCE),
]

Snapshot = Mapping[str, str]


@pytest.fixture
def subsystems(selftest: control.Controlled) -> Iterator[tuple[control.Controlled, ...]]:
    """Give `readahead` and `selftest`, with all their editions, `original` active, and objects."""
    guest.load_all()
    readahead = control.Controlled("readahead")
    control.switch_and_drain("original")
    target.new(*range(FEW))
    yield readahead, selftest
    control.switch_and_drain("original")


def snapshot() -> Snapshot:
    """Give what a line could change: all that sysfs shows, our modules, ftrace's functions."""
    modules = Path("/proc/modules").read_text().splitlines()
    found = {
        str(path): path.read_text()
        for path in control.SYSFS.rglob("*")
        if path.is_file() and path.name not in UNSTEADY | COUNTED
    }
    found["modules"] = "\n".join(line for line in modules if line.startswith(guest.CORE))
    found["functions"] = guest.enabled_functions()
    return found


@dataclass(frozen=True, slots=True)
class Fuzz:
    """What one run of the program is asked for."""

    lines: int
    seed: int
    mixed: bool = False
    alone: bool = True

    def start(self) -> Child:
        """Start it."""
        kind, company = "mixed" if self.mixed else "invalid", "alone" if self.alone else "together"
        program = str(BUILT / "fuzz_device")
        return Child(program, kind, str(self.seed), str(self.lines), company)


def run(*runs: Fuzz) -> list[Mapping[str, int]]:
    """Run all at once, to their ends; give what each has counted."""
    start = time.monotonic()
    with ExitStack() as stack:
        children = [stack.enter_context(fuzz.start()) for fuzz in runs]
        lines = [child.output(patience=PATIENCE) for child in children]
    took = time.monotonic() - start
    print(f"{took:.1f} s", *lines, sep="\n")  # noqa: T201 (shown with pytest -s)
    return [
        {key: int(value) for key, _, value in (word.partition("=") for word in line.split())}
        for line in lines
    ]


def check_answers(counts: Mapping[str, int], lines: int) -> None:
    assert counts["lines"] == counts["refused"] + counts["taken"] == lines
    often = {"EINVAL", "E2BIG", "ENOENT", "ENXIO", "EFAULT"}
    assert all(counts[name] > 0 for name in often), counts


def check_standing(subsystems: tuple[control.Controlled, ...]) -> None:
    """Check that what is active, and what is partial, is one of the editions, and says so.

    What was begun may go on by itself while that is read, file by file.
    """
    for subsystem in subsystems:
        guest.wait_until(partial(stands, subsystem), f"{subsystem.name} stands well")


def stands(subsystem: control.Controlled) -> bool:
    seen = subsystem.read()
    states = {name: edition.state.value for name, edition in seen.editions.items()}
    return (
        states[seen.active] == "active"
        and list(states.values()).count("active") == 1
        and (seen.partial is None or states[seen.partial] == "partial")
        and seen.held == 0
    )


def check_works(subsystems: tuple[control.Controlled, ...]) -> None:
    """Check that every subsystem can still be switched, and every edition left."""
    guest.let_callers_go()
    for subsystem in subsystems:
        control.command(f"release {subsystem.name}")
        for edition in subsystem.read().editions:
            control.command(f"clear {subsystem.name} {edition}")
        subsystem.switch_and_drain("original", "timeout_ms=60000")
        for edition in subsystem.read().editions:
            subsystem.switch_and_drain(edition, "timeout_ms=60000")
            assert (subsystem.active(), subsystem.partial()) == (edition, "none")
        subsystem.switch_and_drain("original", "timeout_ms=60000")


def test_lines_that_are_no_commands_change_nothing(
    subsystems: tuple[control.Controlled, ...],
) -> None:
    before = snapshot()
    [counts] = run(Fuzz(ALONE, SEED))
    assert snapshot() == before
    check_answers(counts, ALONE)
    assert (counts["taken"], counts["lost"], counts["unseen"]) == (0, 0, 0)
    assert counts["ESRCH"] > 0
    assert counts["EPERM"] > 0
    check_works(subsystems)


def test_two_writers_of_such_lines_change_nothing(
    subsystems: tuple[control.Controlled, ...],
) -> None:
    readahead, selftest = subsystems
    # There is more to lose in the middle of something.
    readahead.switch_and_drain("streaming")
    readahead.switch("random", "mode=scoped", "scope=share:1/2")
    selftest.switch("b", "mode=per-object", "objects=keep")
    before = snapshot()
    runs = [Fuzz(EACH_OF_TWO, SEED + each, alone=False) for each in (1, 2)]
    for counts in run(*runs):
        check_answers(counts, EACH_OF_TWO)
        assert counts["taken"] == 0
    assert snapshot() == before
    assert (readahead.partial(), selftest.partial()) == ("random", "b")
    check_works(subsystems)


def test_only_commands_are_taken_of_lines_that_may_be_some(
    subsystems: tuple[control.Controlled, ...],
) -> None:
    before = sum(subsystem.switches() for subsystem in subsystems)
    [counts] = run(Fuzz(MIXED, SEED + 3, mixed=True))
    check_answers(counts, MIXED)
    assert (counts["lost"], counts["unseen"]) == (0, 0)
    assert 0 < counts["switches"] < counts["taken"]
    after = sum(subsystem.switches() for subsystem in subsystems)
    assert after - before == counts["switches"] + counts["by_itself"]
    check_standing(subsystems)
    check_works(subsystems)


def test_two_writers_of_lines_that_may_be_commands_while_somebody_is_inside(
    subsystems: tuple[control.Controlled, ...],
) -> None:
    runs = [Fuzz(MIXED_EACH_OF_TWO, SEED + 4 + each, mixed=True, alone=False) for each in (0, 1)]
    # Somebody stays inside: exclusive switches are in vain, editions drain, objects do not move.
    with target.blocked(0):
        counted = run(*runs)
    for counts in counted:
        assert counts["lines"] == counts["refused"] + counts["taken"]
        assert counts["taken"] > 0
    assert sum(counts["ETIMEDOUT"] for counts in counted) > 0
    check_standing(subsystems)
    check_works(subsystems)
