# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.entries: what ftrace says of functions' entries, as kernels 6.1 and 6.12 write it."""

from __future__ import annotations

from dynamosd.entries import parse

DIRECT = """\
order (1) R   D   M \ttramp: ftrace_regs_caller+0x0/0x65 (call_direct_funcs+0x0/0x20)
\tdirect-->dynamos_gate_order+0x0/0x30 [dynamos_readahead]
"""
FTRACE = """\
order (1)   I  \ttramp: 0xffffffffc047 (redirect+0x0/0x30 [dynamos]) ->redirect+0x0/0x30 [dynamos]
"""
DIRECT_AND_KPROBE = """\
order (2) R   D   M  ->arch_ftrace_ops_list_func+0x0/0x1d0
\tdirect-->dynamos_gate_order+0x0/0x30 [dynamos_readahead]
"""
FTRACE_AND_KPROBE = "order (2) R I   ->arch_ftrace_ops_list_func+0x0/0x1d0\n"
KPROBE = "order (1) R     \ttramp: 0xffffffffc0472000 (kprobe_ftrace_handler+0x0/0x1b0)\n"
BPF = """\
order (1) R   D   M \ttramp: ftrace_regs_caller+0x0/0x65 (call_direct_funcs+0x0/0x20)
\tdirect-->bpf_trampoline_6442539184+0x0/0xff
"""
LIVEPATCH = "order (1) R I   \ttramp: 0xffffffffc0472000 (klp_ftrace_handler+0x0/0x1f0)\n"


def one(text: str) -> tuple[bool | None, bool]:
    """Tell whether there is a gate, and whether the entry is shared."""
    (entry,) = parse(text)["order"]
    return entry.has_gate("order"), entry.is_shared


def test_our_gates() -> None:
    assert one(DIRECT) == (True, False)
    assert one(FTRACE) == (True, False)
    assert one(DIRECT_AND_KPROBE) == (True, True)


def test_what_the_kernel_does_not_say() -> None:
    assert one(FTRACE_AND_KPROBE) == (None, True)


def test_others() -> None:
    assert one(KPROBE) == (False, False)
    assert one(BPF) == (False, False)
    assert one(LIVEPATCH) == (False, True)


def test_a_gate_of_a_function_whose_name_is_longer_is_another_one() -> None:
    (entry,) = parse(DIRECT)["order"]
    assert entry.has_gate("ord") is False


def test_functions_of_modules_and_of_one_name() -> None:
    found = parse("value [some_module] (3) R\nread (1)\nread (2)\n\nstrange\n")
    assert [(each.users, each.module) for each in found["value"]] == [(3, "some_module")]
    assert [each.users for each in found["read"]] == [1, 2]
    assert [each.users for each in found["strange"]] == [1]
    assert parse("") == {}
    assert list(parse("\tbelow nothing\n")) == []
