# SPDX-License-Identifier: GPL-2.0-or-later
"""What is about one subsystem: its editions, their counts, and its lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dynamosd.kmod import ENABLE_HINT, SWITCHED_OFF, quarantined
from dynamosd.model import HELD, LOST, ORIGINAL, Edition, Subsystem
from dynamosd.phrases import pinned
from dynamosd.policy.durations import format_duration
from dynamosd.status import START_HINT
from dynamosd.verify.gates import gates
from dynamosd.verify.view import Finding, Status, Verdict, View

_NESTED = 8
"""One thread may be in several functions of a subsystem, and an interrupt on top of it."""


def _edition(view: View, subsystem: Subsystem) -> Iterator[Finding]:
    """Compare what calls get with what a pin, or the policy that enforces, wants them to get."""
    name, standing = subsystem.name, _standing(subsystem)
    policies = view.enforcing(name)
    if view.daemon is None:
        seen = f"{standing}; what is wanted is not known"
        yield Finding(name, "edition", Verdict.UNKNOWN, seen, START_HINT)
        return
    if pin := view.pin(name):
        yield _pinned(subsystem, pin)
        return
    if not policies:
        yield Finding(name, "edition", Verdict.OK, f"{standing}; no policy enforces it")
        return
    (policy, *_) = policies
    target, paused = policy.get("target"), policy.get("paused")
    if target is None:
        why = policy.get("trouble") or "it has not been evaluated yet"
        seen = f"{standing}; policy {policy['name']}: {why}"
        yield Finding(name, "edition", Verdict.UNKNOWN, seen, "look once more in a while")
    elif _has(subsystem, target):
        seen = f"{standing}, as policy {policy['name']} wants" + (f"; {paused}" if paused else "")
        yield Finding(name, "edition", Verdict.OK, seen)
    elif canary := _canary(subsystem, policy):
        yield Finding(name, "edition", Verdict.OK, f"{standing}: {canary}")
    else:
        why, remedy = _why_not(view, subsystem, policy)
        seen = f"{standing}; policy {policy['name']} wants {target}"
        yield Finding(name, "edition", Verdict.DIFFERS, f"{seen}: {why}" if why else seen, remedy)


def _pinned(subsystem: Subsystem, pin: Status) -> Finding:
    """Compare what calls get with where a person holds the subsystem, whatever policies want."""
    name, standing = subsystem.name, _standing(subsystem)
    who = pinned(pin["uid"], pin["login"], pin["until"], pin["reason"])
    if _has(subsystem, pin["edition"]):
        return Finding(name, "edition", Verdict.OK, f"{standing}, {who}")
    why = pin["trouble"] or "the daemon has not seen it yet"
    remedy = f"if that is no longer meant: dynamosctl unpin {name}"
    seen = f"{standing}; {pin['edition']} is {who}: {why}"
    return Finding(name, "edition", Verdict.DIFFERS, seen, remedy)


def _standing(subsystem: Subsystem) -> str:
    if subsystem.partial is None:
        return f"{subsystem.active} is active"
    scope = f", {subsystem.scope}" if subsystem.scope else ""
    part = f"{subsystem.partial} gets a part of the calls ({subsystem.mode}{scope})"
    return f"{subsystem.active} is active, and {part}"


def _has(subsystem: Subsystem, target: str) -> bool:
    """Tell whether new calls get an edition, or are getting it object by object."""
    if subsystem.partial is None:
        return subsystem.active == target
    return subsystem.partial == target and subsystem.mode == "per-object"


def _canary(subsystem: Subsystem, policy: Status) -> str:
    """Say which step of a policy's canary it is that a subsystem is in; "" if it is none."""
    rolling = policy.get("rolling")
    if not rolling or not rolling["step"] or subsystem.mode != "scoped":
        return ""
    if (subsystem.partial, subsystem.scope) != (rolling["edition"], rolling["scope"]):
        return ""
    return f"step {rolling['step']} of {rolling['steps']} of policy {policy['name']}'s canary"


def _why_not(view: View, subsystem: Subsystem, policy: Status) -> tuple[str, str]:
    """Say why calls do not get what a policy wants, as far as that is known, and what to do."""
    name, target = subsystem.name, policy["target"]
    edition = subsystem.editions.get(target)
    if edition is None:
        return f"{target} is not loaded", f"load it: dynamosctl edition load {name}/{target}"
    if edition.quarantine:
        return quarantined(target, edition.quarantine), _clear(subsystem, edition)
    if view.kernel and not view.kernel.enabled and target != ORIGINAL:
        return SWITCHED_OFF, ENABLE_HINT
    return _held_up(subsystem, policy)


def _held_up(subsystem: Subsystem, policy: Status) -> tuple[str, str]:
    """Say what a policy is waiting for that could have its way."""
    name, trouble = subsystem.name, policy.get("trouble")
    if policy.get("paused"):
        return policy["paused"], "if that is no longer meant: dynamosctl resume"
    if subsystem.partial is not None:
        why = trouble or f"a {subsystem.mode} switch by hand goes before policies"
        return why, f"end it, if it is not meant: dynamosctl switch {name} {subsystem.active}"
    if policy.get("suppressed"):
        why = f"{policy['suppressed']}; {policy.get('reason') or 'no reason is given'}"
        return why, f"wait, or look what it needs: dynamosctl explain {policy['name']}"
    every = (policy.get("definition") or {}).get("interval_seconds", 0.0)
    looks = f"it looks every {format_duration(every)}" if every else "it looks soon"
    why = trouble or "somebody has switched since it looked"
    return why, f"{looks}; who it was: dynamosctl history --subsystem {name}"


def _clear(subsystem: Subsystem, edition: Edition) -> str:
    clear = f"dynamosctl edition clear {subsystem.name} {edition.name}"
    return f"look at dmesg; if it is good again: {clear}"


def _loaded(view: View, subsystem: Subsystem) -> Iterator[Finding]:
    """Look whether the editions that policies name are there, and every edition's module is."""
    name, there = subsystem.name, True
    for policy in view.policies(subsystem.name):
        for missing in sorted(_named(policy) - subsystem.editions.keys()):
            there = False
            seen = f"{missing} is not loaded; policy {policy['name']} may want it"
            remedy = f"load it: dynamosctl edition load {name}/{missing}"
            yield Finding(name, "editions", Verdict.DIFFERS, seen, remedy)
    for edition in subsystem.editions.values():
        if edition.module not in view.modules:
            there = False
            seen = f"{edition.name} is of module {edition.module}, which is not loaded"
            remedy = "this must not be: look at dmesg, and reboot before you trust this kernel"
            yield Finding(name, "editions", Verdict.DIFFERS, seen, remedy)
    if there:
        names = ", ".join(subsystem.editions)
        yield Finding(name, "editions", Verdict.OK, f"loaded, with their modules: {names}")


def _named(policy: Status) -> set[str]:
    """Give the editions that a policy may want."""
    definition = policy.get("definition") or {}
    named = {rule["edition"] for rule in definition.get("rules", ())}
    named |= (policy.get("learned") or {}).get("editions", {}).keys()
    return named | ({definition["baseline"]} if "baseline" in definition else set())


def _quarantine(view: View, subsystem: Subsystem) -> Iterator[Finding]:
    name = subsystem.name
    for edition in subsystem.editions.values():
        if not edition.quarantine:
            continue
        seen = quarantined(edition.name, edition.quarantine)
        remedy = _clear(subsystem, edition)
        wanted = [each["name"] for each in view.policies(name) if edition.name in _named(each)]
        if edition.name in {subsystem.active, subsystem.partial}:
            seen += ", and calls still get it"
            remedy = f"dynamosctl switch {name} {ORIGINAL}"
        elif wanted:
            seen += f"; policy {', '.join(wanted)} may not use it"
        else:
            yield Finding(name, "quarantine", Verdict.OK, f"{seen}; no policy names it")
            continue
        yield Finding(name, "quarantine", Verdict.DIFFERS, seen, remedy)


def _counts(view: View, subsystem: Subsystem) -> Iterator[Finding]:
    """Look whether the counts of calls in flight can be true at all."""
    most, name = _NESTED * view.threads, subsystem.name
    wrong = [
        f"{function.name} in {edition}: {counts.in_flight} of {counts.calls} calls"
        for function in subsystem.functions.values()
        for edition, counts in function.counts.items()
        if not 0 <= counts.in_flight <= counts.calls or (most and counts.in_flight > most)
    ]
    if wrong:
        seen = f"cannot be true: {'; '.join(wrong)}"
        remedy = "who is inside: dynamosctl edition who; a switch would wait for nobody"
        yield Finding(name, "in flight", Verdict.DIFFERS, seen, remedy)
        return
    yield Finding(name, "in flight", Verdict.OK, f"{subsystem.in_flight}, which can be true")


def _lease(view: View, subsystem: Subsystem) -> Iterator[Finding]:
    """Look whether the daemon would be missed."""
    name, lease = subsystem.name, view.leases.get(subsystem.name)
    if lease is None:
        return
    enforced, pid = bool(view.enforcing(name)), (view.daemon or {}).get("pid")
    holder = f"pid {lease.holder}"
    if command := view.names.get(lease.holder):
        holder += f" ({command})"
    if not lease.known:
        if enforced:
            seen = "the module does not know leases: nobody misses the daemon"
            yield Finding(name, "lease", Verdict.UNKNOWN, seen, "take a newer module")
    elif enforced and lease.state == HELD and lease.holder == pid:
        yield Finding(name, "lease", Verdict.OK, f"held by the daemon, {holder}")
    elif lease.state == LOST:
        seen = f"lost by {holder}; when its grace is over, the module does what it asked for"
        remedy = "start the daemon again, or let it go on: it takes the lease over"
        yield Finding(name, "lease", Verdict.DIFFERS, seen, remedy)
    elif enforced and lease.state == HELD:
        seen = f"held by {holder}, which is not the daemon: it does not enforce {name}"
        remedy = "end that program, or leave the subsystem to it"
        yield Finding(name, "lease", Verdict.DIFFERS, seen, remedy)
    elif enforced:
        seen = "none, and a policy enforces it: if the daemon is killed, nothing is done"
        remedy = "it asks again every few seconds; why: dynamosctl history --kind lease trouble"
        yield Finding(name, "lease", Verdict.DIFFERS, seen, remedy)
    else:
        seen = f"held by {holder}" if lease.state == HELD else "none, and none is needed"
        yield Finding(name, "lease", Verdict.OK, seen)


CHECKS: tuple[Callable[[View, Subsystem], Iterator[Finding]], ...] = (
    _edition,
    _loaded,
    _quarantine,
    gates,
    _counts,
    _lease,
)
