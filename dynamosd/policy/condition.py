# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions in CEL, the Common Expression Language; the only module that knows the CEL library.

Types are checked, and the functions whose signals a condition needs are known, when it is compiled.
A signal without usable data is an error inside CEL, whose ``&&`` and ``||`` ignore an error when
the other side decides: ``a && b`` is false when ``b`` is, whatever ``a``. What is left undecided is
None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from cel_expr_python import cel

from dynamosd.errors import InvalidInput
from dynamosd.model import Signal, Signals
from dynamosd.policy import syntax
from dynamosd.policy.problems import did_you_mean
from dynamosd.signals import SIGNALS

MAX_LENGTH = 4096
"""Longest condition, in characters."""

_MAX_FAULTS = 5

_ERROR = re.compile(r"(?:^|^INVALID_ARGUMENT: )ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_NO_OVERLOAD = re.compile(r"found no matching overload for '(.*)' applied to '(.*)'")
_UNDECLARED = re.compile(r"undeclared reference to '(.*?)' \(in container")
_INTEGER = re.compile(r"(?<![\w.])\d+(?![\w.])")
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}\Z")

_NO_SIGNAL = Signal(None, reason="not measured")
_current: ContextVar[Signals] = ContextVar("signals of the evaluation that is going on")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a condition's text. Line and column start at 1."""

    line: int
    column: int
    message: str
    code: str
    hint: str = ""


class ConditionError(InvalidInput):
    """A condition's text is not a usable condition; ``faults`` says what is wrong, and where."""

    code = "invalid_condition"

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of a signal; line and column are those of its argument."""

    signal: str
    function: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a condition came to.

    ``result`` is None when it could not be decided; ``reason`` then says why. ``values`` has every
    signal of the condition, also those that did not matter; None where there is no usable value.
    """

    result: bool | None
    values: Mapping[str, float | None]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition."""

    text: str
    references: tuple[Reference, ...]
    _program: cel.Expression = field(repr=False, compare=False)

    @property
    def signals(self) -> tuple[tuple[str, str], ...]:
        """The (signal, function) pairs that the condition uses, each once, in the text's order."""
        return tuple(dict.fromkeys((each.signal, each.function) for each in self.references))

    @property
    def constant(self) -> bool | None:
        """True or False if that is the result whatever is measured, else None."""
        return self.evaluate(Signals(0.0, {})).result

    def evaluate(self, signals: Signals) -> Outcome:
        """Decide the condition; never raises."""
        result = self._compute(signals)
        values = {format_signal(*key): _usable(signals, *key) for key in self.signals}
        if isinstance(result, bool):
            return Outcome(result, values)
        return Outcome(None, values, self._why_undecided(signals, str(result)))

    def _compute(self, signals: Signals) -> object:
        """Return the result, or a text that says why there is none."""
        token = _current.set(signals)
        try:
            return self._program.eval(data={}).value()
        except RuntimeError as error:
            return str(error)
        finally:
            _current.reset(token)

    def _why_undecided(self, signals: Signals, error: str) -> str:
        missing = [
            f"{format_signal(*key)}: {_why_unusable(signals, *key)}"
            for key in self.signals
            if _usable(signals, *key) is None
        ]
        return "; ".join(missing) or f"cannot be computed: {error.partition(': ')[2] or error}"


def format_signal(signal: str, function: str) -> str:
    """Return a signal as conditions write it, e.g. ``calls_rate("pipe_write")``."""
    return f'{signal}("{function}")'


def compile_condition(text: str) -> Condition:
    """Compile a condition and check its names and types.

    Raises:
        ConditionError: with everything that is wrong with it.
    """
    if len(text) > MAX_LENGTH:
        message = f"a condition of more than {MAX_LENGTH} characters"
        raise ConditionError((Fault(1, 1, message, "condition-syntax"),))
    try:
        program = _ENVIRONMENT.compile(text)
    except (RuntimeError, TypeError) as error:
        raise ConditionError(tuple(_explain(str(error), text))) from None
    if program.return_type() != cel.Type.BOOL:
        kind = program.return_type().name().lower()
        message = f"a condition must be true or false, this is a {kind}"
        hint = f"compare it, e.g. {text.strip()} > 1.0" if kind == "double" else ""
        raise ConditionError((Fault(1, 1, message, "condition-type", hint),))
    references, faults = _inspect(program.serialize(), text)
    if faults:
        raise ConditionError(tuple(faults))
    return Condition(text, tuple(references), program)


def _usable(signals: Signals, signal: str, function: str) -> float | None:
    found = signals.values.get((signal, function), _NO_SIGNAL)
    return found.value if found.trusted else None


def _why_unusable(signals: Signals, signal: str, function: str) -> str:
    found = signals.values.get((signal, function), _NO_SIGNAL)
    kind = "no data" if found.trusted else "not trusted"
    return f"{kind}: {found.reason}" if found.reason else kind


def _reader(signal: str) -> Callable[[str], float]:
    def read(function: str) -> float:
        value = _usable(_current.get(), signal, function)
        if value is None:
            raise LookupError(f"no data for {format_signal(signal, function)}")
        return value

    return read


def _environment() -> cel.Env:
    return cel.NewEnv(
        functions=[
            cel.FunctionDecl(
                signal,
                [
                    cel.Overload(
                        id=f"{signal}_string",
                        return_type=cel.Type.DOUBLE,
                        parameters=[cel.Type.STRING],
                        impl=_reader(signal),
                    )
                ],
            )
            for signal in SIGNALS
        ]
    )


_ENVIRONMENT = _environment()


def _inspect(serialised: bytes, text: str) -> tuple[list[Reference], list[Fault]]:
    references: list[Reference] = []
    faults: list[Fault] = []
    for part in syntax.walk(serialised):
        if isinstance(part, syntax.Loop):
            message = "macros such as all() and map(), and map literals, are not accepted"
            faults.append(Fault(*_place(text, part.offset), message, "condition-syntax"))
        elif part.function in SIGNALS:
            argument = part.arguments[0]
            place = _place(text, argument.offset)
            if argument.text is None or not _FUNCTION_NAME.match(argument.text):
                message = f"the argument of {part.function} must be a function's name in quotes"
                hint = f'e.g. {part.function}("pipe_write")'
                faults.append(Fault(*place, message, "signal-argument", hint))
            else:
                references.append(Reference(part.function, argument.text, *place))
    references.sort(key=lambda reference: (reference.line, reference.column))
    faults.sort(key=lambda fault: (fault.line, fault.column))
    return references, faults


def _place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _explain(compiler_says: str, text: str) -> Iterator[Fault]:
    """Turn the compiler's message into faults in an operator's words."""
    found = _ERROR.findall(compiler_says)
    if found and "recursion" not in compiler_says:
        # One mistake may make a message for each character that follows it.
        for line, column, message in dict.fromkeys(found[:_MAX_FAULTS]):
            yield _fault(max(1, int(line)), max(1, int(column)), message, text)
    else:
        # A limit of the compiler, or text that is no text: the first line says it.
        first = compiler_says.partition("\n")[0][:200]
        message = "nested too deeply" if "recursion" in first else f"cannot be read: {first}"
        yield Fault(1, 1, message, "condition-syntax")


def _fault(line: int, column: int, message: str, text: str) -> Fault:
    undeclared = _UNDECLARED.match(message)
    if undeclared:
        name = undeclared[1]
        if name in SIGNALS:
            message = f"{name} takes one argument, a function's name in quotes"
            return Fault(line, column, message, "signal-argument", f'e.g. {name}("pipe_write")')
        hint = did_you_mean(name, SIGNALS) or f"there are {', '.join(SIGNALS)}"
        start = _start_of_name(text, line, column, name)
        return Fault(line, start, f'unknown name "{name}"', "unknown-signal", hint)
    overload = _NO_OVERLOAD.match(message)
    if overload:
        return _type_fault(line, column, overload[1], overload[2].strip("()"), text)
    message = message.removeprefix("Syntax error: ").partition(" expecting {")[0]
    return Fault(line, column, message.replace("'<EOF>'", "end of text"), "condition-syntax")


def _start_of_name(text: str, line: int, column: int, name: str) -> int:
    """Return the column of an unknown name; for a call the compiler points at the parenthesis."""
    lines = text.split("\n")
    source = lines[line - 1] if line <= len(lines) else ""
    if source[: column - 1].endswith(name):
        return column - len(name)
    return column


def _type_fault(line: int, column: int, function: str, types: str, text: str) -> Fault:
    operator = function.strip("_")
    if function in SIGNALS:
        message = f"the argument of {function} must be a function's name in quotes, not {types}"
        hint = f'e.g. {function}("pipe_write")'
        return Fault(line, column, message, "signal-argument", hint)
    message = f'"{operator}" cannot take {" and ".join(types.split(", "))}'
    hint = ""
    if {"int", "double"} == set(types.split(", ")):
        hint = _decimal_hint(text, line, column, right=types.endswith("int"))
    elif "double" in types and operator in {"&&", "||", "!"}:
        hint = "compare the number with something"
    return Fault(line, column, message, "condition-type", hint)


def _decimal_hint(text: str, line: int, column: int, *, right: bool) -> str:
    """Return the hint to write the integer beside an operator with a decimal point."""
    lines = text.split("\n")
    source = lines[line - 1] if line <= len(lines) else ""
    numbers = _INTEGER.findall(source[column:] if right else source[: column - 1])
    if not numbers:
        return "signals are numbers with a decimal point: convert with double(...)"
    return f"write {numbers[0 if right else -1]}.0"
