# SPDX-License-Identifier: GPL-2.0-or-later
"""What is about all of it: the module, the switch for all of it, the daemon and its policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dynamosd import status
from dynamosd.kmod import ENABLE_HINT, LOAD_HINT, SWITCHED_OFF
from dynamosd.model import ORIGINAL
from dynamosd.policy.durations import format_duration
from dynamosd.verify.view import Finding, Verdict, View

MAX_AHEAD_SECONDS = 5.0


def _module(view: View) -> Iterator[Finding]:
    if view.kernel is None:
        yield Finding("", "module", Verdict.DIFFERS, "not loaded; the daemon waits", LOAD_HINT)
        return
    version, known = view.kernel.version, (view.daemon or {}).get("module", view.kernel.version)
    if known != version:
        seen = f"version {version} is loaded; the daemon knows of {known or 'none'}"
        remedy = "it looks each second; if this stays: dynamosctl history --kind module_gone"
        yield Finding("", "module", Verdict.DIFFERS, seen, remedy)
        return
    yield Finding("", "module", Verdict.OK, f"version {version} is loaded")


def _enabled(view: View) -> Iterator[Finding]:
    if view.kernel is None:
        return
    if view.kernel.enabled:
        yield Finding("", "enable", Verdict.OK, "switched on")
        return
    others = [each.name for each in view.kernel.subsystems.values() if each.active != ORIGINAL]
    if others:
        seen = f"{SWITCHED_OFF}, but not at original: {', '.join(others)}"
        yield Finding("", "enable", Verdict.DIFFERS, seen, "see dmesg")
    elif names := ", ".join(each["name"] for each in view.enforcing()):
        seen = f"{SWITCHED_OFF}; policies that enforce wait: {names}"
        yield Finding("", "enable", Verdict.DIFFERS, seen, ENABLE_HINT)
    else:
        yield Finding("", "enable", Verdict.OK, f"{SWITCHED_OFF}; all is at original")


def _daemon(view: View) -> Iterator[Finding]:
    daemon = view.daemon
    if daemon is None:
        seen = "none is running: what is wanted is not known"
        yield Finding("", "daemon", Verdict.UNKNOWN, seen, status.START_HINT)
        return
    pid = daemon["pid"]
    if view.process in {"T", "t"}:
        seen = f"pid {pid} is stopped: it evaluates nothing and renews no lease"
        yield Finding("", "daemon", Verdict.DIFFERS, seen, f"let it go on: kill -CONT {pid}")
        return
    age = status.age(daemon, view.now)
    if age is None:
        yield Finding("", "daemon", Verdict.UNKNOWN, f"pid {pid} does not say since when")
    elif age < -MAX_AHEAD_SECONDS:
        seen = f"the status of pid {pid} is of the future: the clock was set back"
        remedy = "it is right again as soon as the daemon is well: look once more"
        yield Finding("", "daemon", Verdict.UNKNOWN, seen, remedy)
    elif age > status.patience(daemon):
        seen = (
            f"the status of pid {pid} is {format_duration(round(age))} old: it hangs, or attaches"
        )
        seen += " its probes"
        remedy = "look at its log; if it hangs, restart it: the leases see to the kernel"
        yield Finding("", "daemon", Verdict.DIFFERS, seen, remedy)
    else:
        seen = f"pid {pid} is well, its status {format_duration(max(0.0, round(age, 1)))} old"
        yield Finding("", "daemon", Verdict.OK, seen)


def _files(view: View) -> Iterator[Finding]:
    daemon = view.daemon
    if daemon is None:
        return
    if not daemon.get("last_reload_successful", True):
        first = (str(daemon.get("reload_error") or "").splitlines() or ["they are not good"])[0]
        seen = f"the files are not what is in force: {first}"
        remedy = "mend them (dynamosctl check), then: dynamosctl reload"
        yield Finding("", "policies", Verdict.DIFFERS, seen, remedy)
    else:
        names = ", ".join(each["name"] for each in view.policies()) or "none"
        yield Finding("", "policies", Verdict.OK, f"in force as they were read last: {names}")
    step = (daemon.get("probe_budget") or {}).get("step", "full")
    if step != "full":
        seen = f"{step}: they took more CPU than probes.budget lets them"
        remedy = "signals that need what is left off have no data: dynamosctl history --kind budget"
        yield Finding("", "probes", Verdict.DIFFERS, seen, remedy)
    elif not daemon.get("probes_attached", True):
        seen = "lost: signals that need them have no data"
        remedy = "it tries again each minute; why: dynamosctl history --kind probe_lost"
        yield Finding("", "probes", Verdict.DIFFERS, seen, remedy)


CHECKS: tuple[Callable[[View], Iterator[Finding]], ...] = (_module, _enabled, _daemon, _files)
