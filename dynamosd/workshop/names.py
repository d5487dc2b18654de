# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function a name means, and which one was meant by a name that there is none of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dynamosd.policy.problems import did_you_mean
from dynamosd.workshop.symbols import Symbol, Symbols

_ALIKE = 3
"""Letters at a name's beginning or end that one who has mistyped it has still got right."""


@dataclass(frozen=True, slots=True)
class Named:
    """What has a name. ``symbol`` is None when nothing has, or too much.

    ``same`` are all symbols of the name in the same place, the kernel or that module;
    ``elsewhere`` those of other modules. ``aliases`` are all names of the function's address, its
    own too; ``relatives`` what the compiler has made of it besides.
    """

    name: str
    symbol: Symbol | None
    same: tuple[Symbol, ...] = ()
    elsewhere: tuple[Symbol, ...] = ()
    aliases: tuple[Symbol, ...] = ()
    relatives: tuple[Symbol, ...] = ()


def find(symbols: Symbols, asked: str) -> Named:
    """Find what is meant by ``function`` or ``module:function``.

    Without a module it is the kernel's own, or else that of the only module that has one.
    """
    module, colon, name = asked.rpartition(":")
    found = symbols.named(name)
    if not colon:
        homes = {each.module for each in found}
        module = next(iter(homes)) if len(homes) == 1 else ""
    same = tuple(each for each in found if each.module == module)
    elsewhere = tuple(each for each in found if each.module != module)
    if len(same) != 1:
        relatives = symbols.relatives(Symbol(0, name, module))
        return Named(name, None, same, elsewhere, same, tuple(relatives))
    [symbol] = same
    return Named(
        name,
        symbol,
        same,
        elsewhere,
        tuple(symbols.aliases(symbol)),
        tuple(symbols.relatives(symbol)),
    )


def guess(symbols: Symbols, asked: str) -> str:
    """Give the hint ``did you mean "…"?``, or ""."""
    name = asked.rpartition(":")[2]
    return did_you_mean(name, _near(symbols.names, name))


def _near(names: Iterable[str], name: str) -> list[str]:
    """Give names that may be meant: to compare all of them letter by letter takes many seconds."""
    ends, lengths = (
        (name[:_ALIKE], name[-_ALIKE:]),
        range(len(name) - _ALIKE, len(name) + _ALIKE + 1),
    )
    return [
        each
        for each in names
        if len(each) in lengths and (each.startswith(ends[0]) or each.endswith(ends[1]))
    ]
