# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.checks: modules made by hand, each with one thing wrong."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from dynamosd.errors import Unreachable
from dynamosd.kmod import Kmod, Unfit
from dynamosd.probes.btf import MAGIC
from dynamosd.workshop.btf import Kind
from dynamosd.workshop.checks import code, elf, file
from dynamosd.workshop.checks.finding import Finding, Verdict, exit_code
from dynamosd.workshop.checks.report import Report, check
from tests.unit.workshop.module import (
    BODY,
    CRCS,
    GOOD_TYPES,
    RELEASE,
    VERMAGIC,
    WRAPPER,
    Place,
    be_roots,
    core,
    edition,
    good,
    kernel_types,
    module_types,
    only,
    owned_by,
    signed,
    subsystem,
)

LOCKDOWN = "sys/kernel/security/lockdown"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give a kernel, and a folder for modules that is root's, whoever runs the tests."""
    be_roots(monkeypatch)
    return Place(tmp_path)


def verdicts(report: Report) -> dict[str, str]:
    """Give the checks' verdicts; of several of a name the last."""
    return {each.name: str(each.verdict) for each in report.findings}


def bad(report: Report) -> list[str]:
    """Give the names of the checks that failed."""
    return [each.name for each in report.bad]


def test_a_good_edition(place: Place) -> None:
    report = place.check(good())
    assert verdicts(report) == {
        "file": "passed",
        "owner and permissions": "passed",
        "kernel": "passed",
        "symbols": "passed",
        "signature": "passed",
        "what it is": "passed",
        "prototypes": "passed",
        "modes": "passed",
        "gates": "not applicable",
        "instructions": "passed",
        "calls": "passed",
        "sleeping": "passed",
        "stack": "passed",
    }
    assert report.exit_code == 0
    assert only(report, "what it is").seen == "edition files/mine, which replaces files_read"
    assert only(report, "modes").seen == "concurrent, exclusive, per-object, scoped"


def test_the_subsystem_and_the_core(place: Place) -> None:
    report = place.check(subsystem(), "dynamos_files.ko")
    assert only(report, "what it is").seen == "subsystem files, with gates at files_read"
    assert bad(report) == []
    report = place.check(core(), "dynamos.ko")
    assert only(report, "what it is").seen == "the core, which all editions need"
    assert verdicts(report)["prototypes"] == "not applicable"
    assert report.exit_code == 0


# ------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("size", [0, 3, 20, 63, 64, 500, -1])
def test_a_truncated_file(place: Place, size: int) -> None:
    report = place.check(good()[:size])
    assert report.exit_code == 1
    assert bad(report) == ["file"]
    assert ("cut off" if size not in {0, 3} else "no ELF") in only(report, "file").seen


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (4, 1, "not of this machine"),
        (5, 2, "not of this machine"),
        (18, 183, "not of this machine"),
        (16, 2, "an ELF file of type 2"),
        (60, 0, "it has 0 sections"),
        (62, 0, "which of its sections has their names"),
    ],
)
def test_a_file_of_another_kind(place: Place, at: int, value: int, said: str) -> None:
    changed = bytearray(good())
    changed[at : at + 2] = (
        value.to_bytes(2, "little") if at > 5 else bytes([value, changed[at + 1]])
    )
    report = place.check(bytes(changed))
    assert said in only(report, "file").seen
    assert report.exit_code == 1


def test_what_is_no_file(place: Place) -> None:
    fifo = place.folder / "modules/pipe.ko"
    os.mkfifo(fifo)
    for path, said in (
        (fifo, "is no file"),
        (place.folder, "cannot be read: Is a directory"),
        (place.folder / "none.ko", "cannot be read: No such file"),
        (Path("/dev/zero"), "is no file"),
    ):
        report = check(path, place.kernel)
        assert said in only(report, "file").seen
        assert (report.exit_code, report.description) == (1, None)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd.compress])
def test_a_packed_file(place: Place, pack: object) -> None:
    assert callable(pack)
    assert place.check(pack(good()), "mine.ko.packed").exit_code == 0
    broken = place.check(pack(good())[:-20], "mine.ko.packed")
    assert "cannot be unpacked" in only(broken, "file").seen
    bomb = place.check(pack(bytes(elf.MOST_BYTES + 1)), "mine.ko.packed")
    assert "larger than 32 MiB" in only(bomb, "file").seen


def test_names_that_a_terminal_would_obey(place: Place) -> None:
    changed = good().replace(b"name=dynamos_files_mine", b"name=\x1b]0;owned\x07os_mine_")
    assert changed != good()
    report = place.check(changed.replace(b"dynamos_function_files", b"dynamos_func\x1b[31mfiles"))
    assert not any("\x1b" in each.seen for each in report.findings)
    assert report.description
    assert "\x1b" not in report.description.module


# ------------------------------------------------------------------------------- who can write it


def test_a_world_writable_file(place: Place) -> None:
    path = place.put("modules/dynamos_files_mine.ko", good())
    path.chmod(0o666)
    report = check(path, place.kernel)
    assert bad(report) == ["owner and permissions"]
    assert "can be written by others (mode 666)" in only(report, "owner and permissions").seen
    assert report.exit_code == 6


def test_a_world_writable_folder_above(place: Place) -> None:
    path = place.put("modules/deep/er/mine.ko", good())
    (place.folder / "modules/deep").chmod(0o777)
    assert f"{place.folder}/modules/deep can be" in file.check_permissions(path).seen
    # Nobody replaces what is somebody else's in a folder like /tmp.
    (place.folder / "modules/deep").chmod(0o1777)
    assert file.check_permissions(path).verdict is Verdict.PASSED


def test_a_link_from_a_world_writable_folder(place: Place) -> None:
    path = place.put("modules/mine.ko", good())
    link = place.folder / "open/link.ko"
    link.parent.mkdir()
    link.symlink_to(path)
    assert file.check_permissions(link).verdict is Verdict.PASSED
    link.parent.chmod(0o777)
    assert file.check_permissions(link).verdict is Verdict.REFUSED


def test_a_file_that_is_not_roots(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.put("modules/mine.ko", good())
    owned_by(lambda each: 1000 if each == path else 0, monkeypatch)
    found = file.check_permissions(path)
    assert (found.verdict, found.seen) == (Verdict.REFUSED, f"{path} belongs to uid 1000")


# ------------------------------------------------------------------------------------ the kernel


def test_another_kernels_module(place: Place) -> None:
    report = place.check(edition(vermagic=VERMAGIC.replace("6.9.0", "6.8.1"), btf=GOOD_TYPES))
    assert bad(report) == ["kernel"]
    assert "built for 6.8.1-made-up, and this is 6.9.0-made-up" in only(report, "kernel").seen
    assert verdicts(report)["prototypes"] == "not applicable"


@pytest.mark.parametrize(
    ("vermagic", "said"),
    [
        (f"{RELEASE} SMP mod_unload ", "is SMP mod_unload; this one is SMP preempt"),
        (RELEASE, "without options"),
        ("", "does not say for which kernel"),
    ],
)
def test_a_kernel_built_otherwise(place: Place, vermagic: str, said: str) -> None:
    report = place.check(edition(vermagic=vermagic))
    assert "kernel" in bad(report)
    assert said in only(report, "kernel").seen


def test_a_kernel_of_which_little_is_known(place: Place) -> None:
    for each in (".config", "Module.symvers"):
        (place.folder / f"lib/modules/{RELEASE}/build/{each}").unlink()
    (place.folder / "sys/kernel/btf/vmlinux").unlink()
    report = place.check(edition(body=f"kfree(0); {BODY}", btf=GOOD_TYPES))
    warned = [each.name for each in report.findings if each.verdict is Verdict.WARNED]
    assert warned == ["kernel", "symbols", "prototypes"]
    assert report.exit_code == 3
    place.put("proc/kallsyms", b"ffffffff81000000 T kfree\nffffffff81000010 T other\n")
    report = place.check(edition(body=f"kfree(0); panic(0); {BODY}"))
    assert "by name only, and not seen: panic" in only(report, "symbols").seen


def test_a_missing_symbol(place: Place) -> None:
    report = place.check(edition(before="int gone(void);", body=f"gone(); {BODY}", btf=GOOD_TYPES))
    assert bad(report) == ["symbols"]
    assert only(report, "symbols").seen == "missing: gone"


def test_a_symbol_that_has_changed(place: Place) -> None:
    changed = edition(body=f"kfree(0); {BODY}", crcs={**CRCS, "kfree": 1}, btf=GOOD_TYPES)
    report = place.check(changed)
    assert bad(report) == ["symbols"]
    assert "(modversions): kfree" in only(report, "symbols").seen
    other = {"dynamos_subsystem_files": 0x5556}
    assert "dynamos_subsystem_files" in only(place.check(edition(crcs=other)), "symbols").seen


def test_a_module_that_it_needs_is_not_found(place: Place) -> None:
    (place.folder / "modules/dynamos_files.ko").unlink()
    report = place.check(good())
    assert (
        "for want of the modules dynamos_files: dynamos_function_" in only(report, "symbols").seen
    )
    assert verdicts(report)["modes"] == verdicts(report)["sleeping"] == "not applicable"
    assert report.exit_code == 3


# --------------------------------------------------------------------------------- the signature


def test_an_unsigned_module_under_lockdown(place: Place) -> None:
    place.put(LOCKDOWN, b"none [integrity] confidentiality\n")
    report = place.check(good())
    assert bad(report) == ["signature"]
    assert only(report, "signature").seen == "it is not signed, and it is locked down (integrity)"
    assert report.exit_code == 6
    assert place.check(signed(good())).exit_code == 0


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sys/module/module/parameters/sig_enforce", "Y\n"),
        (f"lib/modules/{RELEASE}/build/.config", "CONFIG_MODULE_SIG_FORCE=y\n"),
    ],
)
def test_a_kernel_that_wants_signatures(place: Place, path: str, text: str) -> None:
    place.put(path, text.encode())
    assert "signature" in bad(place.check(good()))


def test_a_kernel_that_does_not_run_is_not_locked_down(place: Place) -> None:
    place.put(LOCKDOWN, b"none [integrity] confidentiality\n")
    place.is_running = False
    assert "is not known" in only(place.check(good()), "signature").seen


@pytest.mark.parametrize("tail", [signed(b"", kind=1), b"~Module signature appended~\n"])
def test_a_broken_signature(place: Place, tail: bytes) -> None:
    assert bad(place.check(good() + tail)) == ["signature"]


# -------------------------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (module_types("long"), ["argument 2 (b) is missing"]),
        (module_types("long", "long"), ["argument 2 (b) is long int, the kernel's int"]),
        (module_types("pointer", "int"), ["argument 1 (a) is struct thing *, the kernel's long"]),
        (module_types("long", "int", "int"), ["argument 3 (p2) is one more"]),
        (module_types("long", "int", returns="void"), ["it returns void, the kernel's long int"]),
        (module_types("int", returns="int"), ["returns int", "argument 1 (a)", "argument 2 (b)"]),
    ],
)
def test_a_wrong_prototype(place: Place, types: bytes, said: list[str]) -> None:
    report = place.check(edition(btf=types))
    assert bad(report) == ["prototypes"]
    for each in ("files_read: ", *said):
        assert each in only(report, "prototypes").seen
    assert report.exit_code == 6


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (b"", "has no type information"),
        (module_types("long", "int", name="dynamos_other"), "its own type information does not"),
    ],
)
def test_prototypes_that_are_not_known(place: Place, types: bytes, said: str) -> None:
    report = place.check(edition(btf=types))
    assert said in only(report, "prototypes").seen
    assert report.exit_code == 3


def test_broken_type_information(place: Place) -> None:
    report = place.check(edition(btf=GOOD_TYPES[:-40]))
    assert bad(report) == ["prototypes"]
    assert "it is cut off" in only(report, "prototypes").seen


def test_a_module_that_is_none_of_ours(place: Place) -> None:
    plain = edition().replace(b"dynamos_edition_mine", b"dynamos_adition_mine")
    report = place.check(plain)
    assert "what it is" in bad(report)
    assert "no edition and no subsystem" in only(report, "what it is").seen


def test_a_replacement_that_replaces_nothing(place: Place) -> None:
    report = place.check(good().replace(b"dynamos_function_", b"dynamos_fonction_"))
    assert "what it is" in bad(report)
    assert "does not say which function" in report.bad[1].seen


@pytest.mark.parametrize(
    ("made", "about", "said"),
    [
        ({"modes": 0x30}, {}, "bits that are no mode"),
        ({"modes": 2}, {"sleeps": False}, "declares exclusive, which holds callers"),
        ({"modes": 5}, {"objects": False}, "declares per-object"),
        (
            {"transfer": "init_module", "before": "int init_module(void);"},
            {"sleeps": False},
            "no mode is left",
        ),
        ({"function": "files_write"}, {}, "not a function of files: files_write"),
    ],
)
def test_modes_that_cannot_be(
    place: Place, made: dict[str, Any], about: dict[str, bool], said: str
) -> None:
    place.put("modules/dynamos_files.ko", subsystem(**about))
    report = place.check(edition(**made))
    assert "modes" in bad(report)
    assert any(said in each.seen for each in report.bad)


def test_modes_of_an_atomic_subsystem(place: Place) -> None:
    place.put("modules/dynamos_files.ko", subsystem(sleeps=False, objects=False))
    assert only(place.check(good()), "modes").seen == "concurrent, scoped"


class Answering(Kmod):
    """A module that has an opinion of functions."""

    def __init__(self, answer: Unfit | Exception | None) -> None:
        super().__init__("/", "/nonexistent")
        self.answer = answer
        self.asked: list[str] = []

    def check(self, function: str) -> Unfit | None:
        """Give the opinion."""
        self.asked.append(function)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "verdict", "code"),
    [
        (None, Verdict.PASSED, 0),
        (Unfit(errno.EPERM, "files_read is not gated: so it is"), Verdict.REFUSED, 6),
        (Unfit(errno.EINVAL, "files_read: cannot be traced"), Verdict.FAILED, 1),
        (Unreachable("not root", hint="sudo"), Verdict.WARNED, 3),
    ],
)
def test_what_the_kernel_module_says(
    place: Place, answer: Unfit | Exception | None, verdict: Verdict, code: int
) -> None:
    place.kmod = kmod = Answering(answer)
    report = place.check(good())
    assert (only(report, "gates").verdict, report.exit_code) == (verdict, code)
    assert kmod.asked == ["files_read"]
    place.is_running = False
    assert verdicts(place.check(good()))["gates"] == "not applicable"


# ------------------------------------------------------------------------------------- the code


@pytest.mark.parametrize(
    "code",
    [
        *("cli", "sti", "popfq", "hlt", "wrmsr", "rdmsr", "swapgs", "iretq", "lgdt (%%rdi)"),
        *(
            "lidt (%%rdi)",
            "mov %%rdi,%%cr4",
            "mov %%cr3,%%rax",
            "mov %%rax,%%db7",
            "invlpg (%%rdi)",
        ),
        *(
            "in %%dx,%%al",
            "out %%al,%%dx",
            "rep outsb",
            "wbinvd",
            "int $0x80",
            "syscall",
            "sysretq",
        ),
        *("lretq", "ltr %%ax", "mov %%eax,%%ss", "clts", "xsetbv", "vmcall"),
    ],
)
def test_an_instruction_that_only_the_core_uses(place: Place, code: str) -> None:
    report = place.check(edition(body=f'asm volatile("{code}" ::: "rax"); {BODY}', btf=GOOD_TYPES))
    assert bad(report) == ["instructions"]
    assert f" at {WRAPPER}+0x" in only(report, "instructions").seen
    assert report.exit_code == 6


@pytest.mark.parametrize(
    "code",
    [
        *("nop", "pause", "ud2", "lfence", "rdtsc", "lock incl (%%rsp)", "mov %%gs:0,%%rax"),
        *("cpuid", "push $0; pop %%rax", "pushfq; pop %%rax", "bsf %%rax,%%rax", "stac; clac"),
        'nop; .pushsection .altinstr_replacement,\\"ax\\"; cli; stac; .popsection',
    ],
)
def test_instructions_that_the_kernels_macros_are_made_of(place: Place, code: str) -> None:
    body = f'asm volatile("{code}" ::: "rax", "rbx", "rcx", "rdx"); {BODY}'
    assert bad(place.check(edition(body=body, btf=GOOD_TYPES))) == []


def test_interrupts_where_there_is_no_paravirtualisation(place: Place) -> None:
    config = place.folder / f"lib/modules/{RELEASE}/build/.config"
    config.write_text(config.read_text().replace("CONFIG_PARAVIRT_XXL=y\n", ""))
    report = place.check(edition(body=f'asm volatile("cli"); {BODY}', btf=GOOD_TYPES))
    assert only(report, "instructions").verdict is Verdict.WARNED


def test_what_is_no_instruction(place: Place) -> None:
    report = place.check(edition(body=f'asm volatile(".byte 6, 6"); {BODY}', btf=GOOD_TYPES))
    assert "cannot be disassembled" in only(report, "instructions").seen
    assert report.exit_code == 3


def test_a_call_that_must_not_be(place: Place) -> None:
    report = place.check(edition(body=f'if (a == 7) panic("no"); {BODY}', btf=GOOD_TYPES))
    assert bad(report) == ["calls"]
    said = f"panic (in {WRAPPER}): it does not come back"
    assert only(report, "calls").seen.startswith(said)
    before = "int panic(const char *); int (*const hidden)(const char *) = panic;"
    report = place.check(edition(before=before, btf=GOOD_TYPES))
    assert "its address is in the module's data" in only(report, "calls").seen


def test_what_sleeps_where_it_must_not(place: Place) -> None:
    helper = (
        "int msleep(int); __attribute__((noinline)) static int deep(int a) { return msleep(a); }"
    )
    made = edition(before=helper, body=f"deep(b); {BODY}", btf=GOOD_TYPES)
    assert verdicts(place.check(made))["sleeping"] == "passed"
    place.put("modules/dynamos_files.ko", subsystem(sleeps=False))
    report = place.check(made)
    assert "may sleep: msleep in deep" in only(report, "sleeping").seen
    assert report.exit_code == 3
    # What the wrapper never comes to may sleep.
    unused = helper.replace("static", "__attribute__((used)) static")
    assert verdicts(place.check(edition(before=unused, btf=GOOD_TYPES)))["sleeping"] == "passed"


@pytest.mark.parametrize(
    ("bytes_", "verdict"), [(512, Verdict.PASSED), (1500, Verdict.WARNED), (4000, Verdict.FAILED)]
)
def test_a_large_frame(place: Place, bytes_: int, verdict: Verdict) -> None:
    body = f'char room[{bytes_}]; asm volatile("" :: "r"(room) : "memory"); {BODY}'
    found = only(place.check(edition(body=body, btf=GOOD_TYPES)), "stack")
    assert found.verdict is verdict
    assert WRAPPER in found.seen


def test_a_frame_as_large_as_an_argument(place: Place) -> None:
    body = f'char room[a]; asm volatile("" :: "r"(room) : "memory"); {BODY}'
    found = only(place.check(edition(body=body, btf=GOOD_TYPES)), "stack")
    assert "takes as much as it likes" in found.seen


def test_exit_codes() -> None:
    def code(*verdicts: Verdict) -> int:
        return exit_code(Finding("", each, "") for each in verdicts)

    assert code() == code(Verdict.PASSED, Verdict.NOT_APPLICABLE) == 0
    assert code(Verdict.PASSED, Verdict.WARNED) == 3
    assert code(Verdict.WARNED, Verdict.FAILED) == 1
    assert code(Verdict.FAILED, Verdict.REFUSED, Verdict.WARNED) == 6


def test_the_names_are_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/workshop.md").read_text()
    for why, names in code.FORBIDDEN:
        assert f"what {why}:" in " ".join(page.split())
        for name in names:
            assert f"`{name}`" in page


# ----------------------------------------------------------- whole files that ask for much work


def functions(*words: int, more: int = 0) -> bytes:
    """Give types that begin with the wrapper, which is about the next one, and such words."""
    kernel, _, _ = kernel_types()
    strings = f"{WRAPPER}\0".encode()
    made = struct.pack("<III", kernel.strings_size, Kind.FUNC << 24, kernel.next + 1)
    made += struct.pack(f"<{len(words)}I", *words) + bytes(more)
    sizes = (0, len(made), len(made), len(strings))
    return struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, *sizes) + made + strings


def test_types_that_go_round_in_circles(place: Place) -> None:
    kernel, _, _ = kernel_types()
    itself, other = kernel.next + 1, kernel.next + 2
    prototype = Kind.FUNC_PROTO << 24 | 2
    for types in (
        functions(0, prototype, other, 0, other, 0, other, 0, Kind.TYPEDEF << 24, other),
        functions(0, prototype, other, 0, other, 0, other, 0, Kind.PTR << 24, other),
        functions(0, prototype, itself, 0, itself, 0, itself),
    ):
        assert "prototypes" in bad(place.check(edition(btf=types)))


def test_a_prototype_with_thousands_of_arguments(place: Place) -> None:
    many = 0xFFFF
    types = functions(0, Kind.FUNC_PROTO << 24 | many, 1, more=8 * many)
    seen = only(place.check(edition(btf=types)), "prototypes").seen
    assert "and 65" in seen
    assert len(seen) < 1000


def test_too_much_code(place: Place) -> None:
    filled = f'asm(".text; .skip {code.MOST_CODE}, 0x90");'
    report = place.check(edition(before=filled, btf=GOOD_TYPES))
    assert "more than 1 MiB of code" in only(report, "instructions").seen
    assert report.exit_code == 1


def test_a_function_larger_than_any(place: Place) -> None:
    filled = 'asm(".text; .type huge,@function; huge: .skip 400000, 0x90");'
    report = place.check(edition(before=filled, btf=GOOD_TYPES))
    assert "huge+0x40000" in only(report, "instructions").seen


def test_text_without_an_end(place: Place) -> None:
    lines = f'asm(".pushsection .modinfo,\\"a\\"; .skip {8 << 20}, 0x41; .popsection");'
    report = place.check(edition(before=lines, btf=GOOD_TYPES))
    assert verdicts(report)["kernel"] == "passed"
