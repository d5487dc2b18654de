# SPDX-License-Identifier: GPL-2.0-or-later
"""Others on the same functions: who can share an entry does, exactly; who cannot is told so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynamosd import entries
from tests.kernel import control, guest
from tests.kernel.guest import CORE, EDITIONS, FUNCTIONS, RANDOM, STREAMING, SUBSYSTEM
from tests.kernel.neighbours import Program, ebpf, function_tracer, kprobe

SYNC = "page_cache_sync_ra"
ORDER = "page_cache_ra_order"
ROUNDS = 30


def read_while_switching(data: Path) -> None:
    """Cause calls of all functions, a few under each edition, with many switches."""
    for turn in range(ROUNDS):
        control.switch(EDITIONS[turn % len(EDITIONS)])
        guest.evict(data)
        guest.map_bytes(data, [4096 * (turn + 1) * 100])
        fd = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.read(fd, 64 * 1024)
            control.switch(EDITIONS[(turn + 1) % len(EDITIONS)])
            os.read(fd, 256 * 1024)
        finally:
            os.close(fd)


def calls_of(function: str, calls: control.Calls) -> int:
    return sum(count for (name, _), count in calls.items() if name == function)


def hits_are_calls(hits: Callable[[], int], function: str, data: Path) -> None:
    """Prove that a neighbour and the module count the same calls."""
    hits_before, calls_before = control.settle(hits)
    read_while_switching(data)
    hits_after, calls_after = control.settle(hits)
    counted = calls_of(function, calls_after) - calls_of(function, calls_before)
    assert hits_after - hits_before == counted
    assert counted >= ROUNDS


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("function", [SYNC, ORDER])
def test_a_kprobe_on_a_gated_function_sees_each_call(function: str, data: Path) -> None:
    with kprobe(function) as probe:
        hits_are_calls(probe.hits, function, data)
        assert guest.gated_functions() == list(FUNCTIONS)
    assert guest.gated_functions() == list(FUNCTIONS)


@pytest.mark.usefixtures("bare")
def test_gates_come_to_a_function_with_a_kprobe_and_go_again(data: Path) -> None:
    with kprobe(ORDER) as probe:
        alone = guest.enabled_functions()
        guest.load_all()
        hits_are_calls(probe.hits, ORDER, data)
        guest.unload_all()
        assert guest.enabled_functions() == alone
        before = probe.hits()
        guest.evict(data)
        guest.map_bytes(data, [0])
        assert probe.hits() > before


@pytest.mark.usefixtures("modules")
def test_the_function_tracer_sees_each_call(data: Path) -> None:
    with function_tracer(ORDER) as tracer:
        hits_are_calls(tracer.hits, ORDER, data)
        assert tracer.functions() == {ORDER}
    assert guest.gated_functions() == list(FUNCTIONS)


def gate_at(function: str) -> tuple[bool | None, bool]:
    """Tell whether the kernel shows our gate at an entry, and whether others use the entry too."""
    (entry,) = entries.parse(guest.enabled_functions())[function]
    return entry.has_gate(function), entry.is_shared


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("backend", ["direct", "ftrace"])
def test_what_the_kernel_says_of_gates_is_understood(backend: str) -> None:
    guest.insert(CORE)
    with guest.backend(backend):
        guest.load_all()
    assert [gate_at(function) for function in FUNCTIONS] == [(True, False)] * len(FUNCTIONS)
    with kprobe(ORDER):
        # Of a gate that redirects it says nothing beside others.
        assert gate_at(ORDER) == (True if backend == "direct" else None, True)
    assert gate_at(ORDER) == (True, False)
    guest.remove(RANDOM)
    guest.remove(STREAMING)
    with kprobe(ORDER):
        assert gate_at(ORDER) == (False, False)


@pytest.fixture
def only_direct() -> Iterator[None]:
    """The module must not fall back on the other back end."""
    guest.insert(CORE)
    with guest.backend("direct"):
        yield


@pytest.mark.usefixtures("bare", "only_direct")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_entry_that_ebpf_holds_is_refused_and_nothing_is_left(function: str) -> None:
    untouched = guest.enabled_functions()
    guest.insert(SUBSYSTEM)
    with ebpf(function):
        theirs = guest.enabled_functions()
        assert function in theirs
        with control.Follower() as events:
            assert guest.answer(lambda: guest.insert(RANDOM)) == "EBUSY"
            told = events.read()
        names = [event.name for event in told]
        assert names.count("gated") == names.count("ungated")
        assert "loaded" not in names
        assert function in told[names.index("refused")].fields["reason"]
        assert guest.enabled_functions() == theirs
        assert sorted(control.readahead().editions) == ["original"]
        assert {each.backend for each in control.readahead().functions.values()} == {"none"}
        assert guest.loaded() == [CORE, SUBSYSTEM]
        assert control.active() == "original"
    guest.wait_until(lambda: guest.enabled_functions() == untouched, "eBPF has let go")
    guest.insert(RANDOM)
    assert guest.gated_functions() == list(FUNCTIONS)


@pytest.mark.usefixtures("modules")
def test_ebpf_cannot_take_an_entry_with_a_gate() -> None:
    with Program(SYNC) as program:
        assert guest.answer(program.attach) == "EBUSY"
        assert guest.gated_functions() == list(FUNCTIONS)
        guest.remove(RANDOM)
        guest.remove(STREAMING)
        program.attach()
    guest.wait_until(lambda: SYNC not in guest.enabled_functions(), "eBPF has let go")
    guest.load_all()
    assert guest.gated_functions() == list(FUNCTIONS)
