# SPDX-License-Identifier: GPL-2.0-or-later
"""What the policies in mode advise would do, until somebody has it done, or the reason is gone.

Each policy gives one advice at most: its last decision, if that asks for a switch. Advice that is
muted is kept like any other, but nobody is told.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from dynamosd.journal import Journal, rfc3339
from dynamosd.model import Decision
from dynamosd.orders import Mute, Orders, Person
from dynamosd.policy.advice import advice_id
from dynamosd.policy.definition import Mode, Policy

KEPT = 64
"""So many advices that are not given any more are remembered."""


class AdviceState(enum.StrEnum):
    """What has become of an advice."""

    OPEN = "open"
    ACCEPTED = "accepted"
    MUTED = "muted"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Advice:
    """One advice. ``since`` is when this daemon gave it first, in Unix time."""

    id: str
    policy: str
    subsystem: str
    origin: str
    target: str
    rule: str
    since: float
    reason: str
    state: AdviceState = AdviceState.OPEN

    @property
    def what(self) -> str:
        """What it would do, in words."""
        return f"{self.subsystem}: {self.origin} -> {self.target}"


@dataclass(slots=True)
class AdviceBook:
    """All advice. ``say`` shows a line to the operator."""

    orders: Orders
    journal: Journal
    say: Callable[[str], None]
    _known: dict[str, Advice] = field(default_factory=dict)
    _given: dict[str, str] = field(default_factory=dict)
    """By policy: the id of the advice that its last decision is."""

    # ------------------------------------------------------------------------------ questions

    def find(self, which: str) -> Advice | None:
        """Give an advice with its state as it is shown."""
        advice = self._known.get(which)
        return None if advice is None else self._shown(advice)

    def all(self) -> list[Advice]:
        """Give all there are, also those that are muted and not given now, the oldest first."""
        found = [self._shown(each) for each in self._known.values()]
        found += [_muted(each) for each in self.orders.mutes.values() if each.id not in self._known]
        return sorted(found, key=lambda each: (each.since, each.id))

    def open(self, policies: Iterable[Policy]) -> dict[str, int]:
        """Count the open advice of each policy that may give some."""
        found = [each.policy for each in self.all() if each.state is AdviceState.OPEN]
        return {each.name: found.count(each.name) for each in policies if each.mode is Mode.ADVISE}

    def given(self, policy: str) -> str | None:
        """Give the id of the advice that a policy gives now."""
        return self._given.get(policy)

    def _shown(self, advice: Advice) -> Advice:
        muted = advice.id in self.orders.mutes and advice.state is not AdviceState.ACCEPTED
        return replace(advice, state=AdviceState.MUTED) if muted else advice

    # -------------------------------------------------------------------------------- changes

    def note(self, policy: Policy, decision: Decision, wall: float) -> None:
        """Take in what a policy has decided, at ``wall`` in Unix time."""
        which, before = advice_id(policy, decision), self._given.get(policy.name)
        if which is not None and which == before and self._known[which].state is AdviceState.OPEN:
            self._known[which] = replace(self._known[which], reason=decision.reason)
            return
        self._end(policy.name)
        if which is None:
            return
        # Behind all others: the oldest are forgotten first.
        self._known.pop(which, None)
        advice = Advice(
            which,
            policy.name,
            policy.subsystem,
            decision.current,
            decision.target,
            decision.rule,
            wall,
            decision.reason,
        )
        self._known[which] = advice
        self._given[policy.name] = which
        if which not in self.orders.mutes:
            self.record(advice, AdviceState.OPEN, reason=advice.reason)
            accept = f"dynamosctl advice accept {which}"
            self.say(f"advice {which} of policy {policy.name}: {advice.what}; {accept}")

    def keep(self, policies: Iterable[Policy]) -> None:
        """Forget what policies advised that are no longer in force, or do not advise any more."""
        names = {each.name for each in policies if each.mode is Mode.ADVISE}
        for name in [name for name in self._given if name not in names]:
            self._end(name)

    def accept(self, advice: Advice, by: Person) -> None:
        """Note that somebody has had it done."""
        self._known[advice.id] = replace(advice, state=AdviceState.ACCEPTED)
        self.record(advice, AdviceState.ACCEPTED, by)

    def _end(self, policy: str) -> None:
        which = self._given.pop(policy, None)
        advice = self._known.get(which or "")
        if advice is not None and advice.state is AdviceState.OPEN:
            self._known[advice.id] = replace(advice, state=AdviceState.GONE)
            if advice.id not in self.orders.mutes:
                self.record(advice, AdviceState.GONE)
        self._forget()

    def _forget(self) -> None:
        given = set(self._given.values())
        others = [which for which in self._known if which not in given]
        for which in others[:-KEPT]:
            del self._known[which]

    def record(self, advice: Advice, result: str, by: Person | None = None, **said: Any) -> None:  # noqa: ANN401 - JSON
        """Write in the journal what became of an advice."""
        if by is not None:
            said = {**said, "uid": by.uid, "login": by.login}
        self.journal.record(
            "advice",
            advice.id,
            None,
            id=advice.id,
            policy=advice.policy,
            subsystem=advice.subsystem,
            **{"from": advice.origin, "to": advice.target},
            rule=advice.rule,
            result=str(result),
            **said,
        )
        self.journal.forget("advice", advice.id)


def _muted(mute: Mute) -> Advice:
    """Give an advice that is known for being muted only."""
    return Advice(
        mute.id,
        mute.policy,
        mute.subsystem,
        mute.origin,
        mute.target,
        mute.rule,
        mute.since,
        "",
        AdviceState.MUTED,
    )


def advice_json(advice: Advice) -> dict[str, Any]:
    """Give an advice as programs see it."""
    return {
        "id": advice.id,
        "policy": advice.policy,
        "subsystem": advice.subsystem,
        "from": advice.origin,
        "to": advice.target,
        "rule": advice.rule,
        "since": rfc3339(advice.since),
        "reason": advice.reason,
        "state": str(advice.state),
    }
