# SPDX-License-Identifier: GPL-2.0-or-later
"""What the module's instructions do that an edition must not, or should not."""

from __future__ import annotations

from collections.abc import Iterator

from dynamosd.workshop.body import may_sleep
from dynamosd.workshop.checks import code
from dynamosd.workshop.checks.finding import Finding, Verdict, listed
from dynamosd.workshop.checks.subject import Subject

INSTRUCTIONS, CALLS, SLEEPING, STACK = "instructions", "calls", "sleeping", "stack"
WARN_BYTES, FAIL_BYTES = 1024, 2048
"""Of stack, that one function takes: all of a thread's calls share 16 KiB."""


def check_instructions(subject: Subject) -> Iterator[Finding]:
    """Look for instructions that only the kernel's own core should use."""
    found = subject.code
    bad = list(found.privileged)
    # Without paravirtualisation the kernel's own macros are made of these.
    are_macros = subject.kernel.options.get("CONFIG_PARAVIRT_XXL", "n") != "y"
    if subject.kernel.options and are_macros:
        if found.interrupts:
            seen = f"interrupts are switched off and on: {_places(found.interrupts)}"
            remedy = "while they are off, nothing else runs on that CPU: keep it short"
            yield Finding(INSTRUCTIONS, Verdict.WARNED, seen, remedy)
    else:
        bad += found.interrupts
    if bad:
        remedy = "use the kernel's functions and macros for that"
        yield Finding(INSTRUCTIONS, Verdict.REFUSED, f"privileged: {_places(bad)}", remedy)
    if found.unreadable:
        seen = f"cannot be disassembled, so what follows is not known: {listed(found.unreadable)}"
        yield Finding(INSTRUCTIONS, Verdict.WARNED, seen, "keep data out of the code")
    if not (bad or found.unreadable or found.interrupts):
        seen = f"{found.instructions}, none of them privileged"
        yield Finding(INSTRUCTIONS, Verdict.PASSED, seen)


def _places(places: list[code.Place]) -> str:
    return listed(f"{each.what} at {each.where}" for each in places)


def check_calls(subject: Subject) -> Iterator[Finding]:
    """Look for functions that an edition must not use."""
    bad = {name: why for name in subject.elf.undefined if (why := code.forbidden(name))}
    for name, why in sorted(bad.items()):
        users = sorted({each.function for each in subject.code.references if each.name == name})
        where = f"in {listed(users)}" if users else "its address is in the module's data"
        yield Finding(CALLS, Verdict.REFUSED, f"{name} ({where}): it {why}", "do without it")
    if not bad:
        yield Finding(CALLS, Verdict.PASSED, "none of those that an edition must not use")


def check_sleeping(subject: Subject) -> Iterator[Finding]:
    """Look for what sleeps, where the subsystem's functions may be called without sleeping."""
    subsystem = subject.subsystem
    if subsystem is None:
        seen = "whether its functions may sleep is not known: its subsystem's module is not found"
        yield Finding(SLEEPING, Verdict.NOT_APPLICABLE, seen)
        return
    if subsystem.may_sleep:
        seen = f"{subsystem.subsystem}'s functions are called where sleeping is allowed"
        yield Finding(SLEEPING, Verdict.PASSED, seen)
        return
    entries = {each.wrapper for each in subject.description.functions if each.wrapper}
    inside = code.reached(subject.code, entries)
    found = {
        f"{each.name} in {each.function}"
        for each in subject.code.references
        if each.function in inside and may_sleep(each.name)
    }
    if found:
        seen = (
            f"{subsystem.subsystem} does not say .may_sleep, and may sleep: {listed(sorted(found))}"
        )
        remedy = "the function's callers may hold spinlocks: a sleep there hangs the machine"
        yield Finding(SLEEPING, Verdict.WARNED, seen, remedy)
    else:
        yield Finding(SLEEPING, Verdict.PASSED, "nothing that is known to sleep is called")


def check_stack(subject: Subject) -> Iterator[Finding]:
    """Look how much of the stack each function takes for itself."""
    frames = sorted(subject.code.frames.items(), key=lambda each: -each[1].size)
    large = [f"{name} takes {each.size} bytes" for name, each in frames if each.size >= FAIL_BYTES]
    some = [
        f"{name} takes {each.size} bytes"
        for name, each in frames
        if WARN_BYTES <= each.size < FAIL_BYTES
    ]
    some += [f"{name} takes as much as it likes" for name, each in frames if each.grows]
    remedy = "all calls of a thread share 16 KiB: allocate what is large"
    if large:
        yield Finding(STACK, Verdict.FAILED, f"{listed(large)}; {FAIL_BYTES} is too much", remedy)
    if some:
        yield Finding(STACK, Verdict.WARNED, listed(some), remedy)
    if not (large or some):
        most = f": at most {frames[0][1].size} bytes, in {frames[0][0]}" if frames else ""
        yield Finding(STACK, Verdict.PASSED, f"little{most}")
