# SPDX-License-Identifier: GPL-2.0-or-later
"""The measurements themselves; run in the guest, as root, with the number of a trial."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.editions.calls import timed
from bench.editions.model import IN_CALLS, ORIGINAL, Place, Trial
from bench.editions.trials import TRIALS
from tests.vm.programs import BUILT

PATIENCE = 600.0
MIB = 1 << 20
DEVICE = Path("/dev/dynamos")
SYSFS = Path("/sys/kernel/dynamos")


@contextmanager
def prepared(
    modules: Sequence[str], place: Place, settings: Mapping[str, str]
) -> Iterator[Mapping[str, str]]:
    """Load modules, make a place, and set what is to be set; give what arguments call things."""
    for module in modules:
        subprocess.run(["modprobe", module], check=True, timeout=PATIENCE)
    with place() as names:
        for path, value in settings.items():
            Path(path).write_text(value)
        yield names


def settle(subsystem: str) -> None:
    """Wait until the editions that were left have drained, but for who sleeps in one for ever."""
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        states = [path.read_text() for path in (SYSFS / subsystem / "editions").glob("*/state")]
        if "draining\n" not in states:
            return
        time.sleep(0.05)


def run(trial: Trial, arguments: Sequence[str]) -> dict[str, float]:
    """Run a load to its end, and give what it has counted."""
    done = subprocess.run(
        [str(BUILT / trial.program), *arguments], check=True, capture_output=True, timeout=PATIENCE
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def figures_of(trial: Trial, arguments: Sequence[str]) -> dict[str, float]:
    """Run a load, and give its figures for each MiB; run it again to time calls, if that is one."""
    found = run(trial, arguments)
    if trial.timed:
        with timed(trial.subsystem, trial.timed) as spent:
            again = run(trial, arguments)
        found[IN_CALLS] = sum(spent) * found["bytes"] / again["bytes"]
    return {name: found[name] * MIB / found["bytes"] for name in trial.figures}


def measure(trial: Trial, names: Mapping[str, str]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Measure every edition under every load, so that the repetitions of all are mixed."""
    figures: dict[str, dict[str, dict[str, list[float]]]] = {
        load.name: {way: {name: [] for name in trial.figures} for way in trial.ways}
        for load in trial.loads
    }
    for _ in range(trial.repetitions):
        for way, switch in trial.ways.items():
            # A scope is no way on from all calls.
            DEVICE.write_text(f"switch {trial.subsystem} {ORIGINAL}")
            DEVICE.write_text(f"switch {trial.subsystem} {switch}")
            settle(trial.subsystem)
            for load in trial.loads:
                for name, value in figures_of(trial, load.words(names)).items():
                    figures[load.name][way][name].append(value)
    DEVICE.write_text(f"switch {trial.subsystem} {ORIGINAL}")
    return figures


def main() -> int:
    """Measure one trial, and print it as JSON."""
    trial = TRIALS[int(sys.argv[1])]
    with prepared(trial.modules, trial.place, trial.settings) as names:
        json.dump(measure(trial, names), sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
