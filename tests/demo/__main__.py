# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo [KERNEL=6.1|6.12] [HOST=1] [POLICY=…]`: prepare the machine, run the scenario on it.

By default the machine is a VM with 800 MB of memory and a 900 MB file, so that the file does not
fit the page cache, on a disk that is slowed down to a tenth of a common cloud volume (125 MB/s,
3000 operations a second): the emulated CPU is about as much slower than a real one. With HOST=1 it
is this machine, if that can do it. With POLICY=readahead-objective the policy is one that finds out
by itself which edition is best.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynamosd import doctor
from tests.vm import modules
from tests.vm.common import CACHE, EXIT_UNSUPPORTED, PROJECT, HarnessError, say
from tests.vm.disk import Disk
from tests.vm.vm import DISK_MOUNT, Settings, Vm, exit_on_signals

MEGABYTE = 1 << 20
DATA_MEGABYTES = 900
MEMORY = "800M"
DISK = {"size": 1200 * MEGABYTE, "bytes_per_second": 12_500_000, "operations_per_second": 300}
OUT = PROJECT / "demo-out"
NAME = "data"
SCENARIOS = {"readahead": "tests.demo.scenario", "readahead-objective": "tests.demo.learning"}
"""What shows a policy at work, by the policy's name."""


def make_data(path: Path, megabytes: int) -> None:
    """Write a file without holes; what is in it does not matter."""
    block = os.urandom(MEGABYTE)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


@contextmanager
def data_folder() -> Iterator[Path]:
    """Hold the data while the disk is being made of it."""
    (CACHE / "vm").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "vm", prefix="data-") as name:
        say(f"writing {DATA_MEGABYTES} MB of data for the guest's disk")
        make_data(Path(name) / NAME, DATA_MEGABYTES)
        yield Path(name)


def scenario(python: str, data: str, *more: str) -> list[str]:
    """Build the command that runs on the machine."""
    policy = os.environ.get("POLICY") or "readahead"
    if policy not in SCENARIOS:
        raise HarnessError(f"POLICY is {policy}; there are {', '.join(SCENARIOS)}")
    return [python, "-m", SCENARIOS[policy], "--data", data, "--out", str(OUT), *more]


def in_vm(kernel: str) -> int:
    """Run the scenario in a virtual machine."""
    with data_folder() as folder:
        vm = Vm(Settings(kernel=kernel, memory=MEMORY, disk=Disk(**DISK, contents=folder)))
        say(f"booting {kernel} (software emulation takes 20 s and more)")
        return vm.run(shlex.join(scenario("python", f"{DISK_MOUNT}/{NAME}")))


def check_host() -> None:
    """Refuse with what `dynamosctl doctor` would say; only the modules need not be there yet."""
    bad = [
        f"{finding.name}: {finding.seen}; {finding.remedy}"
        for finding in doctor.examine(doctor.Machine())
        if finding.verdict in {doctor.Verdict.FAIL, doctor.Verdict.CANNOT}
        and finding.name != "module"
    ]
    if os.geteuid():
        bad.insert(0, "root: no")
    if Path("/sys/module/dynamos").exists():
        bad.append("module: loaded already, and perhaps in use; unload it first")
    if bad:
        raise HarnessError(
            "this machine's own kernel cannot be used (leave out HOST=1 for a virtual machine):\n  "
            + "\n  ".join(bad),
            EXIT_UNSUPPORTED,
        )


def on_host() -> int:
    """Run the scenario on this machine, whose own kernel then switches itself."""
    check_host()
    built = modules.build_for_this_machine()
    place = os.environ.get("DYNAMOS_DISK") or "/var/tmp"  # noqa: S108 (on disk, not tmpfs)
    with tempfile.TemporaryDirectory(dir=place, prefix="dynamos-demo-") as name:
        data = Path(name) / NAME
        say(f"writing {DATA_MEGABYTES} MB to {data}")
        make_data(data, DATA_MEGABYTES)
        command = scenario(sys.executable, str(data), "--modules", str(built))
        return subprocess.call(command, cwd=PROJECT)


def main() -> int:
    """Entry point; the exit status is 0 only if the kernel switched both ways and it paid."""
    exit_on_signals()
    began = time.monotonic()
    try:
        status = (
            on_host() if os.environ.get("HOST") == "1" else in_vm(os.environ.get("KERNEL") or "6.1")
        )
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    say(f"the demo took {time.monotonic() - began:.0f} s and ended with status {status}")
    return status


if __name__ == "__main__":
    sys.exit(main())
