# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes a condition apart: what it compares, what that comes to now, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynamosd.policy.condition import Condition
from dynamosd.policy.durations import format_number
from dynamosd.policy.expression import (
    AND,
    CHOICE,
    COMPARISONS,
    NOT,
    OR,
    TRUTH,
    Apply,
    Expression,
    Leaf,
    Undecided,
    explore,
)

_SYMBOLS: Mapping[str, str] = {
    AND: "&&",
    OR: "||",
    "equals": "==",
    "not_equals": "!=",
    "less": "<",
    "less_equals": "<=",
    "greater": ">",
    "greater_equals": ">=",
    "add_double": "+",
    "subtract_double": "-",
    "multiply_double": "*",
    "divide_double": "/",
    "add_int64": "+",
    "subtract_int64": "-",
    "multiply_int64": "*",
    "divide_int64": "/",
    "modulo_int64": "%",
}

_PREFIXES: Mapping[str, str] = {TRUTH: "", NOT: "!", "negate_double": "-", "negate_int64": "-"}

_OPPOSITES: Mapping[str, str] = {
    "equals": "not_equals",
    "not_equals": "equals",
    "less": "greater_equals",
    "less_equals": "greater",
    "greater": "less_equals",
    "greater_equals": "less",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a condition, with the values of its two sides; None where there is none.

    One of a label with a text has no values, only a result.
    """

    text: str
    left: float | None
    right: float | None
    result: bool | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A condition now. ``needs`` is what would make it true, "" when it is."""

    result: bool | None
    comparisons: tuple[Comparison, ...]
    needs: str


def explain(
    condition: Condition, values: Mapping[str, float | None], *, wanted: bool = True
) -> Explanation:
    """Explain a condition over the values of its inputs, by their names.

    With ``wanted`` False, ``needs`` is what would make it false.
    """
    teller = _Teller(condition.names, [values.get(name) for name in condition.names])
    tree = condition.program.expression
    found = tuple(map(teller.compare, _comparisons(tree)))
    return Explanation(teller.value(tree), found, teller.needs(tree, wanted=wanted))


def _comparisons(tree: Expression) -> Iterator[Apply]:
    if isinstance(tree, Apply):
        if tree.overload in COMPARISONS or tree.overload == TRUTH:
            yield tree
        else:
            for each in tree.arguments:
                yield from _comparisons(each)


@dataclass(frozen=True, slots=True)
class _Teller:
    """Puts parts of a condition into words."""

    names: Sequence[str]
    values: Sequence[float | None]

    def value(self, part: Expression) -> bool | None:
        """Return what a part comes to; None when that is undecided."""
        try:
            return bool(explore(part, self.values))
        except Undecided:
            return None

    def compare(self, part: Apply) -> Comparison:
        if part.overload == TRUTH:
            return Comparison(self.text(part), None, None, self.value(part))
        left, right = (self._number(each) for each in part.arguments)
        return Comparison(self.text(part), left, right, self.value(part))

    def _number(self, part: Expression) -> float | None:
        try:
            return float(explore(part, self.values))
        except Undecided:
            return None

    def text(self, part: Expression) -> str:
        """Return a part as an operator would write it."""
        if isinstance(part, Leaf):
            return self.names[part.index]
        if not isinstance(part, Apply):
            return str(part).lower() if isinstance(part, bool) else repr(part)
        inner = [self._inner(each) for each in part.arguments]
        if part.overload == CHOICE:
            return "{} ? {} : {}".format(*inner)
        if part.overload in _PREFIXES:
            return _PREFIXES[part.overload] + inner[0]
        if part.overload in _SYMBOLS:
            return f" {_SYMBOLS[part.overload]} ".join(inner)
        function = part.overload.rpartition("_to_")[2].removesuffix("64")
        return f"{function}({self.text(part.arguments[0])})"

    def _inner(self, part: Expression) -> str:
        text = self.text(part)
        return f"({text})" if isinstance(part, Apply) and " " in text else text

    def needs(self, part: Expression, *, wanted: bool) -> str:
        """Say what would make a part true or false; "" when it is."""
        if self.value(part) is wanted:
            return ""
        if not isinstance(part, Apply):
            return "nothing can do that"
        if part.overload == NOT:
            return self.needs(part.arguments[0], wanted=not wanted)
        if part.overload in {AND, OR}:
            both = (part.overload == AND) is wanted
            found = [self.needs(each, wanted=wanted) for each in part.arguments]
            parts = [f"({each})" if _is_mixed(each, both=both) else each for each in found if each]
            return (" and " if both else " or ").join(parts)
        if part.overload in COMPARISONS:
            overload = part.overload if wanted else _OPPOSITES[part.overload]
            return f"{self.text(Apply(overload, part.arguments))} ({self._now(part)})"
        return f"{self.text(part)} to be {str(wanted).lower()}"

    def _now(self, part: Apply) -> str:
        """Say what the sides of a comparison are that are not plain numbers."""
        shown = []
        for each in part.arguments:
            if isinstance(each, Leaf | Apply):
                value = self._number(each)
                shown.append("no usable value" if value is None else f"now {format_number(value)}")
        return ", ".join(shown)


def _is_mixed(text: str, *, both: bool) -> bool:
    return (" or " if both else " and ") in text
