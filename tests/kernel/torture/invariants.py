# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold of the module's events, one after the other (docs/abi.md, "Listening"). Pure.

`Checker` follows a stream from its first event on. After a loss it knows nothing of what there is
until subsystems are registered anew; numbers and times it goes on to check.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dynamosd.events import Event
from tests.kernel.torture.standing import ORIGINAL, PER_OBJECT, Edition, Lease, Subsystem, Text

MOST_IN_FLIGHT = 1 << 20
"""More threads than there can be: a number below zero is shown as one of twenty digits."""


class Rule(enum.Enum):
    """What must hold."""

    SEQUENCE = "events are numbered without gaps, but for those that are said to be lost"
    TIME = "no event is older than the one before it"
    KNOWN = "an event is of the kinds that there are, about what is there"
    REGISTRY = "subsystems and editions come and go by turns, editions first to go"
    GATES = "a function is gated and ungated by turns, and has no gate without its subsystem"
    SWITCH = "a switch starts where the last one ended, and ends at an edition that is there"
    COMPLETED = "only a per-object switch completes, and to its own edition"
    DRAIN = "an edition drains once each time it was left, and is complained of once at the most"
    UNLOAD = "an edition is unloaded only when it has drained"
    QUARANTINE = "quarantined and cleared come by turns, and meanwhile nobody switches there"
    LEASE = "a lease is taken, lost, expires, is taken over and given back in an order that exists"
    ENABLE = "disabled and enabled come by turns, and meanwhile everything is at the original"
    IN_FLIGHT = "a number in flight is never below zero"
    ANSWER = "each command ends once: as it was answered, so it is told"
    LEFT_OVER = "at the end nothing is left"


@dataclass(frozen=True, slots=True)
class Violation:
    """What did not hold, and where."""

    rule: Rule
    what: str
    event: Event | None = None

    def __str__(self) -> str:
        """Give a line for a test's failure."""
        where = f" at seq={self.event.seq} time={self.event.time:.6f}" if self.event else ""
        return f"{self.rule.name}{where}: {self.what} ({self.rule.value})"


@dataclass(frozen=True, slots=True)
class Standing:
    """What was active, and partial, in a subsystem from a time on."""

    time: float
    active: str
    partial: str | None
    mode: str

    def is_plain(self, edition: str) -> bool:
        """Tell whether all new calls get this edition."""
        return self.active == edition and self.partial is None

    def is_going_to(self, edition: str) -> bool:
        """Tell whether objects are changing to this edition, one by one."""
        return self.partial == edition and self.mode == PER_OBJECT


class Checker:
    """Follows events, and collects what does not hold."""

    def __init__(self) -> None:
        """Begin before the first event."""
        self.violations: list[Violation] = []
        self.history: dict[str, list[Standing]] = {}
        self.enabling: list[tuple[float, bool]] = []
        """When the module was switched on or off, by its events."""
        self.lost = 0
        self._next_seq = 0
        self._time = 0.0
        self._enabled = True
        self._subsystems: dict[str, Subsystem] = {}
        self._about: Mapping[str, Callable[[Event, Subsystem], None]] = {
            "unregistered": self._unregistered,
            "gated": self._gated,
            "ungated": self._ungated,
            "waiting": self._nothing,
            "loaded": self._loaded,
            "scope_full": self._nothing,
            "leased": self._leased,
            "lease_lost": self._lease_lost,
            "lease_expired": self._lease_expired,
            "released": self._released,
            "switched": self._switched,
            "inside": self._nothing,
        }
        self._about_edition: Mapping[str, Callable[[Event, Subsystem, Edition], None]] = {
            "unloaded": self._unloaded,
            "completed": self._completed,
            "draining": self._draining,
            "drained": self._drained,
            "tripped": self._tripped,
            "quarantined": self._quarantined,
            "cleared": self._cleared,
            "parameter": self._parameter,
        }
        self._others: Mapping[str, Callable[[Event], None]] = {
            "registered": self._registered,
            "disabled": self._switched_off_or_on,
            "enabled": self._switched_off_or_on,
            "refused": self._refused,
        }

    def take(self, event: Event) -> None:
        """Follow one more event."""
        if event.name == "lost":
            self._lose(event)
            return
        self._check_order(event)
        if act := self._others.get(event.name):
            act(event)
        elif event.name not in self._about and event.name not in self._about_edition:
            self._say(Rule.KNOWN, f"there is no event {event.name}", event)
        elif subsystem := self._subsystem(event):
            self._take_about(event, subsystem)

    def end(self) -> None:
        """Say that everything should have been unloaded."""
        for subsystem in self._subsystems.values():
            editions = ", ".join(name for name in subsystem.editions if name != ORIGINAL)
            self._say(Rule.LEFT_OVER, f"{subsystem.name} is there still, with: {editions or '-'}")
            if subsystem.owed:
                owed = " or ".join(sorted(subsystem.owed))
                self._say(Rule.LEASE, f"{subsystem.name} never came to {owed} after its lease")
        if not self._enabled:
            self._say(Rule.LEFT_OVER, "the module is switched off still")

    # ------------------------------------------------------------------------------- machinery

    def _say(self, rule: Rule, what: str, event: Event | None = None) -> None:
        self.violations.append(Violation(rule, what, event))

    def _require(self, holds: object, rule: Rule, what: str, event: Event) -> None:
        if not holds:
            self._say(rule, what, event)

    def _lose(self, event: Event) -> None:
        count = int(event.fields["count"])
        self.lost += count
        if self._next_seq:
            self._next_seq += count
        self._subsystems.clear()

    def _check_order(self, event: Event) -> None:
        if self._next_seq and event.seq != self._next_seq:
            self._say(Rule.SEQUENCE, f"{event.seq} came where {self._next_seq} was to come", event)
        if event.time < self._time:
            self._say(Rule.TIME, f"the one before was at {self._time:.6f}", event)
        self._next_seq, self._time = event.seq + 1, event.time

    def _subsystem(self, event: Event) -> Subsystem | None:
        name = event.fields["subsystem"]
        found = self._subsystems.get(name)
        if not found and not self.lost:
            self._say(Rule.KNOWN, f"{event.name}: there is no subsystem {name}", event)
        return found

    def _take_about(self, event: Event, subsystem: Subsystem) -> None:
        if act := self._about.get(event.name):
            act(event, subsystem)
            return
        name = event.fields["edition"]
        edition = subsystem.editions.get(name)
        if edition:
            self._about_edition[event.name](event, subsystem, edition)
        else:
            self._say(Rule.KNOWN, f"{event.name}: {subsystem.name} has no edition {name}", event)

    def _remember(self, event: Event, subsystem: Subsystem) -> None:
        standing = Standing(event.time, subsystem.active, subsystem.partial, subsystem.mode)
        self.history.setdefault(subsystem.name, []).append(standing)

    def _nothing(self, event: Event, subsystem: Subsystem) -> None:
        """It tells of nothing that changes."""

    # ------------------------------------------------------------------------- come and go

    def _registered(self, event: Event) -> None:
        name = event.fields["subsystem"]
        self._require(name not in self._subsystems, Rule.REGISTRY, f"{name} came twice", event)
        self._subsystems[name] = Subsystem(name)
        self._remember(event, self._subsystems[name])

    def _unregistered(self, event: Event, subsystem: Subsystem) -> None:
        name = subsystem.name
        editions = set(subsystem.editions) - {ORIGINAL}
        self._require(not editions, Rule.REGISTRY, f"{name} goes before {editions}", event)
        gates = set(subsystem.gates)
        self._require(not gates, Rule.GATES, f"{name} goes with gates on {gates}", event)
        del self._subsystems[name]

    def _gated(self, event: Event, subsystem: Subsystem) -> None:
        function, backend = event.fields["function"], event.fields["backend"]
        twice = function in subsystem.gates
        self._require(not twice, Rule.GATES, f"{function} is gated already", event)
        subsystem.gates[function] = backend

    def _ungated(self, event: Event, subsystem: Subsystem) -> None:
        function, backend = event.fields["function"], event.fields["backend"]
        before = subsystem.gates.pop(function, None)
        said = f"{function} loses a gate of {backend}, and has {before}"
        self._require(before == backend, Rule.GATES, said, event)

    def _loaded(self, event: Event, subsystem: Subsystem) -> None:
        name = event.fields["edition"]
        twice = name in subsystem.editions
        self._require(not twice, Rule.REGISTRY, f"{name} came twice", event)
        subsystem.editions[name] = Edition(event.fields["module"])
        subsystem.update_texts()

    def _unloaded(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        name, module = event.fields["edition"], event.fields["module"]
        self._require(edition.module == module, Rule.REGISTRY, f"{name} was not {module}", event)
        idle = edition.text is Text.IDLE
        self._require(idle, Rule.UNLOAD, f"{name} is unloaded: {edition.text.value}", event)
        del subsystem.editions[name]
        subsystem.update_texts()

    # ---------------------------------------------------------------------------- switching

    def _switched(self, event: Event, subsystem: Subsystem) -> None:
        came_from, to, mode = (event.fields[key] for key in ("from", "to", "mode"))
        self._explain_doubt(event, subsystem)
        missing = {came_from, to} - set(subsystem.editions)
        if missing:
            self._say(Rule.SWITCH, f"{subsystem.name} has no edition {missing}", event)
            return
        start = subsystem.partial if to == subsystem.active else subsystem.active
        said = f"{subsystem.name} went from {came_from} to {to}, and was at {start}"
        self._require(came_from == start, Rule.SWITCH, said, event)
        bad = subsystem.editions[to].quarantined
        self._require(not bad, Rule.QUARANTINE, f"switched to {to}", event)
        if mode in {"scoped", PER_OBJECT}:
            subsystem.stand(subsystem.active, to, mode)
        else:
            subsystem.stand(to, None, mode)
        self._remember(event, subsystem)

    def _explain_doubt(self, event: Event, subsystem: Subsystem) -> None:
        """A switch of only some calls takes them from the partial edition before it is told."""
        name, subsystem.in_doubt = subsystem.in_doubt, None
        explained = event.fields["mode"] in {"scoped", PER_OBJECT} or event.fields["by"] == "0"
        said = f"{name} went into quarantine, and calls got it still"
        self._require(name is None or explained, Rule.QUARANTINE, said, event)

    def _completed(self, event: Event, subsystem: Subsystem, _edition: Edition) -> None:
        name = event.fields["edition"]
        right = subsystem.mode == PER_OBJECT and subsystem.partial == name
        said = f"{name} was not what {subsystem.name} was going to, object by object"
        self._require(right, Rule.COMPLETED, said, event)
        subsystem.stand(name, None, subsystem.mode)
        self._remember(event, subsystem)

    def _draining(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        del subsystem
        self._check_in_flight(event)
        said = f"{event.fields['edition']} is complained of: {edition.text.value}"
        self._require(edition.text is Text.LEFT, Rule.DRAIN, said, event)
        self._require(not edition.complained, Rule.DRAIN, "it was complained of before", event)
        edition.complained = True

    def _check_in_flight(self, event: Event) -> None:
        count = int(event.fields["in_flight"])
        right = 0 < count < MOST_IN_FLIGHT
        self._require(right, Rule.IN_FLIGHT, f"{count} are in flight", event)

    def _drained(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        said = f"{subsystem.name} {event.fields['edition']} has drained: {edition.text.value}"
        self._require(edition.text is Text.LEFT, Rule.DRAIN, said, event)
        if edition.text is Text.LEFT:
            edition.text, edition.complained = Text.IDLE, False

    # ------------------------------------------------------------------- what is not allowed

    def _tripped(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        """What follows from it has events of its own."""

    def _quarantined(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        name = event.fields["edition"]
        twice = edition.quarantined
        self._require(not twice, Rule.QUARANTINE, f"{name} is in quarantine already", event)
        callable_still = event.fields["why"] == "command" and subsystem.is_callable(name)
        if callable_still and name == subsystem.partial:
            subsystem.in_doubt = name
        else:
            self._require(not callable_still, Rule.QUARANTINE, f"calls get {name} still", event)
        edition.quarantined = True

    def _cleared(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        said = f"{subsystem.name} {event.fields['edition']} was not in quarantine"
        self._require(edition.quarantined, Rule.QUARANTINE, said, event)
        edition.quarantined = False

    def _parameter(self, event: Event, subsystem: Subsystem, edition: Edition) -> None:
        """That the edition is there has been checked."""

    def _switched_off_or_on(self, event: Event) -> None:
        enabled = event.name == "enabled"
        self._require(enabled != self._enabled, Rule.ENABLE, f"{event.name} came twice", event)
        self._enabled = enabled
        self.enabling.append((event.time, enabled))

    def _refused(self, event: Event) -> None:
        """Note that gates may have been there for a moment: the original was called."""
        verb, _, what = event.fields["command"].partition(" ")
        subsystem = self._subsystems.get(what.partition("/")[0])
        if verb == "load" and subsystem and len(subsystem.editions) == 1:
            subsystem.editions[ORIGINAL].text = Text.LEFT

    # ------------------------------------------------------------------------------- leases

    def _leased(self, event: Event, subsystem: Subsystem) -> None:
        by, adopted = event.fields["by"], event.fields["adopted"] == "1"
        lease = subsystem.lease
        right = {
            Lease.NONE: not adopted,
            Lease.HELD: not adopted and by == subsystem.holder,
            Lease.LOST: adopted,
            Lease.EXPIRED: True,
        }
        said = f"{by} took the lease (adopted={adopted}), and it was {lease.value}"
        self._require(right[lease], Rule.LEASE, said, event)
        subsystem.lease, subsystem.holder, subsystem.owed = Lease.HELD, by, frozenset()

    def _lease_lost(self, event: Event, subsystem: Subsystem) -> None:
        by = event.fields["by"]
        right = subsystem.lease is Lease.HELD and by == subsystem.holder
        said = f"{by} lost the lease, and it was {subsystem.lease.value}: {subsystem.holder}"
        self._require(right, Rule.LEASE, said, event)
        subsystem.lease = Lease.LOST

    def _lease_expired(self, event: Event, subsystem: Subsystem) -> None:
        right = subsystem.lease is Lease.LOST
        self._require(right, Rule.LEASE, f"expired, and was {subsystem.lease.value}", event)
        if event.fields["action"] == "hold":
            subsystem.lease = Lease.NONE
            return
        subsystem.lease = Lease.EXPIRED
        wanted = frozenset({event.fields["baseline"], ORIGINAL})
        there = subsystem.active in wanted and subsystem.partial is None
        subsystem.owed = frozenset() if there else wanted

    def _released(self, event: Event, subsystem: Subsystem) -> None:
        right = subsystem.lease is not Lease.NONE
        self._require(right, Rule.LEASE, "given back, and there was none", event)
        subsystem.lease, subsystem.owed = Lease.NONE, frozenset()
