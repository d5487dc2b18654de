# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand switches under I/O that is verified, with every call accounted for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from dynamosd.kmod import Event, Kmod
from dynamosd.model import FunctionSample
from dynamosd.probes.bpf import GateProbe
from tests.kernel import control, guest
from tests.kernel.guest import EDITIONS
from tests.kernel.traffic import ENGINES, ROUNDS, VerifiedIo, verified_io

pytestmark = [
    pytest.mark.usefixtures("modules"),
    # BCC wants the names of maps as bytes, and takes them as text with a warning.
    pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning"),
]

SWITCHES = 1000
BURST = 10
BY_PROGRAM = 3


@pytest.fixture(scope="module")
def probe() -> Iterator[GateProbe]:
    """The eBPF probes, which take long to compile here: for one module of tests only.

    They hold the module, so that it cannot be removed while they are there.
    """
    guest.load_all()
    probe = GateProbe()
    yield probe
    probe.close()


def read_probe(probe: GateProbe) -> dict[tuple[str, str], FunctionSample]:
    """What eBPF has seen, by function and edition."""
    samples = probe.read(Kmod().read())
    return {(function, edition): sample for (_, function, edition), sample in samples.items()}


def disk_is_read(before: int, io: VerifiedIo) -> bool:
    """Whether there were calls since; true as well when there will never be any."""
    return sum(control.calls().values()) > before or not io.is_alive()


def rotate(events: control.Follower, io: VerifiedIo) -> list[Event]:
    """Switch a thousand times round and round; after a few, wait until the disk is read again."""
    switched: list[Event] = []
    program = shutil.which("dynamosctl")
    for turn in range(1, SWITCHES + 1):
        to = EDITIONS[turn % len(EDITIONS)]
        if program and turn % (SWITCHES // BY_PROGRAM) == 0:
            done = guest.run(program, "switch", "readahead", to)
            assert done.returncode == 0, done.stderr
        else:
            control.switch(to)
        switched += events.only("switched")
        if turn % BURST == 0:
            before = sum(control.calls().values())
            guest.wait_until(partial(disk_is_read, before, io), "the disk is read")
    return switched


def test_thousand_switches_under_verified_io(probe: GateProbe, disk: Path) -> None:
    seen_before, counted_before = control.settle(lambda: read_probe(probe))
    switches_before = control.switches()

    with control.Follower() as events:
        with verified_io(disk) as io:
            switched = rotate(events, io)
        switched += events.only("switched")
        assert events.lost == 0

    assert min(io.verified[engine] for engine in ENGINES) >= ROUNDS * 2 * 12 * 1024 * 1024

    assert control.switches() - switches_before == SWITCHES
    order = [EDITIONS[turn % len(EDITIONS)] for turn in range(SWITCHES + 1)]
    moves = [(event.fields["from"], event.fields["to"]) for event in switched]
    assert moves == list(pairwise(order))

    seen, counted_after = control.settle(lambda: read_probe(probe))
    counted = {key: calls - counted_before[key] for key, calls in counted_after.items()}
    for key, calls in counted.items():
        before = seen_before[key]
        assert seen[key].calls - before.calls == calls, key
        assert seen[key].returns - before.returns == calls, key
    assert probe.dropped() == 0
    assert probe.cost().missed == 0
    for edition in EDITIONS:
        assert counted["page_cache_ra_order", edition] > 0
