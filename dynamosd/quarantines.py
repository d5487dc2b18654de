# SPDX-License-Identifier: GPL-2.0-or-later
"""Editions that may not be used for what they have done: the daemon's own quarantine.

The kernel module's is about faults, and lasts until somebody clears it or the edition is unloaded.
This one ends by itself, later each time (``policy.backoff``). It is kept in a file beside the
journal, so that neither a reload nor a restart of daemon or machine ends it. Times are seconds of
the Unix epoch: a clock that is set moves its end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dynamosd.journal import Journal, rfc3339
from dynamosd.kept import Json, KeptFile
from dynamosd.model import Breach, Decision
from dynamosd.orders import Person
from dynamosd.phrases import why_quarantined
from dynamosd.policy.backoff import Backoff, Sentence


@dataclass(slots=True)
class Quarantines:
    """All of them, in a file that follows each change.

    Args:
        path: the file; its folder is made when it is missing.
        journal: what begins and ends is in it.
        tell: shows a line to the operator.
    """

    path: Path
    journal: Journal
    tell: Callable[[str], None]
    _file: KeptFile = field(init=False)
    _backoffs: dict[str, Backoff] = field(default_factory=dict)
    _running: dict[tuple[str, str], Sentence] = field(default_factory=dict)
    """Those of which the end has not been told yet, by subsystem and edition."""

    def __post_init__(self) -> None:
        """Name the file; nothing is read yet."""
        self._file = KeptFile(self.path, "quarantines", self.tell)

    @property
    def errors(self) -> int:
        """How often the file could not be read or written."""
        return self._file.errors

    def load(self, wall: float) -> None:
        """Read the file. One that cannot be used is put aside, and said: nothing is held then."""
        for subsystem, sentence in self._file.load(_parse) or ():
            self._of(subsystem).sentences[sentence.edition] = sentence
            if sentence.lasts(wall):
                self._running[subsystem, sentence.edition] = sentence

    def _of(self, subsystem: str) -> Backoff:
        return self._backoffs.setdefault(subsystem, Backoff())

    # ------------------------------------------------------------------------------ questions

    def quarantined(self, subsystem: str, wall: float) -> dict[str, str]:
        """Give the editions of a subsystem that may not be used, and why."""
        found = self._backoffs.get(subsystem)
        return found.quarantined(wall) if found else {}

    def lasting(self, wall: float) -> Iterator[tuple[str, Sentence]]:
        """Give those that last, each with its subsystem."""
        for subsystem, each in self._backoffs.items():
            for sentence in each.sentences.values():
                if sentence.lasts(wall):
                    yield subsystem, sentence

    # -------------------------------------------------------------------------------- changes

    def note(self, decision: Decision, wall: float) -> Sentence | None:
        """Take in what an enforcing policy's guardrails have found; give a new quarantine."""
        begun, changed = self._of(decision.subsystem).take(decision, wall)
        if begun is not None:
            self._running[decision.subsystem, begun.edition] = begun
            self._record("begun", decision.subsystem, begun)
        if changed:
            self._save()
        return begun

    def begin(self, subsystem: str, breach: Breach, policy: str, wall: float) -> None:
        """Put an edition in quarantine for what was found elsewhere than in a decision."""
        begun = self._of(subsystem).add(breach, policy, wall)
        self._running[subsystem, begun.edition] = begun
        self._record("begun", subsystem, begun)
        self._save()

    def clear(
        self, subsystem: str, edition: str, wall: float, by: Person | None = None
    ) -> Sentence | None:
        """End one before its time; give it, or None if there is none."""
        found = self._of(subsystem).clear(edition, wall)
        if found is not None:
            self._running.pop((subsystem, edition), None)
            self._record("cleared", subsystem, found, by)
            self._save()
        return found

    def save_again(self, now: float) -> None:
        """Write them, if that could not be done before: a full disk is made room on."""
        self._file.save_again(now)

    def end_what_is_over(self, wall: float) -> None:
        """Tell of those whose time is over; there is nothing else to do."""
        over = [key for key, sentence in self._running.items() if not sentence.lasts(wall)]
        for key in over:
            self._record("over", key[0], self._running.pop(key))

    def _record(
        self, result: str, subsystem: str, sentence: Sentence, by: Person | None = None
    ) -> None:
        name = f"{subsystem}/{sentence.edition}"
        self.journal.record(
            "quarantine",
            name,
            subsystem=subsystem,
            edition=sentence.edition,
            result=result,
            policy=sentence.policy,
            guardrail=sentence.guardrail,
            reason=sentence.reason,
            seconds=sentence.seconds,
            until=rfc3339(sentence.until),
            count=sentence.count,
            uid=by and by.uid,
            login=by and by.login,
        )
        self.journal.forget("quarantine", name)
        if result == "begun":
            self.tell(
                f"{name} is in quarantine until {rfc3339(sentence.until)}: "
                + why_quarantined(sentence.policy, sentence.guardrail, sentence.reason)
            )
        else:
            self.tell(f"{name} is no longer in quarantine: {result}")

    def _save(self) -> None:
        found = [
            {"subsystem": subsystem, **dataclasses.asdict(sentence)}
            for subsystem, each in self._backoffs.items()
            for sentence in each.sentences.values()
        ]
        if trouble := self._file.save({"quarantines": found}):
            self.tell(trouble)


def quarantine_json(subsystem: str, sentence: Sentence) -> Json:
    """Give a quarantine as programs see it."""
    return {
        "subsystem": subsystem,
        "edition": sentence.edition,
        "policy": sentence.policy,
        "guardrail": sentence.guardrail,
        "reason": sentence.reason,
        "count": sentence.count,
        "seconds": sentence.seconds,
        "until": rfc3339(sentence.until),
    }


def _parse(content: Json) -> list[tuple[str, Sentence]]:
    found = []
    for each in content["quarantines"]:
        subsystem = each.pop("subsystem")
        sentence = Sentence(**each)
        for number in (sentence.count, sentence.seconds, sentence.until):
            if not isinstance(number, int | float):
                raise TypeError(f"{number!r} is no number")
        found.append((subsystem, sentence))
    return found
