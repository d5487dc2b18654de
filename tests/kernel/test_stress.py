# SPDX-License-Identifier: GPL-2.0-or-later
"""Random switches in every mode under load: no warning, no lost byte, and exact counters.

`DYNAMOS_STRESS` says how many switches; `make stress` makes 2,000 on each kernel.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.neighbours import Kprobe, kprobe

SWITCHES = int(os.environ.get("DYNAMOS_STRESS", "40"))
PIPE, PIPE_B = "dynamos_selftest_pipe", "dynamos_selftest_pipe_b"
FUNCTION = "pipe_write"

MODES = (
    "mode=concurrent",
    "mode=exclusive timeout_ms=20",
    "mode=exclusive timeout_ms=2000",
    "mode=per-object",
    "mode=per-object objects=keep",
    "mode=scoped scope=cpus:0",
    "mode=scoped scope=share:1/3",
    "mode=scoped scope=cgroup:/",
    f"mode=scoped scope=task:{os.getpid()}",
)
ANSWERS = {"", "ETIMEDOUT", "ENOTSUP", "EINVAL"}
"""Somebody was inside for too long; a mode that this subsystem has not; the active one, scoped."""

# Everything that goes through the pipe is summed, and every sum is the same.
STREAM = "while :; do seq 20000 | md5sum; done"
FILE = "while :; do echo 1 > /proc/sys/vm/drop_caches; md5sum < {}; done"


@pytest.fixture
def subsystems() -> Iterator[dict[str, tuple[str, ...]]]:
    """Give the editions of two subsystems of the kernel, by subsystem."""
    guest.load_all()
    for name in (PIPE, PIPE_B):
        guest.insert(name)
    yield {"pipe": ("original", "b"), "readahead": guest.EDITIONS}
    control.Controlled("pipe").switch_and_drain("original", "mode=concurrent")
    for name in (PIPE_B, PIPE):
        guest.remove_when_free(name)


@contextmanager
def worker(script: str, output: Path) -> Iterator[None]:
    """Have a shell run a script, which is killed, with all its children, at the end."""
    with output.open("w") as out:
        shell = subprocess.Popen(["setsid", "--wait", "sh", "-c", script], stdout=out, stderr=out)
    try:
        yield
        assert shell.poll() is None, output.read_text()
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(session_of(shell.pid))])
        shell.kill()
        shell.wait(guest.PATIENCE)


def session_of(pid: int) -> int:
    """Give the session that setsid has made: that of its child, or of itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


@contextmanager
def stress_ng(folder: Path) -> Iterator[None]:
    """Have stress-ng use pipes, mappings, the disk and the scheduler."""
    stressors = {
        "pipe": 1,
        "mmap": 1,
        "mmap-bytes": "16M",
        "hdd": 1,
        "hdd-bytes": "8M",
        "switch": 1,
    }
    options = [word for name, value in stressors.items() for word in (f"--{name}", str(value))]
    argv = ["stress-ng", *options, "--temp-path", str(folder)]
    load = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        assert load.poll() is None, "stress-ng has given up"
    finally:
        load.terminate()
        load.wait(guest.PATIENCE)


def lines(output: Path) -> int:
    return output.read_text().count("\n")


def check_sums(output: Path) -> None:
    sums = output.read_text().split("\n")[:-1]
    assert len(sums) > 1
    assert len(set(sums)) == 1, f"{output.name}: lost bytes"


def surplus(probe: Kprobe) -> int:
    """Give by how much the counters are ahead of a kprobe on the same function."""
    counters = (control.SYSFS / "pipe/functions" / FUNCTION).glob("*/calls")
    return sum(int(path.read_text()) for path in counters) - probe.hits()


def steady_surplus(probe: Kprobe) -> int:
    """Give it from a moment in which nobody made a call."""
    readings = [0, 1]

    def is_steady() -> bool:
        readings.append(surplus(probe))
        return readings[-1] == readings[-2]

    guest.wait_until(is_steady, "a moment without calls")
    return readings[-1]


@pytest.mark.timeout(max(1200, 5 * SWITCHES))
def test_random_switches_in_all_modes_under_load(
    subsystems: dict[str, tuple[str, ...]], disk: Path, data: Path, tmp_path: Path
) -> None:
    dice = random.Random(4)  # noqa: S311 (the same switches in every run)
    switched: Counter[str] = Counter()
    stream, file = tmp_path / "stream", tmp_path / "file"
    with kprobe(FUNCTION) as probe:
        before = steady_surplus(probe)
        with stress_ng(disk), worker(STREAM, stream), worker(FILE.format(data), file):
            for _ in range(SWITCHES):
                subsystem = dice.choice(list(subsystems))
                edition, mode = dice.choice(subsystems[subsystem]), dice.choice(MODES)
                line = f"switch {subsystem} {edition} {mode}"
                said = guest.answer(partial(control.command, line))
                assert said in ANSWERS, line
                switched[mode.split()[0]] += not said
            guest.wait_until(lambda: min(lines(stream), lines(file)) > 2, "some sums of each")
        check_sums(stream)
        check_sums(file)
        assert len(+switched) == len({mode.split()[0] for mode in MODES}), "each mode was used"
        assert switched.total() > SWITCHES // 4
        guest.wait_until(lambda: surplus(probe) == before, "the counters are exact")
