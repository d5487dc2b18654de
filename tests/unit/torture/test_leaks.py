# SPDX-License-Identifier: GPL-2.0-or-later
"""tests.kernel.torture.leaks: the rule finds what leaks, and nothing else."""

from __future__ import annotations

import pytest

from tests.kernel.torture.leaks import (
    NOISE,
    NOISE_KB,
    Memory,
    allowed,
    leaks,
    least,
    most_grown,
    parse,
)

SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
kmalloc-64          {} 13312     64   64    1 : tunables    0    0    0 : slabdata    208    208
dentry              {} 30072    192   21    1 : tunables    0    0    0 : slabdata   1432   1432
"""
VMALLOCINFO = "0xffffc90000000000-0xffffc90000005000   20480 irq_init_percpu_irqstack+0x10c/0x180\n"
MEMINFO = "MemTotal:        1007460 kB\nPercpu:          {:>8} kB\nHugePages_Total:       0\n"
MODULES = "dynamos 81920 0 - Live 0x0000000000000000 (OE)\n"

CYCLES = 250


def memory(
    kmalloc: int = 1000, dentry: int = 5000, areas: int = 50, percpu: int = 552, modules: int = 3
) -> Memory:
    return parse(
        SLABINFO.format(kmalloc, dentry),
        VMALLOCINFO * areas,
        MEMINFO.format(percpu),
        MODULES * modules,
    )


def test_what_is_read() -> None:
    assert memory() == Memory({"kmalloc-64": 1000, "dentry": 5000}, 50, {"Percpu": 552}, 3)


def test_what_stays_is_no_leak() -> None:
    assert leaks([memory(), memory(), memory()], CYCLES) == []


@pytest.mark.parametrize("each", [1, 2, 100])
def test_one_object_a_cycle(each: int) -> None:
    [found] = leaks([memory(kmalloc=1000 + half * each * CYCLES) for half in range(3)], CYCLES)
    assert found.startswith(f"kmalloc-64: +{each * CYCLES} and then +{each * CYCLES}")


def test_one_area_a_cycle() -> None:
    found = leaks([memory(areas=50 + half * CYCLES) for half in range(3)], CYCLES)
    assert [line.split(":")[0] for line in found] == ["vmalloc areas"]


def test_memory_for_each_cpu() -> None:
    percpu = [552 + half * (NOISE_KB + 4) for half in range(3)]
    found = leaks([memory(percpu=kilobytes) for kilobytes in percpu], CYCLES)
    assert [line.split(":")[0] for line in found] == ["Percpu"]


def test_a_module_that_stays() -> None:
    assert leaks([memory(), memory(), memory(modules=4)], CYCLES) == ["modules: 3, 3, 4"]


def test_a_new_cache_that_grows() -> None:
    start, middle, end = (memory() for _ in range(3))
    middle = Memory({**middle.objects, "ours": CYCLES}, 50, middle.kilobytes, 3)
    end = Memory({**end.objects, "ours": 2 * CYCLES}, 50, end.kilobytes, 3)
    [found] = leaks([start, middle, end], CYCLES)
    assert found.startswith("ours: ")


def test_what_grows_once_is_no_leak() -> None:
    assert leaks([memory(), memory(dentry=9000), memory(dentry=9000)], CYCLES) == []
    assert leaks([memory(), memory(), memory(dentry=9000)], CYCLES) == []


def test_noise_is_no_leak() -> None:
    few = allowed(4)
    assert few == NOISE
    grows = [memory(kmalloc=1000 + half * few) for half in range(3)]
    assert leaks(grows, 4) == []
    grows = [memory(kmalloc=1000 + half * (few + 1)) for half in range(3)]
    assert len(leaks(grows, 4)) == 1


def test_what_has_grown_most_comes_first() -> None:
    used = [memory(), memory(dentry=5010), memory(dentry=5030, kmalloc=1001)]
    assert most_grown(used, 2) == ["dentry 5000, 5010, 5030", "kmalloc-64 1000, 1000, 1001"]


def test_what_is_in_use_for_a_moment_is_not_counted() -> None:
    readings = (memory(kmalloc=1200, dentry=5000), memory(kmalloc=1000, dentry=5100))
    assert least(readings) == memory(kmalloc=1000, dentry=5000)
