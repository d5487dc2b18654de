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
_KIND, _COUNT = 0x1F, 0xFFFF
"""Of a type's second word: its kind, 24 bits up, and how many members follow."""
_MORE = [_EACH.get(kind, 0) for kind in Kind]


class _Steps(dict[int, int]):
    """How many words a type has, by its second word: there are 100,000 types, and few such words.

    Raises `KeyError` when that is no type's.
    """

    def __missing__(self, info: int) -> int:
        kind = info >> 24 & _KIND
        if not 0 < kind < len(_WORDS):
            raise KeyError(info)
        self[info] = found = _WORDS[kind] + _MORE[kind] * (info & _COUNT)
        return found


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
        words, places, at, end = self._words, array("I"), 0, len(self._words) - 2
        steps = _Steps()
        try:
            while at < end:
                places.append(at)
                at += steps[words[at + 1]]
        except KeyError:
            kind = words[at + 1] >> 24 & _KIND
            raise self._bad(f"type {self._first + len(places) - 1} is of kind {kind}") from None
        if at != len(words):
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
    def _before(self) -> int:
        """How many bytes of strings the base has, behind which those of this file are counted."""
        return len(self._base._strings) if self._base else 0  # noqa: SLF001 - the same class

    def string(self, at: int) -> str:
        """Give a string by its place.

        Raises:
            BadBtf: there is none.
        """
        if self._base and at < self._before:
            return self._base.string(at)
        at -= self._before
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
        kind = Kind(info >> 24 & _KIND)
        end = at + _WORDS[kind] + _MORE[kind] * (info & _COUNT)
        rest = tuple(self._words[at + 3 : end])
        return Type(kind, self.string(name), value, rest, bool(info >> 31))

    def functions(self, name: str) -> list[Type]:
        """Give the prototypes of the functions of a name, each of kind `Kind.FUNC_PROTO`.

        Raises:
            BadBtf: what is there is no function with a prototype.
        """
        encoded = name.encode("utf-8", "replace")
        before = self._before
        places = [before + at for at in self._named(encoded)]
        if self._base:
            # A name that vmlinux has, too, is not there twice.
            places += self._base._named(encoded)  # noqa: SLF001 - the same class
        return [self._prototype(each) for at in places for each in self._functions.get(at, ())]

    def _named(self, name: bytes) -> list[int]:
        """Give the places of a name. It may be the end of a longer string."""
        places, wanted = [], name + b"\0"
        at = self._strings.find(wanted) if name else -1
        while at >= 0:
            places.append(at)
            at = self._strings.find(wanted, at + 1)
        return places

    @cached_property
    def _functions(self) -> dict[int, list[int]]:
        """What this file's functions are about, by the places of their names.

        A short name is the end of thousands of strings: each must be no more than a look in here.
        """
        words, found = self._words, dict[int, list[int]]()
        for at in self._places:
            if words[at + 1] >> 24 & _KIND == Kind.FUNC:
                found.setdefault(words[at], []).append(words[at + 2])
        return found

    def _prototype(self, number: int) -> Type:
        found = self.type(number)
        if found.kind is not Kind.FUNC_PROTO:
            raise self._bad(f"a function is of type {number}, which is no prototype")
        return found
