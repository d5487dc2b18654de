# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.inspection, gating and holders: a kernel made by hand, inspected."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from dynamosd.errors import InvalidInput, NotSupported
from dynamosd.testing import FakeModule
from dynamosd.workshop import holders
from dynamosd.workshop.gating import Verdict
from dynamosd.workshop.holders import Kind
from dynamosd.workshop.inspection import Inspection, Inspector
from tests.unit.workshop.kernel import NOP, RET, START, Kernel, Types, call, core

ENABLED = "sys/kernel/tracing/enabled_functions"
TRACEABLE = "sys/kernel/tracing/available_filter_functions"
KPROBES = "sys/kernel/debug/kprobes/list"
ORDER = "page_cache_ra_order"
LONG = "f" * 64


def types() -> Types:
    """Give the types of `kernel`."""
    made = Types()
    integer = made.integer()
    made.function("vfs_read", integer, ("fd", integer))
    made.function("printf", integer, ("format", integer), ("", 0))
    made.function("show", integer)
    made.function("show", 0)
    for name in (ORDER, "split"):
        made.function(name, 0)
    return made


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Give a kernel with a handful of functions."""
    read_at = START + 32
    made = Kernel(
        tmp_path / "root",
        {
            "ksys_read": NOP + call(START + 5, read_at) + RET + NOP * 3,
            "vfs_read": NOP + call(read_at + 5, read_at + 16) + RET,
            "mutex_lock": NOP + RET,
            "printf": NOP + RET,
            ORDER: NOP + RET,
            LONG: NOP + RET,
            "split": NOP + RET,
            "split.constprop.0": NOP + RET,
            "split.cold": RET,
            "gone.isra.0": NOP + RET,
        },
        bytes(16) + struct.pack("<Q", read_at) + bytes(40),
    )
    made.names += [
        "ffffffff82000000 D jiffies",
        "ffffffff81005000 t show",
        "ffffffff81005010 t show",
        "ffffffff81005020 t both",
        "ffffffff82000008 d both",
        "ffffffffc0001010 t thrice\t[some_module]",
        "ffffffffc0001020 t thrice\t[some_module]",
        "ffffffffc0002020 t thrice\t[other]",
        "ffffffffc0000000 t only_here\t[some_module]",
        "ffffffffc0001000 t twice\t[some_module]",
        "ffffffffc0002000 t twice\t[other]",
        "ffffffffc0002010 t vfs_read\t[other]",
    ]
    made.write()
    made.put("sys/kernel/btf/vmlinux", types().blob())
    return made


def inspect(kernel: Kernel, module: FakeModule | None, name: str) -> Inspection:
    """Inspect a function."""
    with Inspector(kernel.machine(module)) as inspector:
        return inspector.inspect(name, pause=lambda _seconds: None)


def why(found: Inspection) -> str:
    """Give all reasons in one text."""
    return " | ".join(each.text for each in found.judgement.reasons)


def test_a_function_that_can_be_gated(kernel: Kernel, module: FakeModule) -> None:
    found = inspect(kernel, module, "vfs_read")
    assert (found.judgement.verdict, found.exit_code, why(found)) == (Verdict.YES, 0, "")
    assert [each.text for each in found.prototypes] == ["int vfs_read(int fd)"]
    assert found.entry == ("nop dword ptr [rax + rax]", "call mutex_lock", "ret")
    assert found.body
    assert [each.to for each in found.body.sleeps] == ["mutex_lock"]
    assert found.callers
    assert [each.where for each in found.callers.sites] == ["ksys_read+0x5"]
    assert found.callers.pointers == ("some_fops",)
    assert (found.holders, found.standings, found.missing) == ((), (), ())
    assert "others of this name" in found.judgement.notes[0]


def test_a_function_that_must_not_be_gated(kernel: Kernel, module: FakeModule) -> None:
    said = "mutex_lock is not gated: it would call itself"
    module.denied["mutex_lock"] = (errno.EPERM, said)
    found = inspect(kernel, module, "mutex_lock")
    assert (found.judgement.verdict, found.exit_code, why(found)) == (Verdict.DENIED, 6, said)


def test_what_the_module_finds_wrong(kernel: Kernel, module: FakeModule) -> None:
    for number in (errno.EINVAL, errno.EILSEQ, errno.ENODEV, errno.EBUSY):
        module.denied["vfs_read"] = (number, f"vfs_read: its entry cannot be traced (-{number})")
        found = inspect(kernel, module, "vfs_read")
        assert (found.judgement.verdict, found.exit_code) == (Verdict.NO, 1)
    module.denied["vfs_read"] = (errno.ENOMEM, "vfs_read: its entry cannot be traced (-12)")
    assert inspect(kernel, module, "vfs_read").judgement.verdict is Verdict.UNSURE


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("vfs_raed", "there is no function vfs_raed", 'did you mean "vfs_read"?'),
        ("xyzzy", "there is no function xyzzy", "it may be inlined"),
        ("jiffies", "jiffies is no function: it is data", ""),
        ("show", "2 have the name show: a gate", "gate what calls it"),
        ("both", "2 have the name both (1 of them data): a gate", "gate what calls it"),
        ("twice", "twice is in other, some_module: more than one", "other:twice"),
        (
            "thrice",
            "thrice is in other, some_module: more",
            "as some_module:thrice or other:thrice",
        ),
        ("nosuch:vfs_read", "and not in nosuch", "name it as vfs_read or other:vfs_read"),
        ("gone", "only what the compiler made of it: gone.isra.0", "gate what calls it"),
        ("gone.isra.0", "is what the compiler has made of another function", "C cannot name it"),
        (LONG, "longer than the 63 letters", ""),
        ("printf", "it takes variable arguments", "cannot pass them on"),
        ("only_here", "some_module:only_here cannot be traced", "notrace"),
    ],
)
def test_what_cannot_be_gated(
    kernel: Kernel, module: FakeModule, name: str, said: str, hint: str
) -> None:
    found = inspect(kernel, module, name)
    assert found.judgement.verdict is Verdict.NO
    assert said in why(found)
    assert hint in " ".join(each.hint for each in found.judgement.reasons)
    assert found.exit_code == 1


def test_a_function_of_a_module(kernel: Kernel, module: FakeModule) -> None:
    kernel.put(TRACEABLE, "vfs_read\nonly_here [some_module]\n")
    found = inspect(kernel, module, "only_here")
    assert found.judgement.verdict is Verdict.YES
    assert '.home = "some_module"' in found.judgement.notes[0]
    # Neither its text nor its types are here.
    assert {each.what for each in found.missing} == {"prototype", "entry, callers, loops"}
    assert found.exit_code == 4


def test_a_function_without_a_prototype(kernel: Kernel, module: FakeModule) -> None:
    found = inspect(kernel, module, "mutex_lock")
    assert (found.exit_code, len(found.judgement.notes)) == (0, 1)
    assert "variable arguments" in found.judgement.notes[0]


def test_a_name_as_long_as_any(kernel: Kernel, module: FakeModule) -> None:
    kernel.names.append(f"ffffffff81005030 t {'r' * 511}")
    kernel.write()
    assert "longer than the 63 letters" in why(inspect(kernel, module, "r" * 511))


@pytest.mark.parametrize("address", [0x1000, 0xFFFFFE0000001000])
def test_a_function_far_from_the_kernels_text(
    kernel: Kernel, module: FakeModule, address: int
) -> None:
    kernel.names.append(f"{address:016x} T odd")
    code = b"\xbf" + struct.pack("<I", address & 0xFFFFFFFF) + RET
    kernel.functions = {"f": code}
    kernel.write()
    odd = NOP + RET + bytes(1 << 18)
    kernel.put("proc/kcore", core((START, code.ljust(16, b"\xcc")), (address, odd)))
    found = inspect(kernel, module, "odd")
    assert found.callers
    assert found.callers.sites == ()


def test_copies_by_the_compiler_are_told(kernel: Kernel, module: FakeModule) -> None:
    found = inspect(kernel, module, "split")
    assert found.judgement.verdict is Verdict.YES
    assert found.judgement.notes == (
        "calls of what the compiler made of it do not come to a gate: split.constprop.0",
    )


def test_two_prototypes_of_one_name(kernel: Kernel, module: FakeModule) -> None:
    assert {each.text for each in inspect(kernel, module, "show").prototypes} == {
        *("int show(void)", "void show(void)")
    }


def test_without_the_module(kernel: Kernel) -> None:
    found = inspect(kernel, None, "vfs_read")
    assert (found.judgement.verdict, found.exit_code) == (Verdict.UNSURE, 3)
    assert "modprobe dynamos" in found.judgement.notes[-1]
    assert inspect(kernel, None, "show").exit_code == 1


def test_an_older_module_that_cannot_be_asked(kernel: Kernel, module: FakeModule) -> None:
    module.denied["vfs_read"] = (errno.EINVAL, "unknown command check")
    found = inspect(kernel, module, "vfs_read")
    assert (found.judgement.verdict, found.exit_code) == (Verdict.UNSURE, 3)
    assert "unknown command check" in found.judgement.notes[-1]


def test_a_module_that_is_switched_off(kernel: Kernel, module: FakeModule) -> None:
    module.enable(0)
    found = inspect(kernel, module, "vfs_read")
    assert (found.exit_code, why(found)) == (6, "the module is switched off (enable=0)")


def test_ftrace_that_is_switched_off(kernel: Kernel, module: FakeModule) -> None:
    kernel.put("proc/sys/kernel/ftrace_enabled", "0\n")
    assert why(inspect(kernel, module, "vfs_read")) == "ftrace is switched off"


# ---------------------------------------------------------------------------------- not root


def test_not_root(kernel: Kernel, module: FakeModule) -> None:
    (kernel.folder / "proc/kcore").unlink()
    (kernel.folder / TRACEABLE).unlink()
    names = (kernel.folder / "proc/kallsyms").read_text().splitlines()
    kernel.put("proc/kallsyms", "".join(f"{'0' * 16}{each[16:]}\n" for each in names))
    found = inspect(kernel, module, "vfs_read")
    assert found.exit_code == 4
    assert found.judgement.verdict is Verdict.UNSURE
    assert [each.text for each in found.prototypes] == ["int vfs_read(int fd)"]
    assert [each.what for each in found.missing] == ["what can be traced", "entry, callers, loops"]
    assert "sudo" in found.missing[1].hint
    kernel.put(TRACEABLE, "something_else\n")
    # What is not listed may be another name of what is; without addresses nobody can tell.
    found = inspect(kernel, module, "vfs_read")
    assert (found.judgement.verdict, why(found)) == (Verdict.UNSURE, "")
    assert inspect(kernel, module, "xyzzy").exit_code == 1


def test_pointers_that_cannot_be_looked_for(kernel: Kernel, module: FakeModule) -> None:
    names = (kernel.folder / "proc/kallsyms").read_text().replace("__start_rodata", "elsewhere")
    kernel.put("proc/kallsyms", names)
    found = inspect(kernel, module, "vfs_read")
    assert [each.what for each in found.missing] == ["pointers to it in the kernel's data"]
    assert "CONFIG_KALLSYMS_ALL" in found.missing[0].hint
    assert found.exit_code == 4


def test_callers_that_cannot_be_looked_for(kernel: Kernel, module: FakeModule) -> None:
    names = (kernel.folder / "proc/kallsyms").read_text().replace("_etext", "_elsewhere")
    kernel.put("proc/kallsyms", names)
    found = inspect(kernel, module, "vfs_read")
    assert [each.what for each in found.missing] == ["callers"]
    assert found.body
    assert found.callers is None


def test_no_type_information(kernel: Kernel, module: FakeModule) -> None:
    for blob in (b"nonsense", types().blob()[:-3]):
        kernel.put("sys/kernel/btf/vmlinux", blob)
        found = inspect(kernel, module, "vfs_read")
        assert [each.what for each in found.missing] == ["prototype"]
        assert found.exit_code == 4
    (kernel.folder / "sys/kernel/btf/vmlinux").unlink()
    assert "CONFIG_DEBUG_INFO_BTF" in inspect(kernel, module, "vfs_read").missing[0].hint


def test_no_symbols(kernel: Kernel, module: FakeModule) -> None:
    kernel.put("proc/kallsyms", "")
    with pytest.raises(NotSupported):
        inspect(kernel, module, "vfs_read")


@pytest.mark.parametrize("name", ["", "a b", "a:b:c", "a\n", "ä", "x" * 512, "a/b", ":a", "*"])
def test_what_is_no_name(kernel: Kernel, module: FakeModule, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a function's name"):
        inspect(kernel, module, name)


# ----------------------------------------------------------------------------------- holders

GATE = "\tdirect-->dynamos_gate_vfs_read+0x0/0x30 [dynamos_vfs]\n"
BPF = "\tdirect-->bpf_trampoline_6442539184+0x0/0xff\n"
OTHER = "\tdirect-->my_tramp+0x0/0xff [my_module]\n"


@pytest.mark.parametrize(
    ("enabled", "kinds"),
    [
        ("", []),
        (f"vfs_read (1) R   D   M \ttramp: x\n{GATE}", [Kind.GATE]),
        (f"vfs_read (2) R   D   M  ->y\n{GATE}", [Kind.GATE, Kind.TRACER]),
        (f"vfs_read (1) R   D   M \ttramp: x\n{BPF}", [Kind.BPF]),
        (f"vfs_read (1) R   D   M \ttramp: x\n{OTHER}", [Kind.DIRECT]),
        ("vfs_read (1)     \ttramp: x\n", [Kind.TRACER]),
        ("vfs_read (1) R I   \ttramp: x (klp_ftrace_handler+0x0/0x1f0)\n", [Kind.LIVEPATCH]),
        ("vfs_read (2) R I   ->z\n", [Kind.REDIRECT, Kind.TRACER]),
        ("vfs_read [other] (1)\nvfs_readv (1)\n", []),
    ],
)
def test_who_holds_the_entry(
    kernel: Kernel, module: FakeModule, enabled: str, kinds: list[Kind]
) -> None:
    kernel.put(ENABLED, enabled)
    found = inspect(kernel, module, "vfs_read")
    assert sorted({each.kind for each in found.holders}) == sorted(kinds)
    refused = not {Kind.LIVEPATCH, Kind.REDIRECT, Kind.DIRECT}.isdisjoint(kinds)
    assert (found.exit_code, "its entry is held" in why(found)) == (int(refused), refused)
    assert any("back end ftrace" in each for each in found.judgement.notes) is (Kind.BPF in kinds)


SHARED = f"{ORDER} (2) R I   \t->ftrace_ops_list_func+0x0/0x1f0\n"
SHARED_WITH_BPF = f"{ORDER} (2) R I D M\ttramp: x\n{BPF}"


@pytest.mark.parametrize(
    ("enabled", "kinds"),
    [(SHARED, [Kind.GATE, Kind.TRACER]), (SHARED_WITH_BPF, [Kind.GATE, Kind.BPF])],
)
def test_our_redirect_that_shares_the_entry(
    kernel: Kernel, module: FakeModule, enabled: str, kinds: list[Kind]
) -> None:
    kernel.put(ENABLED, enabled)
    backend = module.sysfs / "readahead/functions" / ORDER / "backend"
    backend.write_text("ftrace\n")
    found = inspect(kernel, module, ORDER)
    assert [each.kind for each in found.holders] == kinds
    assert "the kernel does not say more" in found.holders[0].text
    assert (found.exit_code, found.judgement.notes) == (0, ())
    # Of one that has no gate of this back end it is somebody else's.
    backend.write_text("direct\n")
    assert "held by a redirect" in why(inspect(kernel, module, ORDER))


def test_a_gate_under_another_name(kernel: Kernel, module: FakeModule) -> None:
    kernel.names += [f"{START + 32:016x} T vfs_read_too"]
    kernel.write()
    for gate in (GATE, GATE.replace("vfs_read+", "vfs_read_too+")):
        kernel.put(ENABLED, f"vfs_read_too (1) R   D   M \ttramp: x\n{gate}")
        for name in ("vfs_read", "vfs_read_too"):
            found = inspect(kernel, module, name)
            assert [(each.kind, found.exit_code) for each in found.holders] == [(Kind.GATE, 0)]


def test_ebpf_where_only_direct_gates_may_be(kernel: Kernel, module: FakeModule) -> None:
    kernel.put(ENABLED, f"vfs_read (1) R   D   M \ttramp: x\n{BPF}")
    (module.settings / "backend").write_text("direct\n")
    found = inspect(kernel, module, "vfs_read")
    assert (found.exit_code, "the back end direct only" in why(found)) == (1, True)
    assert not any("back end ftrace" in each for each in found.judgement.notes)


@pytest.mark.parametrize(
    ("path", "what", "hint"),
    [(ENABLED, "who holds the entry", "-t tracefs"), (KPROBES, "kprobes", "-t debugfs")],
)
def test_holders_that_cannot_be_seen(
    kernel: Kernel, module: FakeModule, path: str, what: str, hint: str
) -> None:
    (kernel.folder / path).unlink()
    [missing] = inspect(kernel, module, "vfs_read").missing
    assert (missing.what, hint in missing.hint) == (what, True)
    assert missing.why == f"/{path} cannot be read: No such file or directory"


def test_holders_that_nobody_may_see(
    kernel: Kernel, module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    machine = kernel.machine(module)
    monkeypatch.setattr(Path, "open", locked)
    for uid, hint in ((0, "locked down"), (1000, "sudo")):
        for each in holders.unseen(replace(machine, uid=uid)):
            assert each.why.endswith(": Operation not permitted")
            assert hint in each.hint
    assert len(list(holders.unseen(machine))) == 2


def test_kprobes(kernel: Kernel, module: FakeModule) -> None:
    at = START + 32
    kernel.put(
        KPROBES,
        f"{at:016x}  k  vfs_read+0x0    [FTRACE]\n"
        f"{at:016x}  r  vfs_read+0x0    [DISABLED][FTRACE]\n"
        f"{at + 10:016x}  k  vfs_read+0xa\n"
        f"{0xFFFFFFFFC0002010:016x}  k  vfs_read+0x0  other [FTRACE]\n"
        f"{at:016x}  k  other+0x0\nnonsense\n",
    )
    found = inspect(kernel, module, "vfs_read")
    assert [(each.kind, each.text) for each in found.holders] == [
        (Kind.KPROBE, "kprobe at +0x0 [FTRACE]"),
        (Kind.KPROBE, "kretprobe at +0x0 [DISABLED][FTRACE]"),
        (Kind.INSIDE, "kprobe at +0xa"),
    ]
    assert "kprobes inside see nothing" in found.judgement.notes[-1]


def test_livepatches(kernel: Kernel, module: FakeModule) -> None:
    for path in ("fix/vmlinux/vfs_read,1", "fix/other/vfs_read,1", "fix/vmlinux/vfs_readv,1"):
        (kernel.folder / "sys/kernel/livepatch" / path).mkdir(parents=True)
    kernel.put(ENABLED, "vfs_read (1) R I   \ttramp: x (klp_ftrace_handler+0x0/0x1f0)\n")
    found = inspect(kernel, module, "vfs_read")
    assert [(each.kind, each.text) for each in found.holders] == [(Kind.LIVEPATCH, "fix")]
    assert why(found) == "its entry is held by a livepatch: fix"


# --------------------------------------------------------------------------------- subsystems


def test_a_function_that_is_gated(kernel: Kernel, module: FakeModule) -> None:
    def calls(seconds: float) -> None:
        assert seconds == 1.0
        for _ in range(5):
            module.call("readahead", ORDER)
        module.call("readahead", ORDER, blocked=1)

    with Inspector(kernel.machine(module)) as inspector:
        [found] = inspector.inspect(ORDER, pause=calls).standings
    assert (found.subsystem, found.active, found.backend) == ("readahead", "original", "direct")
    assert found.editions == ("original", "random")
    assert found.is_gated
    rates = {each.edition: each for each in found.rates}
    assert rates["original"].calls_per_second > 0
    assert (rates["original"].in_flight, rates["random"].calls_per_second) == (1, 0.0)


def test_the_module_goes_away_meanwhile(kernel: Kernel, module: FakeModule) -> None:
    with Inspector(kernel.machine(module)) as inspector:
        found = inspector.inspect(ORDER, pause=lambda _seconds: module.remove())
    assert [each.what for each in found.missing] == ["calls a second"]
    [standing] = found.standings
    assert (standing.subsystem, standing.rates) == ("readahead", ())
    assert found.callers


def test_an_edition_that_is_loaded_anew_meanwhile(kernel: Kernel, module: FakeModule) -> None:
    module.call("readahead", ORDER, 50)
    calls = module.sysfs / "readahead/functions" / ORDER / "original/calls"

    def anew(_seconds: float) -> None:
        calls.write_text("3\n")

    with Inspector(kernel.machine(module)) as inspector:
        found = inspector.inspect(ORDER, pause=anew)
    assert [each.calls_per_second for each in found.standings[0].rates] == [0.0, 0.0]


def test_a_subsystem_with_another_function_of_the_name(kernel: Kernel, module: FakeModule) -> None:
    module.register("files", ["vfs_read"])
    address = module.sysfs / "files/functions/vfs_read/address"

    def has(name: str) -> list[tuple[str, bool]]:
        found = inspect(kernel, module, name)
        return [(each.subsystem, each.by_address) for each in found.standings]

    assert has("vfs_read") == has("other:vfs_read") == [("files", False)]
    # That of the kernel itself, whose traced entry is behind an endbr64.
    address.write_text(f"{START + 32 + 4:#x}\n")
    assert (has("vfs_read"), has("other:vfs_read")) == ([("files", True)], [])
    address.write_text("0xffffffffc0002010\n")
    assert (has("vfs_read"), has("other:vfs_read")) == ([], [("files", True)])


def test_a_function_of_a_subsystem_without_a_gate(kernel: Kernel, module: FakeModule) -> None:
    module.register("locks", ["mutex_lock"])
    [found] = inspect(kernel, module, "mutex_lock").standings
    assert (found.subsystem, found.is_gated, found.rates) == ("locks", False, ())


def test_many_functions_with_one_inspector(kernel: Kernel, module: FakeModule) -> None:
    with Inspector(kernel.machine(module)) as inspector:
        first = inspector.inspect("vfs_read")
        kernel.put("proc/kallsyms", "")
        (kernel.folder / "proc/kcore").unlink()
        assert inspector.inspect("vfs_read") == first
        assert inspector.inspect("mutex_lock").exit_code == 0
