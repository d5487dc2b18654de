# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function a name means, and which one was meant by a name that there is none of."""

from __future__ import annotations

from dataclasses import dataclass

from dynamosd.policy.problems import did_you_mean
from dynamosd.workshop.symbols import Symbol, Symbols


@dataclass(frozen=True, slots=True)
class Named:
    """What has a name. ``symbol`` is None when nothing has, or too much.

    ``module`` is the one that was meant, "" for the kernel itself. ``same`` are all symbols of the
    name there; ``elsewhere`` those of others. ``aliases`` are all names of the function's address,
    its own too; ``relatives`` what the compiler has made of it besides.
    """

    name: str
    symbol: Symbol | None
    module: str = ""
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
        return Named(name, None, module, same, elsewhere, same, tuple(relatives))
    [symbol] = same
    return Named(
        name,
        symbol,
        module,
        same,
        elsewhere,
        tuple(symbols.aliases(symbol)),
        tuple(symbols.relatives(symbol)),
    )


def guess(symbols: Symbols, asked: str) -> str:
    """Give the hint ``did you mean "…"?``, or ""."""
    name = asked.rpartition(":")[2]
    return did_you_mean(name, symbols.near(name))
