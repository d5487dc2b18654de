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
from dynamosd.workshop.symbols import Symbol

KPROBES = "sys/kernel/debug/kprobes/list"
LIVEPATCHES = "sys/kernel/livepatch"

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


def find(machine: Machine, names: Sequence[Symbol]) -> Iterator[Holder]:
    """Give who holds an entry.

    Args:
        machine: whose files are read; one that is not there, or may not be read, says nothing.
        names: all names of the function.
    """
    known = {(each.name, each.module) for each in names}
    patches = list(_livepatches(machine.root / LIVEPATCHES, known))
    yield from patches
    for name, found in entries.parse(machine.text(entries.PATH) or "").items():
        for entry in found:
            if (name, entry.module) in known:
                yield from _of_entry(entry, name, is_patched=bool(patches))
    yield from _kprobes(machine.text(KPROBES) or "", names)


def _of_entry(entry: Entry, name: str, *, is_patched: bool) -> Iterator[Holder]:
    gate = entry.has_gate(name)
    if gate:
        yield Holder(Kind.GATE, "dynamos")
    direct = [match for match in _DIRECT.finditer(entry.text) if not gate]
    for match in direct:
        kind = Kind.BPF if match["name"].startswith("bpf_") else Kind.DIRECT
        yield Holder(kind, " of ".join(filter(None, [match["name"], match["module"]])))
    is_redirected = not gate and not is_patched and "I" in entry.text.split()
    if is_redirected:
        is_livepatch = "klp_ftrace_handler" in entry.text
        who = "the kernel does not say which"
        yield Holder(Kind.LIVEPATCH if is_livepatch else Kind.REDIRECT, who)
    tracers = entry.users - bool(gate) - len(direct) - is_redirected
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
