# SPDX-License-Identifier: GPL-2.0-or-later
"""The measurements themselves; run in the guest, as root, on one CPU that counts instructions.

Under QEMU's ``-icount shift=0`` one executed instruction is one nanosecond of the guest's clock.
``/dev/dynamos_target`` times many calls of one small function (kmod/selftest/) and gives the
fastest of some rounds, which no interrupt came into: what a call costs is exact, on any machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CALLS = 20_000
DEVICE = Path("/dev/dynamos")
TARGET = Path("/dev/dynamos_target")
SYSFS = Path("/sys/kernel/dynamos/selftest")
LIVEPATCH = Path("/sys/kernel/livepatch/dynamos_livepatch")
BACKEND = Path("/sys/module/dynamos/parameters/backend")
PATIENCE = 600.0
GATE = "gate, exact counters"


def modprobe(*arguments: str) -> None:
    """Load or unload modules."""
    subprocess.run(["modprobe", *arguments], check=True, timeout=PATIENCE)


def wait_until(condition: str, path: Path) -> None:
    """Wait until a file has a text."""
    end = time.monotonic() + PATIENCE
    while path.read_text().strip() != condition:
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not become {condition}")
        time.sleep(0.05)


def spin() -> float:
    """Give the nanoseconds of one call, the loop around it included."""
    with TARGET.open("r+b", buffering=0) as device:
        device.write(f"spin {CALLS}".encode())
        return int(device.read(127).decode().strip().removeprefix("ns=")) / CALLS


def command(line: str) -> None:
    """Give the kernel module a command."""
    DEVICE.write_text(line)


def switch(edition: str, *options: str) -> None:
    """Switch the subsystem of the measured function."""
    command(" ".join(["switch selftest", edition, *options]))


def scopes() -> Iterator[tuple[str, str]]:
    """Give each built-in scope: a name, and what the command says. The caller is inside, or not."""
    yield "CPU", "cpus:0"
    yield "task, inside", f"task:{os.getpid()}"
    with subprocess.Popen(["sleep", "infinity"]) as other:
        yield "task, outside", f"task:{other.pid}"
        other.kill()
    yield "cgroup", "cgroup:/"
    yield "share, 1 in 100", "share:1/100"


@contextmanager
def editions(backend: str) -> Iterator[None]:
    """Have the subsystem gated by a back end."""
    modprobe("dynamos")
    BACKEND.write_text(backend)
    modprobe("dynamos_selftest_b")
    try:
        yield
    finally:
        switch("original")
        for module in ("dynamos_selftest_b", "dynamos_selftest"):
            remove(module)
        BACKEND.write_text("auto")


def remove(module: str) -> None:
    """Unload a module as soon as it is free."""
    end = time.monotonic() + PATIENCE
    while subprocess.run(["rmmod", module], stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() > end:
            raise TimeoutError(f"{module} stays in use")
        time.sleep(0.05)


def settle() -> None:
    """Wait until the editions that were left have drained: watching their exits costs a little."""
    for edition in (SYSFS / "editions").iterdir():
        end = time.monotonic() + PATIENCE
        while (edition / "state").read_text().strip() == "draining":
            if time.monotonic() > end:
                raise TimeoutError(f"{edition.name} does not drain")
            time.sleep(0.05)


def of_livepatch(plain: float) -> float:
    """Measure the kernel's own livepatch of the same function."""
    modprobe("dynamos_livepatch")
    wait_until("0", LIVEPATCH / "transition")
    cost = spin() - plain
    (LIVEPATCH / "enabled").write_text("0")
    while LIVEPATCH.exists():
        time.sleep(0.05)
    remove("dynamos_livepatch")
    return cost


def of_scopes(plain: float) -> Iterator[tuple[str, float]]:
    """Measure what each scope adds to the gate; `original` is active, and again afterwards."""
    base = spin()
    switch("b")
    settle()
    own = spin()
    switch("original")
    for name, scope in scopes():
        switch("b", "mode=scoped", f"scope={scope}")
        settle()
        # What the other edition's own code adds, where it runs, is not the scope's.
        rarely = "outside" in name or "1 in" in name
        yield f"{GATE}, scope by {name}", spin() - (base if rarely else own) + base - plain
        switch("original")
        settle()


def of_gates(plain: float) -> Iterator[tuple[str, float]]:
    """Measure each back end and each way to choose an edition."""
    with editions("direct"):
        yield GATE, spin() - plain
        yield from of_scopes(plain)
        switch("b", "mode=per-object")
        settle()
        yield f"{GATE}, dispatch slot", spin() - plain
    with editions("ftrace"):
        yield f"{GATE}, back end ftrace", spin() - plain


def main() -> int:
    """Measure all, and print it as JSON."""
    modprobe("dynamos_target")
    plain = spin()
    figures = dict(of_gates(plain))
    figures["livepatch of the same function"] = of_livepatch(plain)
    json.dump(figures, sys.stdout)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
