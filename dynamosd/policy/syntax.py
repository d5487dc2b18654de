# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a compiled CEL expression as a tree.

The CEL library shows its syntax tree only as a serialised protobuf message (cel.expr.CheckedExpr,
wrapped in an Any). Its field numbers are part of CEL's public specification and never change
meaning, so the few that matter are read here, without a protobuf library.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# google.protobuf.Any
_ANY_VALUE = 2
# cel.expr.CheckedExpr
_CHECKED_REFERENCES, _CHECKED_TYPES, _CHECKED_EXPR, _CHECKED_SOURCE = 2, 3, 4, 5
# cel.expr.Reference, cel.expr.Type
_REFERENCE_OVERLOAD, _TYPE_PRIMITIVE = 3, 3
# cel.expr.SourceInfo: map of expression id to character offset
_SOURCE_POSITIONS = 4
_MAP_KEY, _MAP_VALUE = 1, 2
# cel.expr.Expr
_EXPR_ID, _EXPR_CONST, _EXPR_CALL, _EXPR_LIST, _EXPR_STRUCT, _EXPR_COMPREHENSION = 2, 3, 6, 7, 8, 9
# cel.expr.Expr.CreateList
_LIST_ITEMS = 1
# cel.expr.Constant
_CONST_BOOL, _CONST_INT, _CONST_DOUBLE, _CONST_STRING = 2, 3, 5, 6
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENTS = 1, 2, 3

_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the text. All offsets are in characters."""

    value: bool | int | float | str
    offset: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function or an operator; ``type`` is that of its result, "" if not simple."""

    function: str
    overload: str
    type: str
    arguments: tuple[Node, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class List:
    """A list that stands in the text."""

    items: tuple[Node, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Other:
    """Anything else that CEL has and conditions do not need.

    ``is_loop``: a macro such as ``all``, or a map or message literal.
    """

    offset: int
    is_loop: bool = False


Node = Literal | Call | List | Other


def parse(serialised: bytes) -> Node:
    """Return a serialised expression as a tree. The library's parser has bounded its depth."""
    checked = _last_bytes(serialised, _ANY_VALUE)
    reader = _Reader(
        _offsets(_last_bytes(checked, _CHECKED_SOURCE)),
        _entries(checked, _CHECKED_REFERENCES),
        _entries(checked, _CHECKED_TYPES),
    )
    return reader.read(_last_bytes(checked, _CHECKED_EXPR))


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it."""
    yield node
    below = node.arguments if isinstance(node, Call) else ()
    for each in node.items if isinstance(node, List) else below:
        yield from walk(each)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads expressions; what is known of each of them is kept by its id."""

    offsets: Mapping[int, int]
    references: Mapping[int, bytes]
    types: Mapping[int, bytes]

    def read(self, expr: bytes) -> Node:
        number = _id_of(expr)
        offset = self.offsets.get(number, 0)
        for kind, value in _fields(expr):
            if not isinstance(value, bytes):
                continue
            if kind == _EXPR_CONST:
                return _literal(value, offset)
            if kind == _EXPR_CALL:
                return self._call(value, number, offset)
            if kind == _EXPR_LIST:
                return List(self._parts(value, _LIST_ITEMS), offset)
            if kind in {_EXPR_STRUCT, _EXPR_COMPREHENSION}:
                return Other(offset, is_loop=True)
        return Other(offset)

    def _call(self, call: bytes, number: int, offset: int) -> Node:
        if _last_bytes(call, _CALL_TARGET):
            return Other(offset)
        arguments = self._parts(call, _CALL_ARGUMENTS)
        overload = _last_bytes(self.references.get(number, b""), _REFERENCE_OVERLOAD).decode()
        primitive = dict(_fields(self.types.get(number, b""))).get(_TYPE_PRIMITIVE, 0)
        type_ = _PRIMITIVES.get(primitive, "") if isinstance(primitive, int) else ""
        function = _last_bytes(call, _CALL_FUNCTION).decode()
        return Call(function, overload, type_, arguments, offset)

    def _parts(self, message: bytes, wanted: int) -> tuple[Node, ...]:
        return tuple(
            self.read(part)
            for kind, part in _fields(message)
            if kind == wanted and isinstance(part, bytes)
        )


def _literal(constant: bytes, offset: int) -> Node:
    for kind, value in _fields(constant):
        if kind == _CONST_BOOL:
            return Literal(bool(value), offset)
        if kind == _CONST_INT and isinstance(value, int):
            return Literal(value - 2**64 if value >= 2**63 else value, offset)
        if kind == _CONST_DOUBLE and isinstance(value, bytes):
            return Literal(float(struct.unpack("<d", value)[0]), offset)
        if kind == _CONST_STRING and isinstance(value, bytes):
            return Literal(value.decode(), offset)
    return Other(offset)


def _id_of(expr: bytes) -> int:
    return next(
        (value for number, value in _fields(expr) if number == _EXPR_ID and isinstance(value, int)),
        0,
    )


def _offsets(source: bytes) -> dict[int, int]:
    result: dict[int, int] = {}
    for number, entry in _fields(source):
        if number == _SOURCE_POSITIONS and isinstance(entry, bytes):
            pair = dict(_fields(entry))
            key, offset = pair.get(_MAP_KEY, 0), pair.get(_MAP_VALUE, 0)
            if isinstance(key, int) and isinstance(offset, int):
                result[key] = offset
    return result


def _entries(checked: bytes, wanted: int) -> dict[int, bytes]:
    """Return a map from expression ids to messages."""
    result: dict[int, bytes] = {}
    for number, entry in _fields(checked):
        if number == wanted and isinstance(entry, bytes):
            pair = dict(_fields(entry))
            key, value = pair.get(_MAP_KEY, 0), pair.get(_MAP_VALUE, b"")
            if isinstance(key, int) and isinstance(value, bytes):
                result[key] = value
    return result


def _last_bytes(message: bytes, wanted: int) -> bytes:
    found = b""
    for number, value in _fields(message):
        if number == wanted and isinstance(value, bytes):
            found = value
    return found


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield a message's fields as (number, value); fixed-width values come as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} in a serialised expression")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
