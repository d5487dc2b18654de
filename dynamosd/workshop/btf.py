# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's type information (BTF): types by number, functions by name.

The format is the kernel's Documentation/bpf/btf.rst: a header, a section of types and one of
strings. A type's number is its place among the types, the first has 1, and they differ in length;
so they are counted once, and taken apart only when they are asked for. A module's BTF goes on
where that of vmlinux ends, with its types and with its strings.

What is read may be cut off or wrong in any way: then the answer is a `DynamosError`.
"""

from __future__ import annotations

import enum
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dynamosd.errors import DynamosError
from dynamosd.probes.btf import MAGIC

_HEADER = struct.Struct("<HBBIIIII")
"""Magic, version, flags, header's length, then offset and length of types and of strings."""
_WORD = 4
_LONGEST_NAME = 512


class Kind(enum.IntEnum):
    """What a type is."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_FIXED = {Kind.INT: 4, Kind.ARRAY: 6, Kind.VAR: 4, Kind.DECL_TAG: 4}
"""Words of a type, where it is not the three that each begins with: name, info, size or type."""
_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
"""Words of each member, value or parameter that follows."""
_WORDS = [0] + [_FIXED.get(kind, 3) for kind in Kind if kind]
_MORE = [_EACH.get(kind, 0) for kind in Kind]


class BadBtf(DynamosError):
    """The type information is not what btf.rst says."""

    code = "invalid"


@dataclass(frozen=True, slots=True)
class Type:
    """One type. ``value`` is its size, or the number of the type it is about.

    ``rest`` are the words that follow: of members, values, parameters, or of an array. ``flag``
    tells a union from a structure that is only declared.
    """

    kind: Kind
    name: str
    value: int
    rest: tuple[int, ...] = ()
    flag: bool = False


VOID = Type(Kind.VOID, "void", 0)


class Btf:
    """Types of the kernel, or of one of its modules."""

    def __init__(self, blob: bytes, base: Btf | None = None, name: str = "BTF") -> None:
        """Look at the header only.

        Args:
            blob: the whole file.
            base: that of vmlinux, if this is a module's.
            name: what errors call it.

        Raises:
            BadBtf: this is no BTF of this machine's byte order, or it is cut off.
        """
        self._name = name
        self._base = base
        types, self._strings = self._sections(blob)
        words = array("I", types)
        if sys.byteorder == "big":
            words.byteswap()
        self._words = words

    def _sections(self, blob: bytes) -> tuple[bytes, bytes]:
        """Give the types and the strings."""
        if len(blob) < _HEADER.size:
            raise self._bad("it is too short")
        magic, version, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(
            blob
        )
        if magic != MAGIC or version != 1:
            raise self._bad(f"it begins with {magic:#x}, version {version}")
        if max(types + types_size, strings + strings_size) + header > len(blob):
            raise self._bad("it is cut off")
        if types_size % _WORD or header < _HEADER.size:
            raise self._bad("its sections are not where they can be")
        types, strings = header + types, header + strings
        return blob[types : types + types_size], blob[strings : strings + strings_size]

    def _bad(self, what: str) -> BadBtf:
        return BadBtf(f"{self._name}: no type information (BTF) that can be read: {what}")

    @cached_property
    def _places(self) -> array[int]:
        """Where each type begins, in words. This walks through all of them, once."""
        words, places, at, end = self._words, array("I"), 0, len(self._words)
        kinds = len(_WORDS)
        while at + 2 < end:
            places.append(at)
            info = words[at + 1]
            kind = info >> 24 & 0x1F
            if not 0 < kind < kinds:
                raise self._bad(f"type {self._first + len(places) - 1} is of kind {kind}")
            at += _WORDS[kind] + _MORE[kind] * (info & 0xFFFF)
        if at != end:
            raise self._bad("its last type is cut off")
        return places

    @cached_property
    def _first(self) -> int:
        return self._base.count if self._base else 1

    @cached_property
    def count(self) -> int:
        """The number that the next type would have."""
        return self._first + len(self._places)

    @cached_property
    def _text_size(self) -> int:
        """How many bytes of strings there are, those of the base too."""
        return len(self._strings) + (self._base._text_size if self._base else 0)  # noqa: SLF001

    def string(self, at: int) -> str:
        """Give a string by its place.

        Raises:
            BadBtf: there is none.
        """
        before = self._base._text_size if self._base else 0  # noqa: SLF001 - the same class
        if self._base and at < before:
            return self._base.string(at)
        at -= before
        end = self._strings.find(b"\0", at, at + _LONGEST_NAME)
        if end < 0:
            raise self._bad(f"there is no string at {at}")
        return self._strings[at:end].decode("ascii", "replace")

    def type(self, number: int) -> Type:
        """Give a type by its number; 0 is ``void``.

        Raises:
            BadBtf: there is none.
        """
        if number == 0:
            return VOID
        if self._base and number < self._first:
            return self._base.type(number)
        if not self._first <= number < self.count:
            raise self._bad(f"there is no type {number}")
        at = self._places[number - self._first]
        name, info, value = self._words[at : at + 3]
        kind = Kind(info >> 24 & 0x1F)
        end = at + _WORDS[kind] + _MORE[kind] * (info & 0xFFFF)
        rest = tuple(self._words[at + 3 : end])
        return Type(kind, self.string(name), value, rest, bool(info >> 31))

    def functions(self, name: str) -> list[Type]:
        """Give the prototypes of the functions of a name, each of kind `Kind.FUNC_PROTO`.

        Raises:
            BadBtf: what is there is no function with a prototype.
        """
        own = len(self._strings)
        before = self._text_size - own
        found = [
            number
            for at in self._named(name.encode("ascii", "replace"))
            for number in self._functions.get(before + at, ())
        ]
        if self._base:
            # A name that vmlinux has, too, is not there twice.
            inherited = self._base._named(name.encode("ascii", "replace"))  # noqa: SLF001
            found += [each for at in inherited for each in self._functions.get(at, ())]
        return [self._prototype(number) for number in found]

    def _named(self, name: bytes) -> list[int]:
        """Give the places of a name. It may be the end of a longer string."""
        places, wanted = [], name + b"\0"
        at = self._strings.find(wanted) if name else -1
        while at >= 0:
            places.append(at)
            at = self._strings.find(wanted, at + 1)
        return places

    @cached_property
    def _functions(self) -> Mapping[int, list[int]]:
        """The numbers of this file's own functions, by their names' places."""
        words, found = self._words, dict[int, list[int]]()
        for number, at in enumerate(self._places, self._first):
            if words[at + 1] >> 24 & 0x1F == Kind.FUNC:
                found.setdefault(words[at], []).append(number)
        return found

    def _prototype(self, number: int) -> Type:
        found = self.type(self.type(number).value)
        if found.kind is not Kind.FUNC_PROTO:
            raise self._bad(f"function {number} has no prototype")
        return found
