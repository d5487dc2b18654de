# SPDX-License-Identifier: GPL-2.0-or-later
"""Pins: a person holds a subsystem at an edition, against all policies.

They are among the `Orders`, so nothing but a person, their time, or safety ends them: an edition
that is in quarantine is left, and its pin is over. Who switches is the controller.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamosd.errors import Refused
from dynamosd.kmod import ENABLE_HINT, SWITCHED_OFF, no_edition, no_subsystem
from dynamosd.model import HELD, ORIGINAL
from dynamosd.orders import pin_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dynamosd.journal import Journal
    from dynamosd.kept import Json
    from dynamosd.model import KernelState, Standing, Subsystem
    from dynamosd.orders import Orders, Person, Pin

OVER = "its time is over"

PAUSE_FACTOR = 10
"""A switch that failed is not tried again for so many times as long as it took, a policy's neither:
one that holds callers until its deadline must not hold them most of the time."""


@dataclass(slots=True)
class Pins:
    """Those that last, and what keeps them from being carried out. ``say`` shows a line."""

    orders: Orders
    journal: Journal
    say: Callable[[str], None]
    _troubles: dict[str, str] = field(default_factory=dict)
    _try_at: dict[str, float] = field(default_factory=dict)

    def status(self) -> list[Json]:
        """Give what programs see of them."""
        return [
            pin_json(each) | {"trouble": self._troubles.get(each.subsystem) or None}
            for each in self.orders.pins.values()
        ]

    # -------------------------------------------------------------------------------- changes

    def begin(self, pin: Pin) -> str:
        """Keep a pin, in place of another one; give what keeps it from being written."""
        self._forget(pin.subsystem)
        if self.orders.pins.get(pin.subsystem) is pin:
            return ""
        self.orders.pins[pin.subsystem] = pin
        trouble = self.orders.save()
        self.say(f"{pin.subsystem}: {pin.edition} {pin}")
        self._record("pin", pin, pin.by, pin.reason)
        return trouble

    def end(self, subsystem: str, why: str, by: Person | None = None) -> str:
        """End a pin; give what keeps that from being written."""
        pin = self.orders.pins.pop(subsystem)
        trouble = self.orders.save()
        self.tell_of_end(pin, why, by)
        return trouble

    def tell_of_end(self, pin: Pin, why: str, by: Person | None = None) -> None:
        """Tell that one is over that is no longer among the orders."""
        self._forget(pin.subsystem)
        self.say(f"{pin.subsystem}: {pin.edition} no longer pinned: {why}")
        self._record("unpin", pin, by, why)

    def _forget(self, subsystem: str) -> None:
        self._troubles.pop(subsystem, None)
        self._try_at.pop(subsystem, None)

    def _record(self, kind: str, pin: Pin, by: Person | None, reason: str) -> None:
        said = pin_json(pin)
        self.journal.record(
            kind,
            subsystem=pin.subsystem,
            edition=pin.edition,
            until=said["until"],
            uid=by and by.uid,
            login=by and by.login,
            reason=reason,
        )
        self.journal.forget(kind)

    # ------------------------------------------------------------------------- carrying it out

    def may_try(self, pin: Pin, now: float) -> bool:
        """Tell whether it is time for another try."""
        return now >= self._try_at.get(pin.subsystem, 0.0)

    def note(self, pin: Pin, trouble: str, now: float, spent: float = 0.0) -> None:
        """Say what is in the way of a pin, once, and when nothing is any more: ""."""
        before = self._troubles.get(pin.subsystem, "")
        if trouble and trouble != before:
            self.say(f"{pin.subsystem} should be {pin.edition}, {pin}: {trouble}")
        elif before and not trouble:
            self.say(f"{pin.subsystem}: {pin.edition} is as it is pinned again")
        self._troubles[pin.subsystem] = trouble
        self._try_at[pin.subsystem] = now + PAUSE_FACTOR * spent if trouble else now

    def trouble(self, subsystem: str) -> str:
        """Give what is in the way; "" if nothing is."""
        return self._troubles.get(subsystem, "")


# --------------------------------------------------------------------------------- questions


def check(pin: Pin, kernel: KernelState, barred: Mapping[str, str]) -> None:
    """See that a pin can be carried out; ``barred`` are editions in quarantine, and why.

    Raises:
        InvalidInput: there is no such subsystem or edition.
        Refused: a safety rule forbids it.
    """
    name, target = pin.subsystem, pin.edition
    subsystem = kernel.subsystems.get(name)
    if subsystem is None:
        raise no_subsystem(name, kernel.subsystems)
    if target not in subsystem.editions:
        raise no_edition(name, target, subsystem.editions)
    if target in barred:
        hint = f"if it is good again: dynamosctl edition clear {name} {target}"
        raise Refused(barred[target], hint=hint)
    if target == ORIGINAL:
        # The way back is open at all times.
        return
    if not kernel.enabled:
        raise Refused(SWITCHED_OFF, hint=ENABLE_HINT)
    if taken := looked_after(subsystem):
        raise Refused(taken, hint="end that program, or leave the subsystem to it")


def looked_after(subsystem: Subsystem) -> str:
    """Say that another program looks after a subsystem; "" if none does."""
    if subsystem.lease != HELD or subsystem.lease_holder == os.getpid():
        return ""
    return f"another program looks after it (pid {subsystem.lease_holder})"


def is_at(standing: Standing, edition: str) -> bool:
    """Tell whether all calls get an edition, or are getting it object by object."""
    if standing.partial is None:
        return standing.active == edition
    return standing.partial == edition and standing.mode == "per-object"
