# SPDX-License-Identifier: GPL-2.0-or-later
"""What the module is to us, and whether it fits the functions that it is about."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from dynamosd.errors import DynamosError
from dynamosd.kmod import LOAD_HINT
from dynamosd.workshop.btf import Btf
from dynamosd.workshop.checks.description import Description, Function, Kind, Mode
from dynamosd.workshop.checks.finding import Finding, Verdict, listed
from dynamosd.workshop.checks.prototypes import differences
from dynamosd.workshop.checks.subject import Subject

WHAT, PROTOTYPES, MODES, GATES = "what it is", "prototypes", "modes", "gates"
_MANUAL = "kmod/include/dynamos/edition.h says how one is written"
_MODE_NAMES = {
    Mode.CONCURRENT: "concurrent",
    Mode.EXCLUSIVE: "exclusive",
    Mode.PER_OBJECT: "per-object",
    Mode.SCOPED: "scoped",
}
_ALL_MODES = Mode.CONCURRENT | Mode.EXCLUSIVE | Mode.PER_OBJECT | Mode.SCOPED


def check_what(subject: Subject) -> Iterator[Finding]:
    """Tell what it is, and which gates it needs."""
    found = subject.description
    for problem in found.problems:
        yield Finding(WHAT, Verdict.FAILED, problem, _MANUAL)
    match found.kind:
        case Kind.OTHER:
            seen = f"{found.module or 'a module'}, which is no edition and no subsystem"
            yield Finding(WHAT, Verdict.FAILED, seen, _MANUAL)
        case Kind.CORE:
            yield Finding(WHAT, Verdict.PASSED, "the core, which all editions need")
        case _ if not found.problems:
            yield Finding(WHAT, Verdict.PASSED, _named(found))


def _named(found: Description) -> str:
    functions = listed(each.name for each in found.functions)
    if found.kind is Kind.EDITION:
        return f"edition {found.subsystem}/{found.edition}, which replaces {functions}"
    return f"subsystem {found.subsystem}, with gates at {functions}"


# ----------------------------------------------------------------------------------- prototypes


def check_prototypes(subject: Subject) -> Iterator[Finding]:
    """Compare each replacement with the function that it stands in for, argument by argument."""
    kernel, blob = subject.kernel, subject.elf.content(subject.elf.section(".BTF"))
    if subject.release != kernel.release:
        seen = "its types go on from those of the kernel that it was built for"
        yield Finding(PROTOTYPES, Verdict.NOT_APPLICABLE, seen)
        return
    if not blob:
        seen = "it has no type information (BTF), so they cannot be compared"
        remedy = "build it where pahole is, and vmlinux beside the headers: apt install dwarves"
        yield Finding(PROTOTYPES, Verdict.WARNED, seen, remedy)
        return
    if kernel.btf is None:
        seen = "the kernel's type information (BTF) is not to be had"
        yield Finding(PROTOTYPES, Verdict.WARNED, seen, "install its headers, or run it")
        return
    own = _own_types(subject, blob)
    found = [each for one in _with_homes(subject) for each in _compare(subject, own, one)]
    yield from found
    if not any(each.verdict is not Verdict.PASSED for each in found):
        count = len(subject.description.functions)
        yield Finding(PROTOTYPES, Verdict.PASSED, f"{count}, each that of the kernel's function")


def _own_types(subject: Subject, blob: bytes) -> Btf:
    """Give the module's types, which go on from the kernel's, or from a copy that it brings."""
    base = subject.elf.content(subject.elf.section(".BTF.base"))
    under = Btf(base, None, "its .BTF.base") if base else subject.kernel.btf
    return Btf(blob, under, "its .BTF")


def _with_homes(subject: Subject) -> Iterator[Function]:
    """Give the functions, each with the module that has it, as far as the subsystem says it."""
    known = {each.name: each for each in subject.subsystem.functions} if subject.subsystem else {}
    for each in subject.description.functions:
        home = known[each.name].home if each.name in known else each.home
        yield Function(each.name, each.wrapper, home)


def _compare(subject: Subject, own: Btf, function: Function) -> Iterator[Finding]:
    types = subject.kernel.module_btf(function.home) if function.home else subject.kernel.btf
    theirs = types.functions(function.name) if types else []
    ours = own.functions(function.wrapper)
    for side, known in (("the kernel's", theirs), ("its own", ours)):
        if not known:
            seen = f"{function.name}: {side} type information does not have it: not compared"
            yield Finding(PROTOTYPES, Verdict.WARNED, seen, "dynamosctl edition inspect tells why")
            return
    found: list[list[str]] = []
    found += [differences(own, ours[0], types, each) for each in theirs] if types else []
    if all(found):
        # Where functions of one name differ, what is nearest to one of them is told.
        _, nearest = min((len(each), each) for each in found)
        seen = f"{function.name}: {listed(nearest, '; ')}"
        yield Finding(PROTOTYPES, Verdict.REFUSED, seen, "correct DYNAMOS_PROTOTYPE in the header")


# ---------------------------------------------------------------------------------------- modes


def check_modes(subject: Subject) -> Iterator[Finding]:
    """Look whether the edition can be switched to in the modes that it declares."""
    found, subsystem = subject.description, subject.subsystem
    if found.kind is not Kind.EDITION:
        yield Finding(MODES, Verdict.NOT_APPLICABLE, "it is editions that declare them")
        return
    if found.modes & ~int(_ALL_MODES):
        seen = f".modes is {found.modes:#x}, which has bits that are no mode"
        yield Finding(MODES, Verdict.FAILED, seen, _MANUAL)
        return
    if subsystem is None:
        seen = f"the module of the subsystem {found.subsystem} is not found"
        yield Finding(MODES, Verdict.NOT_APPLICABLE, seen)
        return
    bad = list(_wrong_modes(found, subsystem))
    for each in bad:
        yield Finding(MODES, Verdict.FAILED, each, _MANUAL)
    if not bad:
        yield Finding(MODES, Verdict.PASSED, _words(_possible(found, subsystem)))


def _wrong_modes(found: Description, subsystem: Description) -> Iterator[str]:
    strange = {each.name for each in found.functions} - {each.name for each in subsystem.functions}
    if strange:
        yield f"not a function of {subsystem.subsystem}: {listed(sorted(strange))}"
    refused = Mode(found.modes) & ~_possible(found, subsystem)
    if refused & Mode.EXCLUSIVE:
        yield (
            f"it declares exclusive, which holds callers, and {subsystem.subsystem} does not say "
            "that its functions may sleep"
        )
    if refused & Mode.PER_OBJECT:
        yield "it declares per-object, for which nothing says what a call is about, or may wait"
    if not _possible(found, subsystem):
        yield "no mode is left in which it can be switched to"


def _possible(found: Description, subsystem: Description) -> Mode:
    """Give the modes that the kernel module will allow: edition_modes() of kmod/switch.c."""
    modes = Mode(found.modes)
    if not modes:
        modes = Mode.EXCLUSIVE | Mode.PER_OBJECT if found.has_transfer else _ALL_MODES
    if not subsystem.may_sleep:
        modes &= ~Mode.EXCLUSIVE
    is_held = found.has_transfer and not subsystem.may_sleep
    if is_held or not any(each.has_objects for each in subsystem.functions):
        modes &= ~Mode.PER_OBJECT
    return modes


def _words(modes: Mode) -> str:
    return ", ".join(word for mode, word in _MODE_NAMES.items() if mode & modes)


# ---------------------------------------------------------------------------------------- gates


def check_gates(subject: Subject) -> Iterator[Finding]:
    """Ask the kernel module whether each function may be gated; only the running one knows."""
    kernel, kmod = subject.kernel, subject.kernel.machine.kmod
    if not kernel.is_running:
        seen = f"only {kernel.release} itself knows, when it runs"
        yield Finding(GATES, Verdict.NOT_APPLICABLE, seen)
        return
    if not kmod.loaded:
        seen = "the kernel module, which knows what must not be gated, is not loaded"
        yield Finding(GATES, Verdict.NOT_APPLICABLE, seen, LOAD_HINT)
        return
    functions = list(_with_homes(subject))
    found = [each for one in functions for each in _ask(subject, one)]
    yield from found
    if not found:
        yield Finding(GATES, Verdict.PASSED, f"{listed(each.name for each in functions)}")


def _ask(subject: Subject, function: Function) -> Iterator[Finding]:
    name = f"{function.home}:{function.name}" if function.home else function.name
    try:
        unfit = subject.kernel.machine.kmod.check(name)
    except DynamosError as error:
        yield Finding(GATES, Verdict.WARNED, f"{name}: not known: {error.message}", error.hint)
        return
    if unfit is None:
        return
    if function.home and unfit.number in {errno.ENOENT, errno.ENXIO}:
        seen = f"{unfit.reason}; it gets its gate when {function.home} is loaded"
        yield Finding(GATES, Verdict.WARNED, seen)
        return
    verdict = Verdict.REFUSED if unfit.is_denied else Verdict.FAILED
    hint = f"dynamosctl edition inspect {name}"
    yield Finding(GATES, verdict, unfit.reason, hint)
