# SPDX-License-Identifier: GPL-2.0-or-later
"""Prototypes compared, type by type: a replacement's with that of the function it stands in for.

What the machine passes and what it points to has to be the same; names of parameters and typedefs,
and `const`, need not be. Structures are the same if name and size are: the two files may number
them differently, and one of them may only declare what the other defines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from dynamosd.workshop.btf import BadBtf, Btf, Kind, Type
from dynamosd.workshop.declarations import declare

_THROUGH = frozenset(
    {Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG, Kind.DECL_TAG}
)
"""What gives a type another name, or says what may be done with it."""
_DECLARED = frozenset({Kind.STRUCT, Kind.UNION})
_ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_STEPS = 200
"""Far more than a prototype needs. Types that are wrong may go round in circles."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A type, by its number in what knows it."""

    btf: Btf
    number: int

    def __str__(self) -> str:
        """Give it in C."""
        return declare(self.btf, self.number)

    def at(self, number: int) -> Typed:
        """Give another type of the same file."""
        return Typed(self.btf, number)


def differences(own: Btf, ours: Type, kernels: Btf, theirs: Type) -> list[str]:
    """Give what differs between two prototypes, the replacement's and the kernel's.

    Args:
        own: where the replacement's is from.
        ours: the replacement's, of kind `Kind.FUNC_PROTO`.
        kernels: where the kernel's is from.
        theirs: the kernel's.

    Raises:
        BadBtf: a type is not there, or built of itself.
    """
    return list(_differences(own, ours, kernels, theirs))


def _differences(own: Btf, ours: Type, kernels: Btf, theirs: Type) -> Iterator[str]:
    mine, other = Typed(own, ours.value), Typed(kernels, theirs.value)
    if not _Comparison().same(mine, other):
        yield f"it returns {mine}, the kernel's {other}"
    pairs = zip_longest(_parameters(ours), _parameters(theirs))
    for number, (one, another) in enumerate(pairs, 1):
        given = kernels.string(another[0]) if another else own.string(one[0])
        where = f"argument {number} ({given or '…'})"
        if one is None:
            yield f"{where} is missing"
        elif another is None:
            yield f"{where} is one more than the kernel's has"
        elif not _Comparison().same(
            mine := Typed(own, one[1]), other := Typed(kernels, another[1])
        ):
            yield f"{where} is {mine}, the kernel's {other}"


def _parameters(function: Type) -> list[tuple[int, int]]:
    """Give names and types of parameters, by their places."""
    return list(zip(function.rest[::2], function.rest[1::2], strict=True))


class _Comparison:
    """Compares two types, in so many steps at most."""

    def __init__(self) -> None:
        self._left = _STEPS

    def same(self, ours: Typed, kernels: Typed) -> bool:
        """Tell whether two types are the same."""
        one, other = self._bare(ours), self._bare(kernels)
        if one.kind is Kind.PTR and other.kind is Kind.PTR:
            return self.same(ours.at(one.value), kernels.at(other.value))
        if one.kind is Kind.ARRAY and other.kind is Kind.ARRAY:
            is_as_long = one.rest[2] == other.rest[2]
            return is_as_long and self.same(ours.at(one.rest[0]), kernels.at(other.rest[0]))
        if one.kind is Kind.FUNC_PROTO and other.kind is Kind.FUNC_PROTO:
            return self._same_functions(ours, one, kernels, other)
        return _same_named(one, other)

    def _bare(self, typed: Typed) -> Type:
        """Give what a type is, behind all names and qualifiers."""
        found = typed.btf.type(typed.number)
        while found.kind in _THROUGH:
            self._step()
            found = typed.btf.type(found.value)
        self._step()
        return found

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadBtf("a type is built of itself, or of too many others")

    def _same_functions(self, ours: Typed, one: Type, kernels: Typed, other: Type) -> bool:
        mine, theirs = _parameters(one), _parameters(other)
        pairs = [(one.value, other.value)]
        pairs += [(left[1], right[1]) for left, right in zip(mine, theirs, strict=False)]
        return len(mine) == len(theirs) and all(
            self.same(ours.at(left), kernels.at(right)) for left, right in pairs
        )


def _same_named(one: Type, other: Type) -> bool:
    """Compare types that are built of no others, or are known by their names."""
    if Kind.FWD in {one.kind, other.kind}:
        return one.name == other.name and _is_union(one) is _is_union(other) is not None
    if one.kind in _ENUMS and other.kind in _ENUMS:
        return (one.name, one.value) == (other.name, other.value)
    if one.kind is not other.kind:
        return False
    if one.kind in _DECLARED:
        return (one.name, one.value) == (other.name, other.value)
    if one.kind is Kind.INT:
        # `unsigned long` and `unsigned long long` are the same to the machine; a sign is not.
        return (one.value, one.rest) == (other.value, other.rest)
    return one.value == other.value


def _is_union(found: Type) -> bool | None:
    """Tell a union from a structure, declared only or not; None if it is neither."""
    if found.kind is Kind.FWD:
        return found.flag
    return found.kind is Kind.UNION if found.kind in _DECLARED else None
