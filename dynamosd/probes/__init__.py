# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources of measurements. Each gives cumulative figures; none judges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamosd.model import FunctionSample, KernelState, ProbeCost


class Probe(Protocol):
    """What measures the gated functions, from outside the module."""

    def watch(self, state: KernelState, timed: frozenset[str]) -> None:
        """Measure what is there now, and how long the calls of ``timed`` functions take.

        Called before each `read` of another state; cheap.
        """

    def read(self, state: KernelState) -> Mapping[tuple[str, str, str], FunctionSample]:
        """Give the figures since it was attached, by (subsystem, function, edition).

        Raises:
            DynamosError: it can no longer be read.
        """

    def cost(self) -> ProbeCost:
        """Give what its programs cost since they were attached."""

    def dropped(self) -> int:
        """Give how many calls it had no place for, since it was attached."""

    def close(self) -> None:
        """Detach it."""
