# SPDX-License-Identifier: GPL-2.0-or-later
"""Where members are in the running kernel's structures, by its own type information (BTF).

The format is the kernel's Documentation/bpf/btf.rst: a header, a section of types and one of
strings. Types differ in length, and walking through 130,000 of them takes seconds; so a structure
is searched for by its name's place among the strings. Words that only look like it are told apart
by what must follow: the kind, and members of those names within the structure's size.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dynamosd.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Iterator

VMLINUX: Final = Path("/sys/kernel/btf/vmlinux")

MAGIC: Final = 0xEB9F
KIND_STRUCT: Final = 4

_HEADER: Final = struct.Struct("<HBBIIIII")
"""Magic, version, flags, header's length, then offset and length of types and of strings."""
_TYPE: Final = struct.Struct("<III")
"""Name, info, size in bytes."""
_MEMBER: Final = struct.Struct("<III")
"""Name, type, offset in bits."""
_WORD: Final = struct.Struct("<I")
_HINT: Final = "boot a kernel with CONFIG_DEBUG_INFO_BTF"


def read_offsets(structure: str, *members: str, path: Path = VMLINUX) -> dict[str, int]:
    """Give where members of a structure of the running kernel are, in bytes from its beginning.

    Raises:
        NotSupported: there is no type information, or it does not tell exactly one place of each.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise NotSupported(
            f"the kernel's type information cannot be read: {path}: {error.strerror}", hint=_HINT
        ) from error
    try:
        return find_offsets(blob, structure, *members)
    except ValueError as error:
        raise NotSupported(f"{path}: {error}", hint=_HINT) from error


def find_offsets(blob: bytes, structure: str, *members: str) -> dict[str, int]:
    """Give where members are in a structure, in bytes from its beginning.

    Raises:
        ValueError: this is no BTF of this machine's byte order, or it tells no or several places.
    """
    types, strings = _sections(blob)
    found = [
        offsets
        for at in _places(types, strings, structure)
        if (offsets := _offsets(types, strings, at, members)) is not None
    ]
    if len(found) != 1:
        count = len(found) or "no"
        raise ValueError(
            f"{count} structures {structure} with {' and '.join(members)}; one was expected"
        )
    return found[0]


def _sections(blob: bytes) -> tuple[bytes, bytes]:
    """Give the types and the strings."""
    if len(blob) < _HEADER.size:
        raise ValueError("too short for type information (BTF)")
    magic, _, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(blob)
    if magic != MAGIC:
        raise ValueError(f"no type information (BTF) of this byte order: it begins with {magic:#x}")
    types, strings = header + types, header + strings
    if max(types + types_size, strings + strings_size) > len(blob):
        raise ValueError("the type information (BTF) is cut off")
    return blob[types : types + types_size], blob[strings : strings + strings_size]


def _places(types: bytes, strings: bytes, name: str) -> Iterator[int]:
    """Give where a type of that name may begin. A name may be the end of a longer string."""
    for number in _find_all(strings, name.encode() + b"\0"):
        for at in _find_all(types, _WORD.pack(number)):
            if at % _WORD.size == 0:
                yield at


def _find_all(text: bytes, wanted: bytes) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _offsets(
    types: bytes, strings: bytes, at: int, members: tuple[str, ...]
) -> dict[str, int] | None:
    """Give where the members of the structure that begins there are; None if it is not one."""
    if at + _TYPE.size > len(types):
        return None
    _, info, size = _TYPE.unpack_from(types, at)
    # The kind flag: members' offsets hold the width of bit fields in the upper 8 bits.
    kind, count, has_widths = info >> 24 & 0x1F, info & 0xFFFF, info >> 31
    first = at + _TYPE.size
    end = first + count * _MEMBER.size
    if kind != KIND_STRUCT or end > len(types):
        return None
    found = {}
    for name, _, place in _MEMBER.iter_unpack(types[first:end]):
        width, bits = (place >> 24, place & 0xFFFFFF) if has_widths else (0, place)
        for member in members:
            if not _is_named(strings, name, member):
                continue
            if member in found or width or bits % 8 or bits // 8 >= size:
                return None
            found[member] = bits // 8
    return found if len(found) == len(members) else None


def _is_named(strings: bytes, at: int, name: str) -> bool:
    return strings.startswith(name.encode() + b"\0", at)
