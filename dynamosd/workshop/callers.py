# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a function is called from, jumped to, and where its address is taken.

What leads to a function, in the kernel's text, ends with 32 bits that say how far it is from there.
They are searched for as bytes: in 64 KiB of text their upper half has one of two values, and only
where that is found the rest is looked at. Bytes that only look so are told apart by disassembling
the function that they are in from its beginning: what is told is an instruction, always.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dynamosd.errors import DynamosError
from dynamosd.workshop.symbols import Symbol
from dynamosd.workshop.text import Instruction, Tell, Text

TEXT = ("_stext", "_etext")
DATA = (("__start_rodata", "__end_rodata"), ("_sdata", "_edata"), ("__bss_start", "__bss_stop"))
"""Constants and variables. What was for the boot only has been freed, and is somebody else's."""

_WINDOW = 1 << 16
_DISTANCE = struct.Struct("<i")
_DISTANCES = range(-(1 << 31), 1 << 31)
_SIGNED = range((1 << 64) - (1 << 31), 1 << 64)
"""Addresses that 32 bits are enough for, because their sign is copied into the rest."""
_HALF = 2
_NEAR = 130
"""How far a jump of two bytes comes, and its own two bytes, at most."""
_POINTER = struct.Struct("<Q")
_MOST_KEPT = 64
"""Functions of which the instructions are kept: callers come in order, many to a function."""


class How(enum.StrEnum):
    """What an instruction does with a function."""

    CALL = "call"
    JUMP = "jump"
    BRANCH = "branch"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction that leads to the function."""

    address: int
    where: str
    how: How


@dataclass(frozen=True, slots=True)
class Callers:
    """What was found.

    ``unseen`` places were left out, because there are so many; ``unsure`` are in a function that
    could not be disassembled up to there. ``pointers`` are in the kernel's data; ``blind`` is why
    an area of it could not be looked at.
    """

    sites: tuple[Site, ...] = ()
    pointers: tuple[str, ...] = ()
    unseen: int = 0
    unsure: int = 0
    blind: tuple[str, ...] = ()


class Finder:
    """Looks for callers."""

    def __init__(self, text: Text, tell: Tell) -> None:
        """Read nothing yet. ``tell`` is told how far it has come."""
        self._text = text
        self._tell = tell
        self._kept: dict[int, dict[int, Instruction]] = {}

    def find(self, symbol: Symbol, most: int) -> Callers:
        """Find what leads to a function.

        Args:
            symbol: the function.
            most: how many places are looked at; there are thousands of the most used functions.

        Raises:
            DynamosError: the text is not to be had.
        """
        places = self._places(symbol.address)
        sites: list[Site] = []
        unsure = 0
        for number, place in enumerate(places[:most]):
            self._tell(f"confirming callers of {symbol.name}", number / len(places))
            instructions = self._instructions(place)
            found = instructions.get(place + _DISTANCE.size)
            if found is None:
                unsure += max(instructions, default=0) < place
            elif how := _how(found, symbol.address):
                where = self._text.symbols.describe(found.address)
                sites.append(Site(found.address, where, how))
        sites = sorted({*sites, *self._short(symbol.address)}, key=lambda site: site.address)
        unseen = max(0, len(places) - most)
        pointers, blind = self._pointers(symbol.address)
        return Callers(tuple(sites), pointers, unseen, unsure, blind)

    def _short(self, wanted: int) -> Iterator[Site]:
        """Give the jumps of two bytes, of which no search finds the one that says how far it is."""
        start, text = self._text.area(*TEXT)
        at, last = max(start, wanted - _NEAR), min(start + len(text), wanted + _NEAR) - 1
        while at <= last:
            for each in self._instructions(at).values():
                is_short = len(each.code) <= _DISTANCE.size
                if is_short and each.target == wanted and (how := _how(each, wanted)):
                    yield Site(each.address, self._text.symbols.describe(each.address), how)
            at = self._text.symbols.end(at) or last + 1

    def _places(self, wanted: int) -> list[int]:
        """Give the addresses of the 32 bits that may be what leads to an address, in order."""
        start, text = self._text.area(*TEXT)
        tell = f"looking for what leads to {self._text.symbols.describe(wanted)}"
        found = set(_absolute(text, wanted))
        for window in range(0, len(text), _WINDOW):
            self._tell(tell, window / len(text))
            found.update(_relative(text, window, wanted - start))
        return sorted(start + each for each in found)

    def _instructions(self, place: int) -> dict[int, Instruction]:
        """Give the instructions of the function that a place is in, by where they end."""
        function = self._text.symbols.at(place)
        if function is None:
            return {}
        if function.address not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            body = self._text.body(function)
            self._kept[function.address] = {each.end: each for each in body.instructions}
        return self._kept[function.address]

    def _pointers(self, wanted: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Give the places in the kernel's data that hold an address, and why not all were seen."""
        found: list[str] = []
        blind: list[str] = []
        for first, last in DATA:
            try:
                start, data = self._text.area(first, last)
            except DynamosError as error:
                blind.append(error.message)
                continue
            places = _find_all(data, _POINTER.pack(wanted), 0, len(data))
            aligned = (start + at for at in places if (start + at) % _POINTER.size == 0)
            found += map(self._text.symbols.describe_data, aligned)
        return tuple(found), tuple(blind)


def _find_all(text: bytes, wanted: bytes, start: int, end: int) -> Iterator[int]:
    at = text.find(wanted, start, end)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1, end)


def _absolute(text: bytes, wanted: int) -> Iterable[int]:
    """Give where the lower half of an address stands: the upper one is that of all the kernel."""
    if wanted not in _SIGNED:
        return ()
    return _find_all(text, _POINTER.pack(wanted)[: _DISTANCE.size], 0, len(text))


def _relative(text: bytes, window: int, wanted: int) -> Iterator[int]:
    """Give where in a window stands how far it is to ``wanted``; all count from the text's start.

    The distance counts from the end of the 32 bits, which an instruction ends with.
    """
    far, near = wanted - window - _DISTANCE.size, wanted - window - _WINDOW - _DISTANCE.size
    # Nothing leads farther than 32 bits can say.
    for upper in {_DISTANCE.pack(each)[_HALF:] for each in (far, near) if each in _DISTANCES}:
        end = min(window + _WINDOW + _DISTANCE.size, len(text))
        for half in _find_all(text, upper, window + _HALF, end):
            at = half - _HALF
            if _DISTANCE.unpack_from(text, at)[0] + at + _DISTANCE.size == wanted:
                yield at


def _how(instruction: Instruction, wanted: int) -> How | None:
    """Tell what an instruction does with an address that it holds."""
    if instruction.target == wanted:
        if instruction.is_call:
            return How.CALL
        return How.JUMP if instruction.mnemonic == "jmp" else How.BRANCH
    if instruction.target:
        return None
    # Relative, as in `lea rdi, [rip + 0x1234]`, or the address itself.
    shown = {f"[rip + {wanted - instruction.end:#x}]", f"[rip - {instruction.end - wanted:#x}]"}
    is_lea = instruction.mnemonic == "lea" and any(each in instruction.operands for each in shown)
    return How.ADDRESS if is_lea or _holds(instruction.operands, wanted) else None


def _holds(operands: str, wanted: int) -> bool:
    """Tell whether an address is one of the operands, in one of the ways in which it is shown."""
    words: Sequence[str] = operands.replace(",", " ").split()
    negative = f"-{(1 << 64) - wanted:#x}" if wanted >> 63 else ""
    return any(each in {f"{wanted:#x}", f"{wanted & 0xFFFFFFFF:#x}", negative} for each in words)
