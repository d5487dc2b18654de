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
from dynamosd.kmod import ENABLE_HINT, LOAD_HINT, SWITCHED_OFF
from dynamosd.workshop import names
from dynamosd.workshop.declarations import Prototype
from dynamosd.workshop.holders import Holder, Kind
from dynamosd.workshop.names import Named
from dynamosd.workshop.symbols import Symbol, Symbols, is_changed

LONGEST_NAME = 63
"""Letters of a function's name, for the kernel module."""
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
    notes = list(_notes(evidence))
    unsure = evidence.traceable is None
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
        yield from _switched_off(machine)


def _against(symbol: Symbol, evidence: Evidence) -> Iterator[Reason]:
    if is_changed(symbol.name):
        said = f"{symbol.name} is what the compiler has made of another function"
        yield Reason(said, "its arguments may be others than in the source, and C cannot name it")
    if len(symbol.name) > LONGEST_NAME:
        yield Reason(f"its name is longer than the {LONGEST_NAME} letters that the module allows")
    if evidence.traceable is not None and not is_traceable(evidence.traceable, evidence.named):
        said = f"{symbol.full_name} cannot be traced: it has no site for a gate"
        yield Reason(said, "notrace, noinstr, entry code, or in a file that is not traced")
    if any(each.variadic for each in evidence.prototypes):
        yield Reason("it takes variable arguments", "a gate cannot pass them on")
    for holder in evidence.holders:
        if holder.kind in {Kind.LIVEPATCH, Kind.REDIRECT}:
            yield Reason(
                f"its entry is held by a {holder.kind}: {holder.text}", "take that out first"
            )


def _nameless(evidence: Evidence) -> Reason:
    named, symbols = evidence.named, evidence.symbols
    if len(named.same) > 1:
        said = f"{len(named.same)} have the name {named.name}: a gate would be at any one of them"
        return Reason(said, "gate what calls it, or what it calls")
    if named.elsewhere:
        homes = ", ".join(sorted(each.module or "the kernel" for each in named.elsewhere))
        said = f"{named.name} is in {homes}"
        said += f", and not in {named.module}" if named.module else ": more than one"
        return Reason(said, f"name it as {' or '.join(each.full_name for each in named.elsewhere)}")
    if named.relatives:
        made = ", ".join(each.name for each in named.relatives)
        said = f"there is no {named.name} in this kernel, only what the compiler made of it: {made}"
        return Reason(said, "gate what calls it")
    said = f"there is no function {named.name} in this kernel"
    hint = names.guess(symbols, named.name)
    return Reason(said, hint or "it may be inlined everywhere, or in a module that is not loaded")


def _switched_off(machine: Machine) -> Iterator[Reason]:
    if machine.kmod.loaded and not machine.kmod.enabled:
        yield Reason(SWITCHED_OFF, ENABLE_HINT, denied=True)
    if (machine.text(FTRACE_ENABLED) or "1").strip() == "0":
        yield Reason("ftrace is switched off", "sysctl kernel.ftrace_enabled=1")


def _notes(evidence: Evidence) -> Iterator[str]:
    """Give what is no reason against it, and ought to be known."""
    named = evidence.named
    if named.symbol and named.symbol.module:
        yield (
            f"it is of the module {named.symbol.module}: its subsystem has to say so "
            f'(DYNAMOS_FUNCTION_TRAITS({named.name}, .home = "{named.symbol.module}"))'
        )
    if named.symbol and named.elsewhere:
        where = ", ".join(sorted(each.module or "the kernel" for each in named.elsewhere))
        yield f"others of this name, which are not gated with it: in {where}"
    others = [each.name for each in named.aliases if named.symbol and each != named.symbol]
    if others:
        yield f"the same text has other names: {', '.join(others)}"
    copies = [each.name for each in named.relatives if ".cold" not in each.name]
    if copies and named.symbol:
        yield f"calls of what the compiler made of it do not come to a gate: {', '.join(copies)}"
    if any(each.kind is Kind.INSIDE for each in evidence.holders):
        yield "kprobes inside see nothing of calls that an edition gets"
    if any(each.kind is Kind.BPF for each in evidence.holders):
        yield "eBPF holds the entry: the gate will take the back end ftrace, which is slower"


def is_traceable(traceable: bytes, named: Named) -> bool:
    """Tell whether a function is among those that can be traced, under any of its names."""
    return any(_is_listed(traceable, each) for each in named.aliases)


def _is_listed(traceable: bytes, symbol: Symbol) -> bool:
    line = f"{symbol.name} [{symbol.module}]" if symbol.module else symbol.name
    return f"\n{line}\n".encode() in traceable
