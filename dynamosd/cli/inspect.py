# SPDX-License-Identifier: GPL-2.0-or-later
"""``edition inspect``: a kernel function, for who wants to write an edition of it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING

from dynamosd.cli.output import colour, print_json, table, width, wrap
from dynamosd.cli.progress import Progress
from dynamosd.doctor import Machine
from dynamosd.workshop import holders
from dynamosd.workshop.gating import Verdict
from dynamosd.workshop.inspection import MOST_CALLERS, Inspector

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from dynamosd.kmod import Kmod
    from dynamosd.workshop.body import Call, Facts
    from dynamosd.workshop.callers import Callers
    from dynamosd.workshop.inspection import Inspection
    from dynamosd.workshop.standings import Standing

_EVERY = 1 << 32
_VERDICTS = {
    Verdict.YES: ("can be gated", "green"),
    Verdict.UNSURE: ("nothing seen that speaks against a gate", "yellow"),
    Verdict.NO: ("cannot be gated", "red"),
    Verdict.DENIED: ("must not be gated", "red"),
}
_INDENT = "  "
_MOST_BYTES = 8
"""Of an instruction, that are shown to a person."""
_MOST_SHOWN = 20
"""Of callers, that are shown to a person who does not want all."""
_MOST_PLACES = 8
"""Of offsets in a function, that are shown to a person."""
_NOT_SEEN = (
    "calls through pointers, static calls that are not patched into the text, and calls by "
    "modules are not seen; where it was inlined there is no call, and a gate is not there either"
)


def show_inspection(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show all that is known of a function."""
    most = _EVERY if args.all else MOST_CALLERS
    with contextlib.closing(Progress()) as tell, Inspector(Machine(kmod), tell) as inspector:
        found = inspector.inspect(args.function, most)
    if args.output == "json":
        print_json("Inspection", **as_json(found))
    else:
        _print(found, most=_EVERY if args.all else _MOST_SHOWN)
    return found.exit_code


def as_json(found: Inspection) -> dict[str, object]:
    """Give an inspection for programs."""
    judgement, symbol = found.judgement, found.named.symbol
    return {
        "function": found.named.name,
        "module": symbol.module if symbol else None,
        "address": f"{symbol.address:#x}" if symbol else None,
        "verdict": str(judgement.verdict),
        "exit_code": found.exit_code,
        "reasons": [asdict(each) for each in judgement.reasons],
        "notes": list(judgement.notes),
        "same_name": [each.full_name for each in (*found.named.same, *found.named.elsewhere)],
        "relatives": [each.full_name for each in found.named.relatives],
        "prototypes": [
            {**asdict(each), "parameters": [list(pair) for pair in each.parameters]}
            for each in found.prototypes
        ],
        "text": _text_json(found),
        "holders": [{"kind": str(each.kind), "text": each.text} for each in found.holders],
        "callers": _callers_json(found.callers),
        "subsystems": [_standing_json(each) for each in found.standings],
        "missing": [asdict(each) for each in found.missing],
    }


def _text_json(found: Inspection) -> dict[str, object] | None:
    facts, symbol = found.body, found.named.symbol
    if not facts or not symbol:
        return None
    return {
        "size": facts.size,
        "instructions": facts.instructions,
        "whole": facts.is_whole,
        "entry": [
            {"offset": each.address - symbol.address, "bytes": each.code.hex(), "text": text}
            for each, text in zip(facts.entry, found.entry, strict=True)
        ],
        "loops": [asdict(each) for each in facts.loops],
        "may_sleep": [asdict(each) for each in facts.sleeps],
        "may_sleep_by_flags": [asdict(each) for each in facts.may_allocate],
        "calls_through_pointers": list(facts.pointers),
        "calls": list(facts.calls),
    }


def _standing_json(standing: Standing) -> dict[str, object]:
    found = asdict(standing)
    gated = found.pop("is_gated")
    return {**found, "gated": gated}


def _callers_json(callers: Callers | None) -> dict[str, object] | None:
    if callers is None:
        return None
    return {
        "sites": [
            {"where": each.where, "how": str(each.how), "address": f"{each.address:#x}"}
            for each in callers.sites
        ],
        "pointers": list(callers.pointers),
        "not_looked_at": callers.unseen,
        "unsure": callers.unsure,
        "not_seen": _NOT_SEEN,
    }


# ------------------------------------------------------------------------------------ a report


def _print(found: Inspection, most: int) -> None:
    symbol = found.named.symbol
    said, hue = _VERDICTS[found.judgement.verdict]
    name = symbol.full_name if symbol else found.named.name
    print(f"{colour(name, 'bold')}: {colour(said, hue)}")
    for reason in found.judgement.reasons:
        _item(reason.text, "- ")
        if reason.hint:
            _item(reason.hint, "  -> ")
    for note in found.judgement.notes:
        _item(note, "note: ")
    for missing in found.missing:
        hint = f" -> {missing.hint}" if missing.hint else ""
        _item(f"{missing.what}: {missing.why}{hint}", "not known: ")
    _print_prototypes(found)
    if found.body:
        _print_entry(found, found.body)
    _print_holders(found)
    if found.callers:
        _print_callers(found.callers, most)
    if found.body:
        _print_body(found, found.body)
    if symbol and symbol.is_text:
        _print_standings(found)


def _item(text: str, mark: str = "", indent: str = _INDENT) -> None:
    print("\n".join(wrap(text, indent + " " * len(mark), indent + mark)))


def _head(text: str) -> None:
    print(f"\n{colour(text, 'bold')}")


def _print_prototypes(found: Inspection) -> None:
    if not found.named.same:
        return
    _head("prototype")
    for each in found.prototypes:
        _item(f"{each.text};", "", _INDENT)
    if not found.prototypes:
        _item("the kernel's type information has none under this name")
    if len(found.prototypes) > 1:
        _item("several functions of this name, which differ")


def _print_entry(found: Inspection, facts: Facts) -> None:
    symbol = found.named.symbol
    start = symbol.address if symbol else 0
    _head(f"entry ({facts.size} bytes, {facts.instructions} instructions, as they are now)")
    for each, text in zip(facts.entry, found.entry, strict=True):
        offset, code = f"+{each.address - start:#x}", _bytes(each.code)
        mark = f"{offset:<6} {code:<{3 * _MOST_BYTES}} "
        # The name of what is called is copied: rather no column than a broken name.
        fits = len(_INDENT + mark + text) <= width()
        _item(text, mark if fits else f"{offset:<6} {code} ")
    if not facts.is_whole:
        _item("not all of it can be disassembled: what follows is of its first part")


def _bytes(code: bytes) -> str:
    return code.hex(" ") if len(code) <= _MOST_BYTES else f"{code[: _MOST_BYTES - 1].hex(' ')} …"


def _print_holders(found: Inspection) -> None:
    symbol = found.named.symbol
    if not symbol or not symbol.is_text:
        return
    _head("who holds the entry now")
    for each in found.holders:
        _item(f"{each.kind}: {each.text}")
    if not found.holders:
        unseen = {holders.ENTRY, holders.PROBES} & {each.what for each in found.missing}
        _item("nobody that can be seen here" if unseen else "nobody")


def _print_callers(callers: Callers, most: int) -> None:
    _head(f"callers in the kernel's text: {len(callers.sites)}" + "+" * bool(callers.unseen))
    _list([f"{each.where} ({each.how})" for each in callers.sites], most)
    if callers.pointers:
        _item(f"its address is in the kernel's data, in {len(callers.pointers)} places:")
        _list(list(callers.pointers), most)
    if callers.unseen:
        _item(f"{callers.unseen} more places may be callers, and were not looked at: --all")
    if callers.unsure:
        _item(f"{callers.unsure} more places are in text that cannot be disassembled")
    _item(_NOT_SEEN)


def _list(texts: Sequence[str], most: int) -> None:
    for text in texts[:most]:
        _item(text, "- ")
    if len(texts) > most:
        _item(f"and {len(texts) - most} more: --all, or -o json", "- ")


def _print_body(found: Inspection, facts: Facts) -> None:
    _head("inside")
    cold = [each.name for each in found.named.relatives if ".cold" in each.name]
    for line in _inside(facts, is_all=facts.is_whole and not cold and not facts.jumps_anywhere):
        _item(line)
    if cold:
        _item(f"what is unlikely to run stands elsewhere, and is not looked at: {', '.join(cold)}")


def _inside(facts: Facts, *, is_all: bool) -> Iterator[str]:
    """Say what the function does that its replacement has to reckon with.

    ``is_all``: there is no jump that was not seen.
    """
    if facts.loops:
        targets = sorted({each.to for each in facts.loops})
        where = ", ".join(f"+{each:#x}" for each in targets[:_MOST_PLACES])
        yield f"jumps back, so it may loop: to {where}{_more(targets)}"
    else:
        yield "no jump back: it does not loop itself" if is_all else "no jump back was seen"
    if facts.sleeps:
        yield f"calls what may sleep: {_calls(facts.sleeps)}"
    else:
        yield "calls nothing itself that is known to sleep; what it calls may"
    if facts.may_allocate:
        yield f"allocates, and sleeps then if its flags allow it: {_calls(facts.may_allocate)}"
    if facts.pointers:
        places = ", ".join(f"+{each:#x}" for each in facts.pointers[:_MOST_PLACES])
        yield f"calls or jumps through pointers at {places}{_more(facts.pointers)}"


def _calls(calls: Iterable[Call]) -> str:
    found: dict[str, int] = {}
    for each in calls:
        found[each.to] = found.get(each.to, 0) + 1
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in found.items())


def _more(listed: Sequence[object]) -> str:
    return f" and {len(listed) - _MOST_PLACES} more" if len(listed) > _MOST_PLACES else ""


def _print_standings(found: Inspection) -> None:
    _head("subsystems that have it")
    for each in found.standings:
        _print_standing(each)
    if not found.standings:
        _item("none")
    if not any(each.is_gated for each in found.standings):
        name = found.named.name
        _item(f"it has no gate, so nobody counts its calls; to count them: funccount-bpfcc {name}")


def _print_standing(standing: Standing) -> None:
    how = f"gate: {standing.backend}" if standing.is_gated else "no gate now"
    editions = ", ".join(standing.editions)
    _item(f"{standing.subsystem} ({how}); active: {standing.active}; editions: {editions}")
    if not standing.by_address:
        _item("it has one of this name: the module does not show at which address", "- ")
    rows = [
        (each.edition, f"{each.calls_per_second:.1f}", str(each.in_flight))
        for each in standing.rates
    ]
    if rows:
        for line in table(("EDITION", "CALLS/S", "IN FLIGHT"), rows, right="CALLS/S,IN FLIGHT"):
            print(f"{_INDENT * 2}{line}")
