# SPDX-License-Identifier: GPL-2.0-or-later
"""Histograms of how long calls took: buckets in eight parts of each power of two. Pure.

A bucket is at most an eighth wider than its lower end, so that its middle is wrong by no more than
`MAX_ERROR` of any value in it. The eight first ones are 32 ns wide each, and what is longer than
the last one's end (550 s) counts there. bpf/dynamos.bpf.c puts values into the same buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import add, sub

PART_BITS = 3
"""Each power of two has 2**PART_BITS buckets."""

UNIT_BITS = 5
"""The first buckets are 2**UNIT_BITS nanoseconds wide."""

BUCKETS = 256

MAX_ERROR = 1.0 / 16.0
"""Of the value itself; and no less than half a unit, 16 ns."""

_PARTS = 1 << PART_BITS


def lower_end(bucket: int) -> int:
    """Return the least number of nanoseconds that counts in a bucket."""
    octave, part = divmod(bucket, _PARTS)
    if octave == 0:
        return part << UNIT_BITS
    return (_PARTS + part) << (octave - 1 + UNIT_BITS)


def bucket_of(nanoseconds: int) -> int:
    """Return the bucket that a value counts in."""
    units = nanoseconds >> UNIT_BITS
    octave = max(0, units.bit_length() - PART_BITS)
    if octave == 0:
        return units
    part = units >> (octave - 1) & (_PARTS - 1)
    return min(octave * _PARTS + part, BUCKETS - 1)


_MIDDLES = tuple((lower_end(each) + lower_end(each + 1)) / 2e9 for each in range(BUCKETS))
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How many calls took how long: ``counts`` has one number for each bucket."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    nanoseconds: int = 0

    def __add__(self, other: Latency) -> Latency:
        """Return both together."""
        counts = tuple(map(add, self.counts, other.counts))
        return Latency(counts, self.nanoseconds + other.nanoseconds)

    def since(self, before: Latency) -> Latency:
        """Return what has come since; all of it if counting began again in between."""
        counts = tuple(map(sub, self.counts, before.counts))
        if min(counts) < 0:
            return self
        return Latency(counts, self.nanoseconds - before.nanoseconds)

    @property
    def total(self) -> int:
        """How many calls there are in it."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the calls took at most; there must be calls.

        It is the middle of a bucket: wrong by `MAX_ERROR` of it, or by 16 ns, at most.
        """
        rank = max(1, math.ceil(share * self.total))
        below = accumulate(self.counts)
        return next(_MIDDLES[bucket] for bucket, count in enumerate(below) if count >= rank)

    def coarse(self, bounds_ns: Iterable[int]) -> tuple[int, ...]:
        """Return how many took up to each of some bounds, not cumulative, and the rest.

        Bounds that are powers of two from 256 are ends of buckets: there it is exact.
        """
        places = [bucket_of(bound) for bound in bounds_ns]
        ends = zip([0, *places], [*places, BUCKETS], strict=True)
        return tuple(sum(self.counts[begin:end]) for begin, end in ends)


def latency_of(nanoseconds: Iterable[int]) -> Latency:
    """Return the histogram of some values."""
    counts, total = [0] * BUCKETS, 0
    for value in nanoseconds:
        counts[bucket_of(value)] += 1
        total += value
    return Latency(tuple(counts), total)
