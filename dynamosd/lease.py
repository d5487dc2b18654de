# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases: while the daemon enforces a subsystem, the kernel module knows that it is alive.

A lease belongs to an open file, so all leases are held on one, which stays open. They are renewed
by the loop that evaluates the policies and by nothing else: when the loop is stopped or hangs, the
leases are lost, and the module does what the policies say in ``onDaemonLoss``. A daemon that is
killed needs nobody to say so. A subsystem without its lease is not enforced: two daemons would
fight. The one exception is a module that does not know leases, and that is said.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dynamosd.errors import (
    DynamosError,
    Exhausted,
    InvalidInput,
    LeaseTaken,
    NotUnderstood,
    Refused,
    Unreachable,
)
from dynamosd.model import HELD, LeaseTerms
from dynamosd.policy.definition import Mode, OnDaemonLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from dynamosd.journal import Journal
    from dynamosd.kmod import Event, Kmod, OpenDevice
    from dynamosd.metrics import Tally
    from dynamosd.model import LeaseState
    from dynamosd.policy.definition import Policy

MIN_TTL_SECONDS = 10.0
TTL_INTERVALS = 10
"""A lease outlives so many intervals of its policy: a loop that is late is not one that hangs. Ten
seconds at least, for a machine under load may keep a program waiting for some."""

MAX_TTL_SECONDS = 3600.0
"""The module takes no more. The loop comes round each second, however long the interval is."""

RENEWALS = 3
"""A lease is renewed so many times in its time to live: two may fail."""

RETRY_SECONDS = MIN_TTL_SECONDS / RENEWALS
"""One that is refused is asked for so often: each refusal is an event, and the ring is small."""


class LeaseFile:
    """The module's device, open for as long as there is a lease to hold."""

    def __init__(self, kmod: Kmod) -> None:
        """Name the module; nothing is opened yet."""
        self._kmod = kmod
        self._device: OpenDevice | None = None

    def lease(self, subsystem: str, terms: LeaseTerms) -> Sequence[Event]:
        """Take or renew a lease; give the events that came. Raises what `Kmod.lease` does."""
        try:
            if self._device is None:
                self._device = self._kmod.open()
            return self._kmod.lease(self._device, subsystem, terms)
        except Exhausted:
            # The lease is as it was.
            raise
        except Unreachable:
            # Of a module that was there before, perhaps: the next one is opened afresh.
            self.close()
            raise

    def release(self, subsystem: str) -> None:
        """Give a lease back. Raises what `Kmod.release` does."""
        if self._device is not None:
            self._kmod.release(self._device, subsystem)

    def close(self) -> None:
        """Let go: leases that were not given back are lost, and their grace begins."""
        device, self._device = self._device, None
        if device is not None:
            device.close()


@dataclass(slots=True)
class _Lease:
    """A lease that is wanted, what the module was told last, and when it is told again.

    ``recorded`` are the terms that stand in the journal. ``refusal`` says why it is not held, and
    ``shown`` is what the module showed when it said so.
    """

    terms: LeaseTerms
    held: bool = False
    told: LeaseTerms | None = None
    recorded: LeaseTerms | None = None
    next_try: float = 0.0
    refusal: str = ""
    taken: bool = False
    shown: LeaseState | None = None

    def drop(self) -> None:
        """Be as at the beginning."""
        self.held, self.told, self.recorded, self.next_try = False, None, None, 0.0
        self.refusal, self.taken, self.shown = "", False, None


@dataclass(slots=True)
class LeaseKeeper:
    """Holds the leases of all subsystems that are enforced. ``say`` shows a line."""

    kmod: Kmod
    journal: Journal
    tally: Tally
    say: Callable[[str], None]
    _leases: dict[str, _Lease] = field(default_factory=dict)
    _unknown: bool = False
    """Whether the module has turned out not to know leases."""
    _file: LeaseFile = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the file."""
        self._file = LeaseFile(self.kmod)

    @property
    def held(self) -> dict[str, bool]:
        """Whether the lease is ours, of each subsystem that needs one."""
        return {name: lease.held for name, lease in self._leases.items()}

    def missing(self, subsystem: str) -> str:
        """Give why a subsystem may not be enforced; "" when it may."""
        lease = self._leases.get(subsystem)
        if lease is None or lease.held or self._unknown:
            return ""
        return lease.refusal or f"there is no lease of {subsystem} yet"

    def is_taken(self, subsystem: str) -> bool:
        """Tell whether somebody else looks after a subsystem."""
        lease = self._leases.get(subsystem)
        return lease is not None and lease.taken

    def is_over(self, subsystem: str) -> bool:
        """Tell whether the grace of a lease that was ours has ended: then the module has acted."""
        lease, shown = self._leases.get(subsystem), self._shown(subsystem)
        return lease is not None and lease.held and shown is not None and shown.state is None

    # ----------------------------------------------------------------------------- from outside

    def want(self, policies: Iterable[Policy], at_home: Container[str] = ()) -> None:
        """Have the leases that these policies need; those of others are `release`'s business.

        The subsystems that are ``at_home`` stay as they are when the daemon is lost.
        """
        enforcing = [policy for policy in policies if policy.mode is Mode.ENFORCE]
        # A switch that holds callers holds the loop too, and with it the renewal of all leases.
        pause = max((policy.switch_timeout_seconds or 0.0 for policy in enforcing), default=0.0)
        for policy in enforcing:
            terms = terms_of(policy, pause)
            if policy.subsystem in at_home:
                terms = replace(terms, action=str(OnDaemonLoss.HOLD))
            self._leases.setdefault(policy.subsystem, _Lease(terms)).terms = terms

    def keep(self, now: float) -> None:
        """Take the leases that are missing, and renew those that are due."""
        for subsystem, lease in self._leases.items():
            try:
                shown = self.kmod.read_lease(subsystem)
            except Exhausted:
                # What cannot be seen is not gone.
                continue
            if shown is None:
                # The lease went with the subsystem; that this one is gone its policy says.
                lease.drop()
                continue
            if lease.held and shown.state != HELD and not self._unknown:
                self._lose(subsystem, lease)
            if not self._unknown and _is_due(lease, shown, now):
                self._take(subsystem, lease, lease.terms, now)
        self._close_if_idle()

    def expect_pause(self, seconds: float, now: float) -> None:
        """Have the leases that are held outlive a time in which the loop cannot renew them."""
        for subsystem, lease in self._leases.items():
            if lease.held:
                ttl = min(MAX_TTL_SECONDS, lease.terms.ttl_seconds + seconds)
                self._take(subsystem, lease, replace(lease.terms, ttl_seconds=ttl), now)

    def release(self, subsystem: str) -> None:
        """Give a lease back: the subsystem is left as it is meant to be left."""
        lease = self._leases.pop(subsystem, None)
        if lease is not None and lease.held:
            try:
                self._file.release(subsystem)
            except DynamosError as error:
                self.say(f"cannot give the lease of {subsystem} back: {error.message}")
            else:
                self._record(subsystem, "released")
        self._close_if_idle()

    def abandon(self, subsystem: str) -> None:
        """Renew a lease no more: what we could not do, the module may do when it is lost."""
        self._leases.pop(subsystem, None)
        self._close_if_idle()

    def forget_module(self) -> None:
        """Begin again: the module is gone, and the next one may be another version."""
        self._file.close()
        self._unknown = False
        for lease in self._leases.values():
            lease.drop()

    def close(self) -> None:
        """Let go of everything, whatever becomes of it."""
        self._leases.clear()
        self._file.close()

    # ----------------------------------------------------------------------------------- inside

    def _take(self, subsystem: str, lease: _Lease, terms: LeaseTerms, now: float) -> None:
        try:
            said = self._file.lease(subsystem, terms)
        except DynamosError as error:
            self._fail(subsystem, lease, error, now)
            return
        news = not lease.held or lease.recorded != lease.terms
        lease.refusal, lease.taken, lease.shown = "", False, None
        lease.held, lease.told, lease.recorded = True, terms, lease.terms
        lease.next_try = now + lease.terms.ttl_seconds / RENEWALS
        if news:
            self._tell_of(subsystem, lease.terms, adopted=_is_adopted(said, subsystem))

    def _tell_of(self, subsystem: str, terms: LeaseTerms, *, adopted: bool) -> None:
        if adopted:
            self.say(f"took over the lease of {subsystem} that was lost")
        self._record(
            subsystem,
            "held",
            adopted=adopted,
            action=terms.action,
            baseline=terms.baseline,
            grace_seconds=terms.grace_seconds,
            ttl_seconds=terms.ttl_seconds,
        )

    def _fail(self, subsystem: str, lease: _Lease, error: DynamosError, now: float) -> None:
        shown = self._shown(subsystem)
        if isinstance(error, NotUnderstood) and not (shown and shown.known):
            self._do_without(subsystem, error)
            return
        self.tally.add_lease_error(subsystem)
        lease.refusal, lease.taken = error.message, isinstance(error, LeaseTaken)
        lease.shown = shown
        if isinstance(error, InvalidInput | Refused):
            lease.held = False
        # What is still ours is worth another try at the next tick.
        lease.next_try = now if lease.held else now + RETRY_SECONDS

    def _shown(self, subsystem: str) -> LeaseState | None:
        """Give how the module shows a lease, if that can be seen."""
        with contextlib.suppress(Exhausted):
            return self.kmod.read_lease(subsystem)
        return None

    def _do_without(self, subsystem: str, error: DynamosError) -> None:
        """Go on with a module that is older than leases."""
        self._unknown = True
        self._file.close()
        self.say("this module does not know leases: if the daemon is killed, nothing is done")
        self._record(subsystem, "unknown", reason=error.message)

    def _lose(self, subsystem: str, lease: _Lease) -> None:
        """Note that we were missed: the loop stood still for longer than the lease lives."""
        self.say(f"the lease of {subsystem} was lost: it was not renewed in time")
        self._record(subsystem, "lost")
        lease.drop()

    def _close_if_idle(self) -> None:
        """Keep the module's device open only for a lease: an open one keeps the module loaded."""
        if not any(self.held.values()):
            self._file.close()

    def _record(self, subsystem: str, result: str, **said: Any) -> None:  # noqa: ANN401 - JSON
        self.journal.record("lease", subsystem, None, subsystem=subsystem, result=result, **said)
        self.journal.forget("lease", subsystem)


def terms_of(policy: Policy, pause: float = 0.0) -> LeaseTerms:
    """Give what a policy's lease asks for; ``pause`` is how long the loop may stand still."""
    ttl = max(MIN_TTL_SECONDS, TTL_INTERVALS * policy.interval_seconds) + pause
    return LeaseTerms(
        str(policy.on_loss),
        policy.baseline,
        policy.loss_grace_seconds,
        min(MAX_TTL_SECONDS, ttl),
    )


def _is_due(lease: _Lease, shown: LeaseState, now: float) -> bool:
    if now >= lease.next_try:
        return True
    if lease.held:
        # The policy has changed; or somebody else seems to hold it: the module will say.
        return lease.told != lease.terms or shown.holder not in {0, os.getpid()}
    # Worth a try when something about who holds it has.
    return lease.shown != shown


def _is_adopted(said: Sequence[Event], subsystem: str) -> bool:
    """Tell whether the module says that a lease had been lost and is taken over."""
    pid = str(os.getpid())
    return any(
        event.name == "leased"
        and (event.fields.get("subsystem"), event.fields.get("by")) == (subsystem, pid)
        and event.fields.get("adopted") == "1"
        for event in said
    )
