# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel shows of the whole host in /proc: pressure, CPU time, memory.

A figure that is not there is no error: the sample says why, and its signal then has no data.
"""

from __future__ import annotations

import errno
from pathlib import Path

from dynamosd.model import RESOURCES, CpuTimes, HostSample

PROC = Path("/proc")

NO_PSI = "the kernel does not measure pressure: boot it with psi=1"

_MICROSECONDS = 1e-6

_PARTS = 8
"""user nice system idle iowait irq softirq steal; the guests after them are in user and nice."""
_IDLE = slice(3, 5)


def read_host(now: float, proc: Path = PROC) -> HostSample:
    """Read everything at once; ``now`` is CLOCK_MONOTONIC. Never raises for what is not there."""
    stalled: dict[tuple[str, str], float] = {}
    lacks: dict[str, str] = {}
    for resource in RESOURCES:
        try:
            found = _pressure((proc / "pressure" / resource).read_text("ascii"))
        except (FileNotFoundError, NotADirectoryError):
            lacks[resource] = NO_PSI
        except (OSError, ValueError) as error:
            lacks[resource] = _why(error)
        else:
            stalled |= {(resource, kind): seconds for kind, seconds in found.items()}
    cpu: CpuTimes | None = None
    available: float | None = None
    try:
        cpu = _cpu_times((proc / "stat").read_text("ascii"))
    except (OSError, ValueError) as error:
        lacks["stat"] = _why(error)
    try:
        available = _available((proc / "meminfo").read_text("ascii"))
    except (OSError, ValueError) as error:
        lacks["meminfo"] = _why(error)
    return HostSample(now, stalled, cpu, available, lacks)


def _why(error: OSError | ValueError) -> str:
    """Say why a figure is missing. With psi=0, some kernels have the files and refuse to read."""
    if isinstance(error, OSError) and error.errno == errno.EOPNOTSUPP:
        return NO_PSI
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"


def _pressure(text: str) -> dict[str, float]:
    """Return the seconds of stall since boot, by kind.

    Raises:
        ValueError: a line is not such as ``some avg10=0.00 … total=12345``.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        totals = [field[6:] for field in fields if field.startswith("total=")]
        if len(totals) != 1:
            raise ValueError(f"a line without a total: {line[:40]}")
        found[kind] = int(totals[0]) * _MICROSECONDS
    return found


def _cpu_times(text: str) -> CpuTimes:
    """Return the times of all CPUs together.

    Raises:
        ValueError: the first line is not such as ``cpu  1 2 3 4 5 6 7 8 9 10``.
    """
    line = text.partition("\n")[0]
    name, *fields = line.split() or [""]
    if name != "cpu" or len(fields) < _PARTS:
        raise ValueError(f"no times of all CPUs: {line[:40]}")
    parts = [int(field) for field in fields[:_PARTS]]
    idle = sum(parts[_IDLE])
    return CpuTimes(busy=sum(parts) - idle, idle=idle)


def _available(text: str) -> float:
    """Return the share of the memory that new programs could have.

    Raises:
        ValueError: the two lines that it takes are not there.
    """
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if key in {"MemTotal", "MemAvailable"}:
            sizes[key] = int(rest.split()[0])
    if not sizes.get("MemTotal") or "MemAvailable" not in sizes:
        raise ValueError("no MemTotal and MemAvailable")
    return min(1.0, sizes["MemAvailable"] / sizes["MemTotal"])
