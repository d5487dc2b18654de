# SPDX-License-Identifier: GPL-2.0-or-later
"""What several commands say of a subsystem and its editions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamosd.cli.output import colour, pin_of, policies_of, print_note, quarantines_of
from dynamosd.model import Counts
from dynamosd.phrases import pinned, why_quarantined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamosd.model import Edition, Subsystem


def edition_counts(subsystem: Subsystem, edition: Edition) -> Counts:
    """Give the calls of an edition, in all functions together."""
    found = [
        function.counts[edition.name]
        for function in subsystem.functions.values()
        if edition.name in function.counts
    ]
    return Counts(sum(each.calls for each in found), sum(each.in_flight for each in found))


def lease_of(subsystem: Subsystem) -> str:
    """Say how a subsystem's lease stands; "" when there is none."""
    if subsystem.lease is None:
        return ""
    by = f" by pid {subsystem.lease_holder}" if subsystem.lease_holder else ""
    return f"lease {subsystem.lease}{by}"


def safety_of(edition: Edition) -> str:
    """Say what the module's safety has to say of an edition; "" when all is well."""
    found = [f"in quarantine ({edition.quarantine})"] if edition.quarantine else []
    if edition.died:
        found.append(f"threads died inside: {edition.died}")
    return "; ".join(found)


def details(edition: Edition) -> str:
    """Give what is wrong with an edition, its modes and parameters; nothing when there are none."""
    parameters = [f"{name}={value}" for name, value in edition.parameters.items()]
    found = (("modes", edition.modes), ("parameters", parameters))
    lists = (f"{what} {', '.join(values)}" for what, values in found if values)
    return "; ".join(filter(None, (safety_of(edition), *lists)))


def notes(subsystem: Subsystem) -> list[str]:
    """Say what is unusual about how a subsystem stands."""
    found = []
    if subsystem.partial:
        scope = f", {subsystem.scope}" if subsystem.scope else ""
        objects = f"; objects kept in mind: {subsystem.objects}" if subsystem.objects else ""
        found.append(f"partial: {subsystem.partial} ({subsystem.mode}{scope}){objects}")
    if subsystem.held:
        found.append(f"callers held: {subsystem.held}")
    if subsystem.before_gate:
        found.append(f"threads inside since before there was a gate: {subsystem.before_gate}")
    if subsystem.unreliable:
        found.append(f"threads whose stacks could not be read: {subsystem.unreliable}")
    if lease := lease_of(subsystem):
        found.append(lease)
    return [*found, *safety_notes(subsystem)]


def safety_notes(subsystem: Subsystem) -> list[str]:
    """Say which editions are not what they should be."""
    found = ((edition.name, safety_of(edition)) for edition in subsystem.editions.values())
    return [f"{name}: {text}" for name, text in found if text]


def pin_notes(daemon: Mapping[str, Any] | None, subsystem: str) -> list[str]:
    """Say where a person holds a subsystem, and what is in the way."""
    pin = pin_of(daemon, subsystem)
    if pin is None:
        return []
    return [describe_pin(pin), *([f"it is not there: {pin['trouble']}"] if pin["trouble"] else [])]


def describe_pin(pin: Mapping[str, Any]) -> str:
    """Say which edition is pinned, by whom, until when and why."""
    return f"{pin['edition']} {pinned(pin['uid'], pin['login'], pin['until'], pin['reason'])}"


def quarantine_notes(daemon: Mapping[str, Any] | None, subsystem: str) -> list[str]:
    """Say which editions the daemon itself keeps in quarantine, and why."""
    found = []
    for each in quarantines_of(daemon, subsystem):
        why = why_quarantined(each["policy"], each["guardrail"], each["reason"])
        found.append(f"{each['edition']}: in quarantine until {each['until']} ({why})")
    return found


def status_json(subsystem: Subsystem, daemon: Mapping[str, Any] | None) -> dict[str, object]:
    """Give how a subsystem stands, and what the daemon says of it."""
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
        "in_flight": subsystem.in_flight,
        "last_switch": (daemon or {}).get("last_switches", {}).get(subsystem.name),
        "policies": policies_of(daemon, subsystem.name),
        "pin": pin_of(daemon, subsystem.name),
        "quarantines": quarantines_of(daemon, subsystem.name),
    }


def mark(subsystem: Subsystem, name: str) -> str:
    """Mark what calls get now, and what they may not get."""
    edition = subsystem.editions.get(name)
    if edition and edition.quarantine:
        return "!"
    return {subsystem.active: "*", subsystem.partial: "~"}.get(name, "")


FUNCTION_HEAD = ("FUNCTION", "GATE", "EDITION", "CALLS", "IN FLIGHT")


def function_rows(subsystem: Subsystem) -> list[tuple[str, ...]]:
    """Give a row for each edition of each function."""
    return [
        (
            function.name,
            function.backend,
            edition + mark(subsystem, edition),
            str(counts.calls),
            str(counts.in_flight),
        )
        for function in subsystem.functions.values()
        for edition, counts in function.counts.items()
    ]


def print_policy(policy: Mapping[str, Any]) -> None:
    """Print what a policy has decided, and why."""
    head = f"policy {policy['name']} ({policy['mode']}), subsystem {policy['subsystem']}"
    print(colour(head, "bold"))
    if "reason" not in policy:
        print_note("has not been evaluated yet")
        return
    switched = policy["action"] == "switch" and policy["mode"] == "enforce"
    switched = switched and not policy.get("scope")
    current = policy["target"] if switched else policy["current"]
    phase, target = policy["phase"], policy["target"]
    print_note(f"{current} is active; the policy is {phase}, and wants {target}")
    print_note(f"because {policy['reason']}")
    if policy.get("paused"):
        print_note(policy["paused"])
    if policy.get("advice"):
        print_note(f"that is advice {policy['advice']}: dynamosctl advice accept or mute")
    if policy["suppressed"]:
        print_note(f"another edition is not switched to: {policy['suppressed']}")
    if policy["trouble"]:
        print_note(f"trouble: {policy['trouble']}")
