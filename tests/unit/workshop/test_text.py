# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.text, callers and body: code made by hand, disassembled."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamosd.workshop import body
from dynamosd.workshop import text as workshop_text
from dynamosd.workshop.callers import Finder, How
from dynamosd.workshop.kcore import Kcore
from dynamosd.workshop.symbols import Symbols, read
from dynamosd.workshop.text import Instruction, Text
from tests.unit.workshop.kernel import NOP, RET, START, Kernel, call, core

PAD = b"\x90"
MOST = 100


@contextmanager
def text_of(kernel: Kernel) -> Iterator[Text]:
    """Write a kernel, and open its text."""
    kernel.write()
    with Kcore(kernel.folder / "proc/kcore") as memory:
        yield Text(memory, read(kernel.folder), lambda _what, _part: None)


def made(folder: Path, functions: Mapping[str, bytes], data: bytes = bytes(64)) -> Kernel:
    """Make a kernel of some functions, 64 bytes each, from `START` on."""
    padded = {name: code + RET + b"\xcc" * (63 - len(code)) for name, code in functions.items()}
    return Kernel(folder, padded, data)


def test_a_body_ends_where_the_filling_begins(tmp_path: Path) -> None:
    with text_of(made(tmp_path, {"f": NOP + b"\x53\x5b", "g": b""})) as text:
        found = text.body(text.symbols.named("f")[0])
        assert (found.size, found.is_whole) == (8, True)
        shown = [text.show(each) for each in found.instructions]
        assert shown == ["nop dword ptr [rax + rax]", "push rbx", "pop rbx", "ret"]


MODULE = 0xFFFFFFFFC0000000


@pytest.mark.parametrize(
    ("behind", "names"),
    [
        (bytes(0x1000), []),
        (bytes(0xF8) + b"usage: %s\n" * 50, ["ffffffffc0000100 r message\t[m]"]),
    ],
)
@pytest.mark.parametrize("code", [NOP + b"\x53\x5b" + RET, NOP + b"\xe9\0\0\0\0"])
def test_the_last_function_of_a_module(
    tmp_path: Path, behind: bytes, names: list[str], code: bytes
) -> None:
    kernel = made(tmp_path, {"f": b""})
    kernel.names = ["ffffffffc0000000 t last\t[m]", *names, "ffffffffc0010000 t other\t[n]"]
    kernel.write()
    memory = (code + behind).ljust(0x10000, b"\0")
    kernel.put("proc/kcore", core((START, bytes(4096)), (MODULE, memory)))
    with Kcore(tmp_path / "proc/kcore") as opened:
        text = Text(opened, read(tmp_path), lambda _what, _part: None)
        found = text.body(text.symbols.named("last")[0])
    assert (found.code, found.is_whole) == (code, True)
    assert found.instructions[-1].mnemonic in {"ret", "jmp"}


def test_zeros_behind_a_function_are_not_disassembled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with text_of(Kernel(tmp_path, {"f": NOP + RET + bytes(0x1000 - 6)})) as text:
        seen: list[int] = []
        disassemble = workshop_text.disassemble

        def note(code: bytes, address: int) -> Iterator[Instruction]:
            seen.append(len(code))
            return disassemble(code, address)

        monkeypatch.setattr(workshop_text, "disassemble", note)
        assert text.body(text.symbols.named("f")[0]).code == NOP + RET
    assert seen == [len(NOP + RET) + 8]


def test_bytes_that_are_no_instruction(tmp_path: Path) -> None:
    with text_of(made(tmp_path, {"f": NOP + b"\x06\x06\x06" + NOP})) as text:
        found = text.body(text.symbols.named("f")[0])
        assert not found.is_whole
        assert len(found.instructions) == 1
        assert not body.look(found, text.symbols).is_whole


def test_a_target_is_named(tmp_path: Path) -> None:
    with text_of(made(tmp_path, {"f": call(START, START + 0x44), "g": b""})) as text:
        [first, *_] = text.body(text.symbols.named("f")[0]).instructions
        assert text.show(first) == "call g+0x4"


# ----------------------------------------------------------------------------------- callers


def callers(folder: Path, functions: Mapping[str, bytes], data: bytes = bytes(64)) -> list[str]:
    """Find what leads to the function `g`, which is at `START` + 0x40."""
    with text_of(made(folder, functions, data)) as text:
        found = Finder(text, text._tell).find(text.symbols.named("g")[0], MOST)
        assert (found.unseen, found.unsure) == (0, 0)
        return [f"{each.how} {each.where}" for each in found.sites] + list(found.pointers)


G = START + 0x40
SHORT = G & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (call(START + 1, G), How.CALL),
        (call(START + 1, G, b"\xe9"), How.JUMP),
        (call(START + 1, G, b"\x0f\x84"), How.BRANCH),
        (call(START + 1, G, b"\x48\x8d\x3d"), How.ADDRESS),
        (b"\x48\xc7\xc7" + struct.pack("<I", SHORT), How.ADDRESS),
        (b"\xbf" + struct.pack("<I", SHORT), How.ADDRESS),
        (b"\x68" + struct.pack("<I", SHORT), How.ADDRESS),
    ],
)
def test_what_leads_to_a_function(tmp_path: Path, code: bytes, how: How) -> None:
    assert callers(tmp_path, {"f": PAD + code, "g": b""}) == [f"{how} f+0x1"]


def test_callers_before_and_behind_in_order(tmp_path: Path) -> None:
    functions = {"f": call(START, G), "g": call(G, G), "h": PAD + call(START + 0x81, G)}
    assert callers(tmp_path, functions) == ["call f", "call g", "call h+0x1"]


@pytest.mark.parametrize(
    "code",
    [
        # The bytes of a call, within a constant that is moved to a register.
        b"\x48\xb8" + call(START + 2, G) + b"\0\0\0",
        # The distance, of a variable and not of an address that is taken.
        call(START, G, b"\x48\x8b\x3d"),
        call(START, G + 1),
        call(START, G - 1, b"\xe9"),
    ],
)
def test_what_only_looks_like_a_caller(tmp_path: Path, code: bytes) -> None:
    assert callers(tmp_path, {"f": code, "g": b""}) == []


def test_far_away(tmp_path: Path) -> None:
    code = {f"f{number}": b"" for number in range(3000)}
    last = START + 0x40 * 3001
    functions = {"f": call(START, G), "g": b"", **code, "last": call(last + 0x40, G)}
    last_at = START + 0x40 * (len(functions) - 1)
    functions["last"] = call(last_at, G)
    assert callers(tmp_path, functions) == ["call f", "call last"]


def test_pointers_in_data(tmp_path: Path) -> None:
    data = bytes(24) + struct.pack("<Q", G) + b"\1" + struct.pack("<Q", G) + bytes(7)
    assert callers(tmp_path, {"f": b"", "g": b""}, data) == ["some_fops+0x8"]


def test_a_caller_behind_what_cannot_be_disassembled(tmp_path: Path) -> None:
    with text_of(made(tmp_path, {"f": b"\x06" + call(START + 1, G), "g": b""})) as text:
        found = Finder(text, text._tell).find(text.symbols.named("g")[0], MOST)
    assert (found.sites, found.unsure) == ((), 1)


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ({"f": b"\x90" * 60 + b"\xeb\x02", "g": b""}, ["jump f+0x3c"]),
        ({"f": b"\x90" * 60 + b"\x74\x02", "g": b""}, ["branch f+0x3c"]),
        ({"f": b"", "g": b"", "h": b"\xeb\xbe"}, ["jump h"]),
        # As far as such a jump comes, and not to the next byte.
        ({"f": b"", "g": b"", "h": b"", "i": b"\x75\x80"}, []),
        ({"f": b"", "g": b"\x90" * 62, "h": b"\x90" * 62 + b"\xeb\x80"}, ["jump h+0x3e"]),
        ({"f": b"", "g": b"", "h": b"\xb8\xeb\xbd\0\0"}, []),
    ],
)
def test_short_jumps(tmp_path: Path, functions: dict[str, bytes], expected: list[str]) -> None:
    assert callers(tmp_path, functions) == expected


@pytest.mark.parametrize("gone", ["__start_rodata", "_sdata", "__bss_stop"])
def test_data_that_cannot_be_looked_at(tmp_path: Path, gone: str) -> None:
    kernel = made(tmp_path, {"f": b"", "g": b""})
    kernel.write()
    names = (tmp_path / "proc/kallsyms").read_bytes().replace(gone.encode(), b"elsewhere")
    with Kcore(tmp_path / "proc/kcore") as memory:
        text = Text(memory, Symbols(names), lambda _what, _part: None)
        [why] = Finder(text, text._tell).find(text.symbols.named("g")[0], MOST).blind
    assert gone in why


def test_more_callers_than_anybody_wants(tmp_path: Path) -> None:
    code = b"".join(call(START + 5 * each, G) for each in range(10))
    with text_of(made(tmp_path, {"f": code, "g": b""})) as text:
        found = Finder(text, text._tell).find(text.symbols.named("g")[0], 4)
    assert (len(found.sites), found.unseen) == (4, 6)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([b"\xe8", b"\xe9"])), max_size=20))
def test_every_caller_and_no_other(tmp_path: Path, plan: list[tuple[int, bytes]]) -> None:
    code, expected, far = b"", [], 0x1000 + 0x20000
    for filler, opcode in plan:
        code += PAD * filler
        expected.append(START + len(code))
        code += call(START + len(code), START + far, opcode)
    functions = {"f": code.ljust(0x1000, b"\xcc"), "between": bytes(0x20000), "g": RET}
    with text_of(Kernel(tmp_path, functions)) as text:
        found = Finder(text, text._tell).find(text.symbols.named("g")[0], MOST)
        assert [each.address for each in found.sites] == expected


# ------------------------------------------------------------------------------------- inside


def facts(folder: Path, code: bytes, **others: bytes) -> body.Facts:
    """Look at a function `f`, in front of others of 64 bytes each."""
    with text_of(made(folder, {"f": code, **others})) as text:
        return body.look(text.body(text.symbols.named("f")[0]), text.symbols)


def test_loops(tmp_path: Path) -> None:
    found = facts(tmp_path, NOP + b"\x53\x75\xfd" + call(START + 8, G, b"\xe9"), g=b"")
    assert [(each.at, each.to) for each in found.loops] == [(6, 5)]
    assert found.calls == ("g",)


def test_a_jump_to_itself_is_a_loop(tmp_path: Path) -> None:
    assert [(each.at, each.to) for each in facts(tmp_path, NOP + b"\xeb\xfe").loops] == [(5, 5)]


def test_sleeping_calls_and_tail_jumps(tmp_path: Path) -> None:
    code = call(START, G) + call(START + 5, G + 0x40) + call(START + 10, G + 0x80, b"\xe9")
    found = facts(tmp_path, code, mutex_lock=b"", __kmalloc=b"", schedule_timeout=b"")
    assert [(each.at, each.to) for each in found.sleeps] == [
        (0, "mutex_lock"),
        (10, "schedule_timeout"),
    ]
    assert [(each.at, each.to) for each in found.may_allocate] == [(5, "__kmalloc")]
    assert found.calls == ("__kmalloc", "mutex_lock", "schedule_timeout")


def test_calls_through_pointers(tmp_path: Path) -> None:
    code = b"\xff\xd0" + call(START + 2, G) + b"\xff\x66\x08"
    found = facts(tmp_path, code, __x86_indirect_thunk_rax=b"")
    assert found.pointers == (0, 2, 7)
    assert found.calls == ()


@pytest.mark.parametrize(
    "name",
    [
        *("might_sleep", "__might_sleep", "__might_resched", "__SCT__cond_resched", "schedule"),
        *("io_schedule_timeout", "mutex_lock_interruptible", "__mutex_lock.constprop.0", "down"),
        *("down_read", "down_write_killable", "wait_for_completion", "__wait_on_buffer"),
        *("_copy_from_user", "copy_user_generic", "__get_user_4", "__folio_lock", "msleep"),
        *("__get_user_nocheck_4", "__put_user_nocheck_8"),
        *("synchronize_rcu", "nfs:wait_on_commit", "vmalloc_node", "rtnl_lock"),
    ],
)
def test_names_that_may_sleep(name: str) -> None:
    assert body.may_sleep(name)


@pytest.mark.parametrize(
    "name",
    [
        *("mutex_trylock", "down_trylock", "down_read_trylock", "schedule_work_on", "up_read"),
        *("_raw_spin_lock", "reschedule", "mutex_unlock", "wake_up_process", "kmalloc_trace"),
        *("copy_from_user_nofault", "copy_from_user_nmi", "__copy_from_user_inatomic"),
        *("__copy_from_user_inatomic_nocache", "vmalloc_to_page", "vmalloc_to_pfn"),
        *("lock_page_memcg", "lock_page_lruvec_irqsave", "clear_user_highpage"),
        *("schedule_tail", "wait_for_xmitr", "copy_user_highpage"),
        *("preempt_schedule", "countdown", "prepare_to_wait", "downgrade_write"),
    ],
)
def test_names_that_do_not_sleep(name: str) -> None:
    assert not body.may_sleep(name)


def test_the_names_are_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/workshop.md").read_text()
    for name in (*body.MAY_SLEEP, *body.BY_FLAGS, *body.NEVER):
        assert f"`{name}`" in page


def test_names_that_sleep_by_their_flags() -> None:
    assert body.may_allocate("__kmalloc_node")
    assert body.may_allocate("kmem_cache_alloc_noprof")
    assert not body.may_allocate("kfree")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_as_code(tmp_path: Path, code: bytes) -> None:
    with text_of(Kernel(tmp_path, {"f": code, "g": RET})) as text:
        found = text.body(text.symbols.named("f")[0])
        assert all(found.has(each.address) for each in found.instructions)
        body.look(found, text.symbols)
        Finder(text, text._tell).find(text.symbols.named("f")[0], MOST)


def test_symbols_in_no_order() -> None:
    text = b"ffffffff81000020 t b\nffffffff81000000 t a\n"
    assert Symbols(text).describe(0xFFFFFFFF81000008) == "a+0x8"
