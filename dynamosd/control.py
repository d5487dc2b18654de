# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies at work: evaluates those that are due, and carries out what the enforcing ones want.

One subsystem has at most one enforcing policy; the policy loader sees to that. A switch by
someone else is noticed by the editions in use being others than expected; it is recorded as
``manual``, and the policy goes on from what it finds. While someone else's scoped or per-object
switch is going on, no policy switches that subsystem: it would put an end to it. Those of a canary
are our own. Nor does one do what the kernel module's own safety has just undone: an edition in
quarantine is not switched to.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamosd.bootguard import Suspect
from dynamosd.clock import Ticker
from dynamosd.errors import DynamosError, Refused, Unreachable
from dynamosd.journal import rfc3339
from dynamosd.kmod import SWITCHED_OFF, no_subsystem, quarantined
from dynamosd.model import (
    ORIGINAL,
    Action,
    Part,
    PolicyPhase,
    RolloutEvent,
    RuleState,
    Standing,
    Suppression,
    SwitchOptions,
    SwitchResult,
    Verdict,
)
from dynamosd.parameters import ParameterKeeper
from dynamosd.pins import PAUSE_FACTOR, Pins, check, is_at, looked_after
from dynamosd.policy.advice import advice_id
from dynamosd.policy.definition import Mode, OnExit, SwitchMode
from dynamosd.policy.evaluate import PolicyState, Situation, adopt, carry_over, evaluate
from dynamosd.policy.rollout_json import guarded_to_json, rolling_to_json
from dynamosd.recording import Evaluated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dynamosd.advice import Advice, AdviceBook
    from dynamosd.bootguard import BootGuard
    from dynamosd.clock import Clock
    from dynamosd.journal import Journal
    from dynamosd.lease import LeaseKeeper
    from dynamosd.metrics import Tally
    from dynamosd.model import Decision, Guarded, KernelState, Signals, Subsystem
    from dynamosd.orders import Orders, Person, Pin
    from dynamosd.policy.definition import Policy
    from dynamosd.quarantines import Quarantines
    from dynamosd.recording import Recorder
    from dynamosd.switcher import Switcher


_VERDICTS = frozenset({Verdict.PASSED, Verdict.BREACHED})
"""What a guardrail finds that is worth a record."""

_FAULTS = frozenset({"oops", "warn"})
"""Why the tripwire puts an edition in quarantine; when a person did, that is by hand."""


@dataclass(slots=True)
class _Running:
    """A policy, where its rules stand, and when it is evaluated and may switch next.

    ``has_begun`` is False until its subsystem was seen.
    """

    policy: Policy
    state: PolicyState
    ticker: Ticker
    has_begun: bool
    decision: Decision | None = None
    trouble: str = ""
    pause_until: float = 0.0


class _Canary(NamedTuple):
    """A scoped switch of ours that is going on, and what the module shows of it."""

    part: Part
    shown: Standing


@dataclass(slots=True)
class Controller:
    """Holds the policies in force. ``say`` shows a line to the operator."""

    switcher: Switcher
    leases: LeaseKeeper
    journal: Journal
    tally: Tally
    clock: Clock
    say: Callable[[str], None]
    orders: Orders
    advice: AdviceBook
    quarantines: Quarantines
    recorder: Recorder | None = None
    guard: BootGuard | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """Those of the host."""
    last_switches: dict[str, dict[str, str]] = field(default_factory=dict)
    _running: dict[str, _Running] = field(default_factory=dict)
    _seen: dict[str, Standing] = field(default_factory=dict)
    _own: dict[str, str] = field(default_factory=dict)
    """By subsystem: the edition that a per-object switch of ours is taking the objects to."""
    _canaries: dict[str, _Canary] = field(default_factory=dict)
    pins: Pins = field(init=False)
    _parameters: ParameterKeeper = field(init=False)

    def __post_init__(self) -> None:
        """Look after the pins among the orders, and after what policies hold parameters at."""
        self.pins = Pins(self.orders, self.journal, self.say)
        self._parameters = ParameterKeeper(self.switcher.kmod, self.journal, self.say)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies in force."""
        return tuple(each.policy for each in self._running.values())

    @property
    def decisions(self) -> dict[str, Decision]:
        """The last decision of each policy that has made one, by its name."""
        return {name: each.decision for name, each in self._running.items() if each.decision}

    # ---------------------------------------------------------------------- which policies

    def put_in_force(self, policies: Iterable[Policy], kernel: KernelState) -> bool:
        """Replace all policies at once.

        Rules that have not changed keep their states; a new policy adopts what it finds. A
        subsystem that is no longer enforced goes back to its baseline, if its policy said so:
        False if one could not.
        """
        now, before = self.clock.now(), self._running
        self._running = {}
        for policy in policies:
            old = before.get(policy.name)
            if old and _meaning(old.policy) == _meaning(policy):
                # Read again it may stand elsewhere in its file.
                self._running[policy.name] = replace(old, policy=policy)
            else:
                self._running[policy.name] = _begin(policy, old, kernel, now)
        enforced = {each.subsystem for each in self.policies if each.mode is Mode.ENFORCE}
        released = [
            each.policy for each in before.values() if each.policy.subsystem not in enforced
        ]
        self.advice.keep(self.policies)
        return self._release(released, kernel, "its policy is no longer in force")

    def leave(self, kernel: KernelState) -> bool:
        """End all policies; False if a subsystem could not go back to its baseline."""
        policies, self._running = self.policies, {}
        return self._release(policies, kernel, "the daemon is leaving")

    def _release(self, policies: Iterable[Policy], kernel: KernelState, why: str) -> bool:
        done = True
        for policy in policies:
            if policy.mode is not Mode.ENFORCE:
                continue
            if self._leave_alone(policy, kernel, why):
                self.leases.release(policy.subsystem)
            else:
                self.leases.abandon(policy.subsystem)
                done = False
        return done

    def _leave_alone(self, policy: Policy, kernel: KernelState, why: str) -> bool:
        """Leave a subsystem as its policy wants it left; False if that could not be done."""
        subsystem = kernel.subsystems.get(policy.subsystem)
        if subsystem is None or policy.on_exit is not OnExit.BASELINE:
            return True
        if paused := self.orders.why_paused(policy):
            self.say(f"{subsystem.name} is left with {self._current(subsystem)}: {paused}")
            return True
        # Whoever holds the lease looks after it; we have not switched it either.
        at_home = self._current(subsystem) == policy.baseline and not self._has_begun(subsystem)
        if at_home or self.leases.is_taken(subsystem.name):
            return True
        result = self._attempt(policy, subsystem, policy.baseline, "exit")
        self._record(result, policy, "", f"{why} (onExit: baseline)")
        return result.result == "ok"

    # ------------------------------------------------------------------------- each tick

    def tick(self, kernel: KernelState, signals: Signals) -> None:
        """Evaluate every policy that is due, and carry out what it decides."""
        self._notice(kernel)
        now, wall = self.clock.now(), self.clock.wall()
        self._keep_leases(now)
        due = [each for each in self._running.values() if each.ticker.is_due(now)]
        evaluated = {
            each.policy.name: self._evaluate(each, kernel, signals, now, wall) for each in due
        }
        if self.recorder is not None:
            self.recorder.record(now, wall, signals, list(filter(None, evaluated.values())))
        for running in due:
            if made := evaluated[running.policy.name]:
                self._act(running, made, kernel)
        for pin in [*self.orders.pins.values()]:
            self._keep_pin(pin, kernel)

    def _keep_leases(self, now: float) -> None:
        """Have the module know what is to be done if we are lost.

        From `original`, where a subsystem is pinned, nothing is a reason to leave.
        """
        at_home = {
            each.subsystem
            for each in self.orders.pins.values()
            if each.edition == ORIGINAL and self._seen.get(each.subsystem) == Standing(ORIGINAL)
        }
        self.leases.want(self.policies, at_home)
        self.leases.keep(now)

    def _notice(self, kernel: KernelState) -> None:
        """Record switches that others have made since the last tick."""
        for subsystem in kernel.subsystems.values():
            found = _standing(subsystem)
            expected = self._seen.get(subsystem.name)
            if expected is None:
                self._adopt_partial(subsystem)
            elif expected != found and not self._completes(subsystem):
                self._record_others(subsystem, expected, found)
            if self._is_foreign(subsystem) or found.partial is None:
                self._own.pop(subsystem.name, None)
                self._canaries.pop(subsystem.name, None)
        self._seen = {each.name: _standing(each) for each in kernel.subsystems.values()}

    def _record_others(self, subsystem: Subsystem, expected: Standing, found: Standing) -> None:
        trigger, reason = self._who_switched(subsystem, expected, found)
        for each in _steps(subsystem, expected, found, self.clock.now()):
            scope = f", {each.scope}" if each.scope else ""
            if trigger == "manual":
                self._expose(subsystem.name, each.target, None)
            self._record(replace(each, trigger=trigger), None, "", f"{reason}{scope}")

    def _who_switched(
        self, subsystem: Subsystem, expected: Standing, found: Standing
    ) -> tuple[str, str]:
        """Tell the kernel module's own switches from those by hand, and say why it made them."""
        fault = _fault(subsystem, expected)
        if fault and found == Standing(ORIGINAL):
            return "tripwire", fault
        if found.partial is None and self.leases.is_over(subsystem.name):
            return "lease", "the lease was lost, and its grace is over"
        return "manual", "switched by someone else"

    def _adopt_partial(self, subsystem: Subsystem) -> None:
        """Take for ours what a daemon before us may have begun: a per-object switch, a canary."""
        for policy in self.policies:
            if policy.mode is not Mode.ENFORCE:
                continue
            if edition := _begun(policy, subsystem):
                self._own[subsystem.name] = edition
            elif part := _begun_part(policy, subsystem):
                self._canaries[subsystem.name] = _Canary(part, _standing(subsystem))
                self.say(f"going on with the canary of {subsystem.name}: {part.edition}")

    def _completes(self, subsystem: Subsystem) -> bool:
        """Tell whether a per-object switch of ours is over, and record it."""
        own = self._own.get(subsystem.name)
        if own is None or subsystem.partial is not None or subsystem.active != own:
            return False
        self.journal.record("completed", subsystem=subsystem.name, edition=own)
        self.journal.forget("completed")
        self.say(f"completed {subsystem.name}: {own}")
        return True

    def _is_foreign(self, subsystem: Subsystem) -> bool:
        """Tell whether someone else's scoped or per-object switch is going on."""
        if subsystem.partial is None or self._part(subsystem):
            return False
        own = self._own.get(subsystem.name) == subsystem.partial
        return not own or subsystem.mode != SwitchMode.PER_OBJECT

    def _part(self, subsystem: Subsystem) -> Part | None:
        """Give who has which calls by a canary of ours, if it is as we left it."""
        canary = self._canaries.get(subsystem.name)
        return canary.part if canary and canary.shown == _standing(subsystem) else None

    def _has_begun(self, subsystem: Subsystem) -> bool:
        """Tell whether a canary of ours goes on now; it may be newer than what ``subsystem`` is."""
        canary = self._canaries.get(subsystem.name)
        if canary is None:
            return False
        try:
            return canary.shown == self.switcher.kmod.read_standing(subsystem.name)
        except Unreachable:
            # Then the way back from it is to be tried.
            return True

    def _current(self, subsystem: Subsystem) -> str:
        """Give the edition that the subsystem has, or gets by a switch of ours."""
        return self._own.get(subsystem.name, subsystem.active)

    def _evaluate(
        self, running: _Running, kernel: KernelState, signals: Signals, now: float, wall: float
    ) -> Evaluated | None:
        """Let a policy decide; None when its subsystem is not there."""
        running.ticker.arrive(now)
        policy = running.policy
        subsystem = kernel.subsystems.get(policy.subsystem)
        if subsystem is None:
            self._trouble(running, f"subsystem {policy.subsystem} is not loaded")
            return None
        if not running.has_begun:
            running.state, running.has_begun = _first_state(policy, None, subsystem, now), True
        before = running.state
        situation = self._situation(policy, subsystem, now, wall)
        decision, running.state = evaluate(policy, signals, before, situation)
        running.decision = decision
        self.tally.add_evaluation(decision, wall)
        self._record_decision(decision, policy)
        self._note_guardrails(policy, decision, wall)
        self.advice.note(policy, decision, wall)
        return Evaluated(policy, situation, before, decision, running.state)

    def _situation(
        self, policy: Policy, subsystem: Subsystem, now: float, wall: float
    ) -> Situation:
        """Give what a policy finds beside signals."""
        return Situation(
            self._current(subsystem),
            now,
            wall,
            self._barred(subsystem, wall),
            self._in_the_way(policy, subsystem),
            self.orders.why_paused(policy),
            labels=self.labels,
            part=self._part(subsystem) if policy.mode is Mode.ENFORCE else None,
        )

    def _barred(self, subsystem: Subsystem, wall: float) -> dict[str, str]:
        """Give the editions that may not be used, and why; what the module found weighs more."""
        return self.quarantines.quarantined(subsystem.name, wall) | _quarantined(subsystem)

    def _note_guardrails(self, policy: Policy, decision: Decision, wall: float) -> None:
        """Tell of guardrails that have come to a verdict; quarantine what has broken one."""
        guarded = decision.guarded
        if guarded is not None:
            self._tell_of_verdicts(policy, guarded)
            if guarded.breach:
                self.tally.add_breach(policy.name, guarded.breach)
        if policy.mode is Mode.ENFORCE:
            self.quarantines.note(decision, wall)

    def _tell_of_verdicts(self, policy: Policy, guarded: Guarded) -> None:
        for name, found in guarded.findings.items():
            if found.verdict in _VERDICTS:
                self.journal.record(
                    "guardrail",
                    f"{policy.name}/{name}",
                    {"reason": found.reason, "values": dict(found.values)},
                    policy=policy.name,
                    subsystem=policy.subsystem,
                    guardrail=name,
                    edition=guarded.edition,
                    scope=guarded.scope,
                    verdict=str(found.verdict),
                )

    def _act(self, running: _Running, made: Evaluated, kernel: KernelState) -> None:
        """Carry a decision out, or say what keeps it from being carried out."""
        policy, decision = made.policy, made.decision
        subsystem = kernel.subsystems[policy.subsystem]
        enforces = policy.mode is Mode.ENFORCE
        if missing := self.leases.missing(subsystem.name) if enforces else "":
            self._trouble(running, f"{subsystem.name} is not enforced: {missing}")
            return
        wrong: Mapping[str, str] = {}
        if enforces and not made.situation.suspended:
            wrong = self._parameters.keep(policy, subsystem, made.situation.now)
        if not enforces or decision.action is not Action.SWITCH:
            trouble = _suppressed(policy, decision, made.situation)
            self._trouble(running, trouble or next(iter(wrong.values()), ""))
        elif made.situation.now >= running.pause_until:
            obstacle = _obstacle(subsystem, decision.target, enabled=kernel.enabled)
            obstacle = obstacle or wrong.get(decision.target, "")
            self._carry_out(running, subsystem, decision, obstacle)

    def _in_the_way(self, policy: Policy, subsystem: Subsystem) -> str:
        """Say what an enforcing policy has to wait for."""
        if policy.mode is not Mode.ENFORCE:
            return ""
        if missing := self.leases.missing(subsystem.name):
            return missing
        return self._foreign(subsystem)

    def _foreign(self, subsystem: Subsystem) -> str:
        """Say that someone else's scoped or per-object switch is going on; "" if none is."""
        if not self._is_foreign(subsystem):
            return ""
        return f"someone else's {subsystem.mode} switch to {subsystem.partial} is going on"

    def _carry_out(
        self, running: _Running, subsystem: Subsystem, decision: Decision, obstacle: str
    ) -> None:
        policy = running.policy
        if obstacle:
            # It would only fill the module's events with refusals, tick after tick.
            now = self.clock.now()
            result = _not_tried(subsystem, decision.target, "policy", obstacle, now)
        else:
            result = self._attempt(policy, subsystem, decision.target, "policy", decision.scope)
        if result.result == "ok":
            self._tell_of_canary(policy, decision)
        else:
            running.pause_until = result.time + PAUSE_FACTOR * result.duration_seconds
        self._record(result, policy, decision.rule, decision.reason)
        wanted = f"{subsystem.name} should be {decision.target}: {result.reason}"
        self._trouble(running, wanted if result.reason else "")

    def _attempt(
        self, policy: Policy, subsystem: Subsystem, target: str, trigger: str, scope: str = ""
    ) -> SwitchResult:
        mode = str(policy.switch_mode) if policy.switch_mode else None
        options = SwitchOptions(mode, policy.switch_timeout_seconds)
        if scope:
            options = SwitchOptions("scoped", scope=scope)
        return self._switch(policy, subsystem, target, trigger, options)

    def _switch(
        self,
        policy: Policy | None,
        subsystem: Subsystem,
        target: str,
        trigger: str,
        options: SwitchOptions,
    ) -> SwitchResult:
        self._expose(subsystem.name, target, policy)
        result = self.switcher.attempt(subsystem.name, target, trigger, options)
        if result.result != "ok" and self.guard is not None:
            self.guard.withdraw(subsystem.name, target)
        if result.result == "ok":
            self._own.pop(subsystem.name, None)
            self._canaries.pop(subsystem.name, None)
            self._seen[subsystem.name] = Standing(target)
        if result.partial and options.scope:
            shown = Standing(subsystem.active, target, result.mode, result.scope)
            self._canaries[subsystem.name] = _Canary(Part(target, options.scope), shown)
            self._seen[subsystem.name] = shown
        elif result.partial:
            self._own[subsystem.name] = target
            self._seen[subsystem.name] = Standing(subsystem.active, target, result.mode)
        return result

    def _expose(self, subsystem: str, target: str, policy: Policy | None) -> None:
        """Tell the boot-loop guard of a switch, before it is made if it is ours."""
        if self.guard is not None and target != (policy.baseline if policy else ORIGINAL):
            now, wall = self.clock.now(), self.clock.wall()
            name = policy.name if policy else ""
            self.guard.before(Suspect(subsystem, target, name, now, wall))

    # ---------------------------------------------------------------------------- pins

    def pin(self, pin: Pin) -> tuple[SwitchResult | None, str]:
        """Hold a subsystem at an edition from now on, and switch it there if it is elsewhere.

        Gives that switch, whatever came of it, and what keeps the order from being written.

        Raises:
            InvalidInput: there is no such subsystem or edition.
            Refused: a safety rule forbids it; nothing was done.
            Unreachable: the module is gone.
        """
        kernel = self.switcher.kmod.read()
        self._notice(kernel)
        subsystem = kernel.subsystems.get(pin.subsystem)
        check(pin, kernel, self._barred(subsystem, self.clock.wall()) if subsystem else {})
        trouble = self.pins.begin(pin)
        # Before the switch: if we are lost right after it, the module must not take it for home.
        self._keep_leases(self.clock.now())
        # One that is refused again is another one.
        self.journal.forget("switch", pin.subsystem)
        return self._keep_pin(pin, kernel), trouble

    def unpin(self, name: str, by: Person) -> tuple[bool, str]:
        """End a pin; False if there was none. Also what keeps that from being written.

        Raises:
            InvalidInput: there is no such subsystem.
            Unreachable: there is no such pin, and the module is gone.
        """
        if name in self.orders.pins:
            return True, self.pins.end(name, f"ended by {by}", by)
        subsystems = self.switcher.kmod.read().subsystems
        if name not in subsystems:
            raise no_subsystem(name, subsystems)
        return False, ""

    def _keep_pin(self, pin: Pin, kernel: KernelState) -> SwitchResult | None:
        """Switch a subsystem to where it is pinned, or away from there if it has become bad.

        Gives the switch that was tried. It ends whatever is partial, but what is on its way to the
        same edition.
        """
        now, subsystem = self.clock.now(), kernel.subsystems.get(pin.subsystem)
        if subsystem is None:
            self.pins.note(pin, f"subsystem {pin.subsystem} is not loaded", now)
            return None
        # Newer than what was read: a policy may have left an edition that is in quarantine.
        standing = self._seen[subsystem.name]
        barred = self._barred(subsystem, self.clock.wall()).get(pin.edition, "")
        target = ORIGINAL if barred else pin.edition
        if barred and pin.edition not in {standing.active, standing.partial}:
            self.pins.end(pin.subsystem, barred)
            return None
        if not barred and is_at(standing, pin.edition):
            self.pins.note(pin, "", now)
            return None
        if not self.pins.may_try(pin, now):
            return None
        result = self._switch_for_pin(subsystem, target, enabled=kernel.enabled)
        who = {} if barred else {"uid": pin.by.uid, "login": pin.by.login}
        self._record(result, None, "", barred or str(pin), who)
        if barred and result.result == "ok":
            self.pins.end(pin.subsystem, barred)
        else:
            self.pins.note(pin, result.reason, result.time, result.duration_seconds)
        return result

    def _switch_for_pin(self, subsystem: Subsystem, target: str, *, enabled: bool) -> SwitchResult:
        obstacle = _obstacle(subsystem, target, enabled=enabled)
        if target != ORIGINAL:
            obstacle = obstacle or looked_after(subsystem)
        if obstacle:
            return _not_tried(subsystem, target, "pin", obstacle, self.clock.now())
        return self._switch(None, subsystem, target, "pin", SwitchOptions())

    # -------------------------------------------------------------------------- advice

    def accept(self, advice: Advice, signals: Signals, by: Person) -> SwitchResult:
        """Make the switch that an advice is about, once.

        It is a person's switch: it takes no lease, and it stays when the daemon leaves.

        Raises:
            Refused: it does not hold any more, or a safety rule forbids it; nothing was done.
            Unreachable: the module is gone.
            DynamosError: it failed.
        """
        kernel = self.switcher.kmod.read()
        self._notice(kernel)
        running, subsystem = self._running[advice.policy], kernel.subsystems.get(advice.subsystem)
        if subsystem is None:
            raise Refused(f"subsystem {advice.subsystem} is not loaded")
        policy, now = running.policy, self.clock.now()
        situation = self._situation(policy, subsystem, now, self.clock.wall())
        # What it would decide now. Being asked does not move its rules on.
        decision, _ = evaluate(policy, signals, running.state, situation)
        if advice_id(policy, decision) != advice.id:
            raise Refused(f"advice {advice.id} does not hold any more: {decision.reason}")
        why = self._against(subsystem, advice.target, enabled=kernel.enabled)
        why = why or self._parameters.keep(policy, subsystem, now).get(advice.target, "")
        if why:
            raise Refused(f"{subsystem.name} stays as it is: {why}")
        # A switch that holds callers holds the loop too, and the leases of other subsystems.
        self.leases.expect_pause(policy.switch_timeout_seconds or 0.0, now)
        result = self._attempt(policy, subsystem, advice.target, "advice")
        self.journal.forget("switch", subsystem.name)
        told = {"advice": advice.id, "uid": by.uid, "login": by.login}
        self._record(result, policy, decision.rule, decision.reason, told)
        if result.result != "ok":
            kind = Refused if result.result == "refused" else DynamosError
            raise kind(f"cannot switch {advice.what}: {result.reason}")
        return result

    def _against(self, subsystem: Subsystem, target: str, *, enabled: bool) -> str:
        """Say what forbids a switch that no enforcing policy asks for; "" if nothing does."""
        for policy in self.policies:
            if policy.mode is Mode.ENFORCE and policy.subsystem == subsystem.name:
                return f"policy {policy.name} enforces it"
        if subsystem.lease is not None and subsystem.lease_holder != os.getpid():
            return f"another program looks after it (pid {subsystem.lease_holder})"
        return self._foreign(subsystem) or _obstacle(subsystem, target, enabled=enabled)

    # ------------------------------------------------------------------------ telling it

    def _tell_of_canary(self, policy: Policy, decision: Decision) -> None:
        """Record what has become of a canary; ``holds`` is nothing that happened."""
        rolling = decision.rolling
        if rolling is None or rolling.event is RolloutEvent.HOLDS:
            return
        self.tally.add_canary(policy.name, rolling)
        self.journal.forget("canary", policy.name)
        self.journal.record(
            "canary",
            policy.name,
            {"reason": decision.reason},
            policy=policy.name,
            subsystem=policy.subsystem,
            edition=rolling.edition,
            event=str(rolling.event),
            step=rolling.step,
            steps=rolling.steps,
            scope=rolling.scope,
        )

    def _trouble(self, running: _Running, text: str) -> None:
        """Tell what keeps a policy from having its way: once, and when it is over."""
        name = running.policy.name
        if text and text != running.trouble:
            self.say(f"policy {name}: {text}")
        elif running.trouble and not text:
            self.say(f"policy {name}: is well again")
        running.trouble = text
        if text:
            self.journal.record("trouble", name, policy=name, reason=text)
        else:
            self.journal.forget("trouble", name)

    def _record_decision(self, decision: Decision, policy: Policy) -> None:
        self.journal.record(
            "decision",
            decision.policy,
            {
                "current": decision.current,
                "reason": decision.reason,
                "values": dict(decision.values),
            },
            policy=decision.policy,
            mode=str(policy.mode),
            subsystem=decision.subsystem,
            action=str(decision.action),
            target=decision.target,
            rule=decision.rule,
            rules={rule: str(state) for rule, state in decision.rules.items()},
            phase=str(decision.phase),
            suppressed=_word(decision.suppressed),
        )

    def _record(
        self,
        result: SwitchResult,
        policy: Policy | None,
        rule: str,
        reason: str,
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Count, journal and show a switch; one that is refused again and again is folded."""
        wall = self.clock.wall()
        self.tally.add_switch(result, wall)
        ok = result.result == "ok"
        if ok:
            self.journal.forget("switch", result.subsystem)
        self.journal.record(
            "switch",
            result.subsystem,
            {
                "reason": reason,
                "mode": result.mode,
                "partial": result.partial,
                "scope": result.scope,
                "duration_seconds": round(result.duration_seconds, 6),
                **more,
            },
            subsystem=result.subsystem,
            **{"from": result.origin, "to": result.target},
            trigger=result.trigger,
            result=result.result,
            policy=policy.name if policy else "",
            rule=rule,
            error=result.reason,
        )
        arrow = f"{result.subsystem}: {result.origin} -> {result.target}"
        arrow += " in part" if result.partial else ""
        who = f"policy {policy.name}" if policy else result.trigger
        if ok:
            self.last_switches[result.subsystem] = {
                "time": rfc3339(wall),
                "from": result.origin,
                "to": result.target,
                "trigger": result.trigger,
                "reason": reason,
            }
            self.say(f"switched {arrow} ({who}: {reason})")
        elif result.trigger == "exit":
            self.say(f"could not switch {arrow}: {result.reason}")

    def status(self) -> list[dict[str, Any]]:
        """Give what ``dynamosctl status`` shows of the policies."""
        return [
            _status(each)
            | {
                "paused": self.orders.why_paused(each.policy) or None,
                "advice": self.advice.given(each.policy.name),
            }
            for each in self._running.values()
        ]


def _begin(policy: Policy, old: _Running | None, kernel: KernelState, now: float) -> _Running:
    """Give a policy as it begins; ``old`` is the policy of that name until now."""
    ticker = Ticker(policy.interval_seconds, now)
    subsystem = kernel.subsystems.get(policy.subsystem)
    if subsystem is None:
        return _Running(policy, PolicyState(), ticker, has_begun=False)
    state = _first_state(policy, old if old and old.has_begun else None, subsystem, now)
    return _Running(policy, state, ticker, has_begun=True)


def _first_state(
    policy: Policy, old: _Running | None, subsystem: Subsystem, now: float
) -> PolicyState:
    part = _begun_part(policy, subsystem)
    current = _begun(policy, subsystem) or (part.edition if part else subsystem.active)
    if old is None:
        return adopt(policy, current, now)
    return carry_over(old.policy, old.state, policy, current, now)


def _begun(policy: Policy, subsystem: Subsystem) -> str | None:
    """Give the edition of a per-object switch that is going on, if the policy may have begun it."""
    ours = policy.subsystem == subsystem.name and subsystem.partial in policy.editions
    return subsystem.partial if ours and subsystem.mode == SwitchMode.PER_OBJECT else None


def _begun_part(policy: Policy, subsystem: Subsystem) -> Part | None:
    """Give who has which calls by a canary that is going on, if the policy may have begun it."""
    scopes = [each.scope for each in policy.canary.steps] if policy.canary else []
    ours = policy.subsystem == subsystem.name and subsystem.partial in policy.editions
    if not ours or subsystem.partial is None or subsystem.mode != "scoped":
        return None
    if subsystem.active != policy.baseline or subsystem.scope not in scopes:
        return None
    return Part(subsystem.partial, subsystem.scope)


def _standing(subsystem: Subsystem) -> Standing:
    """Give what tells one switch from the next; how the last one was done only while it goes on."""
    if subsystem.partial is None:
        return Standing(subsystem.active)
    return Standing(subsystem.active, subsystem.partial, subsystem.mode, subsystem.scope)


def _steps(
    subsystem: Subsystem, expected: Standing, found: Standing, now: float
) -> Iterator[SwitchResult]:
    """Give the switches that lead from what was expected to what was found."""

    def step(origin: str, target: str, mode: str) -> SwitchResult:
        return SwitchResult(now, subsystem.name, origin, target, mode, "manual", "ok", "", 0.0)

    if expected.active != found.active:
        # How that was done is not known any more when another has begun since.
        yield step(expected.active, found.active, "" if found.partial else subsystem.mode)
    elif expected.partial and found.partial is None:
        yield step(expected.partial, found.active, subsystem.mode)
    known = (expected.partial, expected.mode, expected.scope)
    if found.partial and known != (found.partial, found.mode, found.scope):
        begun = step(found.active, found.partial, found.mode)
        yield replace(begun, partial=True, scope=found.scope)


def _fault(subsystem: Subsystem, expected: Standing) -> str:
    """Say which of the editions that were in use has faulted; "" when none has."""
    for name in (expected.partial, expected.active):
        edition = subsystem.editions.get(name or "")
        if edition and edition.quarantine in _FAULTS:
            return quarantined(edition.name, edition.quarantine)
    return ""


def _obstacle(subsystem: Subsystem, target: str, *, enabled: bool) -> str:
    """Say what is seen to be in the way of a switch, without asking the module."""
    edition = subsystem.editions.get(target)
    if edition is None:
        return f"edition {target} is not loaded"
    if edition.quarantine:
        return quarantined(target, edition.quarantine)
    return "" if enabled or target == ORIGINAL else SWITCHED_OFF


def _quarantined(subsystem: Subsystem) -> dict[str, str]:
    """Give the editions that may not be used, and why."""
    return {
        each.name: quarantined(each.name, each.quarantine)
        for each in subsystem.editions.values()
        if each.quarantine
    }


def _suppressed(policy: Policy, decision: Decision, situation: Situation) -> str:
    """Say what keeps an enforcing policy from having its way, if a person should know."""
    if policy.mode is not Mode.ENFORCE:
        return ""
    if decision.phase is PolicyPhase.FROZEN:
        # The same words as long as it lasts: trouble is told once.
        return f"{policy.subsystem} stays as it is: frozen after too many switches"
    target, why = decision.target, ""
    if decision.suppressed is Suppression.PAUSED:
        why = situation.paused or situation.suspended
    elif decision.suppressed is Suppression.QUARANTINED:
        for rule in policy.rules:
            if decision.rules[rule.name] is RuleState.QUARANTINED:
                target = rule.edition
                break
        # One that began just now was not there when the policy was evaluated.
        why = situation.quarantined.get(target, "")
    return f"{policy.subsystem} should be {target}: {why}" if why else ""


def _word(suppressed: Suppression | None) -> str | None:
    return None if suppressed is None else str(suppressed)


def _not_tried(
    subsystem: Subsystem, target: str, trigger: str, obstacle: str, now: float
) -> SwitchResult:
    return SwitchResult(
        now,
        subsystem.name,
        subsystem.active,
        target,
        subsystem.mode,
        trigger,
        "refused",
        obstacle,
        0.0,
    )


def _meaning(policy: Policy) -> Policy:
    """Give all of a policy that its behaviour depends on: not where it stands in its file."""
    return replace(policy, file="", labels={}, annotations={}, remarks=())


def _status(running: _Running) -> dict[str, Any]:
    policy, decision = running.policy, running.decision
    status: dict[str, Any] = {
        "name": policy.name,
        "file": policy.file,
        "subsystem": policy.subsystem,
        "mode": str(policy.mode),
        "switch": {"mode": policy.switch_mode, "timeout_seconds": policy.switch_timeout_seconds},
        "trouble": running.trouble,
    }
    if decision:
        status |= {
            "action": str(decision.action),
            "current": decision.current,
            "target": decision.target,
            "rule": decision.rule,
            "rules": {rule: str(state) for rule, state in decision.rules.items()},
            "reason": decision.reason,
            "values": dict(decision.values),
            "phase": str(decision.phase),
            "suppressed": _word(decision.suppressed),
            "readings": dict(decision.readings),
            "definition": _definition(running, decision),
            "learned": asdict(decision.learned) if decision.learned else None,
            "guarded": guarded_to_json(decision.guarded) if decision.guarded else None,
            "scope": decision.scope,
            "rolling": rolling_to_json(decision.rolling) if decision.rolling else None,
        }
    return status


def _definition(running: _Running, decision: Decision) -> dict[str, Any]:
    """Give what the policy says, and for how long each rule has been as it is."""
    policy = running.policy
    return {
        "baseline": policy.baseline,
        "interval_seconds": policy.interval_seconds,
        "limits": {
            "cooldown_seconds": policy.limits.cooldown_seconds,
            "max_switches": policy.limits.max_switches,
            "per_seconds": policy.limits.per_seconds,
            "on_flap": str(policy.limits.on_flap),
        },
        "rules": [
            {
                "name": rule.name,
                "edition": rule.edition,
                "state": str(decision.rules[rule.name]),
                "held_seconds": decision.time - running.state.rules[rule.name].since,
                "when": rule.when.text,
                "until": rule.until.text if rule.until else None,
                "for_seconds": rule.for_seconds,
                "keep_for_seconds": rule.keep_for_seconds,
                "on_no_data": str(rule.on_no_data),
                "samples": {"need": rule.samples.need, "of": rule.samples.of},
                "hours": len(rule.hours),
            }
            for rule in policy.rules
        ],
        "guardrails": [
            {
                "name": each.name,
                "window_seconds": each.window_seconds,
                "confidence": each.confidence,
                "staleness_seconds": each.staleness_seconds,
                "quarantine_seconds": each.quarantine_seconds,
            }
            for each in policy.guardrails
        ],
        "canary": asdict(policy.canary) if policy.canary else None,
    }
