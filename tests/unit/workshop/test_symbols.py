# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.symbols and names: which function a name means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.errors import DynamosError, NotSupported
from dynamosd.workshop import names, symbols
from dynamosd.workshop.symbols import Symbols, is_changed

KALLSYMS = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000010 T vfs_read
ffffffff81000010 t __vfs_read
ffffffff81000020 t vfs_read.cold
ffffffff81000030 t vfs_read_iter
ffffffff81000040 t show
ffffffff81000050 t show
ffffffff81000060 t copy.isra.0
ffffffff81000070 t copy.constprop.1
ffffffff81000080 T _etext
ffffffff82000000 D jiffies
ffffffff82000040 d file_operations
ffffffffc0000000 t show\t[first]
ffffffffc0000010 t only_here\t[first]
ffffffffc0001000 t shared\t[first]
ffffffffc0002000 t shared\t[second]
ffffffffc0002010 t vfs_read\t[second]
ffffffffc0003000 t ftrace_trampoline\t[__builtin__ftrace]
"""


@pytest.fixture
def kernel() -> Symbols:
    """Give a kernel's names."""
    return Symbols(KALLSYMS)


def test_by_name(kernel: Symbols) -> None:
    [own, other] = kernel.named("vfs_read")
    assert (own.address, own.module, own.letter, own.is_text) == (
        *(0xFFFFFFFF81000010, "", "T", True),
    )
    assert (other.full_name, other.module) == ("second:vfs_read", "second")
    assert kernel.named("vfs_rea") == kernel.named("read") == kernel.named("T") == []
    assert [each.address & 0xFF for each in kernel.named("show")] == [0x40, 0x50, 0]
    assert kernel.address("jiffies") == 0xFFFFFFFF82000000
    assert kernel.address("only_here") is None
    assert not kernel.named("jiffies")[0].is_text


def test_by_address(kernel: Symbols) -> None:
    start = 0xFFFFFFFF81000000
    assert kernel.describe(start + 0x10) == "vfs_read"
    assert kernel.describe(start + 0x1F) == "vfs_read+0xf"
    assert kernel.describe(0xFFFFFFFFC0002004) == "second:shared+0x4"
    assert kernel.describe(start - 1) == "0xffffffff80ffffff"
    assert kernel.describe(0xFFFFFFFFC0F00000) == "0xffffffffc0f00000"
    assert kernel.end(start + 0x10) == start + 0x20
    assert kernel.end(0xFFFFFFFFC0003000) is None
    # The module's own data end its code; the kernel's do not, nor another module's.
    data = Symbols(KALLSYMS + b"ffffffffc0001008 d state\t[first]\n")
    assert data.end(0xFFFFFFFFC0001000, "first") == 0xFFFFFFFFC0001008
    assert data.end(0xFFFFFFFFC0001000, "second") == 0xFFFFFFFFC0002000
    assert kernel.describe_data(0xFFFFFFFF82000048) == "file_operations+0x8"
    assert kernel.describe_data(0xFFFFFFFF82000000) == "jiffies"


def test_text_that_was_an_older_modules_once() -> None:
    newer, older = b"ffffffffc0000000 t gate\t[newer]\n", b"ffffffffc0000000 T init\t[older]\n"
    own = b"ffffffff81000000 T _stext\n"
    assert Symbols(own + newer + older).describe(0xFFFFFFFFC0000000) == "newer:gate"
    assert Symbols(own + older + newer).describe(0xFFFFFFFFC0000000) == "older:init"


def test_other_names_of_the_same_text(kernel: Symbols) -> None:
    found = names.find(kernel, "vfs_read")
    assert {each.name for each in found.aliases} == {"vfs_read", "__vfs_read"}
    assert [each.name for each in found.relatives] == ["vfs_read.cold"]
    assert [each.full_name for each in found.elsewhere] == ["second:vfs_read"]


def test_what_the_compiler_has_made(kernel: Symbols) -> None:
    found = names.find(kernel, "copy")
    assert found.symbol is None
    assert [each.name for each in found.relatives] == ["copy.isra.0", "copy.constprop.1"]
    assert [each.name for each in names.find(kernel, "copy.isra.0").relatives] == [
        "copy.constprop.1"
    ]
    assert [is_changed(name) for name in ("a", "a.isra.0", "a.cold", "a.partly", "a.0")] == [
        *(False, True, True, False, False),
    ]


def test_a_name_of_several(kernel: Symbols) -> None:
    found = names.find(kernel, "show")
    assert found.symbol is None
    assert (len(found.same), len(found.elsewhere)) == (2, 1)
    of_module = names.find(kernel, "first:show")
    assert of_module.symbol
    assert of_module.symbol.module == "first"


def test_a_name_of_modules(kernel: Symbols) -> None:
    found = names.find(kernel, "only_here").symbol
    assert found
    assert found.full_name == "first:only_here"
    assert names.find(kernel, "shared").symbol is None
    assert names.find(kernel, "second:shared").symbol
    assert names.find(kernel, "second:only_here").symbol is None


def test_what_was_meant(kernel: Symbols) -> None:
    assert names.guess(kernel, "vfs_raed") == 'did you mean "vfs_read"?'
    assert names.guess(kernel, "first:only_hree") == 'did you mean "only_here"?'
    assert names.guess(kernel, "jiffie") == ""
    assert names.guess(kernel, "x") == names.guess(kernel, "[(") == ""


def test_addresses_that_are_not_shown(kernel: Symbols) -> None:
    assert kernel.has_addresses
    blind = Symbols(b"0000000000000000 T vfs_read\n0000000000000000 T vfs_write\n")
    assert not blind.has_addresses
    assert names.find(blind, "vfs_read").symbol
    assert blind.aliases(blind.named("vfs_read")[0]) == blind.named("vfs_read")


@pytest.mark.parametrize("text", [b"", b"\n", b"hello", b"ffff T short\n", b"\0" * 30])
def test_no_symbols(text: bytes) -> None:
    with pytest.raises(NotSupported, match="has no symbols"):
        Symbols(text)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="kallsyms cannot be read"):
        symbols.read(tmp_path)


@given(st.binary(max_size=200), st.text(min_size=1, max_size=12))
def test_any_text(more: bytes, name: str) -> None:
    try:
        kernel = Symbols(KALLSYMS + more)
    except DynamosError:
        return
    names.find(kernel, name)
    names.guess(kernel, name)
    assert kernel.describe(0xFFFFFFFF81000010) != ""
    assert names.find(kernel, "vfs_write").symbol is None or b"vfs_write" in more
