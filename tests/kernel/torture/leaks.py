# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's memory may grow by while the same is done again and again. Pure.

The rule: the work is done in two equal halves, and looked at before, between and after. Something
leaks that has grown by more than `allowed` in the first half **and** in the second. A cache that
is filled once, or a table that grows once, grows in one of them only; what leaks once in each
repetition grows in both, by as much as there are repetitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NOISE = 48
"""Objects of one cache, or areas, that come and go in a machine that has nothing to do."""

NOISE_KB = 64
"""Kilobytes of one kind that do: per-CPU memory is counted in whole pages, for each CPU."""

KINDS = ("Percpu",)
"""What is taken of /proc/meminfo. The rest is in the slabs, or in pages, which have no rest."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is in use: objects by cache, areas of vmalloc, kilobytes by kind, modules."""

    objects: Mapping[str, int]
    areas: int
    kilobytes: Mapping[str, int]
    modules: int

    def counts(self) -> dict[str, int]:
        """Give what is counted by pieces."""
        return {**self.objects, "vmalloc areas": self.areas}


def parse(slabinfo: str, vmallocinfo: str, meminfo: str, modules: str) -> Memory:
    """Read the files of those names in /proc."""
    rows = (line.split() for line in slabinfo.splitlines()[2:])
    fields = (line.split() for line in meminfo.splitlines())
    return Memory(
        {row[0]: int(row[1]) for row in rows},
        vmallocinfo.count("\n"),
        {words[0].rstrip(":"): int(words[1]) for words in fields if words[0].rstrip(":") in KINDS},
        modules.count("\n"),
    )


def least(readings: Iterable[Memory]) -> Memory:
    """Give the least of each number: what some reading found in use for a moment is no leak."""
    lowest, *others = readings
    for other in others:
        lowest = Memory(
            _least(lowest.objects, other.objects),
            min(lowest.areas, other.areas),
            _least(lowest.kilobytes, other.kilobytes),
            min(lowest.modules, other.modules),
        )
    return lowest


def _least(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {key: min(one[key], other[key]) for key in one.keys() & other.keys()}


def allowed(repetitions: int) -> int:
    """Give how many objects may be more: half as many as would leak, if one did each time."""
    return max(NOISE, repetitions // 2)


def leaks(used: Sequence[Memory], repetitions: int) -> list[str]:
    """Name what has grown by too much in each half, which did everything so many times.

    ``used`` is what was in use before, between and after the halves.
    """
    start, middle, end = used
    most = allowed(repetitions)
    grown = _grown((start.counts(), middle.counts(), end.counts()), most)
    grown += _grown((start.kilobytes, middle.kilobytes, end.kilobytes), NOISE_KB)
    if not start.modules == middle.modules == end.modules:
        grown.append(f"modules: {start.modules}, {middle.modules}, {end.modules}")
    return grown


def most_grown(used: Sequence[Memory], how_many: int = 8) -> list[str]:
    """Name what has grown most in the second half, for whoever wants to see the noise."""
    start, middle, end = ({**each.counts(), **each.kilobytes} for each in used)
    second = {name: end[name] - middle.get(name, 0) for name in end}
    most = sorted(second, key=lambda name: second[name], reverse=True)[:how_many]
    return [f"{name} {start.get(name, 0)}, {middle.get(name, 0)}, {end[name]}" for name in most]


def _grown(counts: tuple[Mapping[str, int], ...], most: int) -> list[str]:
    start, middle, end = counts
    grown = []
    for name in sorted(end):
        first = middle.get(name, 0) - start.get(name, 0)
        second = end[name] - middle.get(name, 0)
        if min(first, second) > most:
            grown.append(f"{name}: {first:+} and then {second:+}, and {most} are allowed")
    return grown
