# SPDX-License-Identifier: GPL-2.0-or-later
"""The subsystem `reclaim`: the foreground keeps its pages, unless nobody else has any.

`reclaim_load.c` has a foreground and a background want the same memory, in a cgroup with little of
it. How much the edition gains on a whole machine is measured by `make bench-editions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import guest
from tests.kernel.child import Child
from tests.kernel.control import Controlled
from tests.kernel.jobs import files as made
from tests.kernel.jobs import groups
from tests.kernel.load import run_program
from tests.kernel.named_cgroups import check_names, check_removal
from tests.kernel.target import parameter, set_parameter_text
from tests.vm.programs import BUILT

RECLAIM = "dynamos_reclaim"
FOREGROUND = f"{RECLAIM}_foreground"
FUNCTION = "folio_referenced"
MIB = 1 << 20
LIMIT = 24 * MIB
"""What foreground and background have together."""

FRONT, SPARSE = 12 * MIB, 96 * MIB
PRESSURE_MIB = 96
PAGE = 4096
LOOK = 1024
"""After so many questions it is seen whether anybody else has pages."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[Controlled]:
    """Give the subsystem `reclaim` with its edition."""
    guest.unload_all()
    guest.load_all((guest.CORE, RECLAIM, FOREGROUND))
    yield Controlled("reclaim")
    guest.unload_all()


@pytest.fixture
def reclaim(loaded: Controlled) -> Iterator[Controlled]:
    """Give the same with `original` active and no foreground, before and after."""
    yield loaded
    loaded.switch_and_drain("original")
    name("")


@pytest.fixture
def jobs() -> Iterator[Path]:
    """Give a cgroup with little memory, and in it `front` and `back`."""
    with groups(["dynamos_jobs", "dynamos_jobs/front", "dynamos_jobs/back"]) as (jobs, _, _):
        (jobs / "memory.max").write_text(str(LIMIT))
        yield jobs


@pytest.fixture(scope="module")
def files(disk: Path) -> Iterator[tuple[Path, Path]]:
    """Give the foreground's file, and one that is larger than what memory there is."""
    with made(disk, FRONT, SPARSE) as (front, sparse):
        yield front, sparse


def run(jobs: Path, file: Path, sparse: Path, rounds: int, pressure: int) -> dict[str, int]:
    """Have foreground and background run; give what the foreground has met with."""
    words = [jobs / "front", jobs / "back", file, sparse, rounds, pressure]
    return run_program("reclaim_load", words)


def name(path: str) -> None:
    """Name the foreground; with "" there is none."""
    set_parameter_text(FOREGROUND, "foreground", f"{path}\n")


def kept() -> int:
    """How often a page was kept."""
    return parameter(FOREGROUND, "kept")


def killed(jobs: Path) -> int:
    """How often somebody in there was killed for want of memory."""
    lines = (jobs / "memory.events").read_text().splitlines()
    return int(dict(line.split() for line in lines)["oom_kill"])


# --------------------------------------------------------------------------------- the cgroup


def test_foreground_is_a_cgroup_that_is_there(reclaim: Controlled, jobs: Path) -> None:
    reclaim.switch("foreground")
    check_names(reclaim, "foreground", "foreground", jobs / "front")


def test_foreground_that_is_removed_is_let_go(reclaim: Controlled, jobs: Path) -> None:
    check_removal(reclaim, "foreground", "foreground", jobs)


# ---------------------------------------------------------------------------------- its pages


def test_pages_of_the_foreground_stay_while_another_wants_memory(
    reclaim: Controlled, jobs: Path, files: tuple[Path, Path]
) -> None:
    name("/dynamos_jobs/front")
    without = run(jobs, *files, rounds=1, pressure=PRESSURE_MIB)
    reclaim.switch("foreground")
    before = kept()
    there = run(jobs, *files, rounds=1, pressure=PRESSURE_MIB)
    assert there["bytes"] == without["bytes"] == FRONT
    assert without["faults"] > FRONT // PAGE // 4, f"there was no pressure: {without}"
    assert there["faults"] < without["faults"] / 2, (without, there)
    assert kept() > before
    assert reclaim.number(FUNCTION, "foreground", "calls") > 0
    assert killed(jobs) == 0


def test_foreground_alone_gives_up_its_own(
    reclaim: Controlled, jobs: Path, files: tuple[Path, Path]
) -> None:
    """It wants more than there is, and nobody else has any."""
    name("/dynamos_jobs/front")
    reclaim.switch("foreground")
    _, sparse = files
    found = run(jobs, sparse, sparse, rounds=1, pressure=0)
    assert (found["bytes"], killed(jobs)) == (SPARSE, 0)
    asked = reclaim.number(FUNCTION, "foreground", "calls")
    assert asked > 2 * LOOK, "more than it takes to see that"


def test_what_is_read_and_not_mapped_goes_as_ever(
    reclaim: Controlled, jobs: Path, files: tuple[Path, Path]
) -> None:
    name("/dynamos_jobs/front")
    reclaim.switch("foreground")
    before, asked = kept(), reclaim.number(FUNCTION, "foreground", "calls")
    _, sparse = files
    read = 'echo $$ > "$1/cgroup.procs" && exec cat "$2" > /dev/null'
    with Child("sh", "-c", read, "read", str(jobs / "front"), str(sparse)) as child:
        child.output()
    assert reclaim.number(FUNCTION, "foreground", "calls") - asked > 2 * LOOK
    # The program itself has some that are mapped.
    assert (kept() - before < LOOK // 4, killed(jobs)) == (True, 0)


def test_foreground_at_its_own_limit_is_as_ever(
    reclaim: Controlled, jobs: Path, files: tuple[Path, Path]
) -> None:
    name("/dynamos_jobs/front")
    (jobs / "front/memory.max").write_text(str(8 * MIB))
    reclaim.switch("foreground")
    before = kept()
    front, _ = files
    assert run(jobs, front, front, rounds=1, pressure=0)["bytes"] == FRONT
    assert (kept() - before, killed(jobs)) == (0, 0)


def test_foreground_changes_while_pages_are_asked_about(
    reclaim: Controlled, jobs: Path, files: tuple[Path, Path]
) -> None:
    reclaim.switch("foreground")
    words = [jobs / "front", jobs / "back", *files, 1, PRESSURE_MIB // 4]
    with Child(str(BUILT / "reclaim_load"), *map(str, words)) as load:
        changes = 0
        while not load.is_over():
            name(("/dynamos_jobs/front", "", "/dynamos_jobs/back")[changes % 3])
            changes += 1
        load.output()
    assert changes > 10
