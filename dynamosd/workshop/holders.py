# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds a function's entry now: gates, kprobes, livepatches, eBPF programs, tracers."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynamosd import entries
from dynamosd.doctor import Machine
from dynamosd.entries import Entry
from dynamosd.workshop.missing import Missing, unreadable
from dynamosd.workshop.symbols import Symbol

KPROBES = "sys/kernel/debug/kprobes/list"
LIVEPATCHES = "sys/kernel/livepatch"
TRACEFS_HINT = "mount -t tracefs tracefs /sys/kernel/tracing"
ENTRY, PROBES = "who holds the entry", "kprobes"
"""What `unseen` tells of."""
_SOURCES = (
    (ENTRY, entries.PATH, TRACEFS_HINT),
    (PROBES, KPROBES, "mount -t debugfs debugfs /sys/kernel/debug"),
)

_KPROBE = re.compile(
    r"(?P<address>[0-9a-f]+)\s+(?P<kind>\w+)\s+(?P<name>[^\s+]+)\+0x(?P<offset>[0-9a-f]+)(?P<rest>.*)"
)
_DIRECT = re.compile(r"direct-->(?P<name>\S+?)(?:\+\S+)?(?: \[(?P<module>\S+)\])?$", re.MULTILINE)
_ENDBR = 4
"""Bytes of what may stand before a function's traced entry. A probe there stays with a gate."""


class Kind(enum.StrEnum):
    """Who it is."""

    GATE = "gate"
    LIVEPATCH = "livepatch"
    BPF = "bpf"
    DIRECT = "direct"
    REDIRECT = "redirect"
    KPROBE = "kprobe"
    INSIDE = "kprobe inside"
    TRACER = "tracer"


@dataclass(frozen=True, slots=True)
class Holder:
    """One of them, and what the kernel says of it."""

    kind: Kind
    text: str


def unseen(machine: Machine) -> Iterator[Missing]:
    """Give what cannot be read here: those who are only there are not among the holders."""
    for what, path, hint in _SOURCES:
        if found := unreadable(machine, what, path, hint):
            yield found


def find(
    machine: Machine, names: Sequence[Symbol], *, is_redirected: bool = False
) -> Iterator[Holder]:
    """Give who holds an entry.

    Args:
        machine: whose files are read; what is not there, or may not be read, is `unseen`.
        names: all names of the function.
        is_redirected: the module says that it has a gate here, of the back end ``ftrace``.
    """
    known = {(each.name, each.module) for each in names}
    patches = list(_livepatches(machine.root / LIVEPATCHES, known))
    yield from patches
    for name, found in entries.parse(machine.text(entries.PATH) or "").items():
        for entry in found:
            if (name, entry.module) in known:
                gate = _gate(entry, names, is_redirected=is_redirected)
                yield from gate
                yield from _others(entry, names, gate=bool(gate), is_patched=bool(patches))
    yield from _kprobes(machine.text(KPROBES) or "", names)


def _gate(entry: Entry, names: Sequence[Symbol], *, is_redirected: bool) -> list[Holder]:
    """Give the gate of ours at an entry, which may be known by any name of the function."""
    said = {entry.has_gate(each.name) for each in names}
    if True in said:
        return [Holder(Kind.GATE, "dynamos")]
    if is_redirected and None in said:
        shared = "the entry is shared, the kernel does not say more"
        return [Holder(Kind.GATE, f"dynamos (ftrace): {shared}")]
    return []


def _others(
    entry: Entry, names: Sequence[Symbol], *, gate: bool, is_patched: bool
) -> Iterator[Holder]:
    """Give who is at an entry besides a gate of ours."""
    ours = {f"dynamos_gate_{each.name}" for each in names}
    direct = [match for match in _DIRECT.finditer(entry.text) if match["name"] not in ours]
    for match in direct:
        kind = Kind.BPF if match["name"].startswith("bpf_") else Kind.DIRECT
        yield Holder(kind, " of ".join(filter(None, [match["name"], match["module"]])))
    is_redirected = not gate and not is_patched and "I" in entry.text.split()
    if is_redirected:
        is_livepatch = "klp_ftrace_handler" in entry.text
        who = "the kernel does not say which"
        yield Holder(Kind.LIVEPATCH if is_livepatch else Kind.REDIRECT, who)
    tracers = entry.users - gate - len(direct) - is_redirected
    if tracers > 0 and not is_patched:
        yield Holder(
            Kind.TRACER, f"users of ftrace: {tracers} (kprobes at the entry are among them)"
        )


def _livepatches(folder: Path, known: set[tuple[str, str]]) -> Iterator[Holder]:
    """Look for the function in ``<patch>/<object>/<function>,<which of that name>``."""
    try:
        found = sorted(folder.glob("*/*/*"))
    except OSError:
        return
    for path in found:
        module = "" if path.parent.name == "vmlinux" else path.parent.name
        if "," in path.name and (path.name.rpartition(",")[0], module) in known:
            yield Holder(Kind.LIVEPATCH, path.parent.parent.name)


def _kprobes(text: str, names: Sequence[Symbol]) -> Iterator[Holder]:
    known, addresses = {each.name for each in names}, {each.address for each in names}
    for line in text.splitlines():
        match = _KPROBE.match(line.strip())
        if not match or match["name"] not in known:
            continue
        offset, address = int(match["offset"], 16), int(match["address"], 16)
        # Of several functions of one name, this one; not told to everybody, the address is 0 then.
        if address and address - offset not in addresses:
            continue
        what = {"k": "kprobe", "r": "kretprobe"}.get(match["kind"], match["kind"])
        kind = Kind.KPROBE if offset <= _ENDBR else Kind.INSIDE
        yield Holder(kind, " ".join(f"{what} at +{offset:#x} {match['rest']}".split()))
