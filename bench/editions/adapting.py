# SPDX-License-Identifier: GPL-2.0-or-later
"""A shipped policy at work in the guest: `python -m bench.editions.adapting pipe OUT`.

The daemon enforces it while one load after the other runs, each for long enough that its trials are
over, with a pause between them. What was active when, and how fast the load went in each edition,
is printed as JSON; what the daemon recorded is in the folder OUT.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.editions.guest import SYSFS, prepared
from bench.editions.model import Load
from bench.editions.trials import ADAPTIONS, Adaption
from tests.demo import machine
from tests.vm.programs import BUILT

POLICIES = Path(__file__).resolve().parents[2] / "policies"
INTERVAL = 1.0


@dataclass(slots=True)
class Phase:
    """A load, what was active, and calls a second meanwhile; one reading a second."""

    load: str
    active: list[str] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Give the median rate in each edition, and what the last third of the phase had."""
        last = self.active[-max(1, len(self.active) // 3) :]
        return {
            "load": self.load,
            "rate": {
                each: statistics.median(
                    rate
                    for rate, active in zip(self.rates, self.active, strict=True)
                    if active == each
                )
                for each in sorted(set(self.active))
            },
            "last_third": {each: last.count(each) / len(last) for each in sorted(set(last))},
        }


def readings(adaption: Adaption) -> Iterator[tuple[str, float]]:
    """Yield, once a second, what is active and how many calls a second there were."""
    folder = SYSFS / adaption.subsystem
    before, then = _calls(adaption), time.monotonic()
    while True:
        time.sleep(INTERVAL)
        calls, now = _calls(adaption), time.monotonic()
        yield (folder / "active").read_text().strip(), (calls - before) / (now - then)
        before, then = calls, now


def _calls(adaption: Adaption) -> int:
    files = (SYSFS / adaption.subsystem / "functions" / adaption.function).glob("*/calls")
    return sum(int(path.read_text()) for path in files)


def run_phase(adaption: Adaption, made: Load, names: Mapping[str, str]) -> Phase:
    """Run a load again and again until the phase is over."""
    phase = Phase(made.name)
    shell = 'while :; do "$@" >/dev/null || exit; done'
    command = [
        "taskset",
        "-c",
        adaption.cpus,
        "sh",
        "-c",
        shell,
        "sh",
        str(BUILT / adaption.program),
        *made.words(names),
    ]
    with subprocess.Popen(command, start_new_session=True) as load:
        try:
            end = time.monotonic() + adaption.seconds
            for active, rate in readings(adaption):
                if load.poll() is not None:
                    raise RuntimeError(f"{made.name} has ended with status {load.returncode}")
                phase.active.append(active)
                phase.rates.append(rate)
                if time.monotonic() > end:
                    return phase
        finally:
            subprocess.run(["pkill", "-KILL", "-s", str(load.pid)], check=False)
    raise AssertionError("readings never end")


def idle(adaption: Adaption) -> None:
    """Wait until the policy has gone back: the load is over."""
    end = time.monotonic() + machine.STOP_DEADLINE
    while (SYSFS / adaption.subsystem / "active").read_text().strip() != "original":
        if time.monotonic() > end:
            raise RuntimeError("the policy does not go back without a load")
        time.sleep(INTERVAL)


def main() -> int:
    """Run all phases of an adaption, and print their summaries."""
    adaption, out = ADAPTIONS[sys.argv[1]], Path(sys.argv[2])
    with (
        prepared(adaption.modules, adaption.place, adaption.settings) as names,
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
    ):
        config, journal = Path(folder, "config"), Path(folder, "journal.jsonl")
        config.mkdir()
        shutil.copy(POLICIES / f"{adaption.policy}.yaml", config)
        with machine.daemon(config, journal, lambda line: print(line, file=sys.stderr)):
            phases = []
            for load in adaption.phases:
                phases.append(run_phase(adaption, load, names))
                idle(adaption)
        shutil.copytree(Path(folder, "recordings"), out, dirs_exist_ok=True)
    json.dump([phase.summary() for phase in phases], sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
