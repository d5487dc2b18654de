# SPDX-License-Identifier: GPL-2.0-or-later
"""Can a function be gated here, and why not.

The kernel says what can be traced, and the names say what is meant. What must not be gated, though
it could be, only the module knows: it is asked, if it is loaded.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynamosd.doctor import Machine
from dynamosd.errors import DynamosError
from dynamosd.kmod import ENABLE_HINT, LOAD_HINT, SETTINGS, SWITCHED_OFF
from dynamosd.workshop import names
from dynamosd.workshop.declarations import Prototype
from dynamosd.workshop.holders import Holder, Kind
from dynamosd.workshop.names import Named
from dynamosd.workshop.symbols import Symbol, Symbols, is_changed

LONGEST_NAME = 63
"""Letters of a function's name, for the kernel module."""
_UNYIELDING = {
    Kind.LIVEPATCH: "a livepatch",
    Kind.REDIRECT: "a redirect",
    Kind.DIRECT: "another module's direct call",
}
"""Who sends calls elsewhere himself, and how he is named: two of them cannot both be right."""
FTRACE_ENABLED = "proc/sys/kernel/ftrace_enabled"


class Verdict(enum.StrEnum):
    """What it comes to; `UNSURE` is what nothing speaks against that could be seen."""

    YES = "yes"
    UNSURE = "unsure"
    NO = "no"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not. ``denied``: it could be, and must not."""

    text: str
    hint: str = ""
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, why it is not yes, and what else one should know before one begins."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a judgement is made from.

    ``traceable`` are all names that can be traced, as ``available_filter_functions`` has them; None
    when that cannot be seen.
    """

    named: Named
    symbols: Symbols
    traceable: bytes | None
    prototypes: Sequence[Prototype] = ()
    holders: Sequence[Holder] = ()


def judge(machine: Machine, evidence: Evidence) -> Judgement:
    """Judge."""
    found = list(_reasons(machine, evidence))
    notes = list(_notes(machine, evidence))
    unsure = is_traceable(evidence) is None
    symbol = evidence.named.symbol
    if symbol and len(symbol.name) <= LONGEST_NAME:
        reason, note = _ask(machine, symbol)
        found += [reason] if reason else []
        notes += [note] if note else []
        unsure |= bool(note)
    return Judgement(_verdict(found, unsure=unsure), tuple(found), tuple(notes))


def _verdict(reasons: Sequence[Reason], *, unsure: bool) -> Verdict:
    if any(each.denied for each in reasons):
        return Verdict.DENIED
    if reasons:
        return Verdict.NO
    return Verdict.UNSURE if unsure else Verdict.YES


def _ask(machine: Machine, symbol: Symbol) -> tuple[Reason | None, str]:
    """Ask the module: give its reason, or why it could not be asked."""
    try:
        unfit = machine.kmod.check(symbol.full_name)
    except DynamosError as error:
        hint = LOAD_HINT if not machine.kmod.loaded else error.hint
        said = f"whether it is one that must not be gated is not known: {error.message}"
        return None, f"{said} ({hint})"
    if not unfit:
        return None, ""
    hint = "docs/consistency.md: never gated" if unfit.is_denied else ""
    return Reason(unfit.reason, hint, denied=unfit.is_denied), ""


def _reasons(machine: Machine, evidence: Evidence) -> Iterator[Reason]:
    """Give all that speaks against it, as far as it can be seen without the module."""
    named = evidence.named
    if named.symbol is None:
        yield _nameless(evidence)
    elif not named.symbol.is_text:
        yield Reason(f"{named.name} is no function: it is data (nm's {named.symbol.letter})")
    else:
        yield from _against(named.symbol, evidence)
        yield from _held(machine, evidence.holders)
        yield from _switched_off(machine)


def _against(symbol: Symbol, evidence: Evidence) -> Iterator[Reason]:
    if is_changed(symbol.name):
        said = f"{symbol.name} is what the compiler has made of another function"
        yield Reason(said, "its arguments may be others than in the source, and C cannot name it")
    if len(symbol.name) > LONGEST_NAME:
        yield Reason(f"its name is longer than the {LONGEST_NAME} letters that the module allows")
    if is_traceable(evidence) is False:
        said = f"{symbol.full_name} cannot be traced: it has no site for a gate"
        yield Reason(said, "notrace, noinstr, entry code, or in a file that is not traced")
    if any(each.variadic for each in evidence.prototypes):
        yield Reason("it takes variable arguments", "a gate cannot pass them on")


def _held(machine: Machine, holders: Sequence[Holder]) -> Iterator[Reason]:
    """Give who would not let a gate in."""
    for holder in holders:
        if who := _UNYIELDING.get(holder.kind):
            yield Reason(f"its entry is held by {who}: {holder.text}", "take that out first")
    kinds = {each.kind for each in holders}
    if Kind.BPF in kinds and Kind.GATE not in kinds and machine.kmod.backend == "direct":
        said = "eBPF holds its entry, and the module is told to use the back end direct only"
        yield Reason(said, f"echo auto > {SETTINGS}/backend")


def _nameless(evidence: Evidence) -> Reason:
    named, symbols = evidence.named, evidence.symbols
    if len(named.same) > 1:
        data = sum(not each.is_text for each in named.same)
        said = (
            f"{len(named.same)} have the name {named.name}{f' ({data} of them data)' * bool(data)}"
        )
        said += ": a gate would be at any one of them"
        return Reason(said, "gate what calls it, or what it calls")
    if named.elsewhere:
        said = f"{named.name} is in {_homes(named)}"
        said += f", and not in {named.module}" if named.module else ": more than one"
        full = dict.fromkeys(each.full_name for each in named.elsewhere)
        return Reason(said, f"name it as {' or '.join(full)}")
    if named.relatives:
        made = ", ".join(each.name for each in named.relatives)
        said = f"there is no {named.name} in this kernel, only what the compiler made of it: {made}"
        return Reason(said, "gate what calls it")
    said = f"there is no function {named.name} in this kernel"
    hint = names.guess(symbols, named.name)
    return Reason(said, hint or "it may be inlined everywhere, or in a module that is not loaded")


def _homes(named: Named) -> str:
    """Name those that have others of the name."""
    return ", ".join(sorted({each.module or "the kernel" for each in named.elsewhere}))


def _switched_off(machine: Machine) -> Iterator[Reason]:
    if machine.kmod.loaded and not machine.kmod.enabled:
        yield Reason(SWITCHED_OFF, ENABLE_HINT, denied=True)
    if (machine.text(FTRACE_ENABLED) or "1").strip() == "0":
        yield Reason("ftrace is switched off", "sysctl kernel.ftrace_enabled=1")


def _notes(machine: Machine, evidence: Evidence) -> Iterator[str]:
    """Give what is no reason against it, and ought to be known."""
    named = evidence.named
    if named.symbol and named.symbol.module:
        yield (
            f"it is of the module {named.symbol.module}: its subsystem has to say so "
            f'(DYNAMOS_FUNCTION_TRAITS({named.name}, .home = "{named.symbol.module}"))'
        )
    if named.symbol and named.elsewhere:
        yield f"others of this name, which are not gated with it: in {_homes(named)}"
    if named.symbol and named.symbol.is_text and not evidence.prototypes:
        yield "without a prototype it is not known whether it takes variable arguments"
    others = [each.name for each in named.aliases if named.symbol and each != named.symbol]
    if others:
        yield f"the same text has other names: {', '.join(others)}"
    copies = [each.name for each in named.relatives if ".cold" not in each.name]
    if copies and named.symbol:
        yield f"calls of what the compiler made of it do not come to a gate: {', '.join(copies)}"
    kinds = {each.kind for each in evidence.holders}
    if Kind.INSIDE in kinds:
        yield "kprobes inside see nothing of calls that an edition gets"
    if Kind.BPF in kinds and Kind.GATE not in kinds and machine.kmod.backend != "direct":
        yield "eBPF holds the entry: the gate will take the back end ftrace, which is slower"


def is_traceable(evidence: Evidence) -> bool | None:
    """Tell whether a function is among those that can be traced, under any of its names.

    None when that is not known: the list cannot be seen, or has another name of the same text, and
    without addresses nobody knows which are names of one.
    """
    if evidence.traceable is None:
        return None
    if any(_is_listed(evidence.traceable, each) for each in evidence.named.aliases):
        return True
    return False if evidence.symbols.has_addresses else None


def _is_listed(traceable: bytes, symbol: Symbol) -> bool:
    line = f"{symbol.name} [{symbol.module}]" if symbol.module else symbol.name
    return f"\n{line}\n".encode() in traceable
