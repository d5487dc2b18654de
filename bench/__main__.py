# SPDX-License-Identifier: GPL-2.0-or-later
"""Command line of the benchmark: `python -m bench [KERNEL ...]`.

Boots each kernel on a machine that counts instructions, measures what a gated call costs there
(`bench.guest`), prints one table, and fails when a figure is above its limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from bench import COUNTING
from bench.guest import GATE
from tests.vm.common import CACHE, HarnessError, say
from tests.vm.vm import Settings, Vm, exit_on_signals

LIMITS: Mapping[str, int] = {
    GATE: 24,
    f"{GATE}, scope by CPU": 40,
    f"{GATE}, scope by task, inside": 40,
    f"{GATE}, scope by task, outside": 40,
}
"""Instructions per call above a plain one."""


def measure(kernel: str) -> Mapping[str, float]:
    """Boot a kernel and give its figures.

    Raises:
        HarnessError: the guest did not run, or the measurement failed in it.
    """
    result = CACHE / "vm-out" / f"bench-{kernel}.json"
    result.unlink(missing_ok=True)
    say(f"counting instructions on {kernel}")
    settings = Settings(kernel=kernel, cpus=1, qemu_options=COUNTING)
    status = Vm(settings).run(f'python -m bench.guest > "$DYNAMOS_OUT/{result.name}"')
    if status:
        raise HarnessError(f"the measurement on {kernel} failed with status {status}")
    figures: Mapping[str, float] = json.loads(result.read_text())
    return figures


def table(kernels: list[str], figures: Mapping[str, Mapping[str, float]]) -> str:
    """Lay the figures out, one column a kernel."""
    names = list(figures[kernels[0]])
    width = max(map(len, names))
    head = "".join(f"{kernel:>8}" for kernel in kernels)
    lines = [f"{'INSTRUCTIONS PER CALL ABOVE A PLAIN ONE':<{width}}{head}   LIMIT"]
    for name in names:
        row = "".join(f"{figures[kernel][name]:>8.1f}" for kernel in kernels)
        lines.append(f"{name:<{width}}{row}{LIMITS.get(name, ''):>8}".rstrip())
    return "\n".join(lines)


def too_dear(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Name what costs more than it may."""
    return [
        f"{kernel}: {name}: {measured[name]:.1f} instructions, may be {limit}"
        for kernel, measured in figures.items()
        for name, limit in LIMITS.items()
        if measured[name] > limit
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure on each kernel; 1 when a limit is not kept."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("kernels", nargs="*", default=["6.1", "6.12"], metavar="KERNEL")
    args = parser.parse_args(argv)
    exit_on_signals()
    try:
        figures = {kernel: measure(kernel) for kernel in args.kernels}
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    print(table(args.kernels, figures))
    for complaint in (complaints := too_dear(figures)):
        say(f"error: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
