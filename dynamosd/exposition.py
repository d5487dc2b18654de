# SPDX-License-Identifier: GPL-2.0-or-later
"""The text that Prometheus scrapes, version 0.0.4 of its format.

A page may have more than 100,000 lines, and is made anew after each tick. What stays the same from
one page to the next is a line's name and labels: they are put together and escaped once, and kept
for as long as the labels are there. The rest of the work is one ``repr()`` a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Protocol

Labels = tuple[str, ...]

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Observations(Protocol):
    """A histogram: how many in each bucket (not cumulative, the last is the rest), their sum."""

    @property
    def counts(self) -> Sequence[int]:
        """One number for each bucket."""

    @property
    def total(self) -> float:
        """The sum of what was observed."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, and the names of its labels. ``type`` is counter, gauge or histogram."""

    name: str
    type: str
    labels: Labels
    help: str


@dataclass(slots=True)
class Exposition:
    """Writes pages. ``limit`` is how many series, or histograms, a metric has at most.

    ``left_out`` says of which metric how many more there were; who begins a page clears it.
    """

    limit: int
    left_out: dict[str, int] = field(default_factory=dict)
    _heads: dict[str, dict[Labels, str]] = field(default_factory=dict)
    _buckets: dict[str, dict[Labels, tuple[str, ...]]] = field(default_factory=dict)

    def write(self, family: Family, values: Mapping[Labels, float]) -> str:
        """Give the lines of a counter or a gauge."""
        known = self._heads.get(family.name, {})
        heads = {
            labels: known.get(labels) or _head(family.name, family.labels, labels)
            for labels in self._admit(family, values)
        }
        self._heads[family.name] = heads
        # Not a number minus itself is not zero; nor is it for the infinite ones.
        lines = [
            f"{head}{value!r}" if value - value == 0.0 else f"{head}{_special(value)}"
            for head, value in zip(heads.values(), values.values(), strict=False)
        ]
        return "\n".join([_preamble(family), *lines, ""])

    def write_histograms(
        self, family: Family, values: Mapping[Labels, Observations], ends: Iterable[float]
    ) -> str:
        """Give the lines of a histogram; ``ends`` are those of all buckets but the last."""
        bounds = [*map(repr, ends), "+Inf"]
        known = self._buckets.get(family.name, {})
        heads = {
            labels: known.get(labels) or _bucket_heads(family, labels, bounds)
            for labels in self._admit(family, values)
        }
        self._buckets[family.name] = heads
        lines = [_preamble(family)]
        for (*buckets, count, total), each in zip(heads.values(), values.values(), strict=False):
            sums = list(accumulate(each.counts))
            lines += [f"{head}{reached}" for head, reached in zip(buckets, sums, strict=True)]
            lines += [f"{count}{sums[-1]}", f"{total}{each.total!r}"]
        return "\n".join([*lines, ""])

    def _admit(self, family: Family, values: Mapping[Labels, object]) -> Iterable[Labels]:
        """Give the labels that there is room for."""
        if len(values) <= self.limit:
            return values
        self.left_out[family.name] = len(values) - self.limit
        return islice(values, self.limit)


def _preamble(family: Family) -> str:
    text = family.help.translate(_HELP_ESCAPES)
    return f"# HELP {family.name} {text}\n# TYPE {family.name} {family.type}"


def _head(name: str, names: Iterable[str], values: Iterable[str]) -> str:
    """Give a line up to its value."""
    pairs = zip(names, values, strict=True)
    said = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in pairs)
    return f"{name}{{{said}}} " if said else f"{name} "


def _bucket_heads(family: Family, labels: Labels, bounds: Iterable[str]) -> tuple[str, ...]:
    """Give a histogram's lines up to their values: the buckets, the count, the sum."""
    named = (*family.labels, "le")
    return (
        *(_head(f"{family.name}_bucket", named, (*labels, bound)) for bound in bounds),
        _head(f"{family.name}_count", family.labels, labels),
        _head(f"{family.name}_sum", family.labels, labels),
    )


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0.0 else "-Inf"
