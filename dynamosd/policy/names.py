# SPDX-License-Identifier: GPL-2.0-or-later
"""The names that policies may refer to, as far as they are known when a policy is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamosd.model import KernelState


@dataclass(frozen=True, slots=True)
class SubsystemNames:
    """What one subsystem has. ``modes`` are those that an edition allows, if that is known.

    ``parameters`` are those that any of its editions shows, None if that is not known.
    """

    editions: frozenset[str]
    functions: frozenset[str]
    modes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    parameters: frozenset[str] | None = None


def names_of(kernel: KernelState) -> Mapping[str, SubsystemNames]:
    """Return the names of all subsystems that the kernel module shows."""
    return {
        name: SubsystemNames(
            frozenset(subsystem.editions),
            frozenset(subsystem.functions),
            {each.name: frozenset(each.modes) for each in subsystem.editions.values()},
            frozenset(name for each in subsystem.editions.values() for name in each.parameters),
        )
        for name, subsystem in kernel.subsystems.items()
    }
