# SPDX-License-Identifier: GPL-2.0-or-later
"""A module's instructions: what an edition has no business to do, and how much stack it takes.

Each section of code is gone through once, from its beginning. What is called is told by the
relocations: in a file that is not loaded yet, calls lead nowhere.
"""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from dynamosd.workshop.checks.elf import BadElf, Elf, Relocation, Section
from dynamosd.workshop.text import Instruction, disassemble

MOST_CODE = 1 << 20
"""Bytes, of all sections. The project's largest module has a tenth of that."""
_LONGEST = 1 << 18
"""Bytes of a function: more than the largest of a kernel has."""
INTERRUPTS = frozenset({"cli", "sti", "popf", "popfd", "popfq"})
"""What `local_irq_save()` and its like are made of where a kernel has no paravirtualisation."""
PRIVILEGED = frozenset(
    {
        *(
            "hlt",
            "wrmsr",
            "rdmsr",
            "wrmsrns",
            "swapgs",
            "lkgs",
            "rsm",
            "getsec",
            "mwait",
            "monitor",
        ),
        *("lgdt", "lidt", "lldt", "ltr", "lmsw", "clts", "invd", "wbinvd", "wbnoinvd"),
        *("invlpg", "invpcid", "invlpga", "xsetbv", "xsaves", "xrstors", "wrfsbase", "wrgsbase"),
        *("iret", "iretd", "iretq", "retf", "retfq", "ljmp", "lcall"),
        *("syscall", "sysret", "sysretq", "sysenter", "sysexit", "sysexitq", "int", "int1"),
        *("in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd"),
        *("vmcall", "vmmcall", "vmlaunch", "vmresume", "vmxon", "vmxoff", "vmptrld", "vmptrst"),
        *("vmclear", "vmread", "vmwrite", "vmrun", "vmload", "vmsave", "stgi", "clgi", "skinit"),
    }
)
"""What only the kernel's own core does."""
_ALTERNATIVES = ".altinstr_replacement"
"""What the kernel puts in other instructions' places when a module is loaded: its macros' own."""
_SYSTEM_REGISTER = re.compile(r"\b[cd]r\d+\b|^[cdefgs]s,")

FORBIDDEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "does not come back, so that its call would never be counted out",
        (
            *("panic", "nmi_panic", "do_exit", "do_group_exit", "make_task_dead", "kthread_exit"),
            *("kthread_complete_and_exit", "module_put_and_kthread_exit", "rewind_stack_and_*"),
        ),
    ),
    (
        "stops or restarts the machine",
        (
            *("emergency_restart", "kernel_restart", "kernel_halt", "kernel_power_off"),
            *("machine_restart", "machine_halt", "machine_power_off", "orderly_*", "crash_kexec"),
        ),
    ),
    ("stops all CPUs", ("stop_machine*", "stop_one_cpu*", "stop_cpus*", "stop_core_cpuslocked")),
    (
        "looks up what the kernel does not export",
        ("kallsyms_lookup*", "kallsyms_on_each_*", "module_kallsyms_*", "find_symbol"),
    ),
    (
        "changes the kernel's text, or what memory may be written",
        (
            *("text_poke*", "set_memory_*", "set_pages_*", "set_direct_map_*", "module_alloc"),
            *("execmem_alloc*", "apply_to_page_range", "apply_to_existing_page_range"),
        ),
    ),
    (
        "redirects functions beside the gates",
        (
            *("register_ftrace_*", "modify_ftrace_*", "ftrace_set_filter*", "klp_enable_patch"),
            *("register_kprobe*", "register_kretprobe*", "register_fprobe*"),
        ),
    ),
    (
        "reads or writes the machine's own registers",
        (
            *("native_write_cr*", "native_write_msr*", "wrmsr_*", "wrmsrl_*", "msr_write*"),
            *("native_load_*", "write_cr*"),
        ),
    ),
    ("starts programs", ("call_usermodehelper*",)),
)
"""Functions that an edition must not use, each group with its reason. Underscores before a name do
not count."""

_KEPT = frozenset({"rbx", "rbp", "r12", "r13", "r14", "r15"})
"""Registers that a function keeps for its caller."""
_WORD = 8
_DISTANCE = 4
"""Bytes at the end of a call or jump that say how far it leads."""
_BASE = 1 << 40
"""Where sections are disassembled, so that no place in one is 0, which is no target."""
_GROWS = re.compile(r"rsp, (-?(?:0x)?[0-9a-f]+)$")
_GROWS_BY_REGISTER = re.compile(r"rsp, r\w+$")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a function, and what is there."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A function that names something; ``section`` and ``value`` say what, if it is in the file."""

    function: str
    name: str
    section: int = 0
    value: int = 0


@dataclass(slots=True)
class Frame:
    """What a function takes of the stack.

    Registers are kept once, and the rest is taken at once: where there are more of either, they
    are on different ways through the function. ``grows``: it takes as much as it likes besides.
    """

    kept: set[str] = field(default_factory=set)
    largest: int = 0
    grows: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return _WORD * len(self.kept) + self.largest


@dataclass(slots=True)
class Code:
    """What was seen, by function or by place."""

    instructions: int = 0
    privileged: list[Place] = field(default_factory=list)
    interrupts: list[Place] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    frames: dict[str, Frame] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    places: dict[int, _Functions] = field(default_factory=dict)

    def named_at(self, section: int, value: int) -> str:
        """Give the function at a place; "" if no code is there."""
        return self.places[section].at(value) if section in self.places else ""


class _Functions:
    """Where which function of a section is."""

    def __init__(self, elf: Elf, section: Section) -> None:
        found = {each.value: each.name for each in reversed(elf.functions(section))}
        self._names = {0: section.name} | found
        self.starts = sorted(each for each in self._names if each < section.size)

    def at(self, place: int) -> str:
        """Give the name of the function at a place."""
        return self._names[self._start(place)]

    def describe(self, place: int) -> str:
        """Give a place as ``name+0x10``."""
        return f"{self.at(place)}+{place - self._start(place):#x}"

    def _start(self, place: int) -> int:
        return self.starts[max(0, bisect_right(self.starts, place) - 1)] if self.starts else 0


def look(elf: Elf) -> Code:
    """Look at all instructions of a module.

    Raises:
        BadElf: its symbols or relocations are not whole.
    """
    code = Code()
    found = [each for each in elf.sections if each.is_code and each.size]
    if sum(each.size for each in found) > MOST_CODE:
        raise BadElf(f"it has more than {MOST_CODE >> 20} MiB of code: no edition has")
    for section in found:
        places = code.places[section.number] = _Functions(elf, section)
        relocations = list(elf.relocations(section))
        code.references += [_reference(each, places) for each in relocations]
        filled_in = {each.offset for each in relocations}
        for each in _instructions(elf.content(section), places, code):
            _judge(each, section, places, code)
            if each.target and each.end - _DISTANCE - _BASE not in filled_in:
                code.references.append(_jump(each, section, places))
    return code


def _instructions(content: bytes, places: _Functions, code: Code) -> Iterator[Instruction]:
    """Give a section's instructions, function by function; what is behind one that is none is left.

    Piece by piece: what is disassembled is made as a whole, and is much larger than the code.
    """
    ends = [*places.starts[1:], len(content)]
    for start, end in zip(places.starts, ends, strict=True):
        at = start
        for each in disassemble(content[start : min(end, start + _LONGEST)], start + _BASE):
            yield each
            at = each.end - _BASE
        if at < end:
            code.unreadable.append(places.describe(at))


def _judge(each: Instruction, section: Section, places: _Functions, code: Code) -> None:
    code.instructions += 1
    at = each.address - _BASE
    word = each.mnemonic.rpartition(" ")[2]
    if word in INTERRUPTS:
        if section.name != _ALTERNATIVES:
            code.interrupts.append(Place(places.describe(at), _shown(each)))
    elif word in PRIVILEGED or _is_system(word, each.operands):
        code.privileged.append(Place(places.describe(at), _shown(each)))
    elif word in {"push", "sub", "add"}:
        _measure(word, each, places.at(at), code)


def _is_system(word: str, operands: str) -> bool:
    return word == "mov" and bool(_SYSTEM_REGISTER.search(operands))


def _shown(each: Instruction) -> str:
    return f"{each.mnemonic} {each.operands}".strip()


def _measure(word: str, each: Instruction, function: str, code: Code) -> None:
    """See what an instruction takes of the stack for its function's frame."""
    frame = code.frames.setdefault(function, Frame())
    if word == "push":
        if each.operands in _KEPT:
            frame.kept.add(each.operands)
    elif match := _GROWS.match(each.operands):
        frame.largest = max(frame.largest, int(match[1], 0) * (1 if word == "sub" else -1))
    elif word == "sub" and _GROWS_BY_REGISTER.match(each.operands):
        frame.grows = True


def _reference(relocation: Relocation, places: _Functions) -> Reference:
    symbol = relocation.symbol
    # A distance is counted from behind its own bytes.
    value = symbol.value + relocation.addend + _DISTANCE * relocation.is_relative
    return Reference(places.at(relocation.offset), symbol.name, symbol.section, value)


def _jump(each: Instruction, section: Section, places: _Functions) -> Reference:
    """Give where a call or jump leads to that needs no relocation: in its own section."""
    to = each.target - _BASE
    return Reference(places.at(each.address - _BASE), places.at(to), section.number, to)


def forbidden(name: str) -> str:
    """Give why an edition must not use a function of this name; "" when it may."""
    bare = name.removeprefix("__SCT__").lstrip("_")
    return next((why for why, pattern in _FORBIDDEN if pattern.match(bare)), "")


_FORBIDDEN = [
    (why, re.compile("|".join(map(fnmatch.translate, names)))) for why, names in FORBIDDEN
]


def reached(code: Code, entries: set[str]) -> set[str]:
    """Give the functions of the module that are reached by calls from some, those too."""
    edges = defaultdict[str, set[str]](set)
    for each in code.references:
        if name := code.named_at(each.section, each.value):
            edges[each.function].add(name)
    found, left = set(entries), list(entries)
    while left:
        for name in edges[left.pop()] - found:
            found.add(name)
            left.append(name)
    return found
