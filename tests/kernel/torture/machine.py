# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine before and after: the kernel's text at functions' entries, and its memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tests.kernel.torture.leaks import Memory, least, parse

ENTRY_BYTES = 16
"""A gate changes the first few."""

READINGS = 5

Entries = Mapping[str, str]
"""The first bytes of functions, in hexadecimal."""


def addresses(functions: Iterable[str]) -> dict[str, int]:
    """Where functions of the kernel itself are; each must be there once."""
    wanted = set(functions)
    found: dict[str, int] = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, kind, name, *module = line.split()
        if name in wanted and kind in "tT" and not module:
            assert name not in found, f"two functions are named {name}"
            found[name] = int(address, 16)
    assert found.keys() == wanted
    return found


def entries(functions: Iterable[str]) -> Entries:
    """Read those of functions of the kernel itself, as they are now."""
    where = addresses(functions)
    with Path("/proc/kcore").open("rb", buffering=0) as core:
        segments = list(ELFFile(core).iter_segments("PT_LOAD"))
        found = {}
        for name, address in where.items():
            [offset] = [
                segment["p_offset"] + address - segment["p_vaddr"]
                for segment in segments
                if 0 <= address - segment["p_vaddr"] < segment["p_memsz"]
            ]
            found[name] = os.pread(core.fileno(), ENTRY_BYTES, offset).hex()
    return found


def memory() -> Memory:
    """What is in use when nobody does anything: the least of several readings."""
    return least(_read_memory() for _ in range(READINGS))


def _read_memory() -> Memory:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for cache in Path("/sys/kernel/slab").iterdir():
        # Objects that are free, but kept for a CPU, are counted as in use: give them back.
        with suppress(OSError):
            (cache / "shrink").write_text("1")
    # What RCU frees is freed a moment later: this is one of several readings.
    time.sleep(0.2)
    files = ("slabinfo", "vmallocinfo", "meminfo", "modules")
    return parse(*(Path("/proc", name).read_text() for name in files))
