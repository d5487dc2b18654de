# SPDX-License-Identifier: GPL-2.0-or-later
"""Is all there that the module needs of the kernel and of other modules, and is it the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dynamosd.workshop.checks import contents
from dynamosd.workshop.checks.finding import Finding, Verdict, listed
from dynamosd.workshop.checks.kernel import exports_of
from dynamosd.workshop.checks.subject import Subject

SYMBOLS = "symbols"
_LINKER = frozenset({"_GLOBAL_OFFSET_TABLE_"})
"""Names that the linker makes, and nobody has to have."""
_HEADERS = "install the headers: apt install linux-headers-{}"


@dataclass(slots=True)
class _Found:
    """What became of each name that is needed."""

    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    count: int = 0


def check_symbols(subject: Subject) -> Iterator[Finding]:
    """Look for each symbol that the module needs, and compare checksums (modversions)."""
    kernel = subject.kernel
    absent = sorted(name for name, elf in subject.depends.items() if elf is None)
    if kernel.exports is None and kernel.symbols is None:
        seen = "what the kernel exports is not to be had"
        yield Finding(SYMBOLS, Verdict.WARNED, seen, _HEADERS.format(kernel.release))
        return
    # Names of data are not among those that a kernel shows, unless it is built to show all.
    found = _look(subject, unsure=bool(absent) or kernel.exports is None)
    yield from _bad(found, kernel.release)
    if kernel.exports is None:
        unseen = f", and not seen: {listed(found.unsure)}" if found.unsure else ""
        seen = f"{found.count}, by name only{unseen}; checksums are in the headers' Module.symvers"
        yield Finding(SYMBOLS, Verdict.WARNED, seen, _HEADERS.format(kernel.release))
    elif found.unsure:
        seen = f"not known, for want of the modules {listed(absent)}: {listed(found.unsure)}"
        yield Finding(SYMBOLS, Verdict.WARNED, seen, "install those, or put them beside it")
    elif not (found.missing or found.changed):
        yield Finding(SYMBOLS, Verdict.PASSED, f"all {found.count} are there, and the same")


def _bad(found: _Found, release: str) -> Iterator[Finding]:
    if found.missing:
        seen = f"missing: {listed(found.missing)}"
        remedy = f"they are not exported by {release}, nor by the modules that it depends on"
        yield Finding(SYMBOLS, Verdict.FAILED, seen, remedy)
    if found.changed:
        seen = f"not what it was built against (modversions): {listed(found.changed)}"
        remedy = f"build it against the headers of {release}"
        yield Finding(SYMBOLS, Verdict.FAILED, seen, remedy)


def _look(subject: Subject, *, unsure: bool) -> _Found:
    """Look for everything; ``unsure``: what is not found may be there all the same."""
    versions = contents.versions(subject.elf)
    others: dict[str, int | None] = {}
    for elf in subject.depends.values():
        others.update(exports_of(elf))
    found = _Found()
    for name in sorted(subject.elf.undefined - _LINKER):
        found.count += 1
        is_there, crc = _find(name, subject, others)
        if not is_there:
            (found.unsure if unsure else found.missing).append(name)
        elif crc is not None and crc != versions.get(name, crc):
            found.changed.append(name)
    return found


def _find(name: str, subject: Subject, others: Mapping[str, int | None]) -> tuple[bool, int | None]:
    """Tell whether a name is there, and its checksum if that is known."""
    kernel = subject.kernel
    if name in others:
        return True, others[name]
    if kernel.exports is not None:
        return name in kernel.exports, kernel.exports.get(name)
    return bool(kernel.symbols and kernel.symbols.named(name)), None
