# SPDX-License-Identifier: GPL-2.0-or-later
"""From a wish to a switch that is confirmed by reading back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynamosd.errors import DynamosError, InvalidInput, Refused
from dynamosd.kmod import known_names
from dynamosd.model import SwitchResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.kmod import Kmod

CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class Switcher:
    """Switches subsystems. ``now`` gives seconds of CLOCK_MONOTONIC."""

    kmod: Kmod
    now: Callable[[], float]

    def switch(
        self, subsystem: str, target: str, trigger: str, mode: str = CONCURRENT
    ) -> SwitchResult:
        """Make ``target`` active and read back that it is.

        Raises:
            InvalidInput: there is no such subsystem, edition or mode.
            Refused: the module says no.
            Unreachable: the module is not loaded, or we are not root.
            DynamosError: it was done, and something else is active already.
        """
        start = self.now()
        origin = self.kmod.read_active(subsystem)
        if origin is None:
            names = self.kmod.read().subsystems
            hint = known_names(subsystem, names, "subsystem")
            raise InvalidInput(f"there is no subsystem {subsystem}", hint=hint)
        self.kmod.switch(subsystem, target, mode)
        end = self.now()
        active = self.kmod.read_active(subsystem)
        if active != target:
            raise DynamosError(
                f"{subsystem} was switched to {target}, and is {active or 'gone'} again",
                hint="someone else switches it too: dynamosctl status",
            )
        return SwitchResult(end, subsystem, origin, target, mode, trigger, "ok", "", end - start)

    def attempt(
        self, subsystem: str, target: str, trigger: str, mode: str = CONCURRENT
    ) -> SwitchResult:
        """Do the same, and let the result say what went wrong."""
        start = self.now()
        try:
            return self.switch(subsystem, target, trigger, mode)
        except DynamosError as error:
            result = "refused" if isinstance(error, Refused | InvalidInput) else "failed"
            return SwitchResult(
                self.now(),
                subsystem,
                self._origin(subsystem),
                target,
                mode,
                trigger,
                result,
                error.message,
                self.now() - start,
            )

    def _origin(self, subsystem: str) -> str:
        """Give what is active after a failure, as far as that can be told."""
        try:
            return self.kmod.read_active(subsystem) or ""
        except OSError:
            return ""
