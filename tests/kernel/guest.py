# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine under test: modules, ftrace, the page cache, the scratch disk, its log."""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CORE = "dynamos"
SUBSYSTEM = "dynamos_readahead"
RANDOM = "dynamos_readahead_random"
STREAMING = "dynamos_readahead_streaming"
MODULES = (CORE, SUBSYSTEM, RANDOM, STREAMING)
"""All modules, each behind those it needs."""

TARGET = "dynamos_target"
SELFTEST = "dynamos_selftest"
SELFTEST_B, SELFTEST_C = "dynamos_selftest_b", "dynamos_selftest_c"
SELFTEST_LAYOUT, SELFTEST_HANDLER = "dynamos_selftest_layout", "dynamos_selftest_handler"
SELFTEST_SLOW, SELFTEST_FAILING = "dynamos_selftest_slow", "dynamos_selftest_failing"
SELFTEST_MODULES = (
    CORE,
    TARGET,
    SELFTEST,
    SELFTEST_B,
    SELFTEST_C,
    SELFTEST_LAYOUT,
    SELFTEST_HANDLER,
)
"""Those of the subsystem `selftest`, each behind those it needs."""

LIVEPATCH = "dynamos_livepatch"
"""The module that patches `target_value`: 7 more than its argument."""

_LAST_TO_GO = (SUBSYSTEM, SELFTEST, TARGET, CORE)
_SYSFS = Path("/sys/kernel/dynamos")

FUNCTIONS = ("page_cache_async_ra", "page_cache_ra_order", "page_cache_sync_ra")
EDITIONS = ("original", "random", "streaming")
REPLACES: Mapping[str, frozenset[str]] = {
    "original": frozenset(FUNCTIONS),
    "random": frozenset(FUNCTIONS),
    "streaming": frozenset({"page_cache_ra_order"}),
}

TRACING = Path("/sys/kernel/tracing")
SLOWNESS = float(os.environ.get("DYNAMOS_SLOWNESS", "1"))
"""How much longer than on a stock kernel things may take: multiplies every time limit."""

PATIENCE = 240.0 * SLOWNESS
"""Seconds until a condition that must come is given up: an emulated machine may stall for long."""

IN_USE = "EAGAIN"
"""What delete_module(2) answers of a module that is in use; rmmod itself says EBUSY."""

NOT_SUPPORTED = errno.errorcode[errno.EOPNOTSUPP]
"""How Python names it, which knows another name of the same number."""

_SYS_DELETE_MODULE = 176
_SYS_FINIT_MODULE = 313
_PAGE = mmap.PAGESIZE

libc = ctypes.CDLL(None, use_errno=True)


def answer(act: Callable[[], object]) -> str:
    """Name the errno that ``act`` fails with; "" when it succeeds."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def check(result: int, what: str) -> int:
    """Give the result of a libc call, or raise the `OSError` that errno names."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when ``condition`` holds; fail, saying ``what`` was waited for, when it never does."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"waited {patience:.0f} s for: {what}"
        time.sleep(0.01)


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; the caller looks at the status."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)


# ---------------------------------------------------------------------------------- modules


def loaded() -> list[str]:
    """Our modules that are there, by name."""
    lines = Path("/proc/modules").read_text().splitlines()
    return sorted(name for line in lines if (name := line.split()[0]).startswith(CORE))


def insert(name: str, parameters: str = "") -> None:
    """Load one module whose dependencies are there, like insmod, but quickly.

    Raises:
        OSError: what the module's init, or the loader, answered.
    """
    fd = os.open(_module_file(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.syscall(_SYS_FINIT_MODULE, fd, parameters.encode(), 0), f"loading {name}")
    finally:
        os.close(fd)


@functools.cache
def _module_file(name: str) -> Path:
    folder = Path("/lib/modules", os.uname().release, "updates")
    return next(folder.rglob(f"{name}.ko"))


def remove(name: str) -> None:
    """Unload one module, once, without waiting.

    Raises:
        OSError: EAGAIN when it is in use (rmmod then says "in use").
    """
    flags = os.O_NONBLOCK
    check(libc.syscall(_SYS_DELETE_MODULE, name.encode(), flags), f"removing {name}")


def remove_when_free(name: str) -> None:
    """Unload one module as soon as nobody uses it any more."""

    def gone() -> bool:
        said = answer(lambda: remove(name))
        assert said in {"", IN_USE}, f"removing {name}: {said}"
        return not said

    wait_until(gone, f"{name} is no longer in use")


def load_all(names: tuple[str, ...] = MODULES) -> None:
    """Load what is missing of our modules."""
    there = loaded()
    for name in names:
        if name not in there:
            insert(name)


def unload_all(*but: str) -> None:
    """Unload our modules, those of the self-test too, from whatever state they are in.

    Those named in ``but`` stay.
    """
    let_callers_go()
    for subsystem in _folders(_SYSFS):
        with suppress(OSError):
            Path("/dev/dynamos").write_text(f"switch {subsystem} original timeout_ms=60000")
    _disable_livepatch()
    for name in sorted(set(loaded()) - set(but), key=_when_to_go):
        remove_when_free(name)


def let_callers_go() -> None:
    """Have nobody wait in a call of the self-test's, and none of its callbacks say no."""
    for parameter in Path("/sys/module").glob(f"{SELFTEST}*/parameters/*"):
        if parameter.name.startswith(("refuse_", "fault_")):
            parameter.write_text("0")
    if TARGET in loaded():
        Path("/dev/dynamos_target").write_text("release all")


def _when_to_go(name: str) -> tuple[int, int]:
    """Editions first, then subsystems, which they need and whose names theirs begin with."""
    last = _LAST_TO_GO.index(name) if name in _LAST_TO_GO else -1
    return last, -len(name)


def _disable_livepatch() -> None:
    if LIVEPATCH not in loaded():
        return
    enabled = Path("/sys/kernel/livepatch", LIVEPATCH, "enabled")
    if enabled.exists():
        enabled.write_text("0")
    wait_until(lambda: not enabled.exists(), "the livepatch is out")


def _folders(path: Path) -> list[str]:
    return [folder.name for folder in path.iterdir() if folder.is_dir()] if path.exists() else []


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Have gates that are installed meanwhile use one back end; the core is loaded."""
    parameter = Path("/sys/module", CORE, "parameters/backend")
    before = parameter.read_text()
    parameter.write_text(name)
    try:
        yield
    finally:
        if parameter.exists():
            parameter.write_text(before)


def enabled_functions() -> str:
    """What ftrace has changed in the kernel's text."""
    return (TRACING / "enabled_functions").read_text()


def gated_functions() -> list[str]:
    """The functions of which ftrace says that their entry calls one of our gates."""
    text = enabled_functions()
    return [name for name in FUNCTIONS if f"dynamos_gate_{name}" in text]


# ------------------------------------------------------------------------------- page cache


def resident_pages(path: Path) -> int:
    """How many pages of a file are in the page cache."""
    size = path.stat().st_size
    if not size:
        return 0
    pages = -(-size // _PAGE)
    present = (ctypes.c_ubyte * pages)()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as area:
        start = ctypes.c_char.from_buffer(area)
        try:
            address = ctypes.c_void_p(ctypes.addressof(start))
            check(libc.mincore(address, ctypes.c_size_t(size), present), "mincore")
        finally:
            del start
    return sum(page & 1 for page in present)


def evict(path: Path) -> None:
    """Have none of a file in the page cache, so that the next read is a real one."""

    def gone() -> bool:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return resident_pages(path) == 0

    wait_until(gone, f"{path.name} has left the page cache")


def read_all(path: Path, step: int = 32 * _PAGE) -> bytes:
    """Read a file in sequence with read()."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, step):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def map_all(path: Path) -> bytes:
    """Read a file in sequence through a mapping."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area:
        return area[:]


def map_bytes(path: Path, offsets: list[int]) -> bytes:
    """Read single bytes of a file through one new mapping, in the given order."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area:
        return bytes(area[offset] for offset in offsets)


# ------------------------------------------------------------------------------------- disk


@dataclass(frozen=True, slots=True)
class Reads:
    """What a disk has read."""

    requests: int
    sectors: int

    def __sub__(self, other: Reads) -> Reads:
        """What was read since ``other``."""
        return Reads(self.requests - other.requests, self.sectors - other.sectors)


def disk_reads(name: str) -> Reads:
    """What the disk ``name`` has read since boot."""
    words = Path("/sys/block", name, "stat").read_text().split()
    return Reads(int(words[0]), int(words[2]))


# ---------------------------------------------------------------------------- kernel's log

_DIED = 1 << 7
_TAINTS = {"died (oops or BUG)": _DIED, "warned (WARN)": 1 << 9}
_BAD = (
    "WARNING: ",
    "BUG: ",
    "kernel BUG",
    "Oops",
    "general protection",
    "possible circular locking",
    "possible recursive locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "sleeping function called",
    "non-static key",
    "lockdep is turned off",
    "ODEBUG: ",
    "KASAN: ",
    "UBSAN: ",
    "ftrace failed",
    "ftrace faulted",
)
_SLOW = ("soft lockup",)
"""Reports that an emulated machine earns by being slow."""


def is_bad(line: str) -> bool:
    """Tell whether a line of the kernel's log says that the kernel is not well."""
    if "KCSAN: " in line:
        # The kernel has data races of its own, not marked as meant; the line names both sides.
        return f"[{CORE}" in line
    return any(bad in line for bad in _BAD) and not any(slow in line for slow in _SLOW)


class KernelLog:
    """Looks at what the kernel logs from now on."""

    def __init__(self) -> None:
        """Set the mark."""
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._taints = self._read_taints()

    def complaints(self) -> list[str]:
        """Everything since the mark, or the last time, that says the kernel is not well."""
        before, self._taints = self._taints, self._read_taints()
        new = self._taints & ~before
        found = [f"taint: the kernel {what}" for what, bit in _TAINTS.items() if new & bit]
        return found + [line for line in self._lines() if is_bad(line)]

    @contextmanager
    def expect(self, *words: str) -> Iterator[None]:
        """Have the kernel complain during the block, in lines with these words and in no others."""
        before = self.complaints()
        assert not before, "\n".join(before)
        yield
        others = [
            line
            for line in self.complaints()
            if not line.startswith("taint: ") and not any(word in line for word in words)
        ]
        assert not others, "\n".join(others)

    def has_died(self) -> bool:
        """Whether there was an oops since boot: then the kernel trusts its own locks no more."""
        return bool(self._read_taints() & _DIED)

    def close(self) -> None:
        """Stop looking."""
        os.close(self._fd)

    def _lines(self) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return lines
            except BrokenPipeError:
                lines.append("WARNING: the log was overwritten before it could be checked")
                continue
            lines.append(record.decode(errors="replace").partition(";")[2].rstrip())

    @staticmethod
    def _read_taints() -> int:
        return int(Path("/proc/sys/kernel/tainted").read_text())
