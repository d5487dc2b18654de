# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.btf and declarations: prototypes from types made by hand; any bytes."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.errors import DynamosError
from dynamosd.workshop.btf import BadBtf, Btf, Kind
from dynamosd.workshop.declarations import declare, prototype
from tests.unit.workshop.kernel import Types


def said(types: Types, name: str) -> list[str]:
    """Give the prototypes of a function."""
    btf = Btf(types.blob())
    return [prototype(btf, name, each).text for each in btf.functions(name)]


def sample() -> Types:
    """Make a kernel's types, of every kind, with a function of each shape."""
    types = Types()
    integer, char = types.integer(), types.integer("char")
    file = types.add(Kind.STRUCT, "file", 8, [types.name("f_mode"), integer, 0], count=1)
    types.add(Kind.UNION, "either", 4, [types.name("a"), integer, 0], count=1)
    types.add(Kind.ENUM, "colour", 4, [types.name("RED"), 0, types.name("BLUE"), 1], count=2)
    types.add(Kind.ENUM64, "huge", 8, [types.name("MANY"), 0, 1], count=1)
    types.add(Kind.FWD, "page")
    types.add(Kind.VAR, "jiffies", integer, [1])
    types.add(Kind.DATASEC, ".data", 4, [1, 0, 4], count=1)
    types.add(Kind.FLOAT, "double", 8)
    types.add(Kind.DECL_TAG, "kfunc", integer, [0])
    size = types.add(Kind.TYPEDEF, "size_t", integer)
    text = types.add(Kind.PTR, "", types.add(Kind.CONST, "", char))
    pointer = types.add(Kind.PTR, "", file)
    types.function("vfs_read", integer, ("file", pointer), ("buf", text), ("count", size))
    return types


def test_a_prototype() -> None:
    types = sample()
    assert said(types, "vfs_read") == [
        "int vfs_read(struct file *file, const char *buf, size_t count)"
    ]
    assert said(types, "vfs_rea") == []
    assert said(types, "read") == []
    assert said(types, "") == []


def test_parts_of_a_prototype() -> None:
    btf = Btf(sample().blob())
    [found] = btf.functions("vfs_read")
    made = prototype(btf, "vfs_read", found)
    assert made.returns == "int"
    assert made.parameters[1] == ("const char *buf", "buf")
    assert not made.variadic


def test_functions_as_c_writes_them() -> None:
    types = Types()
    integer = types.integer()
    void_pointer = types.add(Kind.PTR, "", 0)
    types.function("nothing", 0)
    types.function("printf", integer, ("format", void_pointer), ("", 0))
    handler = types.add(Kind.PTR, "", types.prototype(integer, ("x", integer), ("y", void_pointer)))
    types.function("sort", 0, ("base", void_pointer), ("compare", handler))
    types.function("choose", handler, ("n", integer))
    constant = types.add(
        Kind.CONST, "", types.add(Kind.PTR, "", types.add(Kind.VOLATILE, "", integer))
    )
    types.function("store", 0, ("at", constant))
    row = types.add(Kind.ARRAY, "", 0, [integer, integer, 4])
    types.function("fill", 0, ("rows", types.add(Kind.PTR, "", row)))
    types.function("sum", 0, ("names", types.add(Kind.PTR, "", types.add(Kind.CONST, "", row))))
    tagged = types.add(Kind.PTR, "", types.add(Kind.TYPE_TAG, "user", integer))
    types.function("copy", 0, ("from", types.add(Kind.RESTRICT, "", tagged)))
    types.function("pages", types.add(Kind.PTR, "", types.add(Kind.FWD, "page")))
    types.function("anonymous", 0, ("it", types.add(Kind.UNION, "", 4)))
    assert [
        text
        for name in (
            *("nothing", "printf", "sort", "choose", "store", "fill", "sum", "copy", "pages"),
            "anonymous",
        )
        for text in said(types, name)
    ] == [
        "void nothing(void)",
        "int printf(void *format, ...)",
        "void sort(void *base, int (*compare)(int, void *))",
        "int (*choose(int n))(int, void *)",
        "void store(volatile int *const at)",
        "void fill(int (*rows)[4])",
        "void sum(const int (*names)[4])",
        "void copy(int *restrict from)",
        "struct page *pages(void)",
        "void anonymous(union {…} it)",
    ]


def test_two_functions_of_one_name() -> None:
    types = Types()
    integer = types.integer()
    types.function("open", 0, ("a", integer))
    # Its name stands a second time among the strings: each file of the kernel's has had its own.
    types.function("open", integer)
    assert sorted(said(types, "open")) == ["int open(void)", "void open(int a)"]


def test_a_modules_types_go_on_where_the_kernels_end() -> None:
    types = sample()
    base = Btf(types.blob())
    assert base.count == types.next
    module = Types(types.next, types.strings_size)
    own = module.add(Kind.STRUCT, "target", 4)
    module.function("target_value", 1, ("t", module.add(Kind.PTR, "", own)))
    btf = Btf(module.blob(), base)
    [found] = btf.functions("target_value")
    assert prototype(btf, "target_value", found).text == "int target_value(struct target *t)"
    assert btf.functions("vfs_read") == []
    assert btf.type(1) == base.type(1)


def test_a_modules_function_with_a_name_of_the_kernels() -> None:
    types = sample()
    name = types.name("shared")
    module = Types(types.next, types.strings_size)
    number = module.prototype(1)
    module._types.append(b"".join(each.to_bytes(4, "little") for each in (name, 12 << 24, number)))
    btf = Btf(module.blob(), Btf(types.blob()))
    [found] = btf.functions("shared")
    assert prototype(btf, "shared", found).text == "int shared(void)"


def test_what_only_looks_like_a_function_is_none() -> None:
    types = Types()
    integer = types.integer()
    name = types.name("fake")
    types.add(Kind.STRUCT, "holder", 8, [name, Kind.FUNC << 24, integer], count=1)
    assert said(types, "fake") == []


def test_a_short_name_costs_no_more_than_the_strings_that_end_in_it() -> None:
    types = Types()
    for number in range(500):
        types.integer(f"a{number}_up")
    types.function("up", 0)
    btf = Btf(types.blob())
    searches = 0

    def count(_frame: object, event: str, called: object) -> None:
        nonlocal searches
        name = getattr(called, "__name__", "")
        searches += event == "c_call" and name in {"find", "index", "bisect_left"}

    sys.setprofile(count)
    try:
        found = btf.functions("up")
    finally:
        sys.setprofile(None)
    assert len(found) == 1
    # One for each string, the last in vain; and what the types' own names need.
    assert 501 < searches < 510


def wrong(*edit: tuple[int, bytes]) -> bytes:
    """Give the sample with other bytes in some places."""
    blob = bytearray(sample().blob())
    for at, text in edit:
        blob[at : at + len(text)] = text
    return bytes(blob)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x9f\xeb",
        sample().blob()[:-1],
        sample().blob()[:40],
        wrong((0, b"\xeb\x9f")),
        wrong((2, b"\2")),
        wrong((4, b"\0\0\0\0")),
        wrong((12, b"\xff\xff\xff\xff")),
        wrong((12, b"\x05")),
    ],
)
def test_no_btf(blob: bytes) -> None:
    with pytest.raises(BadBtf):
        Btf(blob)


def test_types_that_are_wrong() -> None:
    with pytest.raises(BadBtf, match="is of kind 31"):
        Btf(wrong((24 + 7, b"\x1f"))).type(1)
    btf = Btf(sample().blob())
    for number in (btf.count, btf.count + 1, 1 << 31):
        with pytest.raises(BadBtf, match="no type"):
            btf.type(number)
    with pytest.raises(BadBtf, match="no string"):
        btf.string(1 << 20)


def test_a_type_that_is_built_of_itself() -> None:
    types = Types()
    loop = types.add(Kind.PTR, "", 1)
    assert loop == 1
    types.add(Kind.CONST, "", 2)
    types.prototype(3, ("a", 3), ("b", 3))
    btf = Btf(types.blob())
    for number in (1, 2, 3):
        with pytest.raises(BadBtf, match="built of itself"):
            declare(btf, number)


def test_what_is_no_type_of_anything() -> None:
    types = Types()
    function = types.function("f", 0)
    types.function("g", function)
    types.add(Kind.FUNC, "h", types.integer(), count=0)
    with pytest.raises(BadBtf, match="f is used as a type"):
        said(types, "g")
    with pytest.raises(BadBtf, match="which is no prototype"):
        said(types, "h")


@given(st.binary(max_size=400))
def test_any_bytes(blob: bytes) -> None:
    ask_all(blob)


@given(st.data())
def test_a_file_with_wrong_places(data: st.DataObject) -> None:
    blob = bytearray(sample().blob())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at] = data.draw(st.sampled_from([0, 1, 2, 12, 13, 0x7F, 0x80, 0xFF, at & 0xFF]))
    ask_all(bytes(blob)[: data.draw(st.integers(0, len(blob)))])
    ask_all(bytes(blob))


def ask_all(blob: bytes) -> None:
    """Ask for everything: each answer is one, or an error of ours."""
    try:
        btf = Btf(blob)
        names = ["vfs_read", "file", *(btf.type(number).name for number in range(btf.count))]
    except DynamosError:
        return
    for number in range(btf.count):
        try:
            declare(btf, number, "it")
        except DynamosError:
            continue
    for name in names:
        try:
            for each in btf.functions(name):
                prototype(btf, name, each)
        except DynamosError:
            continue
