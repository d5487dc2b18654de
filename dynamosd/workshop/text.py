# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's text, disassembled: what its functions are made of now.

What is read is the text as it is patched at this moment: static keys, static calls, alternatives,
retpolines and ftrace's entries are as the CPU sees them, not as the compiler wrote them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import capstone

from dynamosd.errors import DynamosError
from dynamosd.workshop.kcore import Kcore
from dynamosd.workshop.symbols import Symbol, Symbols

Tell = Callable[[str, float], None]
"""Is told what is being done, and which part of it is."""

_LONGEST = 1 << 18
"""Bytes of a function: more than the largest of a kernel has."""
_FILLING = frozenset({"nop", "int3"})
_ZEROS = 8
"""Bytes of zeros that an instruction may end with."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. ``target`` is where a direct jump or call leads to, else 0."""

    address: int
    code: bytes
    mnemonic: str
    operands: str
    target: int = 0

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.address + len(self.code)

    @property
    def is_filling(self) -> bool:
        """Whether it may stand behind a function only to fill a place; zeros are an `add`."""
        return self.mnemonic in _FILLING or not any(self.code)

    @property
    def is_call(self) -> bool:
        """Whether it calls."""
        return self.mnemonic.endswith("call")

    @property
    def is_jump(self) -> bool:
        """Whether it jumps, always or on a condition."""
        return self.mnemonic.rpartition(" ")[2].startswith(("j", "loop"))


@dataclass(frozen=True, slots=True)
class Body:
    """A function's bytes and instructions, without the filling behind it.

    ``is_whole`` says whether all of its bytes are instructions.
    """

    symbol: Symbol
    code: bytes
    instructions: tuple[Instruction, ...]
    is_whole: bool

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.code)

    def has(self, address: int) -> bool:
        """Tell whether an address is inside."""
        return self.symbol.address <= address < self.symbol.address + self.size


@functools.cache
def _engine() -> Any:  # noqa: ANN401 - capstone has no type information
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


def disassemble(code: bytes, address: int) -> Iterator[Instruction]:
    """Give instructions, up to the first that is none."""
    for at, size, mnemonic, operands in _engine().disasm_lite(code, address):
        is_direct = operands.startswith("0x") and (
            mnemonic.endswith("call") or mnemonic.rpartition(" ")[2].startswith(("j", "loop"))
        )
        target = int(operands, 16) if is_direct else 0
        own = code[at - address : at - address + size]
        yield Instruction(at, own, mnemonic, operands, target)


class Text:
    """The text of the kernel and of its modules."""

    def __init__(self, kcore: Kcore, symbols: Symbols, tell: Tell) -> None:
        """Read nothing yet.

        Args:
            kcore: where the text is.
            symbols: where functions begin.
            tell: is told how far reading has come.
        """
        self.symbols = symbols
        self._kcore = kcore
        self._tell = tell
        self._areas: dict[tuple[str, str], tuple[int, bytes]] = {}

    def area(self, first: str, last: str) -> tuple[int, bytes]:
        """Give the kernel's memory between two symbols, read once, with its address.

        Raises:
            DynamosError: it is not to be had.
        """
        if (first, last) not in self._areas:
            start, end = self.symbols.address(first), self.symbols.address(last)
            if not start or not end or end <= start:
                raise DynamosError(f"the kernel does not say where {first} and {last} are")
            tell = self._teller(f"reading the kernel from {first} to {last}")
            self._areas[first, last] = start, self._kcore.read(start, end - start, tell)
        return self._areas[first, last]

    def _teller(self, what: str) -> Callable[[float], None]:
        return lambda part: self._tell(what, part)

    def code(self, address: int, size: int) -> bytes:
        """Give the bytes at an address. Raises `DynamosError`."""
        for start, area in self._areas.values():
            if start <= address and address + size <= start + len(area):
                return area[address - start : address - start + size]
        return self._kcore.read(address, size)

    def body(self, symbol: Symbol) -> Body:
        """Disassemble a function.

        Raises:
            DynamosError: its bytes are not to be had.
        """
        code = _without_tail(self.code(symbol.address, self._extent(symbol)))
        found = list(disassemble(code, symbol.address))
        end = found[-1].end if found else symbol.address
        is_whole = end == symbol.address + len(code) or not any(code[end - symbol.address :])
        while is_whole and found and found[-1].is_filling:
            del found[-1]
        size = found[-1].end - symbol.address if found else 0
        return Body(symbol, code[:size] if is_whole else code, tuple(found), is_whole)

    def _extent(self, symbol: Symbol) -> int:
        """Give how far it is to the next name, which may have filling before it."""
        end = self.symbols.end(symbol.address, symbol.module)
        return min((end or symbol.address + _LONGEST) - symbol.address, _LONGEST)

    def show(self, instruction: Instruction) -> str:
        """Give an instruction as text, with the name of what it calls or jumps to."""
        if not instruction.target:
            return f"{instruction.mnemonic} {instruction.operands}".strip()
        return f"{instruction.mnemonic} {self.symbols.describe(instruction.target)}"


def _without_tail(code: bytes) -> bytes:
    """Leave out zeros at the end, all but what may belong to the last instruction."""
    return code[: len(code.rstrip(b"\0")) + _ZEROS]
