# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module is to us: an edition, a subsystem, the core, or nothing that we know.

Read from what the macros of `kmod/include/dynamos/edition.h` leave in the file: objects with names
that begin with ``dynamos_``, and the relocations of their members. The numbers below are places in
the structures of that header.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from dynamosd.workshop.checks.contents import modinfo
from dynamosd.workshop.checks.elf import BadElf, Elf, Relocation, Symbol, plain

CORE = "dynamos"
"""The module that all others need."""

_EDITION, _SUBSYSTEM = "dynamos_edition_", "dynamos_subsystem_"
_EDITION_TRAITS, _SUBSYSTEM_TRAITS = "dynamos_edition_traits_", "dynamos_subsystem_traits_"
_REPLACEMENT, _REPLACEMENTS = "dynamos_replacement_", "dynamos_replacements_"
_FUNCTION, _TRAITS = "dynamos_function_", "dynamos_traits_"
_OBJECT = "dynamos_object_"

_NAME, _OF_SUBSYSTEM = 0, 16
"""Members of `struct dynamos_edition`."""
_REPLACED, _WRAPPER = 0, 8
"""Members of `struct dynamos_replacement`."""
_MODES, _MODES_SIZE, _TRANSFER = 0, 4, 16
"""Members of `struct dynamos_edition_traits`."""
_ORIGINAL_WRAPPER = "dynamos_wrapper_original_"
_WORD = 8
_MOST_REPLACEMENTS = 1024


class Kind(enum.StrEnum):
    """What it is."""

    CORE = "core"
    SUBSYSTEM = "subsystem"
    EDITION = "edition"
    OTHER = "other"


class Mode(enum.IntFlag):
    """Modes of switching, as `.modes` has them."""

    CONCURRENT = 1
    EXCLUSIVE = 2
    PER_OBJECT = 4
    SCOPED = 8


@dataclass(frozen=True, slots=True)
class Function:
    """A function with a gate; ``wrapper`` is the name of what has its prototype in this module."""

    name: str
    wrapper: str
    home: str = ""
    has_objects: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """What a module is. ``modes`` are those that an edition says; 0 is: it says none.

    ``may_sleep`` is None where it is not the subsystem's own module.
    """

    kind: Kind
    module: str = ""
    subsystem: str = ""
    edition: str = ""
    functions: tuple[Function, ...] = ()
    modes: int = 0
    has_transfer: bool = False
    may_sleep: bool | None = None
    problems: tuple[str, ...] = ()


class _Reader:
    """Reads members of objects."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._kept: dict[int, dict[int, Relocation]] = {}

    def _relocations(self, number: int) -> dict[int, Relocation]:
        if number not in self._kept:
            found = self._elf.relocations(self._elf.sections[number])
            self._kept[number] = {each.offset: each for each in found}
        return self._kept[number]

    def pointer(self, symbol: Symbol, member: int) -> Relocation | None:
        """Give what a member of an object points to."""
        if self._elf.home(symbol) is None:
            return None
        return self._relocations(symbol.section).get(symbol.value + member)

    def number(self, symbol: Symbol, member: int, size: int) -> int:
        """Give a member that is a number. One that is not in the file is 0."""
        at = symbol.value + member
        content = self._elf.content(self._elf.home(symbol))
        return int.from_bytes(content[at : at + size], "little")

    def string(self, pointer: Relocation | None) -> str:
        """Give the text that a member points to; "" if it is not in this file."""
        if pointer is None:
            return ""
        content = self._elf.content(self._elf.home(pointer.symbol))
        at = pointer.symbol.value + pointer.addend
        end = content.find(b"\0", at, at + 64) if at >= 0 else -1
        return plain(content[at:end]) if end >= 0 else ""

    @cached_property
    def _objects(self) -> dict[tuple[int, int], Symbol]:
        return {(each.section, each.value): each for each in self._elf.named.values() if each.size}

    def target(self, pointer: Relocation | None) -> Symbol | None:
        """Give the symbol that a member points to, under its own name."""
        if pointer is None:
            return None
        place = (pointer.symbol.section, pointer.symbol.value + pointer.addend)
        if not pointer.symbol.section:
            return pointer.symbol
        return self._objects.get(place)


@dataclass(slots=True)
class _Draft:
    """What is being found out."""

    elf: Elf
    reader: _Reader
    problems: list[str] = field(default_factory=list)


def describe(elf: Elf) -> Description:
    """Tell what a module is.

    Raises:
        BadElf: its symbols or relocations are not whole.
    """
    module = modinfo(elf).get("name", "")
    draft = _Draft(elf, _Reader(elf))
    editions = _objects(elf, _EDITION, _EDITION_TRAITS)
    subsystems = _objects(elf, _SUBSYSTEM, _SUBSYSTEM_TRAITS)
    if module == CORE and "dynamos_register_edition" in elf.named:
        return Description(Kind.CORE, module)
    if len(editions) + len(subsystems) > 1:
        names = ", ".join(sorted(each.name for each in (*editions, *subsystems)))
        draft.problems.append(f"more than one thing in one module: {names}")
    if editions:
        return _edition(draft, module, editions[0])
    if subsystems:
        return _subsystem(draft, module, subsystems[0])
    return Description(Kind.OTHER, module)


def _objects(elf: Elf, prefix: str, but: str) -> list[Symbol]:
    return [
        symbol
        for name, symbol in elf.named.items()
        if name.startswith(prefix) and not name.startswith(but) and symbol.size >= _WORD
    ]


def _edition(draft: _Draft, module: str, symbol: Symbol) -> Description:
    reader = draft.reader
    name = reader.string(reader.pointer(symbol, _NAME)) or symbol.name.removeprefix(_EDITION)
    owner = reader.pointer(symbol, _OF_SUBSYSTEM)
    subsystem = owner.symbol.name.removeprefix(_SUBSYSTEM) if owner else ""
    if not subsystem:
        draft.problems.append(f"the edition {name} does not say of which subsystem it is")
    functions = tuple(_replacements(draft))
    if not functions:
        draft.problems.append(f"the edition {name} replaces nothing")
    traits = draft.elf.named.get(f"{_EDITION_TRAITS}{name}")
    modes = reader.number(traits, _MODES, _MODES_SIZE) if traits else 0
    return Description(
        Kind.EDITION,
        module,
        subsystem,
        name,
        functions,
        modes,
        bool(traits and reader.pointer(traits, _TRANSFER)),
        problems=tuple(draft.problems),
    )


def _replacements(draft: _Draft) -> Iterator[Function]:
    reader = draft.reader
    found = _objects(draft.elf, _REPLACEMENT, _REPLACEMENTS)
    if len(found) > _MOST_REPLACEMENTS:
        raise BadElf(f"it replaces {len(found)} functions")
    for symbol in found:
        replaced = reader.pointer(symbol, _REPLACED)
        wrapper = reader.target(reader.pointer(symbol, _WRAPPER))
        if replaced is None or not replaced.symbol.name.startswith(_FUNCTION):
            draft.problems.append(f"{symbol.name} does not say which function it replaces")
            continue
        name = replaced.symbol.name.removeprefix(_FUNCTION)
        if wrapper is None:
            draft.problems.append(f"{symbol.name} does not say what replaces {name}")
        yield Function(name, wrapper.name if wrapper else "")


def _subsystem(draft: _Draft, module: str, symbol: Symbol) -> Description:
    elf, reader = draft.elf, draft.reader
    name = symbol.name.removeprefix(_SUBSYSTEM)
    functions = tuple(
        _function(draft, each.name.removeprefix(_FUNCTION))
        for each in _objects(elf, _FUNCTION, " ")
    )
    if not functions:
        draft.problems.append(f"the subsystem {name} has no function")
    traits = elf.named.get(f"{_SUBSYSTEM_TRAITS}{name}")
    return Description(
        Kind.SUBSYSTEM,
        module,
        name,
        functions=functions,
        may_sleep=bool(traits and reader.number(traits, 0, 1)),
        problems=tuple(draft.problems),
    )


def _function(draft: _Draft, name: str) -> Function:
    elf, reader = draft.elf, draft.reader
    traits = elf.named.get(f"{_TRAITS}{name}")
    home = reader.string(reader.pointer(traits, 0)) if traits else ""
    about = elf.named.get(f"{_OBJECT}{name}")
    has_objects = bool(about and reader.pointer(about, 0))
    wrapper = f"{_ORIGINAL_WRAPPER}{name}"
    return Function(name, wrapper if wrapper in elf.named else "", home, has_objects)
