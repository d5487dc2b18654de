# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules made by hand, and a kernel for them: small, and wrong as a test wants them.

They are compiled from what the macros of `edition.h` come to, without any of the kernel's headers.
"""

from __future__ import annotations

import functools
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dynamosd.doctor import Machine
from dynamosd.kmod import Kmod
from dynamosd.workshop.btf import Kind
from dynamosd.workshop.checks.finding import Finding
from dynamosd.workshop.checks.kernel import Kernel
from dynamosd.workshop.checks.report import Report, check
from tests.unit.workshop.kernel import Types

RELEASE = "6.9.0-made-up"
VERMAGIC = f"{RELEASE} SMP preempt mod_unload modversions "
CONFIG = """\
CONFIG_SMP=y
CONFIG_PREEMPT_BUILD=y
CONFIG_MODULE_UNLOAD=y
CONFIG_MODVERSIONS=y
CONFIG_PARAVIRT_XXL=y
"""
FUNCTION, WRAPPER = "files_read", "dynamos_wrapper_mine_files_read"
CRCS = {"kfree": 0x1111, "panic": 0x2222, "msleep": 0x3333}
BODY = "long returned = a + b;"

_INFO = """\
#define INFO(name, text) static const char name[] __attribute__((used, section(".modinfo"))) = text
INFO(a_name, "name={name}");
INFO(a_vermagic, "vermagic={vermagic}");
INFO(a_depends, "depends={depends}");
struct version {{ unsigned long crc; char name[56]; }};
static const struct version versions[] __attribute__((used, section("__versions"))) = {{
{versions}
}};
{before}
"""
_EDITION = """\
extern int dynamos_subsystem_files, dynamos_function_{function};
extern int dynamos_register_edition(void *), kfree(void *), panic(const char *), msleep(int);
long {wrapper}(long a, int b);
long {wrapper}(long a, int b) {{ {body} return returned; }}
struct replacement {{ void *function, *wrapper, *counts; }};
static const struct replacement dynamos_replacement_mine_{function} = {{
	&dynamos_function_{function}, {wrapper}, 0 }};
static const struct replacement *const dynamos_replacements_mine[] = {{
	&dynamos_replacement_mine_{function}, 0 }};
struct traits {{ unsigned int modes; void *prepare, *transfer; }};
static const struct traits dynamos_edition_traits_mine = {{ {modes}, 0, {transfer} }};
struct edition {{ const char *name; const void *traits, *subsystem, *owner, *replacements; }};
static struct edition dynamos_edition_mine = {{
	"mine", &dynamos_edition_traits_mine, &dynamos_subsystem_files, 0, dynamos_replacements_mine }};
int init_module(void);
int init_module(void) {{ return dynamos_register_edition(&dynamos_edition_mine); }}
"""
_EXPORT = """\
#define EXPORT(name) asm(".section __ksymtab_gpl,\\"a\\"\\n__ksymtab_" #name ": .quad 0\\n" \\
	".section __kcrctab_gpl,\\"a\\"\\n__crc_" #name ": .long 0x5555\\n.text")
"""
_SUBSYSTEM = """\
long dynamos_wrapper_original_files_read(long a, int b);
long dynamos_wrapper_original_files_read(long a, int b) {{ return a + b; }}
static const char dynamos_subsystem_traits_files __attribute__((used)) = {sleeps};
static void *get(long a, int b) {{ (void)b; return (void *)a; }}
void *const dynamos_object_files_read = {objects};
void *const used = get;
struct name {{ const char *name; }} dynamos_function_files_read = {{ "files_read" }},
	dynamos_subsystem_files = {{ "files" }};
EXPORT(dynamos_function_files_read);
EXPORT(dynamos_subsystem_files);
"""
_UID = 4
"""Where an owner is in what stat tells."""
_FLAGS = (
    *("-c", "-O2", "-mcmodel=kernel", "-fno-pie", "-fcf-protection=none", "-fno-builtin"),
    *("-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-fno-toplevel-reorder"),
)


@functools.cache
def build(source: str, btf: bytes = b"") -> bytes:
    """Compile a module, and give it some type information."""
    with tempfile.TemporaryDirectory() as folder:
        made, types = Path(folder, "made.o"), Path(folder, "types")
        command = ["gcc-12", *_FLAGS, "-x", "c", "-", "-o", str(made)]
        subprocess.run(command, input=source.encode(), check=True)
        if btf:
            types.write_bytes(btf)
            subprocess.run(["objcopy", "--add-section", f".BTF={types}", made], check=True)
        return made.read_bytes()


def _info(name: str, vermagic: str, depends: str, crcs: Mapping[str, int], before: str) -> str:
    versions = "\n".join(f'{{ {crc:#x}, "{each}" }},' for each, crc in crcs.items())
    return _INFO.format(
        name=name, vermagic=vermagic, depends=depends, versions=versions, before=before
    )


def edition(  # noqa: PLR0913 - each test changes one of them
    *,
    body: str = BODY,
    before: str = "",
    modes: int = 0,
    transfer: str = "0",
    function: str = FUNCTION,
    vermagic: str = VERMAGIC,
    crcs: Mapping[str, int] = CRCS,
    btf: bytes = b"",
) -> bytes:
    """Give an edition ``files/mine`` that replaces a function of two arguments."""
    source = _info("dynamos_files_mine", vermagic, "dynamos_files,dynamos", crcs, before)
    source += _EDITION.format(
        body=body, modes=modes, transfer=transfer, function=function, wrapper=WRAPPER
    )
    return build(source, btf)


def subsystem(*, sleeps: bool = True, objects: bool = True) -> bytes:
    """Give the subsystem ``files`` that it is for."""
    source = _info("dynamos_files", VERMAGIC, "dynamos", {}, "")
    about = _SUBSYSTEM.format(sleeps=int(sleeps), objects="get" if objects else "0")
    return build(source + _EXPORT + about)


def core() -> bytes:
    """Give what has the functions that both call."""
    source = _info("dynamos", VERMAGIC, "", {}, "")
    export = _EXPORT + "EXPORT(dynamos_register_edition);"
    return build(f"{source}int dynamos_register_edition(void *e) {{ return !e; }}\n{export}")


def kernel_types() -> tuple[Types, int, int]:
    """Give the kernel's types, and the numbers of `long` and `int` among them."""
    types = Types()
    long = types.add(Kind.INT, "long int", 8, [0x01000040])
    integer = types.integer()
    types.function(FUNCTION, long, ("a", long), ("b", integer))
    return types, long, integer


def module_types(*parameters: str, returns: str = "long", name: str = WRAPPER) -> bytes:
    """Give a module's types, which go on from the kernel's: the wrapper, of such parameters."""
    kernel, long, integer = kernel_types()
    types = Types(kernel.next, kernel.strings_size)
    named = types.add(Kind.TYPEDEF, "other_t", integer)
    pointer = types.add(Kind.PTR, "", types.add(Kind.STRUCT, "thing", 8))
    known = {"long": long, "int": integer, "typedef": named, "pointer": pointer, "void": 0}
    pairs = [(f"p{at}", known[each]) for at, each in enumerate(parameters)]
    types.function(name, known[returns], *pairs)
    return types.blob()


GOOD_TYPES = module_types("long", "typedef")


def good() -> bytes:
    """Give an edition that nothing is wrong with."""
    return edition(btf=GOOD_TYPES)


@dataclass
class Place:
    """A folder with a kernel's files below it, and modules for it."""

    folder: Path
    kmod: Kmod = field(default_factory=lambda: Kmod("/nonexistent", "/nonexistent"))
    is_running: bool = True

    def __post_init__(self) -> None:
        """Put what a kernel with headers has."""
        self.put(f"lib/modules/{RELEASE}/build/.config", CONFIG.encode())
        lines = [f"{crc:#010x}\t{name}\tvmlinux\tEXPORT_SYMBOL\t" for name, crc in CRCS.items()]
        self.put(f"lib/modules/{RELEASE}/build/Module.symvers", "\n".join(lines).encode())
        self.put("sys/kernel/btf/vmlinux", kernel_types()[0].blob())
        self.put("modules/dynamos.ko", core())
        self.put("modules/dynamos_files.ko", subsystem())

    def put(self, path: str, content: bytes) -> Path:
        """Write a file."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    @property
    def kernel(self) -> Kernel:
        """The kernel."""
        machine = Machine(self.kmod, self.folder, RELEASE)
        return Kernel(machine, is_running=self.is_running)

    def check(self, module: bytes, name: str = "dynamos_files_mine.ko") -> Report:
        """Check a module, as a file beside those that it needs."""
        return check(self.put(f"modules/{name}", module), self.kernel)


def only(report: Report, name: str) -> Finding:
    """Give the finding of a name, of which there is one."""
    [found] = [each for each in report.findings if each.name == name]
    return found


def signed(module: bytes, *, kind: int = 2) -> bytes:
    """Give a module with something at its end that looks like a signature."""
    body = b"signature"
    tail = struct.pack(">BBBBB3xI", 0, 0, kind, 0, 0, len(body))
    return module + body + tail + b"~Module signature appended~\n"


def owned_by(uids: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files belong to others than they do."""
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = list(real(path, **options))
        found[_UID] = uids(path)
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", stat)


def be_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all files be root's, whoever runs the tests."""
    if os.geteuid():
        owned_by(lambda _: 0, monkeypatch)
