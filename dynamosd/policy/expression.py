# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a checked CEL tree runnable, twice.

`decide` of a `Program` is Python's own byte code, which is what a condition costs while all its
signals have values. `explore` walks the tree instead: with CEL's rules for what cannot be computed,
which ``&&``, ``||`` and ``?:`` ignore when the other side decides. `decide` falls back on it.

Accepted are booleans, integers and doubles with the operators that docs/policy.md lists: what a
policy needs. tests/unit/policy/test_expression.py compares both ways with the CEL library's own.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dynamosd.hostsignals import LABEL
from dynamosd.model import SignalKey
from dynamosd.policy.durations import format_duration
from dynamosd.policy.syntax import Call, Literal, Node

Number = bool | int | float

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1

MISSING = "a value is missing"


class Input(NamedTuple):
    """What a condition reads: a signal, or its average over ``smooth_seconds``.

    ``edition`` is "" for all editions together; ``function`` is what the signal is of, "" if it is
    of the whole machine. One of a label has the label and the text that it is compared with.
    """

    signal: str
    function: str
    edition: str = ""
    smooth_seconds: float = 0.0

    @property
    def text(self) -> str:
        """The way conditions write it, e.g. ``calls_rate("pipe_write")``."""
        if self.signal == LABEL:
            return f'{LABEL}("{self.function}") == {json.dumps(self.edition, ensure_ascii=False)}'
        named = ", ".join(f'"{each}"' for each in (self.function, self.edition) if each)
        plain = f"{self.signal}({named})"
        if not self.smooth_seconds:
            return plain
        return f'ewma({plain}, "{format_duration(self.smooth_seconds)}")'

    @property
    def key(self) -> SignalKey:
        """What the signal is found by."""
        return self.signal, self.function, self.edition


class Undecided(Exception):
    """There is no result; the text says why."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a condition reads its input number ``index``."""

    index: int


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation on other expressions."""

    overload: str
    arguments: tuple[Expression, ...]


Expression = Leaf | Apply | Number


class Unsupported(Exception):
    """The tree has something that conditions do not need."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node


# ------------------------------------------------------------------------------- operations


def _whole(value: int) -> int:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    raise ArithmeticError("integer overflow")


def _divide_doubles(left: float, right: float) -> float:
    if right:
        return left / right
    if left == 0.0 or math.isnan(left) or math.isnan(right):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _divide_integers(left: int, right: int) -> int:
    if not right:
        raise ArithmeticError("divide by zero")
    size = abs(left) // abs(right)
    return _whole(size if (left < 0) == (right < 0) else -size)


def _modulo(left: int, right: int) -> int:
    if not right:
        raise ArithmeticError("modulus by zero")
    return left - right * _divide_integers(left, right)


def _to_integer(value: float) -> int:
    # The bounds themselves are refused: CEL does not trust a double to be exact there.
    if not _INT_MIN < value < _INT_MAX:
        raise ArithmeticError("double out of int64 range")
    return int(value)


AND, OR, NOT, CHOICE = "logical_and", "logical_or", "logical_not", "conditional"

EQUALS, NOT_EQUALS = "equals", "not_equals"

TRUTH = "truth"
"""What makes true of an input that is 1, and false of one that is 0; CEL has nothing like it."""

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    EQUALS: operator.eq,
    NOT_EQUALS: operator.ne,
    "less": operator.lt,
    "less_equals": operator.le,
    "greater": operator.gt,
    "greater_equals": operator.ge,
}

_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    **COMPARISONS,
    NOT: operator.not_,
    TRUTH: bool,
    "add_double": operator.add,
    "subtract_double": operator.sub,
    "multiply_double": operator.mul,
    "divide_double": _divide_doubles,
    "negate_double": operator.neg,
    "add_int64": lambda left, right: _whole(left + right),
    "subtract_int64": lambda left, right: _whole(left - right),
    "multiply_int64": lambda left, right: _whole(left * right),
    "divide_int64": _divide_integers,
    "modulo_int64": _modulo,
    "negate_int64": lambda value: _whole(-value),
    "int64_to_double": float,
    "double_to_double": float,
    "double_to_int64": _to_integer,
    "int64_to_int64": int,
}

_OF_A_TYPE = re.compile(r"(less|less_equals|greater|greater_equals)_(bool|int64|double)")
"""CEL has one overload of these for each type; to Python they are all the same."""

_NATIVE_COMPARISONS: Mapping[str, type[ast.cmpop]] = {
    "equals": ast.Eq,
    "not_equals": ast.NotEq,
    "less": ast.Lt,
    "less_equals": ast.LtE,
    "greater": ast.Gt,
    "greater_equals": ast.GtE,
}

_NATIVE_OPERATIONS: Mapping[str, type[ast.operator]] = {
    "add_double": ast.Add,
    "subtract_double": ast.Sub,
    "multiply_double": ast.Mult,
    # By 0.0 it raises, and then `explore` knows better.
    "divide_double": ast.Div,
}


# ------------------------------------------------------------------------------------ trees


def build(
    node: Node, as_input: Callable[[Call], Input | None]
) -> tuple[Expression, tuple[Input, ...]]:
    """Return a checked tree as an expression, and its inputs in the order of their indexes.

    Args:
        node: the tree.
        as_input: says what a call reads; None for one that is not a signal's.

    Raises:
        Unsupported: there is something in it that conditions do not need.
    """
    inputs: dict[Input, int] = {}

    def convert(part: Node) -> Expression:
        if isinstance(part, Literal) and not isinstance(part.value, str):
            return part.value
        if not isinstance(part, Call):
            raise Unsupported(part)
        found = as_input(part)
        if found is not None:
            return Leaf(inputs.setdefault(found, len(inputs)))
        match = _OF_A_TYPE.fullmatch(part.overload)
        overload = match[1] if match else part.overload
        if overload not in _OPERATIONS and overload not in {AND, OR, CHOICE}:
            raise Unsupported(part)
        return Apply(overload, tuple(map(convert, part.arguments)))

    expression = convert(node)
    return expression, tuple(inputs)


def explore(expression: Expression, values: Sequence[float | None]) -> Any:  # noqa: ANN401 - CEL's
    """Return an expression's value.

    Raises:
        Undecided: it depends on a value that is missing (`MISSING`) or cannot be computed.
    """
    if isinstance(expression, Leaf):
        value = values[expression.index]
        if value is None:
            raise Undecided(MISSING)
        return value
    if not isinstance(expression, Apply):
        return expression
    if expression.overload == CHOICE:
        condition, yes, no = expression.arguments
        return explore(yes if explore(condition, values) else no, values)
    if expression.overload in {AND, OR}:
        return _explore_logic(expression, values)
    arguments = [explore(each, values) for each in expression.arguments]
    try:
        return _OPERATIONS[expression.overload](*arguments)
    except ArithmeticError as error:
        raise Undecided(str(error)) from None


def _explore_logic(expression: Apply, values: Sequence[float | None]) -> bool:
    """Return what ``&&`` or ``||`` comes to; either side may decide alone."""
    decisive = expression.overload == OR
    undecided: Undecided | None = None
    for each in expression.arguments:
        try:
            found = bool(explore(each, values))
        except Undecided as error:
            undecided = undecided or error
        else:
            if found is decisive:
                return found
    if undecided is not None:
        raise undecided
    return not decisive


# ------------------------------------------------------------------------------- byte code


def _compile(expression: Expression, inputs: int) -> Callable[..., bool]:
    names = [f"v{index}" for index in range(inputs)]
    arguments = ast.arguments(
        posonlyargs=[ast.arg(name) for name in names],
        args=[],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    function = ast.Expression(ast.Lambda(arguments, _native(expression)))
    code = compile(ast.fix_missing_locations(function), "<condition>", "eval")
    # The code consists of operators, numbers and the functions above: there are no other names.
    made: Callable[..., bool] = eval(code, {"__builtins__": {}, **_OPERATIONS})  # noqa: S307
    return made


def _native(expression: Expression) -> ast.expr:
    if isinstance(expression, Leaf):
        return ast.Name(f"v{expression.index}", ast.Load())
    if not isinstance(expression, Apply):
        return ast.Constant(expression)
    arguments = [_native(each) for each in expression.arguments]
    overload = expression.overload
    made: ast.expr = ast.Call(ast.Name(overload, ast.Load()), arguments, [])
    if overload in {AND, OR}:
        made = ast.BoolOp(ast.And() if overload == AND else ast.Or(), arguments)
    elif overload == CHOICE:
        made = ast.IfExp(*arguments)
    elif overload in _NATIVE_COMPARISONS:
        made = ast.Compare(arguments[0], [_NATIVE_COMPARISONS[overload]()], [arguments[1]])
    elif overload in _NATIVE_OPERATIONS:
        made = ast.BinOp(arguments[0], _NATIVE_OPERATIONS[overload](), arguments[1])
    elif overload == NOT:
        made = ast.UnaryOp(ast.Not(), arguments[0])
    return made


class Program:
    """An expression that can be run."""

    __slots__ = ("_blank", "_fast", "expression", "inputs")

    def __init__(self, expression: Expression, inputs: tuple[Input, ...]) -> None:
        self.expression = expression
        self.inputs = inputs
        self._fast = _compile(expression, len(inputs))
        self._blank: bool | Undecided
        try:
            self._blank = explore(expression, (None,) * len(inputs))
        except Undecided as error:
            self._blank = error.with_traceback(None)

    def decide(self, values: Sequence[float | None]) -> bool:
        """Return what the expression comes to, for values in the order of ``inputs``.

        Raises:
            Undecided: as `explore`.
        """
        if None not in values:
            try:
                return self._fast(*values)
            except ArithmeticError:
                # One side could not be computed. Whether that matters is for the other to say.
                pass
        elif values.count(None) == len(values):
            # So it is with an idle or a new function; it comes to the same each time.
            if isinstance(self._blank, Undecided):
                raise Undecided(*self._blank.args)
            return self._blank
        result: bool = explore(self.expression, values)
        return result
