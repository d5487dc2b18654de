# SPDX-License-Identifier: GPL-2.0-or-later
"""The subsystems that have a function, and what its editions get now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dynamosd.errors import DynamosError
from dynamosd.kmod import Kmod
from dynamosd.model import Function, Subsystem
from dynamosd.workshop.missing import Missing, because
from dynamosd.workshop.names import Named

_ENDBR = 4
"""Bytes of what may stand before the entry that the module tells."""
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one edition of a function got in a second, and who is in it now."""

    edition: str
    calls_per_second: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A subsystem that has the function. ``rates`` is empty while there is no gate.

    ``by_address``: it is this function; else one of this name, and the module shows no more.
    """

    subsystem: str
    backend: str
    active: str
    editions: tuple[str, ...]
    rates: tuple[Rate, ...] = ()
    is_gated: bool = False
    by_address: bool = False


@dataclass(frozen=True, slots=True)
class _Having:
    subsystem: Subsystem
    function: Function
    by_address: bool

    def standing(self, rates: tuple[Rate, ...] = ()) -> Standing:
        """Give how it stands at this moment."""
        return Standing(
            self.subsystem.name,
            self.function.backend,
            self.subsystem.active,
            tuple(self.subsystem.editions),
            rates,
            self.function.is_gated,
            self.by_address,
        )


def look(
    kmod: Kmod, named: Named, missing: list[Missing], pause: Callable[[float], None]
) -> tuple[Standing, ...]:
    """Look at the subsystems that have a function, twice if it is gated.

    Args:
        kmod: the module; one that is not loaded has none.
        named: the function.
        missing: gets what could not be told: the module may go away meanwhile.
        pause: waits, between the two looks.
    """
    before: list[_Having] = []
    if not kmod.loaded:
        return ()
    try:
        before, begin = list(_having(kmod, named)), time.monotonic()
        if any(each.function.is_gated for each in before):
            pause(_PAUSE_SECONDS)
            now = list(_having(kmod, named))
            return tuple(_compare(before, now, max(time.monotonic() - begin, 1e-3)))
    except DynamosError as error:
        missing.append(because("calls a second" if before else "subsystems", error))
    return tuple(each.standing() for each in before)


def _having(kmod: Kmod, named: Named) -> Iterator[_Having]:
    """Give the subsystems that have the function; one may have others of the name."""
    for subsystem in kmod.read().subsystems.values():
        for function in subsystem.functions.values():
            address = kmod.read_address(subsystem.name, function.name)
            is_it, by_address = _is_it(named, function.name, address)
            if is_it:
                yield _Having(subsystem, function, by_address)


def _is_it(named: Named, name: str, address: int | None) -> tuple[bool, bool]:
    """Tell whether a function is the one, and whether that is known by its address."""
    if address and named.symbol and named.symbol.address:
        return 0 <= address - named.symbol.address <= _ENDBR, True
    return name in {named.name, *(each.name for each in named.aliases)}, False


def _compare(before: list[_Having], after: list[_Having], seconds: float) -> Iterator[Standing]:
    """Give how each stands that is still there, with what came in so many seconds."""
    then = {(each.subsystem.name, each.function.name): each.function.counts for each in before}
    for each in after:
        counts = then.get((each.subsystem.name, each.function.name), {})
        yield each.standing(
            tuple(
                # One that was loaded anew meanwhile counts from 0 again.
                Rate(edition, max(0, new.calls - counts[edition].calls) / seconds, new.in_flight)
                for edition, new in each.function.counts.items()
                if edition in counts
            )
        )
