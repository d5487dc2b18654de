# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand switches under I/O that is verified, with every call accounted for."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
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

pytestmark = [
    pytest.mark.usefixtures("modules"),
    # BCC wants the names of maps as bytes, and takes them as text with a warning.
    pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning"),
]

SWITCHES = 1000
BURST = 10
BY_PROGRAM = 3
ROUNDS = 2
ENGINES = ("psync", "mmap")


@pytest.fixture(scope="module")
def probe() -> Iterator[GateProbe]:
    """The eBPF probes, which take half a minute to compile here: for one module of tests only.

    They hold the module, so that it cannot be removed while they are there.
    """
    guest.load_all()
    probe = GateProbe()
    yield probe
    probe.close()


class VerifiedIo(threading.Thread):
    """Has fio write and verify, through read() and through mappings, until it is told to stop.

    A page that is in the page cache is not read again: each verifying pass begins without any of
    the files there, and is a process of its own, because pages that are mapped stay.
    """

    def __init__(self, folder: Path) -> None:
        """Use files in ``folder``."""
        super().__init__(daemon=True)
        self.rounds = 0
        self.verified = Counter[str]()
        self.failures: list[str] = []
        self.enough = threading.Event()
        self._folder = folder

    def run(self) -> None:
        """Write anew, read in sequence and at random, and again."""
        while not self.failures and (self.rounds < ROUNDS or not self.enough.is_set()):
            self._fio("write" if self.rounds == 0 else "randwrite")
            for pattern in ("read", "randread"):
                for engine in ENGINES:
                    guest.evict(self._folder / engine)
                self._fio(pattern)
            self.rounds += 1

    def _fio(self, pattern: str) -> None:
        argv = ["fio", "--output-format=json", f"--directory={self._folder}", f"--rw={pattern}"]
        argv += ["--size=12m", "--bs=16k", "--verify=crc32c", "--verify_fatal=1"]
        argv += ["--verify_state_save=0", "--do_verify=0", "--thread"]
        # Or fio would tell the kernel that it reads at random, and nothing would be read ahead.
        argv += ["--fadvise_hint=0"]
        if "write" in pattern:
            argv += ["--end_fsync=1"]
        for engine in ENGINES:
            argv += [f"--name={engine}", f"--ioengine={engine}", f"--filename={engine}"]
        done = guest.run(*argv)
        text = done.stdout[done.stdout.find("{") :]
        if done.returncode or not text:
            self.failures.append(f"{pattern}: status {done.returncode}: {done.stderr[-2000:]}")
            return
        for job in json.loads(text)["jobs"]:
            if job["error"]:
                self.failures.append(f"{pattern}, {job['jobname']}: error {job['error']}")
            self.verified[job["jobname"]] += job["read"]["io_bytes"]


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
    control.settle(lambda: read_probe(probe))
    seen_before, counted_before = read_probe(probe), control.calls()
    switches_before = control.switches()

    io = VerifiedIo(disk)
    with control.Follower() as events:
        io.start()
        try:
            switched = rotate(events, io)
        finally:
            io.enough.set()
            io.join()
        switched += events.only("switched")
        assert events.lost == 0

    assert not io.failures
    assert io.rounds >= ROUNDS
    assert min(io.verified[engine] for engine in ENGINES) >= ROUNDS * 2 * 12 * 1024 * 1024

    assert control.switches() - switches_before == SWITCHES
    order = [EDITIONS[turn % len(EDITIONS)] for turn in range(SWITCHES + 1)]
    moves = [(event.fields["from"], event.fields["to"]) for event in switched]
    assert moves == list(pairwise(order))

    control.settle(lambda: read_probe(probe))
    counted, seen = control.since(counted_before), read_probe(probe)
    for key, calls in counted.items():
        before = seen_before[key]
        assert seen[key].calls - before.calls == calls, key
        assert seen[key].returns - before.returns == calls, key
    assert control.in_flight() == 0
    assert probe.dropped() == 0
    assert probe.cost().missed == 0
    for edition in EDITIONS:
        assert counted["page_cache_ra_order", edition] > 0
