# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands and what is told of them: each ends once, as it was answered. Pure.

Whoever writes a command notes when it began and ended, and what the answer was. The events in
between must have exactly one `refused` for each refusal, and one `switched` for each switch; none
where nothing was to be switched.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from dynamosd.events import Event
from tests.kernel.torture.invariants import Checker, Rule, Standing, Violation
from tests.kernel.torture.standing import ORIGINAL

COMMAND_SHOWN = 120
"""So many bytes of a refused command are in its event."""

OFF = "enable 0"
"""Stands for writing 0 to the module's parameter, which is no command, but switches like many."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One command: who wrote it, from when to when, and the answer: an errno's name, or none."""

    line: str
    answer: str
    by: int
    begin: float
    end: float

    def words(self) -> list[str]:
        """Give the command's words."""
        return self.line.split()

    def option(self, key: str) -> str | None:
        """Give an option's value."""
        found = (word.partition("=")[2] for word in self.words() if word.startswith(f"{key}="))
        return next(found, None)

    def is_switch(self) -> bool:
        """Tell whether it is a plain switch command."""
        return self.line.startswith("switch ")

    def leads_away(self) -> bool:
        """Tell whether it is a switch to another edition than the original."""
        return self.is_switch() and self.words()[2] != ORIGINAL

    def may_switch(self, subsystem: str) -> bool:
        """Tell whether it may make switches, on the way to the original, that it does not name."""
        words = self.words()
        return self.line == OFF or (
            words[1] == subsystem
            and (words[0] == "quarantine" or (self.is_switch() and self.may_undo()))
        )

    def may_undo(self) -> bool:
        """Tell whether it goes to the original in any mode: what is being moved is moved back."""
        return self.words()[2] == ORIGINAL and not self.option("mode")


def check(
    events: Sequence[Event], attempts: Sequence[Attempt], checker: Checker
) -> list[Violation]:
    """Compare what was answered with what was told; ``checker`` has followed the same events.

    Events of commands that nobody has noted are left alone. After a loss nothing can be said.
    """
    if checker.lost:
        return []
    ours = {str(attempt.by) for attempt in attempts}
    told = [event for event in events if event.fields.get("by") in ours]
    found = [*_check_refusals(told, attempts), *_check_switches(told, attempts, checker.history)]
    return [*found, *_check_off(attempts, checker)]


# ------------------------------------------------------------------------- one for each other


def _match(
    events: Sequence[Event], attempts: Iterable[Attempt], fits: Callable[[Event, Attempt], bool]
) -> tuple[list[Event], list[Attempt]]:
    """Give each event an attempt of its own, to as many as can have one; give who has no partner.

    By augmenting paths: which of two commands an event is of that may be of both is known only from
    what the others need.
    """
    coming = sorted(attempts, key=lambda attempt: attempt.begin, reverse=True)
    everybody = list(coming)
    open_now: list[Attempt] = []
    candidates: list[list[Attempt]] = []
    partners: dict[int, int] = {}

    def claim(number: int, asked: set[int]) -> bool:
        for attempt in candidates[number]:
            if id(attempt) in asked:
                continue
            asked.add(id(attempt))
            rival = partners.get(id(attempt))
            if rival is None or claim(rival, asked):
                partners[id(attempt)] = number
                return True
        return False

    unclaimed = []
    for number, event in enumerate(events):
        while coming and coming[-1].begin <= event.time:
            open_now.append(coming.pop())
        open_now = [attempt for attempt in open_now if attempt.end >= event.time]
        candidates.append([attempt for attempt in open_now if fits(event, attempt)])
        if not claim(number, set()):
            unclaimed.append(event)
    return unclaimed, [attempt for attempt in everybody if id(attempt) not in partners]


def _is_side_effect(event: Event, subsystem: str, attempts: Iterable[Attempt]) -> bool:
    """Tell whether a command for something else may have made, or been refused, a switch."""
    return any(
        attempt.begin <= event.time <= attempt.end and attempt.may_switch(subsystem)
        for attempt in attempts
    )


def _wide(attempts: Iterable[Attempt]) -> list[Attempt]:
    return [each for each in attempts if not each.is_switch() or each.may_undo()]


# --------------------------------------------------------------------------------- refusals


def _is_refusal(event: Event, attempt: Attempt) -> bool:
    """Tell whether an event may be of a command's refusal."""
    said = event.fields["command"], event.fields["errno"]
    return said == (attempt.line[:COMMAND_SHOWN], str(getattr(errno, attempt.answer)))


def _check_refusals(events: Sequence[Event], attempts: Sequence[Attempt]) -> list[Violation]:
    told = [event for event in events if event.name == "refused"]
    answered = [attempt for attempt in attempts if attempt.answer and attempt.line != OFF]
    unclaimed, alone = _match(told, answered, _is_refusal)
    wide = _wide(attempts)
    untold = [
        Violation(Rule.ANSWER, f"{each.line}: {each.answer}, and no event says so")
        for each in alone
    ]
    for event in unclaimed:
        words = event.fields["command"].split()
        if words[0] == "switch" and _is_side_effect(event, words[1], wide):
            continue
        what = f"{event.fields['command']}: refused, and nobody was told so"
        untold.append(Violation(Rule.ANSWER, what, event))
    return untold


# ---------------------------------------------------------------------------------- switches


def _check_switches(
    events: Sequence[Event],
    attempts: Sequence[Attempt],
    history: Mapping[str, Sequence[Standing]],
) -> list[Violation]:
    switched = [event for event in events if event.name == "switched"]
    done = [attempt for attempt in attempts if attempt.is_switch() and not attempt.answer]
    unclaimed, alone = _match(switched, done, _is_switch)
    wide = _wide(attempts)
    found = [
        Violation(Rule.ANSWER, f"{_told(event)}: switched, and nobody asked", event)
        for event in unclaimed
        if (event.fields["to"] != ORIGINAL and event.fields["mode"] != "exclusive")
        or not _is_side_effect(event, event.fields["subsystem"], wide)
    ]
    for attempt in alone:
        subsystem, edition = attempt.words()[1:3]
        if not _was_so(attempt, edition, history.get(subsystem, [])):
            what = (
                f"{attempt.line}: done, it was said at {attempt.end:.6f}, and nothing has changed"
            )
            found.append(Violation(Rule.ANSWER, what))
    return found


def _told(event: Event) -> tuple[str, str, str]:
    fields = event.fields
    return fields["subsystem"], fields["to"], fields["mode"]


def _is_switch(event: Event, attempt: Attempt) -> bool:
    """Tell whether a switch may be what became of a command: one without a mode takes any."""
    mode = attempt.option("mode")
    return _told(event) == (*attempt.words()[1:3], mode or event.fields["mode"])


def _during(history: Sequence[Standing], begin: float, end: float) -> Sequence[Standing]:
    """Give the standings that there were in a stretch of time, that at its beginning first."""
    times = [standing.time for standing in history]
    return history[max(0, bisect_right(times, begin) - 1) : bisect_right(times, end)]


def _was_so(attempt: Attempt, edition: str, history: Sequence[Standing]) -> bool:
    return any(
        standing.is_plain(edition) or standing.is_going_to(edition)
        for standing in _during(history, attempt.begin, attempt.end)
    )


# --------------------------------------------------------------------------------- switched off


def _check_off(attempts: Sequence[Attempt], checker: Checker) -> list[Violation]:
    found = []
    for since, until in _stretches_off(checker.enabling):
        for attempt in attempts:
            if attempt.answer:
                continue
            if attempt.line == OFF and since <= attempt.end < until:
                found += _not_at_original(checker.history, attempt.end, until)
            elif since < attempt.begin and attempt.end < until and attempt.leads_away():
                what = f"{attempt.line}: done, while the module was switched off"
                found.append(Violation(Rule.ENABLE, what))
    return found


def _stretches_off(enabling: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    marks = [*enabling, (inf, True)]
    return [(begin, end) for (begin, enabled), (end, _) in pairwise(marks) if not enabled]


def _not_at_original(
    history: Mapping[str, Sequence[Standing]], begin: float, end: float
) -> list[Violation]:
    return [
        Violation(
            Rule.ENABLE,
            f"{subsystem} is at {standing.active}, {standing.partial}, and the module is off",
        )
        for subsystem, standings in history.items()
        for standing in _during(standings, begin, end)
        if not standing.is_plain(ORIGINAL)
    ]
