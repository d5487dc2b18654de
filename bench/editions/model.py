# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured of an edition, and how a run of the benchmark is put together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from tests.vm.disk import Disk

ORIGINAL = "original"
IN_CALLS = "in_calls_ns"


Place = Callable[[], AbstractContextManager[Mapping[str, str]]]


def nowhere() -> AbstractContextManager[Mapping[str, str]]:
    """Give a place for loads that need none."""
    return nullcontext({})


@dataclass(frozen=True, slots=True)
class Machine:
    """A guest to measure in.

    Attributes:
        about: what it is, for people.
        cpus: how many it has.
        tcg: as in `make vm`: whether they take turns or run at the same time.
        counts: whether its clock counts executed instructions.
        memory: how much it has.
        disk: an empty disk of its own, if it has one.
        real_cpus: how many of this machine's it may use, or 0 for all.
    """

    about: str
    cpus: int
    tcg: str
    counts: bool
    memory: str = "1G"
    disk: Disk | None = None
    real_cpus: int = 0


COUNTING = Machine("one CPU; its clock counts instructions (ns)", 1, "single", counts=True)
PARALLEL = Machine(
    "two CPUs at the same time; compare within a column only", 2, "multi", counts=False
)


@dataclass(frozen=True, slots=True)
class Load:
    """One load, and what its figures are said to be.

    Attributes:
        name: one word.
        about: what it stands for.
        arguments: those of the load's program; what a place has a name for stands in braces.
    """

    name: str
    about: str
    arguments: str

    def words(self, names: Mapping[str, str]) -> list[str]:
        """Give the arguments one by one."""
        return [word.format_map(names) for word in self.arguments.split()]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure of an edition may be at most, as a share of the original's."""

    load: str
    edition: str
    figure: str
    share: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A subsystem's editions under its loads in one machine.

    Attributes:
        ways: what follows `switch`, by what it is called.
        settings: of the kernel, by the paths of their files: what an emulated machine needs, which
            is slow, or what the trial is about.
        place: what the loads need beside the machine, by the names that arguments have for it; it
            is there for as long as its block.
        repetitions: how often each load is run in each way.
        timed: a function of the subsystem; how long its calls take together is the figure
            `IN_CALLS`, from runs of their own.
    """

    subsystem: str
    modules: Sequence[str]
    program: str
    machine: Machine
    loads: Sequence[Load]
    ways: Mapping[str, str]
    figures: Sequence[str]
    limits: Sequence[Limit]
    settings: Mapping[str, str] = field(default_factory=dict)
    place: Place = nowhere
    repetitions: int = 5
    timed: str = ""


Figures = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
"""By load, by way to switch, by figure: one number a repetition, each for 1 MiB."""


def share(figures: Figures, load: str, way: str, figure: str) -> float:
    """Give a figure as a share of the original's: the medians of all repetitions."""
    found, base = (statistics.median(figures[load][each][figure]) for each in (way, ORIGINAL))
    if not base:
        return math.inf if found else 1.0
    return found / base


def broken(trial: Trial, figures: Figures) -> list[str]:
    """Name the limits that are not kept."""
    return [
        f"{trial.subsystem} {limit.edition}, {limit.load}: {found:.2f} times the original's"
        f" {limit.figure}, may be {limit.share:.2f}"
        for limit in trial.limits
        if (found := share(figures, limit.load, limit.edition, limit.figure)) > limit.share
    ]


def table(trial: Trial, figures: Figures) -> str:
    """Lay the figures out: medians, how far the repetitions lie apart, and the share."""
    head = f"{'LOAD':<9}{'EDITION':<11}" + "".join(f"{each + '/MB':>30}" for each in trial.figures)
    lines = [f"{trial.subsystem}: {trial.machine.about}", head]
    for load in trial.loads:
        for way in trial.ways:
            cells = [_cell(figures, load.name, way, figure) for figure in trial.figures]
            name = load.name if way == ORIGINAL else ""
            lines.append(f"{name:<9}{way:<11}{''.join(cells)}")
    return "\n".join(lines)


def _cell(figures: Figures, load: str, way: str, figure: str) -> str:
    values = figures[load][way][figure]
    middle = statistics.median(values)
    apart = (max(values) - min(values)) / 2 / middle if middle else 0.0
    times = f"x{share(figures, load, way, figure):.2f}"
    return f"{middle:>16,.0f} ±{apart:>4.0%} {times:>7}"
