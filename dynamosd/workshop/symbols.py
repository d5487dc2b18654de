# SPDX-License-Identifier: GPL-2.0-or-later
"""The names that the running kernel has for its addresses: ``/proc/kallsyms``.

A line is an address, a letter and a name, and for what a module has, the module's name in
brackets. The kernel's own come first. There are some 200,000 of them, so nothing is done line by
line that can be done for all at once.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dynamosd.errors import NotSupported
from dynamosd.kmod import ROOT_HINT

PATH = "proc/kallsyms"
"""Below ``/``."""

_TEXT = "tTwW"
_TEXT_BYTES = frozenset({b"t", b"T", b"w", b"W"})
_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)\b")
_PADDING = "__pfx_"
"""How a kernel that pads functions names the padding before one."""
_LARGEST = 1 << 20
"""No function is as large: what is farther behind a name than that has none."""
_WORDS = 3
"""Of a line of the kernel's own."""


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """One name. ``module`` is "" for the kernel's own; ``letter`` is nm's."""

    address: int
    name: str
    module: str = ""
    letter: str = "t"

    @property
    def is_text(self) -> bool:
        """Whether it is code."""
        return bool(self.letter) and self.letter in _TEXT

    @property
    def full_name(self) -> str:
        """The name, with the module's before it."""
        return f"{self.module}:{self.name}" if self.module else self.name


class Symbols:
    """All of them."""

    def __init__(self, text: bytes) -> None:
        """Take kallsyms apart.

        Raises:
            NotSupported: there are none, or they are not what is expected.
        """
        end = text.find(b"\t[")
        end = len(text) if end < 0 else text.rfind(b"\n", 0, end) + 1
        words = text[:end].split()
        of_modules = list(_modules(text[end:]))
        self._own = len(words) // _WORDS
        usable = self._own * _WORDS
        self._names = words[2:usable:_WORDS] + [row[2] for row in of_modules]
        self._letters = words[1:usable:_WORDS] + [row[1] for row in of_modules]
        self._modules = [row[3] for row in of_modules]
        numbers = words[0:usable:_WORDS] + [row[0] for row in of_modules]
        try:
            self._addresses = [int(number, 16) for number in numbers]
        except ValueError as error:
            raise NotSupported(f"/{PATH} is not what is expected: {error}") from error
        if not numbers:
            raise NotSupported(f"/{PATH} has no symbols", hint=ROOT_HINT)

    @cached_property
    def has_addresses(self) -> bool:
        """Whether they have addresses, which only root may see."""
        return any(self._addresses)

    def _symbol(self, number: int) -> Symbol:
        module = _text(self._modules[number - self._own]) if number >= self._own else ""
        letter, name = _text(self._letters[number]), _text(self._names[number])
        return Symbol(self._addresses[number], name, module, letter)

    @cached_property
    def _numbers(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for number, name in enumerate(self._names):
            found.setdefault(name, []).append(number)
        return found

    def named(self, name: str) -> list[Symbol]:
        """Give all symbols of a name, in the order in which the kernel looks for them."""
        numbers = self._numbers.get(name.encode("utf-8", "replace"), ())
        return [self._symbol(number) for number in numbers]

    def address(self, name: str) -> int | None:
        """Give the address of a name that the kernel itself has; None when it has none."""
        return next((each.address for each in self.named(name) if not each.module), None)

    @cached_property
    def names(self) -> list[str]:
        """All names of code, each once."""
        pairs = zip(self._names, self._letters, strict=True)
        return sorted({_text(name) for name, letter in pairs if letter in _TEXT_BYTES})

    def relatives(self, symbol: Symbol) -> list[Symbol]:
        """Give what the compiler has made of the same function: changed copies, and parts."""
        stem = _SUFFIX.split(symbol.name, maxsplit=1)[0]
        start = bisect.bisect_left(self.names, stem)
        found = []
        for name in self.names[start:]:
            if not name.startswith(stem):
                break
            if name != symbol.name and _SUFFIX.split(name, maxsplit=1)[0] == stem:
                found += [each for each in self.named(name) if each.module == symbol.module]
        return found

    @cached_property
    def _sorted(self) -> tuple[list[int], list[int]]:
        """Addresses of code in order, with the numbers of the symbols."""
        pairs = sorted(
            (address, number)
            for number, (address, letter) in enumerate(
                zip(self._addresses, self._letters, strict=True)
            )
            if letter in _TEXT_BYTES and address
        )
        return [address for address, _ in pairs], [number for _, number in pairs]

    def _all_at(self, address: int) -> list[Symbol]:
        addresses, numbers = self._sorted
        first, last = (
            bisect.bisect_left(addresses, address),
            bisect.bisect_right(addresses, address),
        )
        return [self._symbol(number) for number in numbers[first:last]]

    def aliases(self, symbol: Symbol) -> list[Symbol]:
        """Give all names of a symbol's place, its own too."""
        return self._all_at(symbol.address) if symbol.is_text and symbol.address else [symbol]

    def at(self, address: int) -> Symbol | None:
        """Give the code that an address is in: the last symbol that is not behind it."""
        addresses, _ = self._sorted
        place = bisect.bisect_right(addresses, address) - 1
        if place < 0:
            return None
        found = self._all_at(addresses[place])
        # Of several names of one place, the one that others see.
        return min(found, key=lambda each: (each.letter not in "TW", len(each.name), each.name))

    def end(self, address: int) -> int | None:
        """Give where the next code's symbol is; None behind the last."""
        addresses, numbers = self._sorted
        place = bisect.bisect_right(addresses, address)
        return addresses[place] if place < len(numbers) else None

    def describe(self, address: int) -> str:
        """Give an address as ``name+0x10``; as a number when no code is there."""
        symbol = self.at(address)
        offset = address - symbol.address if symbol else 0
        if symbol is None or offset > _LARGEST:
            return f"{address:#x}"
        return f"{symbol.full_name}+{offset:#x}" if offset else symbol.full_name

    @cached_property
    def _data(self) -> tuple[list[int], list[int]]:
        pairs = sorted(
            (address, number)
            for number, address in enumerate(self._addresses[: self._own])
            if address
        )
        return [address for address, _ in pairs], [number for _, number in pairs]

    def describe_data(self, address: int) -> str:
        """Give an address of the kernel's data as ``name+0x10``."""
        addresses, numbers = self._data
        place = bisect.bisect_right(addresses, address) - 1
        if place < 0:
            return f"{address:#x}"
        symbol = self._symbol(numbers[place])
        offset = address - symbol.address
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name


def is_changed(name: str) -> bool:
    """Tell whether the compiler has marked a name as that of a changed copy, or of a part."""
    return _SUFFIX.search(name) is not None


def read(root: Path) -> Symbols:
    """Read the running kernel's.

    Raises:
        NotSupported: they may not be read here.
    """
    try:
        return Symbols((root / PATH).read_bytes())
    except OSError as error:
        message = f"/{PATH} cannot be read: {error.strerror}"
        raise NotSupported(message, hint=ROOT_HINT) from error


def _modules(text: bytes) -> Iterator[tuple[bytes, ...]]:
    """Give the words of what modules have; a line that is something else is left out."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == _WORDS + 1:
            yield (*words[:_WORDS], words[_WORDS].strip(b"[]"))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
