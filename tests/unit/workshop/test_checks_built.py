# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.checks about the project's own modules, as they are built, and broken ones.

`DYNAMOS_FUZZ_MODULES` says how many files are made of a good one, each wrong in its own way;
`make fuzz-modules` makes 10,000. `DYNAMOS_SEED` says which.
"""

from __future__ import annotations

import functools
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamosd.doctor import Machine
from dynamosd.workshop.checks.description import Kind
from dynamosd.workshop.checks.elf import Elf
from dynamosd.workshop.checks.finding import Verdict
from dynamosd.workshop.checks.kernel import Kernel
from dynamosd.workshop.checks.report import check
from tests.unit.workshop.module import be_roots
from tests.vm import kernels, modules
from tests.vm.common import CACHE

pytestmark = pytest.mark.timeout(3600)
"""The modules may have to be built first."""

FILES = int(os.environ.get("DYNAMOS_FUZZ_MODULES", "1000"))
SEED = int(os.environ.get("DYNAMOS_SEED", "1"))
NAMES = kernels.KERNELS
OURS = {"dynamos", "editions"}
PATIENCE = 60.0
"""Seconds for one file, however wrong: a good one takes a few milliseconds."""


@functools.cache
def kernel(name: str) -> Kernel:
    """Give a kernel that the project is built for, from its headers."""
    found = kernels.get(name)
    return Kernel(Machine(root=found.tree, release=found.release), is_running=False)


@functools.cache
def built(name: str) -> dict[str, Path]:
    """Give the modules that are built for a kernel."""
    modules.build(name)
    return {each.stem: each for each in (CACHE / "build" / name / "kmod").rglob("*.ko")}


def shipped(name: str) -> list[Path]:
    """Give those that are no tests'."""
    return [path for path in built(name).values() if "selftest" not in path.parts]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    be_roots(monkeypatch)
    kinds = set[Kind]()
    for path in shipped(name):
        report = check(path, kernel(name))
        rest = [each for each in report.findings if each.verdict is not Verdict.PASSED]
        assert {each.verdict for each in rest} <= {Verdict.NOT_APPLICABLE}, (path, rest)
        assert report.description
        kinds.add(report.description.kind)
        names = {each.name for each in rest}
        assert "gates" in names
        if report.description.kind is Kind.EDITION:
            assert names == {"gates"}
    assert kinds == {Kind.CORE, Kind.SUBSYSTEM, Kind.EDITION}


@pytest.mark.parametrize(("built_for", "runs"), [NAMES, NAMES[::-1]])
def test_another_kernels_modules(
    built_for: str, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_roots(monkeypatch)
    for path in shipped(built_for):
        report = check(path, kernel(runs))
        bad = {each.name: each.seen for each in report.bad}
        assert {"kernel", "symbols"} <= set(bad), path
        assert kernel(built_for).release in bad["kernel"]
        assert kernel(runs).release in bad["kernel"]
        assert report.exit_code == 1


def test_modes_and_homes_are_read_where_the_header_has_them() -> None:
    found = built(NAMES[-1])
    layout = check(found["dynamos_selftest_layout"], kernel(NAMES[-1])).description
    assert layout
    assert layout.has_transfer
    atomic = check(found["dynamos_selftest_atomic"], kernel(NAMES[-1])).description
    assert atomic
    assert not atomic.may_sleep
    assert [each.home for each in atomic.functions] == ["dynamos_target"]


# ------------------------------------------------------------------------------------- the fuzz

HEADER, SECTION = 64, 64
_FIELDS = ((0, "I"), (4, "I"), (8, "Q"), (16, "Q"), (24, "Q"), (32, "Q"), (40, "I"), (44, "I"))
"""Of a section's header: where a number is, and how wide it is."""
_NUMBERS = (0, 1, 2, 3, 4, 8, 9, 23, 24, 63, 64, 65, 0xFF00, 0xFFFF, 1 << 31, (1 << 64) - 1)


def _truncated(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _flipped(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 2, 8, 64, 1024))):
        data[draw.randrange(len(data))] = draw.randrange(256)


def _in_header(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 4))):
        data[draw.randrange(HEADER)] = draw.randrange(256)


def _sections(data: bytearray, draw: random.Random) -> None:
    """Write other numbers into headers of sections: mostly such as may almost be true."""
    [start] = struct.unpack_from("<Q", data, 40)
    [count] = struct.unpack_from("<H", data, 60)
    for _ in range(draw.choice((1, 1, 2, 5, 50))):
        at, width = draw.choice(_FIELDS)
        bits = 32 if width == "I" else 64
        number = draw.choice(
            (*_NUMBERS, draw.randrange(1 << bits), draw.randrange(len(data)), draw.randrange(count))
        )
        place = start + draw.randrange(count) * SECTION + at
        struct.pack_into(f"<{width}", data, place, number % (1 << bits))


def _inside(data: bytearray, draw: random.Random) -> None:
    """Change what a section that the checks look into holds."""
    elf = Elf(bytes(data))
    wanted = (".symtab", ".strtab", ".modinfo", "__versions", ".BTF", ".rodata", ".data", ".text")
    names = [each for each in elf.sections if each.name.startswith((*wanted, ".rela.", ".init"))]
    section = draw.choice([each for each in names if each.size and "debug" not in each.name])
    for _ in range(draw.choice((1, 4, 32, section.size))):
        at = section.offset + draw.randrange(section.size)
        data[at] = draw.choice((0, 0xFF, draw.randrange(256)))


def _moved(data: bytearray, draw: random.Random) -> None:
    """Copy a piece over another, or take one out."""
    size = draw.choice((1, 8, 24, 64, 4096))
    at, to = draw.randrange(len(data)), draw.randrange(len(data))
    if draw.random() < 0.5:
        data[to : to + size] = data[at : at + size]
    else:
        del data[at : at + size]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _truncated,
    _flipped,
    _in_header,
    _sections,
    _inside,
    _moved,
)


def test_no_file_is_too_wrong(tmp_path: Path) -> None:
    """Whatever a file holds, the answer is a report, soon. Anything that is raised fails this."""
    name = NAMES[-1]
    good = [
        built(name)[f"dynamos_{each}"].read_bytes()
        for each in ("readahead_streaming", "readahead_random", "reclaim", "pipe_spin")
    ]
    place = tmp_path / "mine.ko"
    seen, slowest = set[str](), 0.0
    for number in range(FILES):
        draw = random.Random(f"{SEED}/{number}")  # noqa: S311 - which files are made is to be known
        data = bytearray(draw.choice(good))
        draw.choice(MUTATIONS)(data, draw)
        place.write_bytes(data)
        begin = time.process_time()
        try:
            report = check(place, kernel(name))
        except Exception as error:
            raise AssertionError(f"file {number} of seed {SEED}") from error
        slowest = max(slowest, time.process_time() - begin)
        assert slowest < PATIENCE, f"file {number} of seed {SEED} took {slowest:.1f} s"
        seen |= {f"{each.name} {each.verdict}" for each in report.findings}
    print(f"{FILES} files, the slowest took {slowest * 1000:.0f} ms of CPU time")  # noqa: T201
    assert {"file failed", "file passed", "symbols failed", "stack passed"} <= seen
