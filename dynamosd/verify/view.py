# SPDX-License-Identifier: GPL-2.0-or-later
"""What is compared, read at about one time, and what a comparison gives."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamosd import entries, status
from dynamosd.doctor import Machine
from dynamosd.entries import Entry
from dynamosd.kmod import ROOT_HINT
from dynamosd.model import KernelState, LeaseState

Status = Mapping[str, Any]


class Verdict(enum.StrEnum):
    """What a comparison comes to."""

    OK = "ok"
    DIFFERS = "differs"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was compared, what was seen, and what to do. ``subsystem`` is "" for the whole."""

    subsystem: str
    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """All that is compared, read at about one time.

    ``kernel`` and ``daemon`` are None when they are not there. ``entries`` is None when they cannot
    be seen, and ``blind`` then says what to do. ``modules`` are those that are loaded, ``process``
    is the letter the kernel has for what the daemon does, and ``threads`` counts all there are.
    """

    now: float
    kernel: KernelState | None
    daemon: Status | None
    entries: Mapping[str, Sequence[Entry]] | None = None
    blind: str = ""
    modules: frozenset[str] = frozenset()
    leases: Mapping[str, LeaseState] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    process: str = ""
    threads: int = 0

    @property
    def subsystems(self) -> list[str]:
        """The subsystems that are there, and those that policies and pins are about."""
        pins = (self.daemon or {}).get("pins", ())
        wanted = {each["subsystem"] for each in (*self.policies(), *pins)}
        return sorted(wanted | (self.kernel.subsystems.keys() if self.kernel else set()))

    def policies(self, subsystem: str | None = None) -> list[Status]:
        """Give the policies about a subsystem, or all."""
        found = (self.daemon or {}).get("policies", ())
        return [each for each in found if subsystem in {None, each["subsystem"]}]

    def pin(self, subsystem: str) -> Status | None:
        """Give the pin of a subsystem, if there is one."""
        found = (self.daemon or {}).get("pins", ())
        return next((each for each in found if each["subsystem"] == subsystem), None)

    def enforcing(self, subsystem: str | None = None) -> list[Status]:
        """Give those that enforce; about one subsystem that is one at most."""
        return [each for each in self.policies(subsystem) if each.get("mode") == "enforce"]


def look(machine: Machine, runtime_dir: Path, now: float) -> View:
    """Read everything.

    Raises:
        Unreachable: the module is there, but may not be read.
    """
    daemon = status.read(runtime_dir)
    kernel = machine.kmod.read() if machine.kmod.loaded else None
    subsystems = list(kernel.subsystems.values()) if kernel else []
    text = machine.text(entries.PATH)
    return View(
        now,
        kernel,
        daemon,
        None if text is None else entries.parse(text),
        ROOT_HINT if machine.uid else "mount -t tracefs tracefs /sys/kernel/tracing",
        frozenset(
            edition.module
            for subsystem in subsystems
            for edition in subsystem.editions.values()
            if (machine.text(f"sys/module/{edition.module}/initstate") or "").strip() == "live"
        ),
        {
            each.name: lease
            for each in subsystems
            if (lease := machine.kmod.read_lease(each.name)) is not None
        },
        {
            each.lease_holder: (machine.text(f"proc/{each.lease_holder}/comm") or "").strip()
            for each in subsystems
        },
        _process(machine.text(f"proc/{daemon['pid']}/stat") if daemon else None),
        _threads(machine.text("proc/loadavg")),
    )


def _process(stat: str | None) -> str:
    """Give the state in a process's ``stat``; the name before it may hold anything."""
    return (stat or "").rpartition(")")[2].strip()[:1]


def _threads(loadavg: str | None) -> int:
    """Give how many threads there are."""
    words = (loadavg or "").split()
    number = words[3].partition("/")[2] if len(words) > 3 else ""  # noqa: PLR2004 - proc(5)
    return int(number) if number.isdigit() else 0
