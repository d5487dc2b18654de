# SPDX-License-Identifier: GPL-2.0-or-later
"""The names that the running kernel has for its addresses: ``/proc/kallsyms``.

A line is an address of sixteen digits, a letter and a name, and for what a module has, the module's
name in brackets. There are some 200,000 of them, so they stay the text that they are: names are
searched for in it, and lines in order of their text are in order of their addresses.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dynamosd.errors import NotSupported
from dynamosd.kmod import ROOT_HINT

PATH = "proc/kallsyms"
"""Below ``/``."""

_TEXT = "tTwW"
_LINE = re.compile(rb"([0-9a-f]{16}) (\S) ([^\t\n]+)(?:\t\[([^\]\n]+)\])?")
_TEXT_LINES = re.compile(rb"^[0-9a-f]{16} [tTwW] .+$", re.MULTILINE)
_OWN_LINES = re.compile(rb"^[0-9a-f]{16} \S [^\t\n]+$", re.MULTILINE)
_AN_ADDRESS = re.compile(rb"^0*[1-9a-f]", re.MULTILINE)
_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)\b")
_MARK = re.compile(r"_[se]?text|_[se]inittext|__\w+_(?:start|end|begin)")
"""Names of the linker's, for where something begins or ends."""
_LARGEST = 1 << 20
"""No function is as large: what is farther behind a name than that has none."""
_AFTER = b"\xff"
"""Comes behind every line that begins with the same address."""
_ALIKE = 3
"""Letters at a name's beginning or end that one who has mistyped it has still got right."""


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
        """Keep the text of kallsyms.

        Raises:
            NotSupported: there is no symbol.
        """
        if not _LINE.match(text):
            raise NotSupported(f"/{PATH} has no symbols", hint=ROOT_HINT)
        self._text = b"\n" + text
        self._modules: dict[str, list[bytes]] = {}

    @cached_property
    def has_addresses(self) -> bool:
        """Whether they have addresses, which only root may see."""
        return bool(_AN_ADDRESS.search(self._text))

    def named(self, name: str) -> list[Symbol]:
        """Give all symbols of a name, in the order in which the kernel has them."""
        found = []
        wanted = b" %s" % name.encode("utf-8", "replace")
        for at in _find_all(self._text, wanted):
            if self._text[at + len(wanted) : at + len(wanted) + 1] in {b"\n", b"\t", b""}:
                found += self._line_at(at)
        return found

    def _line_at(self, at: int) -> list[Symbol]:
        """Give the symbol of the line that a place is in; none if it is no line."""
        match = _LINE.match(self._text, self._text.rfind(b"\n", 0, at) + 1)
        return [_symbol(match)] if match and match.start(3) == at + 1 else []

    def address(self, name: str) -> int | None:
        """Give the address of a name that the kernel itself has; None when it has none."""
        return next((each.address for each in self.named(name) if not each.module), None)

    def relatives(self, symbol: Symbol) -> list[Symbol]:
        """Give what the compiler has made of the same function: changed copies, and parts."""
        stem = _SUFFIX.split(symbol.name, maxsplit=1)[0]
        places = _find_all(self._text, b" %s." % stem.encode("utf-8", "replace"))
        found = [each for at in places for each in self._line_at(at)]
        found += self.named(stem) if stem != symbol.name else []
        return sorted(
            each
            for each in found
            if each.module == symbol.module
            and each.name != symbol.name
            and _SUFFIX.split(each.name, maxsplit=1)[0] == stem
        )

    def near(self, name: str) -> list[str]:
        """Give names of code that are about as long, and begin or end as ``name`` does.

        To compare all of them letter by letter would take many seconds.
        """
        wanted = name.encode("utf-8", "replace")
        begin, end = re.escape(wanted[:_ALIKE]), re.escape(wanted[-_ALIKE:])
        rest = b"{%d,%d}" % (max(0, len(name) - 2 * _ALIKE), len(name))
        pattern = rb" [tTwW] (%s[^\t\n]%s|[^\t\n]%s%s)(?=[\t\n])" % (begin, rest, rest, end)
        return sorted({_decode(each) for each in re.findall(pattern, self._text)})

    @cached_property
    def _code(self) -> list[bytes]:
        """The lines of all code, in order of addresses."""
        return sorted(_TEXT_LINES.findall(self._text))

    def _all_at(self, address: int) -> list[Symbol]:
        """Give all names of code of one place."""
        digits = b"%016x" % address
        first = bisect.bisect_left(self._code, digits)
        last = bisect.bisect_right(self._code, digits + _AFTER)
        found = _symbols(self._code[first:last])
        return [each for each in found if not _MARK.fullmatch(each.name)] or found

    def aliases(self, symbol: Symbol) -> list[Symbol]:
        """Give all names of a symbol's place, its own too."""
        return self._all_at(symbol.address) if symbol.is_text and symbol.address else [symbol]

    def at(self, address: int) -> Symbol | None:
        """Give the code that an address is in: the last symbol that is not behind it."""
        place = bisect.bisect_right(self._code, b"%016x" % address + _AFTER) - 1
        if place < 0:
            return None
        found = self._all_at(int(self._code[place][:16], 16))
        return found[0] if len(found) == 1 else min(found, key=self._preference)

    def _preference(self, symbol: Symbol) -> tuple[int, bool, int, str]:
        """Order names of one place: first the one that others see.

        The text that a module needed only to begin has been freed, and may be a newer module's now.
        The kernel lists the newest first.
        """
        module = b"\t[%s]\n" % symbol.module.encode("utf-8", "replace")
        age = self._text.find(module) if symbol.module else -1
        return age, symbol.letter not in "TW", len(symbol.name), symbol.name

    def end(self, address: int, module: str = "") -> int | None:
        """Give where the next code's symbol is, or the module's next of any kind; None if none is.

        Behind a module's code are its data, and no name says where the code ends.
        """
        ends = [_next(self._code, address), _next(self._of_module(module), address)]
        return min((each for each in ends if each is not None), default=None)

    def _of_module(self, module: str) -> list[bytes]:
        """Give the lines of all that a module has, data too, in order of addresses."""
        if not module:
            return []
        if module not in self._modules:
            name = re.escape(module.encode("utf-8", "replace"))
            pattern = rb"^[0-9a-f]{16} \S [^\t\n]+\t\[%s\]$" % name
            self._modules[module] = sorted(re.findall(pattern, self._text, re.MULTILINE))
        return self._modules[module]

    def describe(self, address: int) -> str:
        """Give an address as ``name+0x10``; as a number when no code is there."""
        symbol = self.at(address)
        offset = address - symbol.address if symbol else 0
        if symbol is None or offset > _LARGEST:
            return f"{address:#x}"
        return f"{symbol.full_name}+{offset:#x}" if offset else symbol.full_name

    @cached_property
    def _own(self) -> list[bytes]:
        """The lines of all that is the kernel's own, data too, in order of addresses."""
        return sorted(_OWN_LINES.findall(self._text))

    def describe_data(self, address: int) -> str:
        """Give an address of the kernel's data as ``name+0x10``."""
        place = bisect.bisect_right(self._own, b"%016x" % address + _AFTER) - 1
        if place < 0:
            return f"{address:#x}"
        [symbol] = _symbols(self._own[place : place + 1])
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


def _find_all(text: bytes, wanted: bytes) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _next(lines: Sequence[bytes], address: int) -> int | None:
    """Give the first address behind another, of lines in order."""
    place = bisect.bisect_right(lines, b"%016x" % address + _AFTER)
    return int(lines[place][:16], 16) if place < len(lines) else None


def _symbols(lines: Sequence[bytes]) -> list[Symbol]:
    return [_symbol(match) for line in lines if (match := _LINE.match(line))]


def _symbol(match: re.Match[bytes]) -> Symbol:
    address, letter, name, module = match.groups(b"")
    return Symbol(int(address, 16), _decode(name), _decode(module), _decode(letter))


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "replace")
