# SPDX-License-Identifier: GPL-2.0-or-later
"""Others that sit on a function's entry: a kprobe, the function tracer, an eBPF program."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.kernel import guest
from tests.kernel.guest import TRACING

_SYS_BPF = 321
_PROG_LOAD, _RAW_TRACEPOINT_OPEN = 5, 17
_TYPE_TRACING, _ATTACH_FENTRY = 26, 24
_RETURN_0 = bytes.fromhex("b700000000000000 9500000000000000")
_ATTR_BYTES = 128

_BTF_HEADER = struct.Struct("<HBBIIIII")
_BTF_TYPE = struct.Struct("<III")
_BTF_FUNC = 12
_BTF_EXTRA = {1: 4, 3: 12, 14: 4, 17: 4}
_BTF_EXTRA_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}


# ----------------------------------------------------------------------------------- kprobe


class Kprobe:
    """A kprobe on a function, armed for the length of `kprobe`."""

    name = "dynamos_test"

    def hits(self) -> int:
        """How often it was hit; it must never have been missed."""
        for line in (TRACING / "kprobe_profile").read_text().splitlines():
            name, hits, missed = line.split()
            if name == self.name:
                assert missed == "0"
                return int(hits)
        raise AssertionError("the kprobe has gone")

    def arm(self, *, on: bool) -> None:
        """Switch it on or off."""
        (TRACING / "events/kprobes" / self.name / "enable").write_text("1" if on else "0")


@contextmanager
def kprobe(function: str) -> Iterator[Kprobe]:
    """Put a kprobe on a function's entry and arm it."""
    probe = Kprobe()
    _define(f"p:{probe.name} {function}")
    try:
        probe.arm(on=True)
        yield probe
    finally:
        probe.arm(on=False)
        _define(f"-:{probe.name}")


def _define(line: str) -> None:
    # Appending, or the kprobes of others would go; not Python's "a", which seeks to the end.
    fd = os.open(TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


# --------------------------------------------------------------------------- function tracer


class Tracer:
    """The function tracer on one function, in an instance of its own."""

    def __init__(self, folder: Path) -> None:
        """Look at the instance in ``folder``."""
        self.folder = folder

    def hits(self) -> int:
        """How many calls it has recorded, overwritten ones among them."""
        count = 0
        for stats in self.folder.glob("per_cpu/cpu*/stats"):
            fields = dict(line.split(": ", 1) for line in stats.read_text().splitlines())
            assert fields["dropped events"] == "0"
            count += int(fields["entries"]) + int(fields["overrun"])
        return count

    def functions(self) -> set[str]:
        """Which functions it has recorded."""
        lines = (self.folder / "trace").read_text().splitlines()
        return {
            line.rsplit(": ", 1)[1].split(" <-")[0] for line in lines if not line.startswith("#")
        }


@contextmanager
def function_tracer(function: str) -> Iterator[Tracer]:
    """Trace a function's calls with ftrace's own tracer."""
    folder = TRACING / "instances/dynamos_test"
    folder.mkdir()
    try:
        (folder / "set_ftrace_filter").write_text(function)
        (folder / "current_tracer").write_text("function")
        yield Tracer(folder)
    finally:
        with suppress(OSError):
            (folder / "current_tracer").write_text("nop")
        folder.rmdir()


# -------------------------------------------------------------------------------- eBPF fentry


def _bpf(command: int, attributes: bytes) -> int:
    attr = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
    result = guest.libc.syscall(_SYS_BPF, command, attr, _ATTR_BYTES)
    return guest.check(int(result), f"bpf({command})")


def _btf_function(name: str) -> int:
    """The number of a kernel function in the kernel's type information."""
    blob = Path("/sys/kernel/btf/vmlinux").read_bytes()
    _, _, _, header, types, types_size, strings, _ = _BTF_HEADER.unpack_from(blob)
    start = header + strings
    wanted = blob.index(b"\0" + name.encode() + b"\0", start) + 1 - start
    at, end, number = header + types, header + types + types_size, 0
    while at < end:
        number += 1
        offset, info, _ = _BTF_TYPE.unpack_from(blob, at)
        kind = info >> 24 & 0x1F
        if offset == wanted and kind == _BTF_FUNC:
            return number
        extra = _BTF_EXTRA.get(kind, 0) + _BTF_EXTRA_EACH.get(kind, 0) * (info & 0xFFFF)
        at += _BTF_TYPE.size + extra
    raise AssertionError(f"the kernel has no type information on {name}")


def load_fentry(function: str) -> int:
    """Load an eBPF program that does nothing, for a function's entry; gives its descriptor."""
    code, license_name = ctypes.create_string_buffer(_RETURN_0), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQIIQII16sIIIIQIIQII",
        _TYPE_TRACING,
        len(_RETURN_0) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license_name),
        *(0, 0, 0),  # log
        *(0, 0, b"dynamos_test", 0),  # version, flags, name, interface
        _ATTACH_FENTRY,
        *(0, 0, 0, 0, 0, 0, 0),  # source lines
        _btf_function(function),
    )
    return _bpf(_PROG_LOAD, attributes)


def attach(program: int) -> int:
    """Put a program of `load_fentry` on its function; gives the descriptor that holds it there.

    Raises:
        OSError: EBUSY when somebody else holds the entry.
    """
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, program))


@contextmanager
def fentry(function: str) -> Iterator[None]:
    """Hold a function's entry with an eBPF program."""
    program = load_fentry(function)
    try:
        link = attach(program)
        try:
            yield
        finally:
            os.close(link)
    finally:
        os.close(program)
