# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel module says of itself to the kernel: name, vermagic, symbols, signature."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dynamosd.workshop.checks.elf import Elf, plain

_VERSION = struct.Struct("<Q56s")
_CRC = struct.Struct("<I")
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">BBBBB3xI")
_PKCS7 = 2
_MOST_TEXT = 1 << 20
"""Bytes of lines or names that are taken apart: no module has a hundredth of that."""
_EXPORTED, _CRC_OF = "__ksymtab_", "__crc_"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature at the end of a file. ``is_whole``: it may be one that the kernel can read."""

    size: int
    is_whole: bool


def modinfo(elf: Elf) -> dict[str, str]:
    """Give what the module says of itself, by key; of several the first."""
    found: dict[str, str] = {}
    for line in _lines(elf, ".modinfo"):
        key, equals, value = plain(line).partition("=")
        if equals:
            found.setdefault(key, value)
    return found


def _lines(elf: Elf, section: str) -> list[bytes]:
    return elf.content(elf.section(section))[:_MOST_TEXT].split(b"\0")


def versions(elf: Elf) -> dict[str, int]:
    """Give the checksums of what the module needs, as they were where it was built."""
    old = elf.content(elf.section("__versions"))
    whole = len(old) - len(old) % _VERSION.size
    found = {
        plain(name.partition(b"\0")[0]): crc for crc, name in _VERSION.iter_unpack(old[:whole])
    }
    # Newer kernels have long names, too, and keep them elsewhere.
    crcs = elf.content(elf.section("__version_ext_crcs"))
    names = _lines(elf, "__version_ext_names")
    numbers = (crc for (crc,) in _CRC.iter_unpack(crcs[: len(crcs) - len(crcs) % _CRC.size]))
    found.update(zip(map(plain, names), numbers, strict=False))
    return found


def exports(elf: Elf) -> dict[str, int | None]:
    """Give what the module lets others use, with checksums where it has them.

    Raises:
        BadElf: its symbols cannot be read.
    """
    found: dict[str, int | None] = {}
    for name in elf.named:
        if name.startswith(_EXPORTED):
            exported = name.removeprefix(_EXPORTED)
            found[exported] = _checksum(elf, exported)
    return found


def _checksum(elf: Elf, name: str) -> int | None:
    symbol = elf.named.get(f"{_CRC_OF}{name}")
    if symbol is None:
        return None
    content = elf.content(elf.home(symbol))
    if symbol.value + _CRC.size > len(content):
        return None
    [crc] = _CRC.unpack_from(content, symbol.value)
    return int(crc)


def signature(data: bytes) -> Signature | None:
    """Give the signature that a file ends with; None when it has none."""
    if not data.endswith(_SIGNED):
        return None
    body = data[: -len(_SIGNED)]
    if len(body) < _SIGNATURE.size:
        return Signature(0, is_whole=False)
    *_, kind, signer, key, size = _SIGNATURE.unpack(body[-_SIGNATURE.size :])
    is_whole = kind == _PKCS7 and not signer and not key
    return Signature(size, is_whole and 0 < size <= len(body) - _SIGNATURE.size)
