# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel module's file as an ELF file: sections, symbols, relocations.

Written for files that may be wrong in any way. Where everything is, is compared with the file's end
before anything is taken apart, and no two sections may share a byte: so whoever goes through all of
them goes through the file once. What a name or a number leads to, and is not there, is a `BadElf`.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from mmap import mmap

from dynamosd.errors import DynamosError

MOST_BYTES = 32 << 20
"""Of a file. The largest edition has half a megabyte, with all that a debugger wants."""
_MOST_SECTIONS = 20_000
_MOST_ENTRIES = 200_000
"""Symbols of a file, or relocations of a section."""
_LONGEST_NAME = 512

_IDENTITY = b"\x7fELF"
_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")

_CLASS_64, _LOW_BYTE_FIRST, _X86_64 = 2, 1, 62
RELOCATABLE, EXECUTABLE = 1, 2
"""What a file may be: a module, or the kernel's own."""
_SYMBOLS, _RELOCATIONS, _NO_BITS = 2, 4, 8
_ALLOCATED, _CODE = 2, 4
_FUNCTION = 2
_WEAK = 2
_RELATIVE = frozenset({2, 4})
_RESERVED = 0xFF00
_BINDING, _KIND = 4, 0xF


class BadElf(DynamosError):
    """The file is no ELF file, not of this machine, or not whole."""

    code = "invalid"


@dataclass(frozen=True, slots=True)
class Section:
    """One section. ``size`` is that in memory: one without bits has none in the file."""

    number: int
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int

    @property
    def is_code(self) -> bool:
        """Whether the machine runs what is in it."""
        wanted = _ALLOCATED | _CODE
        return self.flags & wanted == wanted and self.has_bits

    @property
    def has_bits(self) -> bool:
        """Whether it takes room in the file."""
        return self.kind != _NO_BITS


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name for a place; ``section`` is 0 where the place is in another file."""

    name: str
    value: int
    size: int
    section: int
    is_function: bool
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Relocation:
    """A place in a section that the kernel fills in: with a symbol's address, and a number more."""

    offset: int
    symbol: Symbol
    addend: int
    kind: int

    @property
    def is_relative(self) -> bool:
        """Whether it is a distance, counted from the place itself: that of a call, or a jump."""
        return self.kind in _RELATIVE


class Elf:
    """A file of x86-64."""

    def __init__(self, data: bytes | mmap, wanted: int = RELOCATABLE) -> None:
        """Look where its sections are.

        Args:
            data: the file.
            wanted: what it has to be.

        Raises:
            BadElf: it is no such file, or ends too early.
        """
        self._data = data
        start, count, names = self._header(wanted)
        table = data[start : start + count * _SECTION.size]
        raw = list(_SECTION.iter_unpack(table))
        for number, each in enumerate(raw[1:], 1):
            self._confine(number, each[1], each[4], each[5])
        _refuse_overlap(raw)
        at, size = raw[names][4:6]
        strings = data[at : at + size]
        self.sections = tuple(
            Section(number, _string(strings, name), kind, flags, offset, size, link, info)
            for number, (name, kind, flags, _, offset, size, link, info, _, _) in enumerate(raw)
        )

    def _header(self, wanted: int) -> tuple[int, int, int]:
        """Give where the table of sections is, how many it has, and which of them has names."""
        data = self._data
        if data[: len(_IDENTITY)] != _IDENTITY:
            raise BadElf("it is no ELF file")
        if len(data) < _HEADER.size:
            raise BadElf("it is cut off in its header")
        _, width, order, _, kind, machine, *_rest = _HEADER.unpack_from(data)
        start, size, count, names = _rest[3], *_rest[8:11]
        if (width, order, machine) != (_CLASS_64, _LOW_BYTE_FIRST, _X86_64):
            raise BadElf("it is not of this machine: kernel modules here are ELF of x86-64")
        if kind != wanted:
            raise BadElf(f"it is an ELF file of type {kind}, where {wanted} is needed")
        if size != _SECTION.size or not 1 < count < min(_MOST_SECTIONS, _RESERVED):
            raise BadElf(f"it says that it has {count} sections of {size} bytes")
        if start + count * size > len(data):
            raise BadElf(f"it is cut off: {len(data)} bytes, its sections need more")
        if not 0 < names < count:
            raise BadElf("it does not say which of its sections has their names")
        return start, count, names

    def _confine(self, number: int, kind: int, offset: int, size: int) -> None:
        """Refuse a section that is not inside the file."""
        if kind != _NO_BITS and offset + size > len(self._data):
            raise BadElf(f"it is cut off: section {number} would end at {offset + size}")

    @cached_property
    def _by_name(self) -> dict[str, Section]:
        return {each.name: each for each in reversed(self.sections)}

    def section(self, name: str) -> Section | None:
        """Give the first section of a name."""
        return self._by_name.get(name)

    def content(self, section: Section | None) -> bytes:
        """Give the bytes of a section; none if there is no such section."""
        if section is None or not section.has_bits:
            return b""
        return self._data[section.offset : section.offset + section.size]

    def _numbered(self, number: int, what: str) -> Section:
        if not 0 < number < len(self.sections):
            raise BadElf(f"{what} are in section {number}, which is not there")
        return self.sections[number]

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols, in their order: the first has no name. Raises `BadElf`."""
        tables = [each for each in self.sections if each.kind == _SYMBOLS]
        if len(tables) != 1:
            raise BadElf(f"it has {len(tables)} tables of symbols; a kernel module has one")
        table = self.content(tables[0])
        if len(table) % _SYMBOL.size or len(table) > _MOST_ENTRIES * _SYMBOL.size:
            raise BadElf(f"its table of symbols has {len(table)} bytes")
        strings = self.content(self._numbered(tables[0].link, "names of symbols"))
        return tuple(
            Symbol(
                _string(strings, name),
                value,
                size,
                section,
                info & _KIND == _FUNCTION,
                info >> _BINDING == _WEAK,
            )
            for name, info, _, section, value, size in _SYMBOL.iter_unpack(table)
        )

    @cached_property
    def named(self) -> dict[str, Symbol]:
        """The symbols that are in this file, by their names. Raises `BadElf`."""
        return {each.name: each for each in self.symbols if each.name and self.home(each)}

    def home(self, symbol: Symbol) -> Section | None:
        """Give the section that a symbol is in; None if it is in none of this file."""
        if 0 < symbol.section < len(self.sections):
            return self.sections[symbol.section]
        return None

    @cached_property
    def undefined(self) -> frozenset[str]:
        """What it cannot do without, and others have, by name. Raises `BadElf`."""
        return frozenset(
            each.name
            for each in self.symbols
            if each.name and not each.section and not each.is_weak
        )

    @cached_property
    def _functions(self) -> dict[int, list[Symbol]]:
        found = defaultdict[int, list[Symbol]](list)
        for each in self.symbols:
            if each.is_function and each.section:
                found[each.section].append(each)
        for symbols in found.values():
            symbols.sort(key=lambda each: each.value)
        return found

    def functions(self, section: Section) -> list[Symbol]:
        """Give the functions of a section, in order of their places. Raises `BadElf`."""
        return self._functions.get(section.number, [])

    @cached_property
    def _tables(self) -> dict[int, list[Section]]:
        found = defaultdict[int, list[Section]](list)
        for each in self.sections:
            if each.kind == _RELOCATIONS:
                found[each.info].append(each)
        return found

    def relocations(self, section: Section) -> Iterator[Relocation]:
        """Give the relocations of a section, as they come in the file. Raises `BadElf`."""
        for table in self._tables.get(section.number, ()):
            entries = self.content(table)
            if len(entries) % _RELOCATION.size or len(entries) > _MOST_ENTRIES * _RELOCATION.size:
                raise BadElf(f"{table.name} has {len(entries)} bytes")
            for offset, kind, number, addend in _RELOCATION.iter_unpack(entries):
                if number >= len(self.symbols):
                    raise BadElf(f"{table.name} is about symbol {number}, which is not there")
                yield Relocation(offset, self.symbols[number], addend, kind)


def _refuse_overlap(raw: list[tuple[int, ...]]) -> None:
    places = sorted((each[4], each[5]) for each in raw[1:] if each[1] != _NO_BITS and each[5])
    end = 0
    for offset, size in places:
        if offset < end:
            raise BadElf(f"two of its sections share the byte at {offset}")
        end = offset + size


def _string(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at, at + _LONGEST_NAME)
    if end < 0:
        raise BadElf(f"a name that should be at {at} is not there")
    return plain(strings[at:end])


def plain(text: bytes) -> str:
    """Give text of a file as it may be shown: without what a terminal takes for commands."""
    decoded = text.decode("utf-8", "backslashreplace")
    return decoded if decoded.isprintable() else decoded.encode("unicode_escape").decode()
