# SPDX-License-Identifier: GPL-2.0-or-later
"""``status``, ``list``, ``switch`` and ``version``: what the module says, and what it is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dynamosd import __version__, status
from dynamosd.api.documents import subsystem_json
from dynamosd.cli.arguments import switch_options
from dynamosd.cli.output import (
    lasting,
    pin_of,
    policies_of,
    print_json,
    print_note,
    print_table,
    tell_if_long,
    text_of,
    warn,
    warn_if_silent,
)
from dynamosd.cli.subsystem import (
    FUNCTION_HEAD,
    describe_pin,
    function_rows,
    lease_of,
    notes,
    pin_notes,
    quarantine_notes,
    safety_notes,
    status_json,
)
from dynamosd.errors import Refused, Unreachable
from dynamosd.kmod import ENABLE_HINT, SWITCHED_OFF
from dynamosd.model import ORIGINAL
from dynamosd.switcher import Switcher

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from dynamosd.kmod import Kmod
    from dynamosd.model import KernelState, Subsystem, SwitchResult


_ORDINARY = frozenset({"active", "inactive"})
"""The phases of a policy that are not worth a line."""


# ------------------------------------------------------------------------------------ status


def show_status(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show each subsystem: what is active, and which policy wants it so."""
    kernel = kmod.read()
    daemon = status.read(args.runtime_dir)
    warn_if_silent(daemon)
    subsystems = list(kernel.subsystems.values())
    if args.output == "json":
        print_json(
            "Status",
            module=_module_json(kernel),
            daemon=daemon and {key: daemon.get(key) for key in ("pid", "version", "started")},
            subsystems=[status_json(each, daemon) for each in subsystems],
        )
        return 0
    _print_head(kernel, daemon)
    if not subsystems:
        print_note(
            "no subsystem is loaded; for instance: dynamosctl edition load readahead/random",
            indent="",
        )
        return 0
    for subsystem in subsystems:
        _print_status(subsystem, daemon)
    return 0


def _cost(budget: Mapping[str, Any]) -> str:
    """Say what the probes cost, and what is left off for that."""
    limit, share = f"{100.0 * budget['limit']:.3g}%", budget["share"]
    spent = "cost not known" if share is None else f"{100.0 * share:.2g}% of CPU"
    left = {"untimed": "; no calls are timed", "detached": "; detached"}.get(budget["step"], "")
    return f"{spent}, budget {limit}{left}"


def _distrust(daemon: Mapping[str, Any]) -> str:
    """Name the functions whose signals no rule moves on, for probes and module disagree."""
    found = {each["function"] for each in daemon.get("signals", ()) if not each["trusted"]}
    return f"; not trusted now: {', '.join(sorted(found))}" if found else ""


def _print_head(kernel: KernelState, daemon: Mapping[str, Any] | None) -> None:
    running = f"pid {daemon['pid']}, since {daemon.get('started')}" if daemon else "not running"
    print(f"module {kernel.version}; daemon {running}")
    if daemon and (budget := daemon.get("probe_budget")):
        print(f"probes: {_cost(budget)}{_distrust(daemon)}")
    if not kernel.enabled:
        print_note(f"{SWITCHED_OFF}; {ENABLE_HINT}", indent="")
    print()


def _module_json(kernel: KernelState) -> dict[str, object]:
    return {
        "version": kernel.version,
        "enabled": kernel.enabled,
        "tripwire": kernel.tripwire or None,
    }


def _print_status(subsystem: Subsystem, daemon: Mapping[str, Any] | None) -> None:
    policies = policies_of(daemon, subsystem.name) or [{}]
    head = ("SUBSYSTEM", "ACTIVE", "MODE", "SWITCHES", "IN FLIGHT", "POLICY", "RULE")
    rows = [
        (
            subsystem.name,
            subsystem.active,
            subsystem.mode,
            str(subsystem.switches),
            str(subsystem.in_flight),
            f"{policy['name']} ({policy.get('mode')})" if policy else "-",
            text_of(policy.get("rule")),
        )
        for policy in policies
    ]
    print_table(head, rows, right="SWITCHES,IN FLIGHT")
    for note in notes(subsystem):
        print_note(note)
    pinned = pin_notes(daemon, subsystem.name)
    for note in [*pinned, *quarantine_notes(daemon, subsystem.name)]:
        print_note(note)
    for note in _since(subsystem, daemon):
        print_note(note)
    for policy in policies:
        if policy.get("reason"):
            print_note(f"{policy['name']}: {policy['reason']}")
        if policy.get("phase") not in {None, *_ORDINARY}:
            print_note(f"{policy['name']} is {policy['phase']}: dynamosctl explain")
        if policy.get("paused") and not pinned:
            print_note(policy["paused"])
        if policy.get("advice"):
            print_note(f"advice {policy['advice']}: dynamosctl advice list")
        if policy.get("trouble"):
            print_note(f"{policy['name']}: {policy['trouble']}")


def _since(subsystem: Subsystem, daemon: Mapping[str, Any] | None) -> list[str]:
    """Say since when the daemon has seen it stand so."""
    last = (daemon or {}).get("last_switches", {}).get(subsystem.name)
    if not last:
        return []
    if last["to"] not in {subsystem.active, subsystem.partial}:
        return [f"the daemon has last seen it go to {last['to']}, at {last['time']}"]
    what = "partial" if last["to"] == subsystem.partial else "active"
    return [f"{what} since {last['time']} ({last['trigger']}){lasting(last['time'])}"]


# -------------------------------------------------------------------------------------- list


def show_list(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show subsystems, functions and editions with their exact counters."""
    kernel = kmod.read()
    subsystems = kernel.subsystems.values()
    if args.output == "json":
        print_json("SubsystemList", subsystems=[subsystem_json(each) for each in subsystems])
        return 0
    rows = [(each.name, *row) for each in subsystems for row in function_rows(each)]
    head = ("SUBSYSTEM", *FUNCTION_HEAD)
    print_table(head, rows, right="CALLS,IN FLIGHT")
    for subsystem in subsystems:
        lease = lease_of(subsystem)
        for note in [*([lease] if lease else []), *safety_notes(subsystem)]:
            print_note(f"{subsystem.name}: {note}")
    return 0


# ------------------------------------------------------------------------------------ switch


def switch(args: argparse.Namespace, kmod: Kmod) -> int:
    """Switch a subsystem, and confirm by reading back."""
    options = switch_options(args)
    daemon = status.read(args.runtime_dir)
    _refuse_pinned(args, daemon)
    policies = status.enforcing(daemon, args.subsystem)
    switcher = Switcher(kmod, time.monotonic)
    with tell_if_long("still switching: callers may be held meanwhile; Ctrl-C gives it up"):
        result = switcher.switch(args.subsystem, args.edition, "manual", options)
    if args.output == "json":
        print_json(
            "SwitchResult",
            subsystem=result.subsystem,
            origin=result.origin,
            target=result.target,
            mode=result.mode,
            partial=result.partial,
            scope=result.scope,
            changed=result.changed,
            duration_seconds=result.duration_seconds,
        )
    else:
        print(_describe(result))
    what = "waits until this is over" if result.partial else "may switch it again"
    for policy in policies:
        warn(f"warning: policy {policy} enforces {args.subsystem} and {what}")
    if policies and not result.partial:
        warn(f"to hold it there: dynamosctl pin {args.subsystem} {args.edition}")
    return 0


def _refuse_pinned(args: argparse.Namespace, daemon: Mapping[str, Any] | None) -> None:
    """Refuse what the daemon would undo at once.

    Raises:
        Refused: the subsystem is pinned to another edition.
    """
    name, pin = args.subsystem, pin_of(daemon, args.subsystem)
    if pin is None or (pin["edition"] == args.edition and args.scope is None):
        return
    hint = f"dynamosctl unpin {name}, or hold it elsewhere: dynamosctl pin {name} EDITION"
    if args.edition == ORIGINAL:
        hint = f"dynamosctl unpin {name}, or hold it there: dynamosctl rollback {name}"
    raise Refused(f"{name} is held: {describe_pin(pin)}", hint=hint)


def _describe(result: SwitchResult) -> str:
    """Say what a switch has changed."""
    scope = f", {result.scope}" if result.scope else ""
    if not result.changed:
        how = f"partial already ({result.mode}{scope})" if result.partial else "active already"
        return f"{result.subsystem}: {result.target} is {how}"
    arrow = f"{result.subsystem}: {result.origin} -> {result.target}"
    return f"{arrow} in part ({result.mode}{scope})" if result.partial else arrow


# ----------------------------------------------------------------------------------- version


def show_version(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show the versions of the program and of the module, if that is loaded."""
    try:
        module = kmod.read().version
    except Unreachable:
        module = None
    if args.output == "json":
        print_json("Version", dynamosctl=__version__, module=module)
    else:
        print(f"dynamosctl {__version__}\nmodule     {module or 'not loaded'}")
    return 0
