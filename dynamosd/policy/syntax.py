# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks into a compiled CEL expression: which functions it calls, and with what.

The CEL library shows its syntax tree only as a serialised protobuf message (cel.expr.CheckedExpr,
wrapped in an Any). Its field numbers are part of CEL's public specification and never change
meaning, so the few that matter are read here, without a protobuf library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# google.protobuf.Any
_ANY_VALUE = 2
# cel.expr.CheckedExpr
_CHECKED_EXPR, _CHECKED_SOURCE = 4, 5
# cel.expr.SourceInfo: map of expression id to character offset
_SOURCE_POSITIONS = 4
_MAP_KEY, _MAP_VALUE = 1, 2
# cel.expr.Expr
_EXPR_ID, _EXPR_CONST, _EXPR_SELECT, _EXPR_CALL, _EXPR_LIST = 2, 3, 5, 6, 7
_EXPR_STRUCT, _EXPR_COMPREHENSION = 8, 9
_CONST_STRING = 6
_SELECT_OPERAND = 1
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENTS = 1, 2, 3
_LIST_ELEMENTS = 1


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: its text if it is a text literal, and its character offset."""

    text: str | None
    offset: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function or an operator, with its character offset in the source."""

    function: str
    offset: int
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """A macro such as ``all``, or a map or message literal: what conditions do not need."""

    offset: int


def walk(serialised: bytes) -> Iterator[Call | Loop]:
    """Yield what a serialised expression is made of, in no particular order."""
    checked = _last_bytes(serialised, _ANY_VALUE)
    offsets = _offsets(_last_bytes(checked, _CHECKED_SOURCE))
    waiting = [_last_bytes(checked, _CHECKED_EXPR)]
    while waiting:
        expr = waiting.pop()
        for number, value in _fields(expr):
            if not isinstance(value, bytes):
                continue
            if number in {_EXPR_STRUCT, _EXPR_COMPREHENSION}:
                yield Loop(offsets.get(_id_of(expr), 0))
            elif number == _EXPR_CALL:
                yield _call(expr, value, offsets)
            waiting += _children(number, value)


def _children(number: int, value: bytes) -> list[bytes]:
    parts = {
        _EXPR_CALL: {_CALL_TARGET, _CALL_ARGUMENTS},
        _EXPR_LIST: {_LIST_ELEMENTS},
        _EXPR_SELECT: {_SELECT_OPERAND},
    }.get(number, set())
    return [part for field, part in _fields(value) if field in parts and isinstance(part, bytes)]


def _call(expr: bytes, call: bytes, offsets: Mapping[int, int]) -> Call:
    arguments = tuple(
        Argument(_text_of(part), offsets.get(_id_of(part), 0))
        for number, part in _fields(call)
        if number == _CALL_ARGUMENTS and isinstance(part, bytes)
    )
    function = _last_bytes(call, _CALL_FUNCTION).decode()
    return Call(function, offsets.get(_id_of(expr), 0), arguments)


def _text_of(expr: bytes) -> str | None:
    for number, value in _fields(expr):
        if number == _EXPR_CONST and isinstance(value, bytes):
            for kind, text in _fields(value):
                if kind == _CONST_STRING and isinstance(text, bytes):
                    return text.decode()
    return None


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
