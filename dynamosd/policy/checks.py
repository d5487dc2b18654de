# SPDX-License-Identifier: GPL-2.0-or-later
"""What a schema cannot say: conditions compile, names exist, nothing contradicts itself.

Works on the document, not on the typed content, so that these errors show together with those of
shape.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dynamosd.hostsignals import LABEL, SOURCE
from dynamosd.model import ORIGINAL, Signals
from dynamosd.policy import outside
from dynamosd.policy.condition import (
    Condition,
    ConditionError,
    Fault,
    Sides,
    compile_condition,
    compile_number,
)
from dynamosd.policy.definition import Mode, SwitchMode
from dynamosd.policy.durations import format_duration, parse_duration
from dynamosd.policy.names import SubsystemNames
from dynamosd.policy.objective import Goal
from dynamosd.policy.positions import Document, Path, Place
from dynamosd.policy.problems import Problem, Severity, did_you_mean
from dynamosd.policy.regions import always, follows
from dynamosd.policy.schema import ObjectiveSpec
from dynamosd.policy.scopes import one_in
from dynamosd.signals import EDITION, FUNCTION, NAME

_SUBSYSTEM: Path = ("spec", "subsystem")
_BASELINE: Path = ("spec", "baseline")
_RULES: Path = ("spec", "rules")
_SWITCH_MODE: Path = ("spec", "switch", "mode")
_SWITCH_TIMEOUT: Path = ("spec", "switch", "timeout")
_LIMITS: Path = ("spec", "limits")
_OBJECTIVE: Path = ("spec", "objective")
_GUARDRAILS: Path = ("spec", "guardrails")
_CANARY: Path = ("spec", "canary")
_PARAMETERS: Path = ("spec", "parameters")
_CONDITIONS = ("when", "until")
_OF_GUARDRAIL = ("breach", "activity")


@dataclass(slots=True)
class Checker:
    """Checks one document; ``problems`` and ``conditions`` (by path) then hold the results.

    ``labels`` are the names of the host's labels; None if they are not known.
    """

    document: Document
    known: Mapping[str, SubsystemNames] | None
    labels: Collection[str] | None = None
    problems: list[Problem] = field(default_factory=list)
    conditions: dict[Path, Condition] = field(default_factory=dict)

    def run(self) -> None:
        """Do all checks."""
        for path in self._rules():
            for key in _CONDITIONS:
                self._compile((*path, key))
        self._check_objective()
        self._check_guardrails()
        self._check_canary()
        self._check_unguarded()
        self._check_names(self._rules(), "rule", "duplicate-rule")
        self._check_names(self._guardrails(), "guardrail", "duplicate-guardrail")
        self._check_parameters()
        self._check_hysteresis()
        self._check_useless_rules()
        self._check_timeout()
        self._check_limits()
        for path in self._rules():
            self._check_samples((*path, "samples"))
            self._check_hours((*path, "during"))
        self._check_outside()
        self._check_known_names()

    def _rules(self) -> list[Path]:
        return self._items(_RULES)

    def _guardrails(self) -> list[Path]:
        return self._items(_GUARDRAILS)

    def _items(self, path: Path) -> list[Path]:
        found = _value(self.document.data, path)
        return [(*path, index) for index in range(len(found) if isinstance(found, list) else 0)]

    def _compile(self, path: Path, sides: Sides | None = None) -> None:
        text = _text(self.document, path)
        if not text:
            return
        try:
            condition = compile_condition(text, sides)
        except ConditionError as error:
            for fault in error.faults:
                self._report_fault(path, fault)
            return
        self.conditions[path] = condition
        if condition.constant is not None:
            message = f'"{path[-1]}" is always {str(condition.constant).lower()}'
            self._warn(path, message, "constant-condition")
        elif (result := always(condition)) is not None:
            message = f'"{path[-1]}" is {str(result).lower()} for all values its signals can have'
            self._warn(path, message, "constant-condition")
        elif not condition.inputs:
            message = f'"{path[-1]}" {condition.evaluate(Signals(0.0, {})).reason}'
            self._error(path, message, "condition-value")

    def _report_fault(self, path: Path, fault: Fault) -> None:
        place, where = self._place_in(path, fault.line, fault.column)
        self._add(place, Severity.ERROR, fault.message + where, fault.code, fault.hint)

    def _place_in(self, path: Path, line: int, column: int) -> tuple[Place, str]:
        """Return a position inside a text; if the file shows it otherwise, say it in words."""
        start = self.document.verbatim.get(path)
        if start is not None:
            return Place(start.line, start.column + column - 1), ""
        return self.document.place_of(path), f", at {line}:{column} of this text"

    def _check_names(self, paths: Iterable[Path], what: str, code: str) -> None:
        seen: dict[str, int] = {}
        for path in paths:
            name = _text(self.document, (*path, "name"))
            if name is None:
                continue
            place = self.document.place_of((*path, "name"))
            if name in seen:
                message = f'{what} "{name}" is already in line {seen[name]}'
                self._add(place, Severity.ERROR, message, code)
            seen.setdefault(name, place.line)

    def _check_hysteresis(self) -> None:
        for path in self._rules():
            when, until = (self.conditions.get((*path, key)) for key in _CONDITIONS)
            if when and until and follows(when, until):
                message = 'the rule ends as soon as it begins: "until" is true whenever "when" is'
                self._warn((*path, "until"), message, "no-hysteresis")

    def _check_useless_rules(self) -> None:
        baseline = _text(self.document, _BASELINE) or ORIGINAL
        for path in self._rules():
            if _text(self.document, (*path, "edition")) == baseline:
                message = f'the rule\'s edition "{baseline}" is the baseline'
                self._warn((*path, "edition"), message, "edition-is-baseline")

    def _check_timeout(self) -> None:
        timeout = _value(self.document.data, _SWITCH_TIMEOUT)
        mode = _value(self.document.data, _SWITCH_MODE)
        # An unknown mode is an error already, and may be meant to be this one.
        known = mode is None or mode in list(SwitchMode)
        if timeout is not None and known and mode != SwitchMode.EXCLUSIVE:
            message = '"timeout" is for mode "exclusive" only'
            hint = "no other mode holds callers"
            self._error(_SWITCH_TIMEOUT, message, "timeout-without-exclusive", hint)

    def _check_limits(self) -> None:
        limits = _value(self.document.data, _LIMITS)
        if isinstance(limits, dict) and "onFlap" in limits and "maxSwitches" not in limits:
            message = '"onFlap" says what happens beyond "maxSwitches", and there is none'
            self._warn((*_LIMITS, "onFlap"), message, "flap-without-limit")

    def _check_objective(self) -> None:
        spec = _value(self.document.data, ("spec",))
        objective = _value(self.document.data, _OBJECTIVE)
        if isinstance(spec, dict) and "rules" not in spec and "objective" not in spec:
            self._error(("spec", "rules"), '"rules" is missing', "missing-key")
        if not isinstance(objective, dict):
            return
        goals = [str(goal) for goal in Goal if goal in objective]
        if not goals:
            message = '"objective" has neither "minimize" nor "maximize"'
            self._error(_OBJECTIVE, message, "missing-key")
        elif len(goals) > 1:
            message = 'an objective has "minimize" or "maximize", not both'
            self._error((*_OBJECTIVE, goals[1]), message, "two-goals")
        for goal in goals:
            self._compile_number((*_OBJECTIVE, goal))
        for key in ("activity", "retryOn"):
            self._compile((*_OBJECTIVE, key))
        self._check_trials()

    def _check_guardrails(self) -> None:
        """Check guardrails with no edition: which one it is changes nothing about what is right."""
        baseline = _text(self.document, _BASELINE) or ORIGINAL
        for path in self._guardrails():
            for key in _OF_GUARDRAIL:
                self._compile((*path, key), Sides("", baseline))

    def _check_canary(self) -> None:
        """Check that each step is another one, and gives the edition no fewer calls."""
        seen: dict[str, int] = {}
        fewest: int | None = None
        for path in self._items((*_CANARY, "steps")):
            scope = _text(self.document, (*path, "scope"))
            if scope is None:
                continue
            place = self.document.place_of((*path, "scope"))
            if scope in seen:
                message = f'scope "{scope}" is already in line {seen[scope]}'
                self._add(place, Severity.ERROR, message, "duplicate-scope")
            seen.setdefault(scope, place.line)
            share = one_in(scope)
            if share is not None and fewest is not None and share > fewest:
                message = f"{scope} is fewer calls than the step before has"
                self._add(place, Severity.ERROR, message, "shrinking-scope")
            fewest = share if share is not None else fewest
            if scope.startswith("task:"):
                message = "a process has another number each time: it cannot stand in a policy"
                self._add(place, Severity.ERROR, message, "bad-scope", "use its cgroup")

    def _check_unguarded(self) -> None:
        """Warn of a canary that nothing can stop."""
        spec = _value(self.document.data, ("spec",))
        if isinstance(spec, dict) and "canary" in spec and "guardrails" not in spec:
            place, code = self.document.place_of(_CANARY), "canary-without-guardrails"
            message = "nothing says what is bad: the canary's steps only wait"
            self._add(place, Severity.WARNING, message, code, 'add "guardrails"')

    def _check_parameters(self) -> None:
        """Check that each is held at one value, and is one of an edition that the policy uses."""
        used = self._used()
        seen: dict[tuple[str | None, str | None], int] = {}
        for path in self._items(_PARAMETERS):
            edition, name = (_text(self.document, (*path, key)) for key in ("edition", "name"))
            if edition is not None and edition not in used:
                message = f'the policy never uses edition "{edition}"'
                hint = did_you_mean(edition, used) or _choices(used)
                self._error((*path, "edition"), message, "unknown-edition", hint)
            if edition is None or name is None:
                continue
            place = self.document.place_of((*path, "name"))
            if (edition, name) in seen:
                message = f'{edition} "{name}" is already in line {seen[edition, name]}'
                self._add(place, Severity.ERROR, message, "duplicate-parameter")
            seen.setdefault((edition, name), place.line)

    def _used(self) -> list[str]:
        """Return the editions that the policy may switch to, the baseline first."""
        used = [_text(self.document, _BASELINE) or ORIGINAL]
        used += [_text(self.document, (*rule, "edition")) or "" for rule in self._rules()]
        used += [edition for _, edition in self._tried()]
        return [*filter(None, dict.fromkeys(used))]

    def _compile_number(self, path: Path) -> None:
        text = _text(self.document, path)
        if not text:
            return
        try:
            measure = self.conditions[path] = compile_number(text)
        except ConditionError as error:
            for fault in error.faults:
                self._report_fault(path, fault)
            return
        if not measure.inputs:
            self._error(path, f'"{path[-1]}" depends on no signal', "constant-objective")

    def _tried(self) -> list[tuple[Path, str]]:
        """Return the editions that the objective names, each with its place."""
        path = (*_OBJECTIVE, "editions")
        named = _value(self.document.data, path)
        found = enumerate(named if isinstance(named, list) else ())
        return [((*path, index), each) for index, each in found if isinstance(each, str)]

    def _check_trials(self) -> None:
        """Check that there is something to try, and time to do so and to make use of it."""
        baseline = _text(self.document, _BASELINE) or ORIGINAL
        tried = [each for _, each in self._tried()]
        tried = tried or [_text(self.document, (*rule, "edition")) or "" for rule in self._rules()]
        path = (*_OBJECTIVE, "editions")
        named = _value(self.document.data, path)
        # A list that is none, or has something else in it, is told of elsewhere.
        right = named is None or (bool(named) and named == tried)
        if right and not set(tried) - {baseline}:
            message = f"there is nothing to try: no edition but the baseline {baseline}"
            self._error(_OBJECTIVE if named is None else path, message, "nothing-to-try")
        trial, settle, every = (self._seconds(key) for key in ("trial", "settle", "every"))
        if not trial or not settle or not every:
            return
        if trial < 3 * settle:
            message = f'"trial" is {format_duration(trial)}: three times "settle" at least'
            hint = f'"settle" is {format_duration(settle)}; what is measured needs a spread'
            self._error(self._of_objective("trial", "settle"), message, "trial-too-short", hint)
        needed = trial * len({*tried, baseline})
        if every < needed:
            message = f'"every" is {format_duration(every)}, which the trials alone would take'
            hint = f"they take {format_duration(needed)}"
            self._error(self._of_objective("every", "trial"), message, "trials-too-often", hint)

    def _seconds(self, key: str) -> float | None:
        """Return a time of the objective; None or 0 if it is wrong, which is told elsewhere."""
        text = _value(self.document.data, (*_OBJECTIVE, key))
        if text is None:
            return float(ObjectiveSpec.model_fields[key].default)
        try:
            return parse_duration(str(text))
        except ValueError:
            return None

    def _of_objective(self, *keys: str) -> Path:
        """Return the first of some keys that is there, or the objective itself."""
        objective = _value(self.document.data, _OBJECTIVE)
        found = (key for key in keys if isinstance(objective, dict) and key in objective)
        return (*_OBJECTIVE, *list(found)[:1])

    def _check_samples(self, path: Path) -> None:
        need = _value(self.document.data, (*path, "need"))
        of = _value(self.document.data, (*path, "of"))
        if isinstance(need, int) and isinstance(of, int) and need > of > 0:
            message = f'"need" is {need} of {of} samples: that can never be'
            self._error((*path, "need"), message, "bad-value")

    def _check_hours(self, path: Path) -> None:
        during = _value(self.document.data, path)
        for index in range(len(during) if isinstance(during, list) else 0):
            begin = _text(self.document, (*path, index, "from")) or "00:00"
            end = _text(self.document, (*path, index, "to")) or "24:00"
            if begin == end or (begin, end) == ("24:00", "00:00"):
                message = f"from {begin} to {end} there is no time"
                self._error((*path, index), message, "bad-time", "24:00 is the end of a day")

    def _check_outside(self) -> None:
        """Check the sources and the host's labels that conditions name."""
        sources = [name for _, name in outside.source_names(self.document)]
        used: set[str] = set()
        unchecked: Place | None = None
        for path, condition in self.conditions.items():
            for each in condition.references:
                place, where = self._place_in(path, each.line, each.column)
                if found := outside.fault(each, sources, self.labels):
                    message, code, hint = found
                    self._add(place, Severity.ERROR, message + where, code, hint)
                if each.kind == SOURCE:
                    used.add(each.name)
                elif each.kind == LABEL and self.labels is None:
                    unchecked = unchecked or place
        self.problems += outside.check_sources(self.document, used)
        if unchecked is not None:
            message = "names of labels were not checked"
            hint = "give the daemon's settings with --config"
            self._add(unchecked, Severity.NOTE, message, "labels-not-checked", hint)

    def _check_known_names(self) -> None:
        subsystem = _text(self.document, _SUBSYSTEM)
        if subsystem is None:
            return
        if self.known is None:
            place = self.document.place_of(_SUBSYSTEM)
            message = "names of subsystems, editions and functions were not checked"
            self._add(place, Severity.NOTE, message, "names-not-checked")
        elif subsystem not in self.known:
            # Modules come and go; the policy is to be there when this one comes.
            place, code = self.document.place_of(_SUBSYSTEM), "unknown-subsystem"
            message = f'no subsystem "{subsystem}" is loaded: the policy waits for it'
            hint = did_you_mean(subsystem, self.known)
            self._add(place, Severity.WARNING, message, code, hint)
        else:
            self._check_editions(subsystem, self.known[subsystem].editions | {ORIGINAL})
            self._check_references(subsystem, self.known[subsystem])
            self._check_modes(self.known[subsystem].modes)
            self._check_known_parameters(subsystem, self.known[subsystem].parameters)

    def _check_editions(self, subsystem: str, editions: frozenset[str]) -> None:
        tried = [path for path, _ in self._tried()]
        for path in [_BASELINE, *((*rule, "edition") for rule in self._rules()), *tried]:
            edition = _text(self.document, path)
            if edition is not None and edition not in editions:
                message = f'subsystem "{subsystem}" has no edition "{edition}"'
                hint = did_you_mean(edition, editions) or _choices(editions)
                self._error(path, message, "unknown-edition", hint)

    def _check_known_parameters(self, subsystem: str, known: frozenset[str] | None) -> None:
        if known is None:
            return
        for path in self._items(_PARAMETERS):
            name = _text(self.document, (*path, "name"))
            if name is not None and name not in known:
                message = f'subsystem "{subsystem}" has no parameter "{name}"'
                hint = did_you_mean(name, known) or _choices(known)
                self._error((*path, "name"), message, "unknown-parameter", hint)

    def _check_modes(self, modes: Mapping[str, frozenset[str]]) -> None:
        """Check that every edition the policy uses can be switched to and from like that."""
        mode = _text(self.document, _SWITCH_MODE)
        if mode in list(SwitchMode):
            self._check_mode(str(mode), _SWITCH_MODE, modes)
        if isinstance(_value(self.document.data, _CANARY), dict):
            self._check_mode("scoped", _CANARY, modes)

    def _check_mode(self, mode: str, path: Path, modes: Mapping[str, frozenset[str]]) -> None:
        for edition in self._used():
            # An older module does not say which modes an edition allows.
            if (allowed := modes.get(edition)) and mode not in allowed:
                message = f'edition "{edition}" does not allow mode "{mode}"'
                self._error(path, message, "mode-not-allowed", _choices(allowed))

    def _check_references(self, subsystem: str, names: SubsystemNames) -> None:
        """Check the functions and editions that conditions name."""
        known = {
            FUNCTION: (names.functions, "unknown-function"),
            EDITION: (names.editions | {ORIGINAL}, "unknown-edition"),
        }
        if names.parameters is not None:
            known[NAME] = (names.parameters, "unknown-parameter")
        for path, condition in self.conditions.items():
            for reference in condition.references:
                there, code = known.get(reference.kind, (frozenset({reference.name}), ""))
                if reference.name not in there:
                    place, where = self._place_in(path, reference.line, reference.column)
                    what = f'{code.removeprefix("unknown-")} "{reference.name}"'
                    message = f'subsystem "{subsystem}" has no {what}'
                    hint = did_you_mean(reference.name, there) or _choices(there)
                    self._add(place, Severity.ERROR, message + where, code, hint)

    def _error(self, path: Path, message: str, code: str, hint: str = "") -> None:
        self.problems.append(self.document.error(path, message, code, hint))

    def _warn(self, path: Path, message: str, code: str) -> None:
        self._add(self.document.place_of(path), Severity.WARNING, message, code)

    def _add(
        self, place: Place, severity: Severity, message: str, code: str, hint: str = ""
    ) -> None:
        file = self.document.file
        problem = Problem(file, place.line, place.column, severity, message, code, hint)
        self.problems.append(problem)


def check_together(documents: Iterable[Document]) -> Iterator[Problem]:
    """Yield what is wrong among files that are each right: same names, two masters."""
    names: dict[str, str] = {}
    enforcing: dict[str, str] = {}
    for document in documents:
        file = document.file
        name = _text(document, ("metadata", "name"))
        if name is not None and names.setdefault(name, file) != file:
            message = f'policy "{name}" is already in {names[name]}'
            yield document.error(("metadata", "name"), message, "duplicate-policy")
        subsystem = _text(document, _SUBSYSTEM)
        if subsystem is None or _text(document, ("spec", "mode")) != Mode.ENFORCE:
            continue
        if enforcing.setdefault(subsystem, file) != file:
            message = f'subsystem "{subsystem}" is already switched by {enforcing[subsystem]}'
            hint = "only one policy of a subsystem may enforce"
            yield document.error(_SUBSYSTEM, message, "conflicting-policies", hint)


def _choices(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"there are {listed}" if listed else ""


def _text(document: Document, path: Path) -> str | None:
    value = _value(document.data, path)
    return value if isinstance(value, str) else None


def _value(data: object, path: Path) -> object:
    for part in path:
        if isinstance(part, str) and isinstance(data, dict):
            data = data.get(part)
        elif isinstance(part, int) and isinstance(data, list):
            data = data[part]
        else:
            return None
    return data
