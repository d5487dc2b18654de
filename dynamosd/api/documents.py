# SPDX-License-Identifier: GPL-2.0-or-later
"""What the answers are made of: the loop's last view of itself, and its parts as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dynamosd.api.timeline import Timeline
from dynamosd.model import Function, KernelState, Subsystem


@dataclass(frozen=True, slots=True)
class View:
    """What the loop leaves behind at the end of a tick; nothing of it changes afterwards.

    Attributes:
        status: the text of ``status.json``; "" before the first tick.
        kernel: what the module showed; None while it is gone.
        journal: where the journal is.
        timeline: the last hour.
    """

    journal: Path
    status: str = ""
    kernel: KernelState | None = None
    timeline: Timeline = field(default_factory=Timeline)


def subsystem_json(subsystem: Subsystem) -> dict[str, object]:
    """Give a subsystem's editions and functions."""
    return {
        "name": subsystem.name,
        "active": subsystem.active,
        "partial": subsystem.partial,
        "scope": subsystem.scope,
        "lease": subsystem.lease,
        "lease_holder": subsystem.lease_holder,
        "editions": [
            {
                "name": edition.name,
                "index": edition.index,
                "state": str(edition.state),
                "module": edition.module,
                "quarantine": edition.quarantine,
                "died": edition.died,
                "modes": list(edition.modes),
                "parameters": dict(edition.parameters),
            }
            for edition in subsystem.editions.values()
        ],
        "functions": [_function_json(each) for each in subsystem.functions.values()],
    }


def _function_json(function: Function) -> dict[str, object]:
    return {
        "name": function.name,
        "backend": function.backend,
        "editions": [
            {"name": name, "calls": counts.calls, "in_flight": counts.in_flight}
            for name, counts in function.counts.items()
        ],
    }
