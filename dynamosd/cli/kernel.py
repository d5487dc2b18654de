# SPDX-License-Identifier: GPL-2.0-or-later
"""``status``, ``list``, ``switch`` and ``version``: what the module says, and what it is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dynamosd import __version__, status
from dynamosd.cli.arguments import switch_options
from dynamosd.cli.output import (
    lease_of,
    policies_of,
    print_json,
    print_note,
    print_table,
    quarantines_of,
    safety_of,
    text_of,
    warn,
)
from dynamosd.errors import Unreachable
from dynamosd.kmod import ENABLE_HINT, SWITCHED_OFF
from dynamosd.switcher import Switcher

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from dynamosd.kmod import Kmod
    from dynamosd.model import Function, KernelState, Subsystem, SwitchResult


_ORDINARY = frozenset({"active", "inactive"})
"""The phases of a policy that are not worth a line."""


def in_flight(subsystem: Subsystem) -> int:
    """Give how many threads execute any edition of any of a subsystem's functions."""
    return sum(
        counts.in_flight
        for function in subsystem.functions.values()
        for counts in function.counts.values()
    )


# ------------------------------------------------------------------------------------ status


def show_status(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show each subsystem: what is active, and which policy wants it so."""
    kernel = kmod.read()
    daemon = status.read(args.runtime_dir)
    subsystems = list(kernel.subsystems.values())
    if args.output == "json":
        print_json(
            "Status",
            module=_module_json(kernel),
            daemon=daemon and {key: daemon.get(key) for key in ("pid", "version", "started")},
            subsystems=[_status_json(each, daemon) for each in subsystems],
        )
        return 0
    _print_head(kernel, daemon)
    if not subsystems:
        print_note("no subsystem is loaded: dynamosctl edition load", indent="")
        return 0
    for subsystem in subsystems:
        _print_status(subsystem, daemon)
    return 0


def _print_head(kernel: KernelState, daemon: Mapping[str, Any] | None) -> None:
    running = f"pid {daemon['pid']}, since {daemon.get('started')}" if daemon else "not running"
    print(f"module {kernel.version}; daemon {running}")
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
            str(in_flight(subsystem)),
            f"{policy['name']} ({policy.get('mode')})" if policy else "-",
            text_of(policy.get("rule")),
        )
        for policy in policies
    ]
    print_table(head, rows, right="SWITCHES,IN FLIGHT")
    for note in _notes(subsystem):
        print_note(note)
    for each in quarantines_of(daemon, subsystem.name):
        why = f"guardrail {each['guardrail']} of policy {each['policy']}: {each['reason']}"
        print_note(f"{each['edition']}: in quarantine until {each['until']} ({why})")
    since = (daemon or {}).get("last_switches", {}).get(subsystem.name)
    if since:
        what = "partial" if since.get("to", "") == subsystem.partial else "active"
        print_note(f"{what} since {since['time']} ({since['trigger']})")
    for policy in policies:
        if policy.get("reason"):
            print_note(f"{policy['name']}: {policy['reason']}")
        if policy.get("phase") not in {None, *_ORDINARY}:
            print_note(f"{policy['name']} is {policy['phase']}: dynamosctl explain")
        if policy.get("paused"):
            print_note(policy["paused"])
        if policy.get("advice"):
            print_note(f"advice {policy['advice']}: dynamosctl advice list")
        if policy.get("trouble"):
            print_note(f"{policy['name']}: {policy['trouble']}")


def _notes(subsystem: Subsystem) -> list[str]:
    """Say what is unusual about how a subsystem stands."""
    notes = []
    if subsystem.partial:
        scope = f", {subsystem.scope}" if subsystem.scope else ""
        objects = f"; objects kept in mind: {subsystem.objects}" if subsystem.objects else ""
        notes.append(f"partial: {subsystem.partial} ({subsystem.mode}{scope}){objects}")
    if subsystem.held:
        notes.append(f"callers held: {subsystem.held}")
    if subsystem.before_gate:
        notes.append(f"threads inside since before there was a gate: {subsystem.before_gate}")
    if subsystem.unreliable:
        notes.append(f"threads whose stacks could not be read: {subsystem.unreliable}")
    if lease := lease_of(subsystem):
        notes.append(lease)
    return [*notes, *_safety_notes(subsystem)]


def _safety_notes(subsystem: Subsystem) -> list[str]:
    """Say which editions are not what they should be."""
    found = ((edition.name, safety_of(edition)) for edition in subsystem.editions.values())
    return [f"{name}: {text}" for name, text in found if text]


def _status_json(subsystem: Subsystem, daemon: Mapping[str, Any] | None) -> dict[str, object]:
    return {
        "name": subsystem.name,
        "active": subsystem.active,
        "partial": subsystem.partial,
        "mode": subsystem.mode,
        "scope": subsystem.scope,
        "held": subsystem.held,
        "objects": subsystem.objects,
        "before_gate": subsystem.before_gate,
        "unreliable": subsystem.unreliable,
        "lease": subsystem.lease,
        "lease_holder": subsystem.lease_holder,
        "editions": [
            {"name": each.name, "quarantine": each.quarantine, "died": each.died}
            for each in subsystem.editions.values()
        ],
        "switches": subsystem.switches,
        "in_flight": in_flight(subsystem),
        "last_switch": (daemon or {}).get("last_switches", {}).get(subsystem.name),
        "policies": policies_of(daemon, subsystem.name),
        "quarantines": quarantines_of(daemon, subsystem.name),
    }


# -------------------------------------------------------------------------------------- list


def show_list(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show subsystems, functions and editions with their exact counters."""
    kernel = kmod.read()
    subsystems = kernel.subsystems.values()
    if args.output == "json":
        print_json("SubsystemList", subsystems=[_list_json(each) for each in subsystems])
        return 0
    rows = [
        (
            subsystem.name,
            function.name,
            function.backend,
            edition + _mark(subsystem, edition),
            str(counts.calls),
            str(counts.in_flight),
        )
        for subsystem in subsystems
        for function in subsystem.functions.values()
        for edition, counts in function.counts.items()
    ]
    head = ("SUBSYSTEM", "FUNCTION", "GATE", "EDITION", "CALLS", "IN FLIGHT")
    print_table(head, rows, right="CALLS,IN FLIGHT")
    for subsystem in subsystems:
        lease = lease_of(subsystem)
        for note in [*([lease] if lease else []), *_safety_notes(subsystem)]:
            print_note(f"{subsystem.name}: {note}")
    return 0


def _mark(subsystem: Subsystem, name: str) -> str:
    """Mark what calls get now, and what they may not get."""
    edition = subsystem.editions.get(name)
    if edition and edition.quarantine:
        return "!"
    return {subsystem.active: "*", subsystem.partial: "~"}.get(name, "")


def _list_json(subsystem: Subsystem) -> dict[str, object]:
    return {
        "name": subsystem.name,
        "active": subsystem.active,
        "partial": subsystem.partial,
        "scope": subsystem.scope,
        "lease": subsystem.lease,
        "lease_holder": subsystem.lease_holder,
        "editions": [
            {
                "name": edition.name,
                "index": edition.index,
                "state": str(edition.state),
                "module": edition.module,
                "quarantine": edition.quarantine,
                "died": edition.died,
                "modes": list(edition.modes),
                "parameters": dict(edition.parameters),
            }
            for edition in subsystem.editions.values()
        ],
        "functions": [_function_json(each) for each in subsystem.functions.values()],
    }


def _function_json(function: Function) -> dict[str, object]:
    return {
        "name": function.name,
        "backend": function.backend,
        "editions": [
            {"name": name, "calls": counts.calls, "in_flight": counts.in_flight}
            for name, counts in function.counts.items()
        ],
    }


# ------------------------------------------------------------------------------------ switch


def switch(args: argparse.Namespace, kmod: Kmod) -> int:
    """Switch a subsystem, and confirm by reading back."""
    options = switch_options(args)
    policies = status.enforcing(status.read(args.runtime_dir), args.subsystem)
    switcher = Switcher(kmod, time.monotonic)
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
    return 0


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
