# SPDX-License-Identifier: GPL-2.0-or-later
"""Others that sit on a function: probes, the function tracer, eBPF programs, a livepatch."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.kernel import guest
from tests.kernel.block import Block
from tests.kernel.guest import LIVEPATCH, TRACING

_SYS_BPF = 321
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 1, 5, 17
_MAP_ARRAY = 2
_TYPE_TRACING = 26
_ATTACH = {"fentry": 24, "fexit": 25}
_COUNT = (
    "1821 0000 {map:08x} 0000 0000 00000000"  # r1 = the map's first value
    "b702 0000 01000000"  # r2 = 1
    "db21 0000 00000000"  # atomically: *r1 += r2
    "b700 0000 00000000"  # r0 = 0
    "9500 0000 00000000"  # exit
)
_ATTR_BYTES = 128

_BTF_HEADER = struct.Struct("<HBBIIIII")
_BTF_TYPE = struct.Struct("<III")
_BTF_FUNC = 12
_BTF_EXTRA = {1: 4, 3: 12, 14: 4, 17: 4}
_BTF_EXTRA_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}


# ----------------------------------------------------------------------------------- kprobe


class Kprobe:
    """A kprobe or kretprobe on a function, armed for the length of `kprobe` or `kretprobe`."""

    def __init__(self, name: str) -> None:
        """Look at the probe event ``name``."""
        self.name = name

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
    with _probe("p", "dynamos_test", function) as probe:
        yield probe


@contextmanager
def kretprobe(function: str) -> Iterator[Kprobe]:
    """Put a kretprobe on a function's return and arm it."""
    with _probe("r", "dynamos_test_return", function) as probe:
        yield probe


@contextmanager
def _probe(kind: str, name: str, function: str) -> Iterator[Kprobe]:
    probe = Kprobe(name)
    _define(f"{kind}:{name} {function}")
    try:
        probe.arm(on=True)
        yield probe
    finally:
        probe.arm(on=False)
        _define(f"-:{name}")


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


# ----------------------------------------------------------------------- eBPF fentry and fexit


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


class Program(Block):
    """An eBPF program on a function's entry or exit, which counts the calls that it sees."""

    def __init__(self, function: str, at: str = "fentry") -> None:
        """Load it; `attach` puts it on the function. ``at`` is fentry or fexit."""
        self._map = _bpf(_MAP_CREATE, struct.pack("<IIII", _MAP_ARRAY, 4, 8, 1))
        self._link = -1
        try:
            self._program = self._load(function, _ATTACH[at])
        except OSError:
            os.close(self._map)
            raise

    def end(self) -> None:
        """Take it away."""
        self.detach()
        os.close(self._program)
        os.close(self._map)

    def attach(self) -> None:
        """Put it on its function.

        Raises:
            OSError: EBUSY when somebody else holds the entry.
        """
        self._link = _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, self._program))

    def detach(self) -> None:
        """Take it off its function, if it is there."""
        if self._link >= 0:
            os.close(self._link)
        self._link = -1

    def hits(self) -> int:
        """How often it ran."""
        key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
        where = (ctypes.addressof(key), ctypes.addressof(value))
        _bpf(_MAP_LOOKUP, struct.pack("<IIQQQ", self._map, 0, *where, 0))
        return value.value

    def _load(self, function: str, attach_type: int) -> int:
        little = int.from_bytes(self._map.to_bytes(4, "little"), "big")
        instructions = bytes.fromhex(_COUNT.format(map=little))
        code = ctypes.create_string_buffer(instructions)
        license_name = ctypes.create_string_buffer(b"GPL")
        attributes = struct.pack(
            "<IIQQIIQII16sIIIIQIIQII",
            _TYPE_TRACING,
            len(instructions) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_name),
            *(0, 0, 0),  # log
            *(0, 0, b"dynamos_test", 0),  # version, flags, name, interface
            attach_type,
            *(0, 0, 0, 0, 0, 0, 0),  # source lines
            _btf_function(function),
        )
        return _bpf(_PROG_LOAD, attributes)


@contextmanager
def ebpf(function: str, at: str = "fentry") -> Iterator[Program]:
    """Have an eBPF program on a function's entry or exit."""
    with Program(function, at) as program:
        program.attach()
        yield program


# --------------------------------------------------------------------------------- livepatch


@contextmanager
def livepatch() -> Iterator[None]:
    """Have `target_value` patched by the kernel's own means.

    Raises:
        OSError: what the kernel answered to the patch's module.
    """
    folder = Path("/sys/kernel/livepatch", LIVEPATCH)
    # Under load on an emulated 6.12 each way takes minutes.
    patience = 4 * guest.PATIENCE
    guest.insert(LIVEPATCH)
    try:
        guest.wait_until(lambda: _is(folder / "transition", "0"), "everybody is patched", patience)
        yield
    finally:
        (folder / "enabled").write_text("0")
        guest.wait_until(lambda: not folder.exists(), "nobody is patched any more", patience)
        guest.remove_when_free(LIVEPATCH)


def _is(path: Path, text: str) -> bool:
    return path.read_text().strip() == text
