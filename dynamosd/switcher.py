# SPDX-License-Identifier: GPL-2.0-or-later
"""From a wish to a switch that is confirmed by reading back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable
from dynamosd.kmod import no_subsystem
from dynamosd.model import PARTIAL_MODES, Standing, SwitchOptions, SwitchResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.kmod import Kmod

_BY_THE_MODULE = SwitchOptions()


@dataclass(frozen=True, slots=True)
class Switcher:
    """Switches subsystems. ``now`` gives seconds of CLOCK_MONOTONIC."""

    kmod: Kmod
    now: Callable[[], float]

    def switch(
        self,
        subsystem: str,
        target: str,
        trigger: str,
        options: SwitchOptions = _BY_THE_MODULE,
    ) -> SwitchResult:
        """Make ``target`` active, or partial, and read back that it is.

        Raises:
            InvalidInput: there is no such subsystem, edition, mode or scope.
            Refused: the module says no.
            Unreachable: the module is not loaded, or we are not root.
            DynamosError: it was done, and something else is active already.
        """
        start = self.now()
        before = self.kmod.read_standing(subsystem)
        if before is None:
            raise no_subsystem(subsystem, self.kmod.read().subsystems)
        self.kmod.switch(
            subsystem,
            target,
            options.mode,
            timeout=options.timeout_seconds,
            scope=options.scope,
            objects=options.objects,
        )
        end = self.now()
        after = self.kmod.read_standing(subsystem)
        if after is None or not _confirms(after, target, options.mode):
            raise DynamosError(
                f"{subsystem} was switched to {target}, and is {_describe(after)} again",
                hint="someone else switches it too: dynamosctl status",
            )
        return SwitchResult(
            end,
            subsystem,
            _left(before, target),
            target,
            options.mode or after.mode,
            trigger,
            "ok",
            "",
            end - start,
            partial=after.active != target,
            scope=after.scope,
            changed=before != after,
        )

    def attempt(
        self,
        subsystem: str,
        target: str,
        trigger: str,
        options: SwitchOptions = _BY_THE_MODULE,
    ) -> SwitchResult:
        """Do the same, and let the result say what went wrong."""
        start = self.now()
        try:
            return self.switch(subsystem, target, trigger, options)
        except DynamosError as error:
            result = "refused" if isinstance(error, Refused | InvalidInput) else "failed"
            return SwitchResult(
                self.now(),
                subsystem,
                self._origin(subsystem),
                target,
                options.mode or "",
                trigger,
                result,
                error.message,
                self.now() - start,
            )

    def _origin(self, subsystem: str) -> str:
        """Give what is active after a failure, as far as that can be told."""
        try:
            return self.kmod.read_active(subsystem) or ""
        except Unreachable:
            return ""


def _confirms(standing: Standing, target: str, mode: str | None) -> bool:
    """Tell whether a switch to ``target`` can have led to this."""
    if standing.partial == target:
        return mode is None or mode in PARTIAL_MODES
    return standing.active == target and standing.partial is None


def _left(before: Standing, target: str) -> str:
    """Give the edition that calls are taken from: the partial one on the way back from it."""
    if before.active == target and before.partial:
        return before.partial
    return before.active


def _describe(standing: Standing | None) -> str:
    if standing is None:
        return "gone"
    partly = f" with {standing.partial} in part" if standing.partial else ""
    return standing.active + partly
