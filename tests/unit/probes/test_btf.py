# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.probes.btf: where a structure's members are, from blobs that are made up here."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dynamosd.errors import NotSupported
from dynamosd.probes.btf import MAGIC, find_offsets, read_offsets

INT, POINTER, STRUCT, UNION, FORWARD, FUNC_PROTO = 1, 2, 4, 5, 7, 13
NAME = "readahead_control"
FILE, INDEX = "file", "_index"
MEMBERS = ((FILE, 0), ("mapping", 64), ("ra", 128), (INDEX, 192))
"""As (name, offset in bits), of 40 bytes."""
SIZE = 40
OFFSETS = {FILE: 0, INDEX: 24}


@dataclass
class Btf:
    """Type information in the making."""

    types: bytes = b""
    strings: bytes = field(default=b"\0")

    def name(self, text: str) -> int:
        """Give the place of a string, which is there once only."""
        at = self.strings.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            at = len(self.strings) - 1
            self.strings += text.encode() + b"\0"
        return at + 1

    def add(self, *words: int) -> None:
        """Add words to the types."""
        self.types += struct.pack(f"<{len(words)}I", *words)

    def add_type(self, kind: int, name: str, last: int, *extra: int, count: int = 0) -> None:
        """Add a type; ``last`` is its size or another type."""
        self.add(self.name(name), kind << 24 | count, last, *extra)

    def add_struct(
        self,
        name: str = NAME,
        members: tuple[tuple[str, int], ...] = MEMBERS,
        *,
        size: int = SIZE,
        kind: int = STRUCT,
        flag: int = 0,
    ) -> None:
        """Add a structure. With ``flag`` offsets hold a bit field's width in the upper 8 bits."""
        words = [word for member, bits in members for word in (self.name(member), 1, bits)]
        self.add(self.name(name), flag << 31 | kind << 24 | len(members), size, *words)

    def blob(self, magic: int = MAGIC, order: str = "<") -> bytes:
        """Give it with its header, which may be longer than what is known of it."""
        types, strings = len(self.types), len(self.strings)
        header = struct.pack(f"{order}HBBIIIII", magic, 1, 0, 32, 0, types, types, strings)
        return header.ljust(32, b"\0") + self.types + self.strings


@pytest.fixture
def btf() -> Btf:
    """Type information of a small kernel, without the structure."""
    small = Btf()
    small.add_type(INT, "long unsigned int", 8, 64)
    small.add_type(POINTER, "", 1)
    small.add_struct("file", (("f_mode", 0), ("f_inode", 64)), size=16)
    small.add_type(FORWARD, NAME, 0)
    small.add_type(FUNC_PROTO, "", 1, small.name("ractl"), 2, small.name("page"), 1, count=2)
    small.add_struct("file_ra_state", (("start", 0), (INDEX, 64)), size=16)
    return small


def find(btf: Btf) -> dict[str, int]:
    return find_offsets(btf.blob(), NAME, FILE, INDEX)


@pytest.mark.parametrize("flag", [0, 1])
def test_it_is_found_among_others(btf: Btf, flag: int) -> None:
    btf.add_struct(flag=flag)
    btf.add_struct("inode", (("i_mode", 0), (FILE, 32)))
    assert find(btf) == OFFSETS


def test_other_offsets_are_told_as_they_are(btf: Btf) -> None:
    btf.add_struct(members=(("new", 0), (INDEX, 64), (FILE, 128)))
    assert find(btf) == {FILE: 16, INDEX: 8}


def test_a_bit_field_beside_them_does_no_harm(btf: Btf) -> None:
    btf.add_struct(members=(*MEMBERS, ("_workingset", 1 << 24 | 289)), flag=1)
    assert find(btf) == OFFSETS


def test_a_name_may_be_the_end_of_a_longer_string(btf: Btf) -> None:
    btf.strings += b"old_readahead_control\0"
    shared = btf.strings.find(NAME.encode() + b"\0", btf.strings.find(b"old_"))
    at = len(btf.types)
    btf.add_struct("other")
    btf.types = btf.types[:at] + struct.pack("<I", shared) + btf.types[at + 4 :]
    assert find(btf) == OFFSETS


def test_a_structure_of_the_longer_name_is_another(btf: Btf) -> None:
    btf.add_struct()
    btf.add_struct("old_readahead_control", ((INDEX, 0), (FILE, 64)))
    assert find(btf) == OFFSETS


def test_words_that_only_look_like_its_name_are_passed_over(btf: Btf) -> None:
    name = btf.name(NAME)
    btf.add_type(INT, "odd", name, STRUCT << 24 | 1, SIZE)
    # The same word, between two words.
    btf.add(name << 8 & 0xFFFFFFFF, name >> 24)
    btf.add_struct()
    assert find(btf) == OFFSETS


def test_one_of_the_same_name_with_other_members_is_passed_over(btf: Btf) -> None:
    btf.add_struct(members=(("nothing", 0),))
    btf.add_struct(kind=UNION)
    btf.add_struct()
    assert find(btf) == OFFSETS


def test_two_are_refused(btf: Btf) -> None:
    btf.add_struct()
    btf.add_struct(members=((INDEX, 0), (FILE, 64)))
    with pytest.raises(ValueError, match="2 structures readahead_control with file and _index"):
        find(btf)


@pytest.mark.parametrize(
    ("members", "flag"),
    [
        ((), 0),
        (((FILE, 0),), 0),
        (((FILE, 0), ("index", 64)), 0),
        (((FILE, 0), ("_index_", 64)), 0),
        # Two of one name; not at a byte; outside; a bit field.
        (((FILE, 0), (FILE, 64), (INDEX, 128)), 0),
        (((FILE, 0), (INDEX, 65)), 0),
        (((FILE, 0), (INDEX, 8 * SIZE)), 0),
        (((FILE, 0), (INDEX, 4 << 24 | 64)), 1),
    ],
)
def test_without_a_member_in_its_place_it_is_none(
    btf: Btf, members: tuple[tuple[str, int], ...], flag: int
) -> None:
    btf.add_struct(members=members, flag=flag)
    with pytest.raises(ValueError, match="no structures readahead_control"):
        find(btf)


def test_a_kernel_without_it_is_refused(btf: Btf) -> None:
    with pytest.raises(ValueError, match="no structures readahead_control"):
        find(btf)


@pytest.mark.parametrize("order", ["<", ">"])
def test_another_magic_is_refused(btf: Btf, order: str) -> None:
    btf.add_struct()
    magic = 0x9FEB if order == "<" else MAGIC
    with pytest.raises(ValueError, match="byte order: it begins with 0x9feb"):
        find_offsets(btf.blob(magic, order), NAME, FILE, INDEX)


def test_whatever_is_cut_off_is_refused(btf: Btf) -> None:
    btf.add_struct()
    blob = btf.blob()
    for length in range(len(blob)):
        with pytest.raises(ValueError, match=r"too short|cut off"):
            find_offsets(blob[:length], NAME, FILE, INDEX)


def test_a_last_type_that_is_cut_off_is_none(btf: Btf) -> None:
    before = len(btf.types)
    btf.add_struct()
    whole = btf.types
    for length in range(before, len(whole)):
        btf.types = whole[:length]
        with pytest.raises(ValueError, match="no structures"):
            find(btf)


def test_garbage_gives_an_answer_or_an_error_but_no_crash(btf: Btf) -> None:
    btf.add_struct()
    blob = btf.blob()
    chance = random.Random(5)  # noqa: S311 (only to spoil bytes)
    refused = 0
    for _ in range(3000):
        spoilt = bytearray(blob)
        for _ in range(chance.randint(1, 8)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        try:
            assert find_offsets(bytes(spoilt), NAME, FILE, INDEX).keys() == OFFSETS.keys()
        except ValueError:
            refused += 1
    assert 0 < refused < 3000


def test_it_is_read_from_a_file(btf: Btf, tmp_path: Path) -> None:
    btf.add_struct()
    path = tmp_path / "vmlinux"
    path.write_bytes(btf.blob())
    assert read_offsets(NAME, FILE, INDEX, path=path) == OFFSETS


def test_what_cannot_be_used_is_not_supported(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    with pytest.raises(NotSupported, match=f"cannot be read: {path}: No such file") as missing:
        read_offsets(NAME, FILE, INDEX, path=path)
    assert "CONFIG_DEBUG_INFO_BTF" in missing.value.hint
    path.write_bytes(b"")
    with pytest.raises(NotSupported, match=f"{path}: too short"):
        read_offsets(NAME, FILE, INDEX, path=path)
