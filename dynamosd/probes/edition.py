# SPDX-License-Identifier: GPL-2.0-or-later
"""One sample of everything: the module's exact counters, the probes' figures, and do they agree.

The two are read one after the other while calls go on, so they are never equal. What must hold
is an order: the probes are read, then the module, then the probes again, and the calls that the
module shows lie between what the probes showed before and after::

    probes before  <=  module - offset  <=  probes after (+ calls at the threshold)

``offset`` is how many calls the module had counted when the probes were attached. No reading
tells it, but each narrows it down; when no offset is left that fits them all, calls were lost
on one side. A call is counted by the module a few instructions before the probes see it; as
these run with the CPU held, there are at most as many such calls as CPUs, and as calls in flight.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamosd.errors import Exhausted, is_shortage
from dynamosd.model import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dynamosd.kmod import Kmod
    from dynamosd.model import Counts, FunctionSample, KernelState, ProbeCost
    from dynamosd.probes import Probe

Key = tuple[str, str, str]
"""(subsystem, function, edition)."""

DISTRUST_SAMPLES = 5
"""For how many samples after a mismatch a function stays untrusted."""


@dataclass(frozen=True, slots=True)
class _Offset:
    """The offsets that fit all readings so far: ``low`` to ``high``. ``identity`` is whose."""

    identity: tuple[int, int]
    calls: int
    low: int
    high: int


@dataclass(slots=True)
class Agreement:
    """Compares the probes with the module, sample after sample.

    ``total`` counts the mismatches found. ``cpus`` bounds the calls at the threshold.
    """

    cpus: int = field(default_factory=lambda: os.cpu_count() or 1)
    total: int = 0
    _offsets: dict[Key, _Offset] = field(default_factory=dict)
    _distrust: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def check(
        self,
        before: Mapping[Key, FunctionSample],
        kernel: KernelState,
        after: Mapping[Key, FunctionSample],
    ) -> dict[tuple[str, str], str]:
        """Give, by (subsystem, function), why its figures are not to be trusted now."""
        self._forgive()
        counters = dict(_counters(kernel))
        self._offsets = {key: self._offsets[key] for key in self._offsets if key in counters}
        for key, (identity, counts) in counters.items():
            seen = _calls(before, key), _calls(after, key)
            if reason := self._narrow(key, identity, counts, seen):
                self.total += 1
                self._distrust[key[:2]] = (DISTRUST_SAMPLES, reason)
        return {function: reason for function, (_, reason) in self._distrust.items()}

    def _forgive(self) -> None:
        self._distrust = {
            function: (left - 1, reason)
            for function, (left, reason) in self._distrust.items()
            if left > 1
        }

    def _narrow(
        self, key: Key, identity: tuple[int, int], counts: Counts, seen: tuple[int, int]
    ) -> str:
        """Narrow one offset down; give the reason when none is left, and start anew."""
        before, after = seen
        known = self._offsets.get(key)
        if known and (known.identity != identity or counts.calls < known.calls):
            # Loaded anew: what was read before the module may be of the edition that went.
            known, before = None, 0
        threshold = min(counts.in_flight, self.cpus)
        low, high = counts.calls - threshold - after, counts.calls - before
        fresh = _Offset(identity, counts.calls, low, high)
        if known is None:
            self._offsets[key] = fresh
            return ""
        both = _Offset(identity, counts.calls, max(low, known.low), min(high, known.high))
        if both.low <= both.high:
            self._offsets[key] = both
            return ""
        self._offsets[key] = fresh
        edition = key[2]
        if low > known.high:
            return f"the probes missed at least {low - known.high} calls of edition {edition}"
        return f"the probes saw {known.low - high} calls of edition {edition} too many"


def _counters(kernel: KernelState) -> Iterator[tuple[Key, tuple[tuple[int, int], Counts]]]:
    """Give all counters, each with its numbers in the tracepoints: new numbers, new counter."""
    for subsystem in kernel.subsystems.values():
        for function in subsystem.functions.values():
            for name, counts in function.counts.items():
                if edition := subsystem.editions.get(name):
                    identity = (function.id, edition.index)
                    yield (subsystem.name, function.name, name), (identity, counts)


def _calls(figures: Mapping[Key, FunctionSample], key: Key) -> int:
    """Give the calls a probe saw; a function that was never called has no figures yet."""
    return figures[key].calls if key in figures else 0


@dataclass(slots=True)
class Sampler:
    """Takes samples. ``now`` gives seconds of CLOCK_MONOTONIC.

    Without a probe, or when the probe fails, samples hold the module's counters alone. ``timed``
    are the functions of which somebody wants to know how long their calls take.
    """

    kmod: Kmod
    probe: Probe | None
    now: Callable[[], float]
    agreement: Agreement = field(default_factory=Agreement)
    timed: frozenset[str] = frozenset()
    _last: KernelState | None = None
    _lost: str = ""

    def sample(self) -> Sample:
        """Read everything once.

        Raises:
            Unreachable: the module is not loaded any more.
            Exhausted: the module or the probe may be there; we have no means to look.
        """
        before = self._read_probe(self._last or self.kmod.read())
        kernel, time = self.kmod.read(), self.now()
        after = self._read_probe(kernel)
        self._last = kernel
        if before is None or after is None:
            return Sample(time, kernel, {})
        return Sample(time, kernel, after, self.agreement.check(before, kernel, after))

    def _read_probe(self, kernel: KernelState) -> Mapping[Key, FunctionSample] | None:
        if self.probe is None:
            return None
        try:
            self.probe.watch(kernel, self.timed)
            return self.probe.read(kernel)
        except Exception as error:
            # It is all that BCC raises, and no reason to stop.
            if is_shortage(error):
                raise Exhausted(f"the probes cannot be read: {error}") from error
            self.detach(str(error) or type(error).__name__)
            return None

    def expenses(self) -> tuple[ProbeCost, int] | None:
        """Give what the probe costs and how many calls it dropped; None when it does not say."""
        if self.probe is None:
            return None
        try:
            return self.probe.cost(), self.probe.dropped()
        except Exception as error:  # noqa: BLE001 - as above
            if not is_shortage(error):
                self.detach(str(error) or type(error).__name__)
            return None

    def detach(self, reason: str) -> None:
        """Go on without the probe; ``reason`` is kept for `take_loss`."""
        probe, self.probe, self._lost = self.probe, None, reason
        if probe is not None:
            with contextlib.suppress(Exception):
                probe.close()

    def take_loss(self) -> str:
        """Give why the probe was lost, once; empty when that was told, or it was not lost."""
        reason, self._lost = self._lost, ""
        return reason
