# SPDX-License-Identifier: GPL-2.0-or-later
"""Compile the tests' programs here, for a guest in which a compiler is far slower."""

from __future__ import annotations

from pathlib import Path

from tests.vm.common import CACHE, PROJECT, locked, run

SOURCES = PROJECT / "tests/kernel"
BUILT = CACHE / "build/programs"
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


def build() -> None:
    """Bring each up to date with its source. A guest that runs now keeps the old file."""
    with locked(BUILT / "lock"):
        for source in SOURCES.glob("*.c"):
            program = BUILT / source.stem
            if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
                continue
            fresh = Path(f"{program}.new")
            run(["cc", *_FLAGS, "-o", fresh, source])
            fresh.replace(program)
