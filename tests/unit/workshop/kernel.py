# SPDX-License-Identifier: GPL-2.0-or-later
"""A small kernel, made by hand: its types, names, memory and tracing files, below a folder."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynamosd.doctor import Machine
from dynamosd.kmod import Kmod
from dynamosd.probes.btf import MAGIC
from dynamosd.testing import FakeModule
from dynamosd.workshop.btf import Kind
from dynamosd.workshop.symbols import Symbol

START = 0xFFFFFFFF81000000
DATA = START + 0x1000000
MORE = DATA + 0x100000
NOP = bytes.fromhex("0f1f440000")
RET = b"\xc3"


class Types:
    """Makes type information (BTF), type by type; each gets the next number."""

    def __init__(self, first: int = 1, before: int = 0) -> None:
        """Begin where a base ends, with its types and its bytes of strings."""
        self._types: list[bytes] = []
        self._strings = b"" if before else b"\0"
        self._first, self._before = first, before

    def name(self, text: str) -> int:
        """Give the place of a string."""
        if not text:
            return 0
        at = self._before + len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(
        self, kind: int, name: str = "", value: int = 0, rest: Sequence[int] = (), *, count: int = 0
    ) -> int:
        """Add a type; ``count`` is of members, parameters or the like."""
        words = (self.name(name), kind << 24 | count, value, *rest)
        self._types.append(struct.pack(f"<{len(words)}I", *words))
        return self._first + len(self._types) - 1

    def integer(self, name: str = "int") -> int:
        """Add one of the simple types."""
        return self.add(Kind.INT, name, 4, [0x01000020])

    def prototype(self, returns: int, *parameters: tuple[str, int]) -> int:
        """Add a function's type."""
        rest = [word for name, number in parameters for word in (self.name(name), number)]
        return self.add(Kind.FUNC_PROTO, "", returns, rest, count=len(parameters))

    def function(self, name: str, returns: int, *parameters: tuple[str, int]) -> int:
        """Add a function."""
        return self.add(Kind.FUNC, name, self.prototype(returns, *parameters), count=1)

    @property
    def strings_size(self) -> int:
        """How many bytes of strings there are now."""
        return len(self._strings)

    @property
    def next(self) -> int:
        """The number of the next type."""
        return self._first + len(self._types)

    def blob(self) -> bytes:
        """Give the file."""
        types = b"".join(self._types)
        header = struct.pack(
            "<HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(self._strings)
        )
        return header + types + self._strings


def core(*segments: tuple[int, bytes]) -> bytes:
    """Make an ELF core file with some memory, each at an address."""
    size, count = 56, len(segments) + 1
    offset = 64 + size * count
    headers = [struct.pack("<IIQQQQQQ", 4, 0, 64, 0, 0, 0, 0, 0)]
    bodies = b""
    for address, memory in segments:
        at = offset + len(bodies)
        headers.append(
            struct.pack("<IIQQQQQQ", 1, 7, at, address, 0, len(memory), len(memory), 4096)
        )
        bodies += memory
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, 0, 0, 64, size, count, 0, 0, 0
    )
    return header + b"".join(headers) + bodies


def call(at: int, to: int, code: bytes = b"\xe8") -> bytes:
    """Give a call from an address to another; or a jump, by another code."""
    return code + struct.pack("<i", to - (at + len(code) + 4))


@dataclass
class Kernel:
    """Functions by name, each with its code, one behind the other; and what is known of them."""

    folder: Path
    functions: Mapping[str, bytes] = field(default_factory=dict)
    data: bytes = bytes(64)
    places: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    @staticmethod
    def lay_out(sizes: Mapping[str, int]) -> dict[str, int]:
        """Give where functions of such sizes are."""
        places, at = {}, START
        for name, size in sizes.items():
            places[name] = at
            at += -(-size // 16) * 16
        return places

    def write(self) -> None:
        """Write the files of the kernel."""
        text = bytearray()
        for name, code in self.functions.items():
            self.places[name] = START + len(text)
            text += code.ljust(-(-len(code) // 16) * 16, b"\xcc")
        end = START + len(text)
        symbols = {"_stext": START, **self.places, "_etext": end}
        lines = [f"{address:016x} T {name}" for name, address in symbols.items()]
        lines += [f"{DATA:016x} D __start_rodata", f"{DATA + 16:016x} d some_fops"]
        lines += [f"{DATA + len(self.data):016x} D __end_rodata"]
        areas = ("_sdata", "_edata", "__bss_start", "__bss_stop")
        lines += [f"{MORE + 16 * number:016x} D {name}" for number, name in enumerate(areas)]
        lines += self.names
        self.put("proc/kallsyms", "\n".join(lines) + "\n")
        self.put("proc/kcore", core((START, bytes(text)), (DATA, self.data), (MORE, bytes(64))))
        traced = [f"{name}\n" for name in self.functions]
        self.put("sys/kernel/tracing/available_filter_functions", "".join(traced))
        self.put("sys/kernel/tracing/enabled_functions", "")
        self.put("sys/kernel/debug/kprobes/list", "")

    def put(self, path: str, text: str | bytes) -> None:
        """Write one file."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def machine(self, kmod: Kmod | FakeModule | None = None) -> Machine:
        """Give the machine that runs it."""
        found = kmod.kmod if isinstance(kmod, FakeModule) else kmod
        return Machine(
            found or Kmod(self.folder / "none", self.folder / "none"), self.folder, uid=0
        )


def symbol(name: str, address: int = START) -> Symbol:
    """Give the name of some code."""
    return Symbol(address, name, "", "T")
