# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of this machine: what is here, what is missing, and what to do about it.

Each check looks at one thing and gives one `Finding`. ``root`` stands for ``/``, so that the
checks run in tests without the machine they look for.
"""

from __future__ import annotations

import enum
import gzip
import importlib.util
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd import entries
from dynamosd.errors import DynamosError
from dynamosd.kmod import ENABLE_HINT, LOAD_HINT, ROOT_HINT, SWITCHED_OFF, Kmod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CAN_DO = 0
FAILED = 1
WARNINGS = 3
CANNOT = 4

REQUIRED_CONFIG = {
    "CONFIG_MODULES": "loadable modules",
    "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS": "gates at functions' entries",
    "CONFIG_HAVE_STATIC_CALL": "the way from a gate back to the original",
    "CONFIG_TRACEPOINTS": "the gates' tracepoints",
}
PROBE_CONFIG = {
    "CONFIG_BPF_SYSCALL": "eBPF probes",
    "CONFIG_BPF_EVENTS": "eBPF probes on tracepoints",
    "CONFIG_DEBUG_INFO_BTF": "type information for probes",
}


class Verdict(enum.StrEnum):
    """What a check comes to; ``cannot`` is a failure that no command on this kernel mends."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    CANNOT = "cannot"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome: what it looked at, what it saw, and what to do."""

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks look at."""

    kmod: Kmod = field(default_factory=Kmod)
    root: Path = Path("/")
    release: str = field(default_factory=platform.release)
    architecture: str = field(default_factory=platform.machine)
    uid: int = field(default_factory=os.geteuid)

    def text(self, path: str) -> str | None:
        """Give what a file holds; None when it is not there or may not be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def has(self, path: str) -> bool:
        """Tell whether a file is there and may be looked at."""
        try:
            return (self.root / path).exists()
        except OSError:
            return False


def examine(machine: Machine) -> list[Finding]:
    """Run every check, in the order in which a person would mend things."""
    return [finding for check in CHECKS for finding in check(machine)]


def exit_code(findings: list[Finding]) -> int:
    """Give the exit code that a set of findings ends ``dynamosctl doctor`` with."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.CANNOT in verdicts:
        return CANNOT
    if Verdict.FAIL in verdicts:
        return FAILED
    return WARNINGS if Verdict.WARN in verdicts else CAN_DO


def _judge(name: str, seen: str, *, ok: bool, bad: Verdict, remedy: str) -> Finding:
    return Finding(name, Verdict.OK if ok else bad, seen, "" if ok else remedy)


def _root(machine: Machine) -> Iterator[Finding]:
    ok = machine.uid == 0
    seen = "yes" if ok else f"no, uid {machine.uid}: some checks see less"
    yield _judge("root", seen, ok=ok, bad=Verdict.WARN, remedy=ROOT_HINT)


_CAPABILITIES = {"CAP_SYS_MODULE": 16, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""What is needed of them: the first to load modules, the others to attach probes."""


def _capabilities(machine: Machine) -> Iterator[Finding]:
    """Look whether this process has what root usually has: in a container it may lack that."""
    lines = (machine.text("proc/self/status") or "").splitlines()
    effective = next((int(line.split()[1], 16) for line in lines if line[:7] == "CapEff:"), None)
    if effective is None:
        return
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    seen = f"without {', '.join(missing)}" if missing else "all that is needed"
    remedy = "run as root outside of a container; the daemon: as its unit does, with two of them"
    yield _judge("capabilities", seen, ok=not missing, bad=Verdict.WARN, remedy=remedy)


def _architecture(machine: Machine) -> Iterator[Finding]:
    ok = machine.architecture == "x86_64"
    seen = f"{machine.architecture}, Linux {machine.release}"
    yield _judge(
        "kernel", seen, ok=ok, bad=Verdict.CANNOT, remedy="the gates exist for x86_64 only"
    )


def configuration(machine: Machine) -> dict[str, str] | None:
    """Give the kernel's build options, from wherever they are to be had."""
    release = machine.release
    for path in (f"boot/config-{release}", f"lib/modules/{release}/build/.config"):
        if text := machine.text(path):
            return _parse_config(text)
    try:
        packed = (machine.root / "proc/config.gz").read_bytes()
        return _parse_config(gzip.decompress(packed).decode("utf-8", "replace"))
    except (OSError, EOFError):
        return None


def _parse_config(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in lines}


def _config(machine: Machine) -> Iterator[Finding]:
    options = configuration(machine)
    if options is None:
        remedy = "install the package of this kernel, or its headers"
        yield Finding("kernel options", Verdict.WARN, "not to be found", remedy)
        return
    for wanted, bad in ((REQUIRED_CONFIG, Verdict.CANNOT), (PROBE_CONFIG, Verdict.CANNOT)):
        for option, purpose in wanted.items():
            value = options.get(option, "n")
            remedy = f"needed for {purpose}: boot a kernel that has it"
            yield _judge(option, value, ok=value in {"y", "m"}, bad=bad, remedy=remedy)


def _ftrace(machine: Machine) -> Iterator[Finding]:
    value = (machine.text("proc/sys/kernel/ftrace_enabled") or "").strip()
    yield _judge(
        "ftrace_enabled",
        value or "not there",
        ok=value == "1",
        bad=Verdict.FAIL,
        remedy="sysctl kernel.ftrace_enabled=1",
    )


def _tracefs(machine: Machine) -> Iterator[Finding]:
    ok = machine.has("sys/kernel/tracing/events")
    remedy = "mount -t tracefs tracefs /sys/kernel/tracing"
    seen = "mounted" if ok else "not mounted, or not to be read"
    yield _judge("tracefs", seen, ok=ok, bad=Verdict.WARN, remedy=remedy)


def _btf(machine: Machine) -> Iterator[Finding]:
    ok = machine.has("sys/kernel/btf/vmlinux")
    seen = "there" if ok else "missing"
    remedy = "boot a kernel with CONFIG_DEBUG_INFO_BTF"
    yield _judge("type information (BTF)", seen, ok=ok, bad=Verdict.CANNOT, remedy=remedy)


def _headers(machine: Machine) -> Iterator[Finding]:
    ok = machine.has(f"lib/modules/{machine.release}/build/Makefile")
    seen = "installed" if ok else "missing"
    remedy = f"apt install linux-headers-{machine.release}"
    yield _judge("kernel headers", seen, ok=ok, bad=Verdict.FAIL, remedy=remedy)


def _bcc(machine: Machine) -> Iterator[Finding]:
    del machine
    # Looked for, not imported: importing it loads LLVM. PyPI's package of that name has no libbcc.
    try:
        ok = all(importlib.util.find_spec(name) for name in ("bcc", "bcc.libbcc"))
    except ImportError:
        ok = False
    seen = "can be imported" if ok else "missing, or not the distribution's"
    yield _judge("BCC", seen, ok=ok, bad=Verdict.FAIL, remedy="apt install python3-bpfcc")


def lockdown(machine: Machine) -> str:
    """Give how far the running kernel is locked down: ``none``, or more; "" if it does not say."""
    text = machine.text("sys/kernel/security/lockdown") or ""
    return text.partition("[")[2].partition("]")[0]


def _lockdown(machine: Machine) -> Iterator[Finding]:
    state = lockdown(machine) or "not known"
    yield _judge(
        "lockdown",
        state,
        ok=state in {"none", "not known"},
        bad=Verdict.WARN,
        remedy="modules must be signed" + (", eBPF cannot read" if state != "integrity" else ""),
    )


def _secure_boot(machine: Machine) -> Iterator[Finding]:
    folder = machine.root / "sys/firmware/efi/efivars"
    try:
        found = next(folder.glob("SecureBoot-*"), None)
        on = found is not None and found.read_bytes()[-1:] == b"\x01"
    except OSError:
        return
    seen = "on" if on else "off"
    remedy = "sign the modules with a key the machine knows (mokutil)"
    yield _judge("Secure Boot", seen, ok=not on, bad=Verdict.WARN, remedy=remedy)


_TAINTS = {
    1: ("a module was loaded by force", Verdict.WARN),
    5: ("a page went bad", Verdict.WARN),
    7: ("the kernel has crashed (oops)", Verdict.FAIL),
    9: ("the kernel has warned", Verdict.WARN),
    14: ("a lock-up was seen", Verdict.WARN),
}


def _taints(machine: Machine) -> Iterator[Finding]:
    number = int((machine.text("proc/sys/kernel/tainted") or "0").strip() or 0)
    found = [taint for bit, taint in _TAINTS.items() if number >> bit & 1]
    verdict = max((each for _, each in found), default=Verdict.OK, key=list(Verdict).index)
    seen = ", ".join(text for text, _ in found) or f"none that matters ({number})"
    remedy = "look at dmesg; reboot before you trust this kernel" if found else ""
    yield Finding("taints", verdict, seen, remedy)


def _module(machine: Machine) -> Iterator[Finding]:
    try:
        kernel = machine.kmod.read()
    except DynamosError:
        yield _judge(
            "module",
            "not loaded",
            ok=False,
            bad=Verdict.WARN if _modprobe_finds() else Verdict.FAIL,
            remedy=LOAD_HINT if _modprobe_finds() else "build and install it: make modules",
        )
        return
    names = ", ".join(kernel.subsystems) or "no subsystem yet"
    yield Finding("module", Verdict.OK, f"loaded, version {kernel.version}: {names}")


def _safety(machine: Machine) -> Iterator[Finding]:
    """Look whether the module may switch, and what stops an edition that faults."""
    try:
        kernel = machine.kmod.read()
    except DynamosError:
        return
    tripwire = f"tripwire {kernel.tripwire}" if kernel.tripwire else "tripwire not known"
    if not kernel.enabled:
        yield Finding("safety", Verdict.WARN, f"{SWITCHED_OFF}; {tripwire}", ENABLE_HINT)
        return
    ok = kernel.tripwire != "off"
    remedy = "arm it: echo oops > /sys/module/dynamos/parameters/tripwire"
    yield _judge("safety", f"switched on; {tripwire}", ok=ok, bad=Verdict.WARN, remedy=remedy)


def _quarantine(machine: Machine) -> Iterator[Finding]:
    """Look which editions may not be switched to."""
    try:
        kernel = machine.kmod.read()
    except DynamosError:
        return
    for subsystem in kernel.subsystems.values():
        for edition in subsystem.editions.values():
            if edition.quarantine:
                name = f"{subsystem.name} {edition.name}"
                remedy = f"see dmesg; if it is good again: dynamosctl edition clear {name}"
                seen = f"{subsystem.name}/{edition.name}: {edition.quarantine}"
                yield Finding("quarantine", Verdict.WARN, seen, remedy)


def _modprobe_finds() -> bool:
    try:
        return subprocess.run(["modprobe", "-n", "-q", "dynamos"]).returncode == 0
    except OSError:
        return False


def _our_functions(machine: Machine) -> set[str]:
    """Give the names of all functions that the module knows."""
    try:
        kernel = machine.kmod.read()
    except DynamosError:
        return set()
    return {name for each in kernel.subsystems.values() for name in each.functions}


def _livepatches(machine: Machine) -> Iterator[Finding]:
    """Look which livepatches hold functions of ours: a gate cannot be there too."""
    functions = _our_functions(machine)
    folder = machine.root / "sys/kernel/livepatch"
    # A patch has a folder for each object, and that one for each function: `NAME,POSITION`.
    held = sorted(
        f"{path.name.partition(',')[0]} by {path.parent.parent.name}"
        for path in folder.glob("*/*/*,*")
        if path.name.partition(",")[0] in functions
    )
    if functions:
        seen = ", ".join(held) or "none of our functions"
        remedy = "end it: echo 0 > /sys/kernel/livepatch/NAME/enabled; or leave that function to it"
        yield _judge("livepatches", seen, ok=not held, bad=Verdict.WARN, remedy=remedy)


def _kprobes(machine: Machine) -> Iterator[Finding]:
    """Tell of kprobes on our functions: they work beside a gate, and cost time of each call."""
    functions = _our_functions(machine)
    text = machine.text("sys/kernel/debug/kprobes/list")
    if not functions or text is None:
        return
    lines = [line.split() for line in text.splitlines()]
    found = {word.partition("+")[0] for words in lines for word in words[2:3]}
    probed = ", ".join(sorted(found & functions))
    yield Finding(
        "kprobes", Verdict.OK, f"also on: {probed}" if probed else "none of our functions"
    )


def _entries(machine: Machine) -> Iterator[Finding]:
    """Look who else holds the entries of our functions."""
    functions = _our_functions(machine)
    text = machine.text(entries.PATH)
    if not functions or text is None:
        return
    found = entries.parse(text)
    others = [
        name for name in sorted(functions) if any(entry.is_shared for entry in found.get(name, ()))
    ]
    seen = f"shared: {', '.join(others)}" if others else "ours alone"
    remedy = "end the other tracer or livepatch if gates are refused"
    yield _judge("functions' entries", seen, ok=not others, bad=Verdict.WARN, remedy=remedy)


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _architecture,
    _root,
    _capabilities,
    _config,
    _ftrace,
    _tracefs,
    _btf,
    _headers,
    _bcc,
    _lockdown,
    _secure_boot,
    _taints,
    _module,
    _safety,
    _quarantine,
    _livepatches,
    _kprobes,
    _entries,
)
