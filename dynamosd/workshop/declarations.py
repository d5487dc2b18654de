# SPDX-License-Identifier: GPL-2.0-or-later
"""C declarations of what type information (BTF) describes.

A declaration in C grows around the name: `void (*handler)(int)` is a name, then a pointer to it,
then a function. So each step below takes what is inside and puts its own around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynamosd.workshop.btf import BadBtf, Btf, Kind, Type

_QUALIFIERS = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}
_WORDS = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
_NO_TYPES = frozenset({Kind.FUNC, Kind.VAR, Kind.DATASEC, Kind.DECL_TAG})
_DEEPEST = 50
_STEPS = 2000
"""Far more than anybody can read. Types that are wrong may go round in circles."""


@dataclass(frozen=True, slots=True)
class Prototype:
    """A function's prototype, with its parts for those who build something from it.

    ``parameters`` are pairs of declaration and name; ``variadic`` says that more may follow.
    """

    text: str
    returns: str
    parameters: tuple[tuple[str, str], ...]
    variadic: bool


def prototype(btf: Btf, name: str, function: Type) -> Prototype:
    """Give a function's prototype.

    Args:
        btf: where it is from.
        name: the function's.
        function: of kind `Kind.FUNC_PROTO`.

    Raises:
        BadBtf: a type is not there, or is built of itself.
    """
    declarer = _Declarer(btf)
    pairs, variadic = declarer.pairs(function)
    parameters = tuple((declarer.declare(number, each), each) for each, number in pairs)
    listed = _list([text for text, _ in parameters], variadic=variadic)
    text = declarer.declare(function.value, f"{name}({listed})")
    return Prototype(text, declarer.declare(function.value), parameters, variadic)


def declare(btf: Btf, number: int, inside: str = "") -> str:
    """Declare something of a type, given by its number. Raises `BadBtf`."""
    return _Declarer(btf).declare(number, inside)


class _Declarer:
    """Declares things, in so many steps at most."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._left = _STEPS
        self._depth = 0

    def pairs(self, function: Type) -> tuple[list[tuple[str, int]], bool]:
        """Give names and types of a function's parameters, and whether more may follow."""
        words = function.rest
        pairs = [(self._btf.string(words[at]), words[at + 1]) for at in range(0, len(words), 2)]
        variadic = bool(pairs) and pairs[-1] == ("", 0)
        return (pairs[:-1] if variadic else pairs), variadic

    def declare(self, number: int, inside: str = "") -> str:
        """Put a type around what is inside."""
        if self._depth > _DEEPEST:
            raise BadBtf("a type is built of itself, or of too many others")
        self._depth += 1
        try:
            return self._declare(number, inside)
        finally:
            self._depth -= 1

    def _declare(self, number: int, inside: str) -> str:
        qualifiers, found = self._unqualified(number)
        match found.kind:
            case Kind.PTR:
                return self.declare(found.value, self._pointer(found, qualifiers, inside))
            case Kind.ARRAY:
                element, _, count = found.rest
                # What is const about an array are its elements.
                return " ".join([*qualifiers, self.declare(element, f"{inside}[{count}]")])
            case Kind.FUNC_PROTO:
                pairs, variadic = self.pairs(found)
                listed = [self.declare(each) for _, each in pairs]
                return self.declare(found.value, f"{inside}({_list(listed, variadic=variadic)})")
        return " ".join(filter(None, [*qualifiers, _base(found), inside]))

    def _pointer(self, pointer: Type, qualifiers: Sequence[str], inside: str) -> str:
        inside = "*" + " ".join(filter(None, [*qualifiers, inside]))
        is_around = self._unqualified(pointer.value)[1].kind in {Kind.ARRAY, Kind.FUNC_PROTO}
        return f"({inside})" if is_around else inside

    def _unqualified(self, number: int) -> tuple[list[str], Type]:
        """Give the qualifiers of a type, and what they qualify; tags are left out."""
        qualifiers: list[str] = []
        while self._left:
            self._left -= 1
            found = self._btf.type(number)
            if word := _QUALIFIERS.get(found.kind):
                qualifiers.append(word)
            elif found.kind is not Kind.TYPE_TAG:
                return qualifiers, found
            number = found.value
        raise BadBtf("a type is built of itself, or of too many others")


def _list(parameters: Sequence[str], *, variadic: bool) -> str:
    return ", ".join([*parameters, *["..."] * variadic]) or "void"


def _base(found: Type) -> str:
    """Name a type that is built of no other."""
    if found.kind in _NO_TYPES:
        raise BadBtf(f"{found.name or 'something'} is used as a type, and is none")
    if found.kind is Kind.FWD:
        return f"{'union' if found.flag else 'struct'} {found.name}"
    if word := _WORDS.get(found.kind):
        # One without a name has its members in their place; nobody declares a parameter like that.
        return f"{word} {found.name or '{…}'}"
    return found.name
