# SPDX-License-Identifier: GPL-2.0-or-later
"""Does what dynamosctl asks of the daemon: pauses, pins, answers to advice, ends of quarantines.

Everything it does or refuses is in the journal, with who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dynamosd.advice import Advice, AdviceBook, AdviceState, advice_json
from dynamosd.clock import Clock
from dynamosd.control import Controller
from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable
from dynamosd.journal import Journal, rfc3339
from dynamosd.model import Signals
from dynamosd.orders import Mute, Orders, Pause, Person, Pin, pin_json
from dynamosd.pins import OVER
from dynamosd.policy.definition import Mode
from dynamosd.policy.problems import did_you_mean
from dynamosd.requests import COMMANDS, Inbox, Json, Outcome, Request

MAX_REASON = 200
MAX_SECONDS = 366 * 86400.0
PAUSE_SECONDS = 3600.0
"""How long a pause lasts if nothing else is said: one that is forgotten ends."""
MAX_ORDERS = 1000
"""So many pauses, and so many muted advices, are kept."""

LATE = frozenset({"accept", "pin"})
"""Commands that switch: what was sampled would be old after them."""

_ABOUT = ("policy", "subsystem", "edition", "id")
"""What of a request is in its record; the rest is in the record of what was done."""


@dataclass(slots=True)
class Desk:
    """Serves requests. ``say`` shows a line to the operator."""

    inbox: Inbox
    controller: Controller
    orders: Orders
    advice: AdviceBook
    journal: Journal
    clock: Clock
    say: Callable[[str], None]
    _waiting: list[Request] = field(default_factory=list)
    _done: list[tuple[Request, Json | DynamosError]] = field(default_factory=list)
    _signals: Signals | None = None

    def _handlers(self) -> dict[str, Callable[[Json, Person], Json]]:
        """Give what does each command."""
        return {
            "pause": self._pause,
            "resume": self._resume,
            "pin": self._pin,
            "unpin": self._unpin,
            "clear": self._clear,
            "accept": self._accept,
            "mute": self._mute,
            "unmute": self._unmute,
        }

    def end_what_is_over(self) -> None:
        """End pauses, pins and mutes whose time has come; see that the others are kept."""
        self.orders.save_again(self.clock.now())
        pauses, pins, mutes = self.orders.drop_old(self.clock.wall())
        for pause in pauses:
            self._tell_of_end(pause, OVER, None)
        for pin in pins:
            self.controller.pins.tell_of_end(pin, OVER)
        for mute in mutes:
            self._record_mute("unmute", mute, None)

    def serve(self) -> None:
        """Answer the requests that have come, before the policies are evaluated.

        Those that switch wait for `serve_late`.
        """
        self._record_undone()
        for request in self.inbox.take():
            if request.said["command"] in LATE:
                self._waiting.append(request)
            else:
                self._answer(request)

    def serve_late(self, signals: Signals | None) -> None:
        """Answer the rest of them; ``signals`` is None while the module cannot be read."""
        self._signals = signals
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._answer(request)

    def deliver(self) -> None:
        """Give the answers, once the status shows what was done: who has one may go by that."""
        done, self._done = self._done, []
        for request, result in done:
            self.inbox.answer(request, result)

    def close(self) -> None:
        """Take no more requests, and say so to who has asked."""
        self.deliver()
        self.inbox.close()
        self._record_undone()
        waiting, self._waiting = self._waiting, []
        for request in [*waiting, *self.inbox.take()]:
            self._end(request, Unreachable("the daemon leaves, and has not done it"))
        self.deliver()

    def _answer(self, request: Request) -> None:
        by = Person(request.by.uid, request.by.login)
        handler = self._handlers()[request.said["command"]]
        result: Json | DynamosError
        try:
            result = handler(request.said, by)
        except DynamosError as error:
            result = error
        self._end(request, result)

    def _end(self, request: Request, result: Json | DynamosError) -> None:
        if isinstance(result, DynamosError):
            self._record(Outcome(request.by, request.said, result.code, result.message))
        else:
            self._record(Outcome(request.by, request.said, "ok"))
        self._done.append((request, result))

    def _record_undone(self) -> None:
        undone, more = self.inbox.take_undone()
        for each in undone:
            self._record(each)
        if more:
            self.journal.record("request", result="refused", error=f"{more} more were not done")
            self.journal.forget("request")

    def _record(self, outcome: Outcome) -> None:
        command = outcome.said.get("command", "")
        fields = COMMANDS.get(command, {})
        said: Json = {key: outcome.said.get(key, "") for key in _ABOUT if key in fields}
        if outcome.error:
            said["error"] = outcome.error
        by = outcome.by
        self.journal.record(
            "request",
            command=command or None,
            result=outcome.result,
            **said,
            uid=by.uid,
            login=by.login,
            pid=by.pid,
        )
        self.journal.forget("request")

    # ------------------------------------------------------------------------- pause, resume

    def _pause(self, said: Json, by: Person) -> Json:
        policy, subsystem = self._scope(said)
        now, seconds = self.clock.wall(), _seconds(said)
        until = now + (PAUSE_SECONDS if seconds is None else seconds)
        pause = Pause(policy, subsystem, now, until, _line(_text(said, "reason")), by)
        if pause.scope not in self.orders.pauses and len(self.orders.pauses) >= MAX_ORDERS:
            raise Refused(f"there are {MAX_ORDERS} pauses already")
        self.orders.pauses[pause.scope] = pause
        trouble = self.orders.save()
        self.say(str(pause))
        self._record_pause("pause", pause, by, reason=pause.reason)
        return {
            "about": pause.about,
            "until": None if until is None else rfc3339(until),
            "policies": [each.name for each in self.controller.policies if pause.covers(each)],
            "warning": trouble,
        }

    def _resume(self, said: Json, by: Person) -> Json:
        policy, subsystem = _text(said, "policy"), _text(said, "subsystem")
        scope = (policy, subsystem)
        found = [each for each in self.orders.pauses.values() if scope in {each.scope, ("", "")}]
        if not found:
            # A pause may be about a policy that is gone; without one, the name may be a slip.
            self._scope(said)
        for pause in found:
            del self.orders.pauses[pause.scope]
        trouble = self.orders.save() if found else ""
        for pause in found:
            self._tell_of_end(pause, f"ended by {by}", by)
        concerned = Pause(policy, subsystem, 0.0, None, "", by)
        policies = [each for each in self.controller.policies if concerned.covers(each)]
        return {
            "ended": [each.about for each in found],
            "still": [
                f"{each.name} stays paused: {why}"
                for each in policies
                if (why := self.orders.why_paused(each))
            ],
            "warning": trouble,
        }

    def _scope(self, said: Json) -> tuple[str, str]:
        """Give what a pause is about, if there is such a policy or subsystem."""
        policy, subsystem = _text(said, "policy"), _text(said, "subsystem")
        policies = self.controller.policies
        if policy:
            _check_name(policy, (each.name for each in policies), "policy")
        elif subsystem:
            names = (each.subsystem for each in policies)
            _check_name(subsystem, names, "policy for the subsystem")
        return policy, "" if policy else subsystem

    def _tell_of_end(self, pause: Pause, why: str, by: Person | None) -> None:
        self.say(f"{pause.about} no longer paused: {why}")
        self._record_pause("resume", pause, by)

    def _record_pause(self, kind: str, pause: Pause, by: Person | None, **said: Any) -> None:  # noqa: ANN401 - JSON
        self.journal.record(
            kind,
            policy=pause.policy,
            subsystem=pause.subsystem,
            until=None if pause.until is None else rfc3339(pause.until),
            uid=by and by.uid,
            login=by and by.login,
            **said,
        )
        self.journal.forget(kind)

    def _clear(self, said: Json, by: Person) -> Json:
        subsystem, edition = _text(said, "subsystem"), _text(said, "edition")
        now = self.clock.wall()
        found = self.controller.quarantines.clear(subsystem, edition, now, by)
        return {"cleared": found is not None}

    # ---------------------------------------------------------------------------- pin, unpin

    def _pin(self, said: Json, by: Person) -> Json:
        """Pin; with ``at_least``, a pin to the same edition that lasts longer goes on instead."""
        subsystem, edition = _text(said, "subsystem"), _text(said, "edition")
        now, seconds = self.clock.wall(), _seconds(said)
        until = None if seconds is None else now + seconds
        pin = Pin(subsystem, edition, now, until, _line(_text(said, "reason")), by)
        old = self.orders.pins.get(subsystem)
        if said.get("at_least") and old is not None and old.outlasts(pin):
            pin = old
        result, warning = self.controller.pin(pin)
        return {
            **pin_json(pin),
            "from": result.origin if result else edition,
            "switched": result is not None and result.result == "ok",
            "partial": result is not None and result.partial,
            "trouble": self.controller.pins.trouble(subsystem),
            "policies": self._enforcing(subsystem),
            "warning": warning,
        }

    def _unpin(self, said: Json, by: Person) -> Json:
        subsystem = _text(said, "subsystem")
        ended, warning = self.controller.unpin(subsystem, by)
        return {
            "subsystem": subsystem,
            "ended": ended,
            "policies": self._enforcing(subsystem),
            "warning": warning,
        }

    def _enforcing(self, subsystem: str) -> list[str]:
        """Give the policies that would switch a subsystem if nobody held it; paused ones do not."""
        return [
            each.name
            for each in self.controller.policies
            if each.subsystem == subsystem
            and each.mode is Mode.ENFORCE
            and not self.orders.pause_of(each)
        ]

    # -------------------------------------------------------------------------------- advice

    def _find(self, said: Json) -> Advice:
        which = _text(said, "id")
        advice = self.advice.find(which)
        if advice is None:
            known = [each.id for each in self.advice.all()]
            hint = did_you_mean(which, known) or "see: dynamosctl advice list --all"
            raise InvalidInput(f'there is no advice "{which}"', hint=hint)
        return advice

    def _accept(self, said: Json, by: Person) -> Json:
        advice, signals = self._find(said), self._signals
        try:
            if signals is None:
                # What is the matter with it, it says itself, if it lasts.
                self.controller.switcher.kmod.read()
                raise Unreachable("nothing could be measured in this tick", hint="try again")
            if advice.state is AdviceState.ACCEPTED:
                raise Refused(f"advice {advice.id} has been accepted already")
            if self.advice.given(advice.policy) != advice.id:
                raise Refused(f"advice {advice.id} does not hold any more")
            result = self.controller.accept(advice, signals, by)
        except DynamosError as error:
            self.advice.record(advice, "refused", by, error=error.message)
            raise
        self.advice.accept(advice, by)
        return {
            "advice": advice_json(advice),
            "mode": result.mode,
            "partial": result.partial,
            "duration_seconds": round(result.duration_seconds, 6),
        }

    def _mute(self, said: Json, by: Person) -> Json:
        advice, seconds = self._find(said), _seconds(said)
        if advice.id not in self.orders.mutes and len(self.orders.mutes) >= MAX_ORDERS:
            raise Refused(f"there are {MAX_ORDERS} muted advices already")
        now = self.clock.wall()
        until = None if seconds is None else now + seconds
        mute = Mute(
            advice.id,
            advice.policy,
            advice.subsystem,
            advice.origin,
            advice.target,
            advice.rule,
            now,
            until,
            by,
        )
        self.orders.mutes[advice.id] = mute
        trouble = self.orders.save()
        self._record_mute("mute", mute, by)
        until_text = None if until is None else rfc3339(until)
        return {"id": advice.id, "until": until_text, "warning": trouble}

    def _unmute(self, said: Json, by: Person) -> Json:
        which = _text(said, "id")
        mute = self.orders.mutes.pop(which, None)
        if mute is None:
            hint = did_you_mean(which, self.orders.mutes) or "see: dynamosctl advice list --all"
            raise InvalidInput(f'advice "{which}" is not muted', hint=hint)
        trouble = self.orders.save()
        self._record_mute("unmute", mute, by)
        return {"id": which, "until": None, "warning": trouble}

    def _record_mute(self, kind: str, mute: Mute, by: Person | None) -> None:
        until = None if mute.until is None else rfc3339(mute.until)
        self.journal.record(
            kind,
            id=mute.id,
            policy=mute.policy,
            until=until,
            uid=by and by.uid,
            login=by and by.login,
        )
        self.journal.forget(kind)


# ------------------------------------------------------------------------ what requests say


def _check_name(name: str, known: Iterable[str], what: str) -> None:
    names = sorted(set(known))
    if name not in names:
        hint = did_you_mean(name, names) or f"there is: {', '.join(names) or 'none'}"
        raise InvalidInput(f'there is no {what} "{name}"', hint=hint)


def _text(said: Json, key: str) -> str:
    value = said.get(key) or ""
    if not isinstance(value, str):
        raise InvalidInput(f"{key} is not text")
    return value


def _seconds(said: Json) -> float | None:
    value = said.get("for")
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0.0 < value <= MAX_SECONDS:
        raise InvalidInput("the time is between 1ms and 1y")
    return float(value)


def _line(reason: str) -> str:
    """Give a reason as one line that no terminal stumbles over."""
    text = " ".join("".join(each if each.isprintable() else " " for each in reason).split())
    if len(text) > MAX_REASON:
        raise InvalidInput(f"a reason has at most {MAX_REASON} characters")
    return text
