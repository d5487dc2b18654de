# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line: `python -m bench.editions [--subsystem NAME] [KERNEL ...]`.

Boots each kernel for each trial, runs the loads in `original` and in each edition, mixed, prints a
table, and fails when an edition gains less, or costs more, than it is said to. Then has the shipped
policy choose, and fails when it ends up with another edition than the load is known to want.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench import COUNTING
from bench.editions.model import Figures, Machine, broken, table
from bench.editions.trials import ADAPTIONS, TRIALS
from tests.vm import programs
from tests.vm.common import CACHE, HarnessError, say
from tests.vm.vm import Settings, Vm, exit_on_signals

SETTLED = 0.9
_OUT = CACHE / "vm-out"


def settings(kernel: str, machine: Machine) -> Settings:
    """Give the guest that a machine is."""
    options = COUNTING if machine.counts else ()
    return Settings(
        kernel=kernel,
        memory=machine.memory,
        cpus=machine.cpus,
        disk=machine.disk,
        tcg=machine.tcg,
        qemu_options=options,
    )


@contextmanager
def on_real_cpus(count: int) -> Iterator[None]:
    """Have what is started in the block use so many of this machine's CPUs, or all for 0."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[: count or None])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def boot(kernel: str, machine: Machine, command: str) -> int:
    """Boot a kernel in a machine, and give its command's exit status."""
    guest = Vm(settings(kernel, machine))
    with on_real_cpus(machine.real_cpus):
        return guest.run(command)


def measure(kernel: str, number: int) -> Figures:
    """Boot a kernel and give a trial's figures.

    Raises:
        HarnessError: the guest did not run, or a load failed in it.
    """
    trial = TRIALS[number]
    result = _OUT / f"editions-{kernel}-{number}.json"
    result.unlink(missing_ok=True)
    say(f"measuring {trial.subsystem} on {kernel}: {trial.machine.about}")
    command = f'python -m bench.editions.guest {number} > "$DYNAMOS_OUT/{result.name}"'
    if status := boot(kernel, trial.machine, command):
        raise HarnessError(f"the measurement on {kernel} failed with status {status}")
    figures: Figures = json.loads(result.read_text())
    return figures


def adapt(kernel: str, name: str) -> list[Mapping[str, Any]]:
    """Boot a kernel and have the shipped policy of a subsystem choose; give each phase's summary.

    Raises:
        HarnessError: the guest did not run, or a load failed in it.
    """
    adaption = ADAPTIONS[name]
    result, recordings = _OUT / f"adapting-{kernel}-{name}.json", f"recordings-{kernel}-{name}"
    result.unlink(missing_ok=True)
    shutil.rmtree(_OUT / recordings, ignore_errors=True)
    names = " then ".join(load.name for load in adaption.phases)
    say(f"policy {adaption.policy} on {kernel}: {names}")
    command = (
        f'python -m bench.editions.adapting {name} "$DYNAMOS_OUT/{recordings}"'
        f' > "$DYNAMOS_OUT/{result.name}"'
    )
    if status := boot(kernel, adaption.machine, command):
        raise HarnessError(f"the policy's run on {kernel} failed with status {status}")
    found: list[Mapping[str, Any]] = json.loads(result.read_text())
    return found


def misled(name: str, phases: list[Mapping[str, Any]]) -> list[str]:
    """Name the loads that did not end with the edition that they want."""
    adaption = ADAPTIONS[name]
    return [
        f"policy {adaption.policy}, {phase['load']}: {adaption.wanted[phase['load']]} only for"
        f" {share:.0%} of the last third"
        for phase in phases
        if (share := phase["last_third"].get(adaption.wanted[phase["load"]], 0.0)) < SETTLED
    ]


def policy_table(name: str, phases: list[Mapping[str, Any]]) -> str:
    """Lay out what a policy has done."""
    function = ADAPTIONS[name].function
    lines = [f"{name}: the shipped policy decides", f"LOAD     {function}/s BY EDITION; IN THE END"]
    for phase in phases:
        rates = ", ".join(f"{each} {rate:,.0f}" for each, rate in phase["rate"].items())
        last = ", ".join(f"{each} {share:.0%}" for each, share in phase["last_third"].items())
        lines.append(f"{phase['load']:<8} {rates}; {last}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure on each kernel; 1 when a limit is not kept."""
    known = sorted({trial.subsystem for trial in TRIALS})
    parser = argparse.ArgumentParser(prog="bench.editions", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["6.1", "6.12"], metavar="KERNEL")
    parser.add_argument("--subsystem", choices=known, help="measure this one only")
    args = parser.parse_args(argv)
    exit_on_signals()
    programs.build()
    complaints = []
    try:
        for kernel in args.kernels:
            for number, trial in enumerate(TRIALS):
                if args.subsystem in {None, trial.subsystem}:
                    figures = measure(kernel, number)
                    print(f"\n{kernel} {table(trial, figures)}", flush=True)
                    complaints += [f"{kernel}: {each}" for each in broken(trial, figures)]
            for name in ADAPTIONS:
                if args.subsystem in {None, name}:
                    phases = adapt(kernel, name)
                    print(f"\n{kernel} {policy_table(name, phases)}", flush=True)
                    complaints += [f"{kernel}: {each}" for each in misled(name, phases)]
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    for complaint in complaints:
        say(f"error: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
