# SPDX-License-Identifier: GPL-2.0-or-later
"""What the module says of its gates, and what the kernel has at the functions' entries."""

from __future__ import annotations

from collections.abc import Iterator

from dynamosd.model import ORIGINAL, Function, Subsystem
from dynamosd.verify.view import Finding, Verdict, View


def gates(view: View, subsystem: Subsystem) -> Iterator[Finding]:
    """Compare what the module says of its gates with what the kernel has at the entries."""
    name, needed = subsystem.name, len(subsystem.editions) > 1
    verdicts = [_gate(view, each, needed=needed) for each in subsystem.functions.values()]
    for verdict, seen, remedy in verdicts:
        if verdict is Verdict.DIFFERS:
            yield Finding(name, "gates", verdict, seen, remedy)
    if view.entries is None:
        seen = "who holds the functions' entries cannot be seen"
        yield Finding(name, "gates", Verdict.UNKNOWN, seen, view.blind)
        return
    for verdict, seen, remedy in verdicts:
        if verdict is Verdict.UNKNOWN:
            yield Finding(name, "gates", verdict, seen, remedy)
    good = [seen for verdict, seen, _ in verdicts if verdict is Verdict.OK]
    if good:
        yield Finding(name, "gates", Verdict.OK, ", ".join(good))


def _gate(view: View, function: Function, *, needed: bool) -> tuple[Verdict, str, str]:
    name, says = function.name, function.is_gated
    if function.backend == "waiting":
        return Verdict.OK, f"{name} waits for its module", ""
    if needed and not says:
        remedy = "load an edition again; a refusal says why: dynamosctl doctor, dmesg"
        return Verdict.DIFFERS, f"{name} has no gate: its calls all get {ORIGINAL}", remedy
    if view.entries is None:
        return Verdict.UNKNOWN, name, view.blind
    known = {entry.has_gate(name) for entry in view.entries.get(name, ())}
    if says and None in known and True not in known:
        remedy = "end the other user of the entry, and look again"
        return Verdict.UNKNOWN, f"{name}: the entry is shared, the kernel does not say", remedy
    if says is not (True in known):
        return _contradiction(function, says=says)
    shared = any(entry.is_shared for entry in view.entries.get(name, ()))
    how = function.backend if says else "no gate, none is needed"
    return Verdict.OK, f"{name} ({how}{', shared' if shared else ''})", ""


def _contradiction(function: Function, *, says: bool) -> tuple[Verdict, str, str]:
    name, remedy = function.name, "reboot before you trust this kernel; dmesg may say more"
    if says:
        seen = f"the module says that {name} has a gate ({function.backend})"
        return Verdict.DIFFERS, f"{seen}, and the kernel has none there", remedy
    return Verdict.DIFFERS, f"{name} has a gate, and the module does not know of it", remedy
