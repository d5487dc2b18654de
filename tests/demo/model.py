# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo measures. Times are seconds of CLOCK_MONOTONIC, amounts are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """What the kernel module says, by way of ``/metrics`` while the daemon runs."""

    active: str
    calls: Mapping[str, int]
    in_flight: Mapping[str, int]
    sequential_share: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One moment of a phase. ``asked``, ``busy`` and ``disk`` count from its beginning.

    ``busy`` are the seconds that the workload has spent on reading ``asked``.
    """

    time: float
    phase: str
    asked: int
    busy: float
    disk: int
    seen: Observation


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch and why, as the journal has it."""

    time: float
    origin: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of one run, from its first point to its last."""

    name: str
    began: float
    ended: float
    points: tuple[Point, ...]

    @property
    def asked(self) -> int:
        """Bytes that the workload asked for."""
        return self.points[-1].asked

    @property
    def disk(self) -> int:
        """Bytes that were read from the disk."""
        return self.points[-1].disk

    @property
    def throughput(self) -> float:
        """Bytes a second that the workload got, without its start-up."""
        last = self.points[-1]
        return last.asked / last.busy if last.busy else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """All phases under one way of choosing the edition."""

    name: str
    phases: Mapping[str, Phase]
    switches: tuple[Switch, ...] = ()


def read_per_asked(disk: int, asked: int) -> float | None:
    """Bytes read from the disk per byte asked for; None while nothing was asked."""
    return disk / asked if asked else None
