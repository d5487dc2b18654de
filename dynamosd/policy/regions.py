# SPDX-License-Identifier: GPL-2.0-or-later
"""What a condition can come to at all, over the values that its signals can have.

Where a condition compares signals with numbers and nothing else, it changes only at those numbers:
trying each of them and one value in between stands for all values. Other conditions are left alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from dynamosd.policy.condition import Condition
from dynamosd.policy.expression import (
    COMPARISONS,
    Apply,
    Expression,
    Input,
    Leaf,
    Undecided,
    explore,
)
from dynamosd.signals import RANGES

MAX_POINTS = 4096

Point = Mapping[Input, float]


def always(condition: Condition) -> bool | None:
    """Return what a condition comes to with whatever values; None if that depends, or is unknown.

    Values that are missing are another matter.
    """
    results = {_result(condition, point) for point in _points(condition)}
    return results.pop() if len(results) == 1 else None


def follows(condition: Condition, other: Condition) -> bool:
    """Tell whether ``other`` is true whenever the condition is, as far as that can be known."""
    found = False
    for point in _points(condition, other):
        if _result(condition, point):
            found = True
            if not _result(other, point):
                return False
    return found


def _result(condition: Condition, point: Point) -> bool | None:
    try:
        return condition.program.decide([point[read] for read in condition.inputs])
    except Undecided:
        return None


def _points(*conditions: Condition) -> Iterator[Point]:
    """Yield a point for each region in which the conditions do not change; none if unknown."""
    numbers: dict[Input, set[float]] = {}
    for condition in conditions:
        found = list(bounds(condition))
        if None in found:
            return
        for bound in filter(None, found):
            numbers.setdefault(bound[0], set()).add(bound[1])
    inputs = list(dict.fromkeys(read for condition in conditions for read in condition.inputs))
    choices = [list(_candidates(read, sorted(numbers.get(read, ())))) for read in inputs]
    if math.prod(map(len, choices)) > MAX_POINTS:
        return
    for values in itertools.product(*choices):
        yield dict(zip(inputs, values, strict=True))


def bounds(condition: Condition) -> Iterator[tuple[Input, float] | None]:
    """Yield the signals with the numbers they are compared with; None for any other comparison."""
    waiting: list[Expression] = [condition.program.expression]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Apply):
            continue
        if part.overload not in COMPARISONS or not any(map(_has_signal, part.arguments)):
            waiting += part.arguments
            continue
        left, right = part.arguments
        leaf, number = (left, right) if isinstance(left, Leaf) else (right, left)
        if not isinstance(leaf, Leaf) or _has_signal(number):
            yield None
            continue
        try:
            yield condition.inputs[leaf.index], float(explore(number, ()))
        except Undecided:
            yield None


def _has_signal(part: Expression) -> bool:
    if isinstance(part, Apply):
        return any(map(_has_signal, part.arguments))
    return isinstance(part, Leaf)


def _candidates(read: Input, numbers: Sequence[float]) -> Iterator[float]:
    """Yield values that a signal can have: its limits, the numbers, and one value between each."""
    low, high = RANGES[read.signal]
    inside = [number for number in numbers if low < number < high]
    first = low if math.isfinite(low) else min([0.0, *inside]) - 1.0
    last = high if math.isfinite(high) else max([first, *inside]) + 1.0
    marks = [first, *inside, last]
    yield from marks
    yield from ((before + after) / 2.0 for before, after in itertools.pairwise(marks))
