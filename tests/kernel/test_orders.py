# SPDX-License-Identifier: GPL-2.0-or-later
"""Every order of a gate and another at one entry: docs/consistency.md has the table.

Either both work, and count the same calls, or who comes second is refused; in the end the
kernel's text is as it was.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from tests.kernel import guest
from tests.kernel.control import Controlled, Follower
from tests.kernel.neighbours import Program, ebpf, function_tracer, kprobe, kretprobe, livepatch
from tests.kernel.target import Target, parameter

SYSCTL = Path("/proc/sys/kernel/ftrace_enabled")
PIPE, PIPE_B = "dynamos_pipe", "dynamos_selftest_pipe_b"
SPIN_ROUNDS = 10
"""How often `spin N` makes N calls."""

SWITCHES = 12
"""How many switches there are at least beside calls that go on."""

ORDERS = [(first, leaves) for first in ("gate", "neighbour") for leaves in ("gate", "neighbour")]
ORDER_NAMES = [f"{first}-first-{leaves}-leaves-first" for first, leaves in ORDERS]
only_direct = pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
only_ftrace = pytest.mark.parametrize("backend", ["ftrace"], indirect=True, scope="module")
each_order = pytest.mark.parametrize(("first", "leaves"), ORDERS, ids=ORDER_NAMES)
each_program = pytest.mark.parametrize("at", ["fentry", "fexit"])
shared_out = pytest.mark.one_kernel(each="test")
"""Every combination is seen on one of the kernels that run together, and each kernel sees many."""


class Neighbour(Protocol):
    """Somebody else at the entry, who counts."""

    def hits(self) -> int:
        """How many calls it has seen."""


class Nobody:
    """Stands for a neighbour where there is none."""

    def hits(self) -> int:
        """None."""
        return 0


Comes = Callable[[str], AbstractContextManager[Neighbour]]
"""Puts a neighbour on the function of a name."""


class Place(ABC):
    """A gated function: its subsystem without editions, which bring the gates and take them."""

    SHARE = 1
    """A share of the calls that is exact: the subsystem's other functions take turns with it."""

    def __init__(self, subsystem: str, function: str, editions: dict[str, str]) -> None:
        """Name the function, and the modules of the editions."""
        self.subsystem = Controlled(subsystem)
        self.function = function
        self.editions = editions

    @abstractmethod
    def calls(self, edition: str) -> int:
        """Make calls, prove that they get an edition, and say how many they were."""

    @abstractmethod
    def many_calls(self) -> int:
        """Make calls for some time, and say how many they were."""

    def load(self) -> None:
        """Load the editions; the gates come with the first."""
        for module in self.editions.values():
            guest.insert(module)

    def unload(self) -> None:
        """Take the gates and the editions away."""
        self.subsystem.switch("original", "mode=concurrent")
        for module in self.editions.values():
            if module in guest.loaded():
                guest.remove_when_free(module)

    @contextmanager
    def gates(self, backend: str) -> Iterator[None]:
        """Have the gates for the length of a block."""
        try:
            self.load()
            assert self.subsystem.backend(self.function) == backend
            yield
        finally:
            self.unload()

    def counted(self) -> dict[str, int]:
        """How many calls each edition that is there has had."""
        folders = (self.subsystem.folder / "functions" / self.function).iterdir()
        return {
            folder.name: int((folder / "calls").read_text())
            for folder in folders
            if folder.is_dir()
        }

    def counted_by_all(self) -> int:
        """How many calls all editions have had."""
        return sum(self.counted().values())

    def is_untouched_by_us(self) -> bool:
        """Whether there is no gate, no edition, and no module of one."""
        editions = {path.name for path in (self.subsystem.folder / "editions").iterdir()}
        return (
            editions == {"original"}
            and self.subsystem.active() == "original"
            and self.subsystem.backend(self.function) == "none"
            and not set(self.editions.values()) & set(guest.loaded())
        )


class Values(Place):
    """`target_value`, of a module of the self-test."""

    # The subsystem's other functions are not called meanwhile.
    SHARE = 2
    RESULTS: ClassVar = {"original": 4, "b": 1004, "c": 2004}
    PATCHED = 10

    def __init__(self) -> None:
        """Say what it is."""
        editions = {"b": guest.SELFTEST_B, "c": guest.SELFTEST_C}
        super().__init__("selftest", "target_value", editions)

    def calls(self, edition: str) -> int:
        """Call it, and look at a result before and behind."""
        for command in ("value 3", "spin 50", "value 3"):
            got = Target().run(command)
            assert got.get("result") in {None, self.RESULTS[edition]}
        return 50 * SPIN_ROUNDS + 2

    def many_calls(self) -> int:
        """Call it in a loop of the kernel's."""
        Target().run("spin 2000")
        return 2000 * SPIN_ROUNDS


class Pipes(Place):
    """`alloc_pipe_info`, of the kernel."""

    def __init__(self) -> None:
        """Say what it is."""
        super().__init__("pipe", "alloc_pipe_info", {"b": PIPE_B})

    def calls(self, edition: str) -> int:
        """Make pipes; edition `b` counts them itself."""
        before = self._births()
        for _ in range(50):
            self._make()
        assert self._births() - before == (50 if edition == "b" else 0)
        return 50

    def many_calls(self) -> int:
        """Make pipes."""
        for _ in range(500):
            self._make()
        return 500

    @staticmethod
    def _make() -> None:
        for end in os.pipe():
            os.close(end)

    @staticmethod
    def _births() -> int:
        return parameter(PIPE_B, "births") if PIPE_B in guest.loaded() else 0


@pytest.fixture
def untouched() -> Iterator[None]:
    """Prove that in the end nobody is at any entry who was not there before."""
    before = guest.enabled_functions()
    yield
    guest.wait_until(lambda: guest.enabled_functions() == before, "all entries are as they were")


@pytest.fixture
def values(backend: str, untouched: None) -> Values:
    """Give `target_value`, without a gate."""
    del backend, untouched
    guest.load_all((guest.CORE, guest.TARGET, guest.SELFTEST))
    place = Values()
    assert place.is_untouched_by_us()
    return place


@pytest.fixture
def pipes(backend: str, untouched: None) -> Pipes:
    """Give `alloc_pipe_info`, without a gate."""
    del backend, untouched
    guest.load_all((guest.CORE, PIPE))
    place = Pipes()
    assert place.is_untouched_by_us()
    return place


@pytest.fixture
def enabled_again() -> Iterator[None]:
    """Whatever the test does, ftrace is on afterwards."""
    yield
    SYSCTL.write_text("1")


# ------------------------------------------------------------------------- what is to be proved


def counts_are_exact_ungated(place: Place, neighbour: Neighbour) -> None:
    hits, counted = neighbour.hits(), place.counted()
    made = place.calls("original") + place.many_calls()
    assert neighbour.hits() - hits == (0 if isinstance(neighbour, Nobody) else made)
    assert place.counted() == counted


def counts_are_exact(place: Place, neighbour: Neighbour, *options: str) -> None:
    """Prove that calls in each edition, and beside switches, are seen once each by both."""
    begin = (neighbour.hits(), place.counted_by_all())
    made = 0
    for edition in (*place.editions, "original"):
        switch_all(place, edition, *(options or ("mode=concurrent",)))
        before = place.counted()
        calls = place.calls(edition)
        expected = {name: count + calls * (name == edition) for name, count in before.items()}
        assert place.counted() == expected
        made += calls
    made += calls_beside_switches(place, *(options or ("mode=concurrent",)))
    assert place.counted_by_all() - begin[1] == made
    assert neighbour.hits() - begin[0] == (0 if isinstance(neighbour, Nobody) else made)


def calls_beside_switches(place: Place, *options: str) -> int:
    """Switch while another thread makes calls; gives how many it has made."""
    made, turns = 0, cycle((*place.editions, "original"))
    with ThreadPoolExecutor(1) as pool:
        switched = 0
        while switched < SWITCHES:
            calling = pool.submit(place.many_calls)
            while not calling.done():
                switch_all(place, next(turns), *options)
                switched += 1
            made += calling.result()
    switch_all(place, "original", *options)
    return made


def switch_all(place: Place, edition: str, *options: str) -> None:
    """Switch, and wait until all calls get the edition: per object that takes a moment."""
    place.subsystem.switch(edition, *options)
    guest.wait_until(lambda: place.subsystem.partial() == "none", "every object has the edition")


def both_work(place: Place, comes: Comes, backend: str, first: str, leaves: str) -> None:
    with ExitStack() as neighbours, ExitStack() as gates:
        if first == "gate":
            gates.enter_context(place.gates(backend))
            counts_are_exact(place, Nobody())
        neighbour = neighbours.enter_context(comes(place.function))
        if first == "neighbour":
            counts_are_exact_ungated(place, neighbour)
            gates.enter_context(place.gates(backend))
        counts_are_exact(place, neighbour)
        if leaves == "neighbour":
            neighbours.close()
            counts_are_exact(place, Nobody())
        else:
            gates.close()
            counts_are_exact_ungated(place, neighbour)


def gate_is_refused(place: Place, answer: str, *words: str) -> None:
    """Prove that no gate can be installed, that an event says why, and that nothing is left."""
    before = guest.enabled_functions()
    edition, module = next(iter(place.editions.items()))
    with Follower() as events:
        assert guest.answer(lambda: guest.insert(module)) == answer
        told = events.read()
    [refused] = [event for event in told if event.name == "refused"]
    assert refused.fields["command"] == f"load {place.subsystem.name}/{edition}"
    assert (refused.fields["by"], refused.fields["errno"]) == ("0", str(getattr(errno, answer)))
    for word in words:
        assert word in refused.fields["reason"]
    names = [event.name for event in told]
    assert names.count("gated") == names.count("ungated")
    assert "loaded" not in names
    assert guest.enabled_functions() == before
    assert place.is_untouched_by_us()


# ---------------------------------------------------------------- kprobe, kretprobe, the tracer


@shared_out
@each_order
@pytest.mark.parametrize("comes", [kprobe, kretprobe, function_tracer])
def test_a_probe_or_the_tracer_and_a_gate_both_work(
    values: Values, backend: str, comes: Comes, first: str, leaves: str
) -> None:
    both_work(values, comes, backend, first, leaves)


# ----------------------------------------------------------------------------- fentry and fexit


@shared_out
@only_ftrace
@each_order
@each_program
def test_ebpf_and_a_gate_of_ftrace_both_work(
    pipes: Pipes, backend: str, at: str, first: str, leaves: str
) -> None:
    both_work(pipes, partial(ebpf, at=at), backend, first, leaves)


@only_direct
@each_program
def test_a_direct_gate_is_refused_behind_ebpf(pipes: Pipes, backend: str, at: str) -> None:
    with ebpf(pipes.function, at) as program:
        gate_is_refused(pipes, "EBUSY", pipes.function, "held by eBPF")
        counts_are_exact_ungated(pipes, program)
        with guest.backend("auto"), pipes.gates("ftrace"):
            counts_are_exact(pipes, program)
        counts_are_exact_ungated(pipes, program)
    with pipes.gates(backend):
        counts_are_exact(pipes, Nobody())


@only_direct
@each_program
def test_ebpf_is_refused_behind_a_direct_gate(pipes: Pipes, backend: str, at: str) -> None:
    with Program(pipes.function, at) as program:
        with pipes.gates(backend):
            before = guest.enabled_functions()
            assert guest.answer(program.attach) == "EBUSY"
            assert guest.enabled_functions() == before
            counts_are_exact(pipes, Nobody())
            assert program.hits() == 0
        program.attach()
        counts_are_exact_ungated(pipes, program)


# ------------------------------------------------------------------------------------ livepatch


def test_a_gate_is_refused_behind_a_livepatch(values: Values, backend: str) -> None:
    with livepatch():
        assert Target().result("value 3") == values.PATCHED
        gate_is_refused(values, "EBUSY", values.function, "livepatch")
        assert Target().result("value 3") == values.PATCHED
    with values.gates(backend):
        counts_are_exact(values, Nobody())


def test_a_livepatch_is_refused_behind_a_gate(values: Values, backend: str) -> None:
    with values.gates(backend):
        before = guest.enabled_functions()
        assert guest.answer(lambda: guest.insert(guest.LIVEPATCH)) == "EBUSY"
        assert guest.LIVEPATCH not in guest.loaded()
        assert not Path("/sys/kernel/livepatch", guest.LIVEPATCH).exists()
        assert guest.enabled_functions() == before
        counts_are_exact(values, Nobody())
    with livepatch():
        assert Target().result("value 3") == values.PATCHED
    counts_are_exact_ungated(values, Nobody())


# ------------------------------------------------------------------------ kernel.ftrace_enabled


@pytest.mark.usefixtures("enabled_again")
def test_no_gate_while_ftrace_is_off_and_one_again_afterwards(values: Values, backend: str) -> None:
    SYSCTL.write_text("0")
    gate_is_refused(values, "EAGAIN", values.function, "ftrace_enabled")
    counts_are_exact_ungated(values, Nobody())
    SYSCTL.write_text("1")
    assert values.is_untouched_by_us()
    with values.gates(backend):
        counts_are_exact(values, Nobody())


@pytest.mark.usefixtures("enabled_again")
def test_ftrace_cannot_be_switched_off_under_a_gate(values: Values, backend: str) -> None:
    with values.gates(backend):
        before = guest.enabled_functions()
        assert guest.answer(lambda: SYSCTL.write_text("0")) == "EBUSY"
        assert SYSCTL.read_text().strip() == "1"
        assert guest.enabled_functions() == before
        counts_are_exact(values, Nobody())
    SYSCTL.write_text("0")
    assert SYSCTL.read_text().strip() == "0"


# ------------------------------------------------------------- other modes, beside a neighbour


def shares_are_exact(place: Place, neighbour: Neighbour) -> None:
    """Prove that every Nth call on a CPU gets the edition, and the neighbour sees all."""
    place.subsystem.switch("b", "mode=scoped", f"scope=share:1/{place.SHARE}")
    hits, before = neighbour.hits(), place.counted()
    made = place.many_calls()
    after = place.counted()
    assert neighbour.hits() - hits == made
    assert sum(after.values()) - sum(before.values()) == made
    most = (place.SHARE - 1) * (os.cpu_count() or 1)
    assert abs(place.SHARE * (after["b"] - before["b"]) - made) <= most
    place.subsystem.switch("original", "mode=concurrent")


def exact_in_mode(place: Place, comes: Comes, backend: str, first: str, mode: str) -> None:
    with ExitStack() as stack:
        if first == "gate":
            stack.enter_context(place.gates(backend))
        neighbour = stack.enter_context(comes(place.function))
        if first == "neighbour":
            stack.enter_context(place.gates(backend))
        if mode == "scoped":
            shares_are_exact(place, neighbour)
        elif mode == "exclusive":
            counts_are_exact(place, neighbour, "mode=exclusive", "timeout_ms=60000")
        else:
            counts_are_exact(place, neighbour, f"mode={mode}")


each_other_mode = pytest.mark.parametrize("mode", ["exclusive", "per-object", "scoped"])
each_first = pytest.mark.parametrize("first", ["gate", "neighbour"])


@shared_out
@each_first
@each_other_mode
@pytest.mark.parametrize("comes", [kprobe, kretprobe, function_tracer])
def test_the_other_modes_beside_a_probe_or_the_tracer(
    values: Values, backend: str, comes: Comes, first: str, mode: str
) -> None:
    exact_in_mode(values, comes, backend, first, mode)


@shared_out
@only_ftrace
@each_first
@each_other_mode
@each_program
def test_the_other_modes_beside_ebpf(
    pipes: Pipes, backend: str, at: str, first: str, mode: str
) -> None:
    exact_in_mode(pipes, partial(ebpf, at=at), backend, first, mode)
