# SPDX-License-Identifier: GPL-2.0-or-later
"""For how long an edition that has broken a guardrail may not be used: longer each time. Pure.

The first quarantine is as long as the guardrail says, each further one twice as long as it would
have been, up to a week. An edition that is then in use for as long as its last quarantine was, and
breaks no guardrail, begins anew; so does one that has been out of quarantine for a week.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dynamosd.model import Breach, Decision, Guarded
from dynamosd.policy.durations import format_duration

MAX_SECONDS = 7 * 86400.0
"""No quarantine is longer, and nothing is held against an edition for longer after it."""

_ROUNDING_SECONDS = 1e-6

_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Sentence:
    """An edition's last quarantine: until when (Unix time), and the how manyth of them it is.

    ``cleared``: somebody has ended it before its time; it counts all the same. ``guardrail`` is ""
    if it was none that brought it there, but the machine's going down.
    """

    edition: str
    policy: str
    guardrail: str
    reason: str
    count: int
    seconds: float
    until: float
    cleared: bool = False

    def lasts(self, wall: float) -> bool:
        """Tell whether the edition is in quarantine."""
        return not self.cleared and wall < self.until - _ROUNDING_SECONDS

    @property
    def why(self) -> str:
        """Why the edition may not be used, in words that stay the same."""
        return _why(self.edition, self.seconds, self.guardrail)


def why_breached(breach: Breach) -> str:
    """Say the same of a breach that was found just now; how long it will be is not known here."""
    return f"edition {breach.edition} is in quarantine (guardrail {breach.guardrail})"


def _why(edition: str, seconds: float, guardrail: str) -> str:
    why = f"guardrail {guardrail}" if guardrail else "the machine went down"
    return f"edition {edition} is in quarantine for {format_duration(seconds)} ({why})"


@dataclass(slots=True)
class Backoff:
    """The sentences of a subsystem's editions."""

    sentences: dict[str, Sentence] = field(default_factory=dict)

    def quarantined(self, wall: float) -> dict[str, str]:
        """Give the editions that are in quarantine, and why."""
        return {each.edition: each.why for each in self.sentences.values() if each.lasts(wall)}

    def take(self, decision: Decision, wall: float) -> tuple[Sentence | None, bool]:
        """Take in what an enforcing policy's guardrails have found.

        Returns:
            The quarantine that begins, if one does, and whether anything has changed.
        """
        guarded = decision.guarded
        changed = bool(self.sentences and self._forgive(guarded, wall))
        if guarded is None or guarded.breach is None:
            return None, changed
        return self.add(guarded.breach, decision.policy, wall), True

    def add(self, breach: Breach, policy: str, wall: float) -> Sentence:
        """Put an edition in quarantine."""
        before = self.sentences.get(breach.edition)
        count = before.count + 1 if before else 1
        doubled = breach.quarantine_seconds * 2.0 ** min(count - 1, _MAX_DOUBLINGS)
        seconds = min(MAX_SECONDS, doubled)
        found = Sentence(
            breach.edition, policy, breach.guardrail, breach.reason, count, seconds, wall + seconds
        )
        self.sentences[breach.edition] = found
        return found

    def clear(self, edition: str, wall: float) -> Sentence | None:
        """End a quarantine before its time; give it, or None if there is none."""
        found = self.sentences.get(edition)
        if found is None or not found.lasts(wall):
            return None
        self.sentences[edition] = replace(found, cleared=True)
        return found

    def _forgive(self, guarded: Guarded | None, wall: float) -> list[Sentence]:
        """Forget, and give, what is not held against an edition any more."""
        gone = [each for each in self.sentences.values() if _is_forgotten(each, guarded, wall)]
        for each in gone:
            del self.sentences[each.edition]
        return gone


def _is_forgotten(sentence: Sentence, guarded: Guarded | None, wall: float) -> bool:
    if sentence.lasts(wall):
        return False
    if wall >= sentence.until + MAX_SECONDS:
        return True
    if guarded is None or guarded.breach is not None or guarded.scope:
        return False
    return guarded.edition == sentence.edition and guarded.seconds >= sentence.seconds
