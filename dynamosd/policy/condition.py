# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions in CEL, the Common Expression Language; the only module that knows the CEL library.

Types are checked, and the functions whose signals a condition needs are known, when it is compiled.
A signal without usable data is to CEL an error, which ``&&`` and ``||`` ignore when the other side
decides: ``a && b`` is false when ``b`` is, whatever ``a``. What is left undecided is None. The
library parses and checks; what runs is made of its tree (``expression``), for running it there and
back for each signal takes ten times as long.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from cel_expr_python import cel

from dynamosd.errors import InvalidInput
from dynamosd.hostsignals import LABEL
from dynamosd.labels import check_text
from dynamosd.model import SignalKey, Signals
from dynamosd.policy import facts, syntax
from dynamosd.policy.arguments import (
    LISTED,
    BadArgument,
    can_be_of_edition,
    example,
    read_of,
    usage,
)
from dynamosd.policy.durations import format_duration, parse_duration
from dynamosd.policy.expression import MISSING, Input, Program, Undecided, Unsupported, build
from dynamosd.policy.problems import did_you_mean
from dynamosd.policy.readings import Lack, Readings, take
from dynamosd.signals import ARGUMENTS, SIGNALS

MAX_LENGTH = 4096
"""Longest condition, in characters."""

EWMA = "ewma"
"""The function that smooths a signal: an exponentially weighted moving average."""

BASELINE = "baseline"
"""The function that gives the baseline's value of a signal; only guardrails compare with it."""

_BASELINE_EXAMPLE = f'e.g. {BASELINE}(p99("pipe_write"))'

MAX_SMOOTH_SECONDS = 3600.0

_MAX_FAULTS = 5

_ACCEPTED = "booleans, numbers, comparisons, && || !, + - * / %, a ? b : c, int() and double()"

_ERROR = re.compile(r"(?:^|^INVALID_ARGUMENT: )ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_OTHER_LANGUAGES: Mapping[str, str] = {
    "token recognition error at: '=": "equal is ==",
    "input 'and'": "and is &&",
    "input 'or'": "or is ||",
    "input 'not'": "not is !",
}

_NO_OVERLOAD = re.compile(r"found no matching overload for '(.*)' applied to '(.*)'")
_UNDECLARED = re.compile(r"undeclared reference to '(.*?)' \(in container")
_INTEGER = re.compile(r"(?<![\w.])\d+(?![\w.])")


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
    """One argument of a signal: ``kind`` (a word of `ARGUMENTS`) says what it names, and where."""

    kind: str
    name: str
    line: int
    column: int


class Sides(NamedTuple):
    """Whose signals a guardrail compares where it names no edition: the first one's by itself."""

    edition: str
    baseline: str


class Outcome(NamedTuple):
    """What a condition came to.

    ``result`` is None when it could not be decided; ``lack`` and ``reason`` then say why.
    ``found`` are the values of its inputs, in the order of ``names``.
    """

    result: bool | None
    names: tuple[str, ...]
    found: Sequence[float | None]
    reason: str = ""
    lack: Lack | None = None

    @property
    def values(self) -> dict[str, float | None]:
        """Every input, also those that did not matter; None where there is no usable value."""
        return dict(zip(self.names, self.found, strict=True))


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition. ``names`` are those of its inputs, as conditions write them."""

    text: str
    references: tuple[Reference, ...]
    program: Program = field(repr=False, compare=False)
    names: tuple[str, ...] = field(repr=False, compare=False)
    _pick: Callable[[Mapping[str, float | None]], Sequence[float | None]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Prepare what is done at each evaluation."""
        object.__setattr__(self, "_pick", _picker(self.names))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the condition reads, each once, in the text's order."""
        return self.program.inputs

    @property
    def signals(self) -> tuple[SignalKey, ...]:
        """The signals that the condition uses, each once, in the text's order."""
        return tuple(dict.fromkeys(each.key for each in self.inputs))

    @property
    def constant(self) -> bool | None:
        """True or False if that is the result whatever is measured, else None."""
        return self.evaluate(Signals(0.0, {})).result

    def evaluate(self, signals: Signals) -> Outcome:
        """Decide the condition as the first one of its policy: averages begin here."""
        by_name = dict(zip(self.names, self.inputs, strict=True))
        readings, _ = take(by_name, signals, {}, signals.time)
        return self.judge(readings)

    def judge(self, readings: Readings) -> Outcome:
        """Decide the condition; never raises. ``readings`` has at least its inputs."""
        found = self._pick(readings.values)
        try:
            return Outcome(self.program.decide(found), self.names, found)
        except Undecided as error:
            return self._undecided(readings, found, str(error))

    def _undecided(self, readings: Readings, found: Sequence[float | None], error: str) -> Outcome:
        missing = [name for name, value in zip(self.names, found, strict=True) if value is None]
        if error != MISSING:
            reason = f"cannot be computed: {error}"
            return Outcome(None, self.names, found, reason, Lack.NO_DATA)
        lacks, texts = zip(*map(readings.why, missing), strict=True)
        # What is not trusted decides how careful to be.
        lack = Lack.UNTRUSTED if Lack.UNTRUSTED in lacks else Lack.NO_DATA
        return Outcome(None, self.names, found, "; ".join(texts), lack)


def _picker(
    names: tuple[str, ...],
) -> Callable[[Mapping[str, float | None]], Sequence[float | None]]:
    """Return what takes the values of some names out of all."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def compile_condition(text: str, sides: Sides | None = None) -> Condition:
    """Compile a condition and check its names and types.

    With ``sides`` it is a guardrail's: signals are those of the one edition, and within
    `BASELINE` those of the other.

    Raises:
        ConditionError: with everything that is wrong with it.
    """
    program = _check(text)
    if program.return_type() != cel.Type.BOOL:
        kind = program.return_type().name().lower()
        message = f"a condition must be true or false, this is a {kind}"
        hint = f"compare it, e.g. {text.strip()} > 1.0" if kind == "double" else ""
        raise ConditionError((Fault(1, 1, message, "condition-type", hint),))
    return _make(text, program, sides)


def compile_number(text: str) -> Condition:
    """Compile an expression whose outcome is a number, as `compile_condition` does.

    Raises:
        ConditionError: with everything that is wrong with it.
    """
    program = _check(text)
    if program.return_type() not in (cel.Type.DOUBLE, cel.Type.INT):
        kind = program.return_type().name().lower()
        message = f"an objective must be a number, this is a {kind}"
        hint = "e.g. condition ? 1.0 : 0.0" if kind == "bool" else ""
        raise ConditionError((Fault(1, 1, message, "condition-type", hint),))
    return _make(text, program)


def _check(text: str) -> cel.Expression:
    """Let the library parse and check a text."""
    if len(text) > MAX_LENGTH:
        message = f"a condition of more than {MAX_LENGTH} characters"
        raise ConditionError((Fault(1, 1, message, "condition-syntax"),))
    try:
        return _ENVIRONMENT.compile(text)
    except (RuntimeError, TypeError) as error:
        raise ConditionError(tuple(_explain(str(error), text))) from None


def _make(text: str, program: cel.Expression, sides: Sides | None = None) -> Condition:
    """Make a condition of what was checked, if there is nothing in it that has no place there."""
    tree = facts.rewrite(syntax.parse(program.serialize()))
    inspector = _Inspector(text, sides)
    inspector.look_at(tree)
    try:
        made = Program(*build(tree, inspector.reads.get))
    except Unsupported as error:
        inspector.refuse(error.node)
    if inspector.faults:
        # One that is compared with several texts is looked at several times.
        faults = sorted(set(inspector.faults), key=lambda fault: (fault.line, fault.column))
        raise ConditionError(tuple(faults[:_MAX_FAULTS]))
    references = sorted(set(inspector.references), key=lambda each: (each.line, each.column))
    # Interned: they are what values are looked up by.
    names = tuple(sys.intern(each.text) for each in made.inputs)
    return Condition(text, tuple(references), made, names)


def _environment() -> cel.Env:
    functions = {
        name: [[cel.Type.STRING] * len(form) for form in forms] for name, forms in ARGUMENTS.items()
    }
    functions[EWMA] = [[cel.Type.DOUBLE, cel.Type.STRING]]
    functions[BASELINE] = [[cel.Type.DOUBLE]]
    return cel.NewEnv(
        functions=[
            cel.FunctionDecl(name, [_overload(name, parameters) for parameters in forms])
            for name, forms in functions.items()
        ]
    )


def _overload(name: str, parameters: list[cel.Type]) -> cel.Overload:
    identity = f"{name}_{len(parameters)}"
    result = cel.Type.STRING if name == LABEL else cel.Type.DOUBLE
    return cel.Overload(id=identity, return_type=result, parameters=parameters)


_ENVIRONMENT = _environment()


@dataclass(slots=True)
class _Inspector:
    """Finds the signals in a tree, and what conditions may not have.

    ``reads`` is what each call of a signal, of `EWMA` or of `BASELINE` reads.
    """

    text: str
    sides: Sides | None = None
    reads: dict[syntax.Node, Input] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def look_at(self, tree: syntax.Node) -> None:
        for node in syntax.walk(tree):
            if isinstance(node, syntax.Other) and node.is_loop:
                message = "macros such as all() and map(), and map literals, are not accepted"
                self._add(node, message, "condition-syntax")
            elif isinstance(node, syntax.Call) and node.function in SIGNALS:
                self._look_at_signal(node)
            elif isinstance(node, syntax.Call) and node.function == LABEL:
                self._look_at_label(node)
        for node in syntax.walk(tree):
            if isinstance(node, syntax.Call) and node.function == EWMA:
                self._look_at_average(node)
        for node in syntax.walk(tree):
            if isinstance(node, syntax.Call) and node.function == BASELINE:
                self._look_at_baseline(node)
        if self.sides is not None:
            self._take_sides(self.sides)

    def refuse(self, node: syntax.Node) -> None:
        """Say that something has no place in a condition, unless something about it was said."""
        if not self.faults:
            what = f'"{node.function.strip("_@")}"' if isinstance(node, syntax.Call) else "this"
            if isinstance(node, syntax.Literal):
                what = "a text"
            message = f"{what} is not accepted in a condition"
            self._add(node, message, "condition-syntax", _ACCEPTED)

    def _look_at_signal(self, call: syntax.Call) -> None:
        names = [
            each.value if isinstance(each, syntax.Literal) else None for each in call.arguments
        ]
        try:
            self.reads[call] = read_of(call.function, names)
        except BadArgument as error:
            where = call.arguments[error.index]
            self._add(where, str(error), "signal-argument", example(call.function))
            return
        form = next(form for form in ARGUMENTS[call.function] if len(form) == len(names))
        for kind, name, argument in zip(form, names, call.arguments, strict=True):
            place = _place(self.text, argument.offset)
            self.references.append(Reference(kind, str(name), *place))

    def _look_at_label(self, call: syntax.Call) -> None:
        """Look at a fact, or at a label of which none could be made."""
        label, *texts = call.arguments
        self._look_at_signal(syntax.Call(call.function, call.overload, "", (label,), call.offset))
        if not texts:
            message = f"a {LABEL} may be compared with texts only: with ==, != or in"
            self._add(call, message, "condition-type", f'e.g. {LABEL}("role") == "db"')
            return
        text = texts[0].value if isinstance(texts[0], syntax.Literal) else None
        name = label.value if isinstance(label, syntax.Literal) else None
        try:
            self.reads[call] = Input(LABEL, str(name), check_text(str(text)))
        except ValueError as error:
            self._add(texts[0], str(error), "signal-argument")

    def _look_at_average(self, call: syntax.Call) -> None:
        signal, span = call.arguments
        read = self.reads.get(signal)
        if read is None or read.smooth_seconds:
            if not (isinstance(signal, syntax.Call) and signal.function in SIGNALS):
                message = f"the first argument of {EWMA} must be a signal"
                hint = f'e.g. {EWMA}(calls_rate("pipe_write"), "10s")'
                self._add(signal, message, "signal-argument", hint)
            return
        try:
            self.reads[call] = read._replace(smooth_seconds=_span(span))
        except ValueError as error:
            self._add(span, f"the second argument of {EWMA}: {error}", "signal-argument")

    def _look_at_baseline(self, call: syntax.Call) -> None:
        (of,) = call.arguments
        if self.sides is None:
            message = f"{BASELINE} is for guardrails only"
            hint = 'name the edition, e.g. p99("pipe_write", "original")'
            self._add(call, message, "condition-syntax", hint)
            return
        read = self.reads.get(of)
        if read is not None and can_be_of_edition(read):
            self.reads[call] = read._replace(edition=self.sides.baseline)
        elif read is not None or not _is_a_signal(of):
            message = f"the argument of {BASELINE} must be a signal of editions, without one"
            self._add(of, message, "signal-argument", _BASELINE_EXAMPLE)

    def _take_sides(self, sides: Sides) -> None:
        """Let what names no edition be of the one that is guarded."""
        for call, read in self.reads.items():
            of_baseline = isinstance(call, syntax.Call) and call.function == BASELINE
            if can_be_of_edition(read) and not of_baseline:
                self.reads[call] = read._replace(edition=sides.edition)

    def _add(self, node: syntax.Node, message: str, code: str, hint: str = "") -> None:
        self.faults.append(Fault(*_place(self.text, node.offset), message, code, hint))


def _is_a_signal(node: syntax.Node) -> bool:
    """Tell whether there was something to say of a call as a signal already."""
    return isinstance(node, syntax.Call) and (node.function in SIGNALS or node.function == EWMA)


def _span(node: syntax.Node) -> float:
    """Return the seconds of a time constant, which must stand there as a text."""
    if not isinstance(node, syntax.Literal) or not isinstance(node.value, str):
        raise ValueError('it must be a duration in quotes, such as "10s"')  # noqa: TRY004 - one kind
    seconds = parse_duration(node.value)
    if not 0.0 < seconds <= MAX_SMOOTH_SECONDS:
        raise ValueError(f"it must be between 1ms and {format_duration(MAX_SMOOTH_SECONDS)}")
    return seconds


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
        if name in ARGUMENTS:
            return Fault(line, column, usage(name), "signal-argument", example(name))
        if name == EWMA:
            return _average_fault(line, column)
        if name == BASELINE:
            message = f"{BASELINE} takes a signal, in parentheses"
            return Fault(line, column, message, "signal-argument", _BASELINE_EXAMPLE)
        hint = did_you_mean(name, [*ARGUMENTS, EWMA]) or LISTED
        start = _start_of_name(text, line, column, name)
        return Fault(line, start, f'unknown name "{name}"', "unknown-signal", hint)
    overload = _NO_OVERLOAD.match(message)
    if overload:
        return _type_fault(line, column, overload[1], overload[2].strip("()"), text)
    message = message.removeprefix("Syntax error: ").partition(" expecting {")[0]
    message = message.replace("'<EOF>'", "end of text").replace("<EOF>", "end of text")
    hint = next((hint for found, hint in _OTHER_LANGUAGES.items() if found in message), "")
    return Fault(line, column, message, "condition-syntax", hint)


def _average_fault(line: int, column: int, types: str = "") -> Fault:
    message = f"{EWMA} takes a signal and a duration in quotes"
    message += f", not {types}" if types else ""
    hint = f'e.g. {EWMA}(calls_rate("pipe_write"), "10s")'
    return Fault(line, column, message, "signal-argument", hint)


def _start_of_name(text: str, line: int, column: int, name: str) -> int:
    """Return the column of an unknown name; for a call the compiler points at the parenthesis."""
    lines = text.split("\n")
    source = lines[line - 1] if line <= len(lines) else ""
    if source[: column - 1].endswith(name):
        return column - len(name)
    return column


def _type_fault(line: int, column: int, function: str, types: str, text: str) -> Fault:
    operator = function.strip("_")
    if function == EWMA:
        return _average_fault(line, column, types)
    if function in ARGUMENTS:
        message = f"{usage(function)}, not {types or 'nothing'}"
        return Fault(line, column, message, "signal-argument", example(function))
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
