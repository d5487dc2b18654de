# SPDX-License-Identifier: GPL-2.0-or-later
"""The values that travel through the house, left to right. Frozen, without behaviour, without I/O.

Times are seconds of CLOCK_MONOTONIC unless a name says otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamosd.latency import Latency

ORIGINAL = "original"
"""Name of edition 0, which every subsystem has."""

HELD, LOST = "held", "lost"
"""What a lease is while there is one: its holder is there, or has gone and its grace is running."""


class EditionState(enum.StrEnum):
    """What the kernel module says of an edition."""

    ACTIVE = "active"
    PARTIAL = "partial"
    DRAINING = "draining"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Counts:
    """The module's exact counters of one function in one edition."""

    calls: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Edition:
    """One implementation of a subsystem's functions.

    ``modes`` are those in which one may switch to it and away from it. ``parameters`` are those of
    its module that may be read. ``quarantine`` is why it may not be switched to; ``died`` threads
    have died inside it.
    """

    name: str
    index: int
    state: EditionState
    module: str
    modes: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    quarantine: str | None = None
    died: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """A gated (or gateable) kernel function. ``counts`` is keyed by edition name."""

    name: str
    id: int
    backend: str
    counts: Mapping[str, Counts]

    @property
    def is_gated(self) -> bool:
        """Whether calls go through a gate now."""
        return self.backend not in {"none", "waiting"}


@dataclass(frozen=True, slots=True)
class Subsystem:
    """A set of functions that switch together, as the module shows it.

    ``partial`` is the edition that some of the new calls get instead of the active one; ``scope``
    says which, if the mode is ``scoped``. ``held`` callers wait for a switch; ``objects`` are kept
    in mind for one. ``before_gate`` threads were inside before there was a gate, and of
    ``unreliable`` more that is not known. ``lease`` is `HELD` or `LOST` by the program with the pid
    ``lease_holder``.
    """

    name: str
    active: str
    mode: str
    switches: int
    editions: Mapping[str, Edition]
    functions: Mapping[str, Function]
    partial: str | None = None
    scope: str | None = None
    held: int = 0
    objects: int = 0
    before_gate: int = 0
    unreliable: int = 0
    lease: str | None = None
    lease_holder: int = 0

    @property
    def in_flight(self) -> int:
        """How many threads execute any edition of any of the functions."""
        return sum(
            counts.in_flight
            for function in self.functions.values()
            for counts in function.counts.values()
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """Which editions new calls of a subsystem get; the fields are those of `Subsystem`."""

    active: str
    partial: str | None = None
    mode: str = ""
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class KernelState:
    """Everything under ``/sys/kernel/dynamos`` at one time, and how the module is set.

    ``enabled`` is False while the module is switched off. ``tripwire`` is what sends a subsystem to
    ``original``: ``oops``, ``warn`` or ``off``; "" when the module does not say.
    """

    version: str
    subsystems: Mapping[str, Subsystem]
    enabled: bool = True
    tripwire: str = ""


@dataclass(frozen=True, slots=True)
class FunctionSample:
    """Cumulative figures of one function in one edition, as the eBPF probes saw them.

    ``calls`` and ``returns`` count since the probes were attached. ``classified`` are the calls
    whose access pattern could be judged, ``sequential`` those of them that went on where the last
    call on the same file ended; ``pages`` is how far their readers have got, in pages. All three
    stay 0 for functions without that probe. ``errors`` are the returns that were errors.
    ``latency`` is None where calls are not timed; ``untimed`` are those of which one end was not
    seen, or was too deep.
    """

    calls: int
    returns: int
    sequential: int = 0
    classified: int = 0
    pages: int = 0
    errors: int = 0
    untimed: int = 0
    latency: Latency | None = None


@dataclass(frozen=True, slots=True)
class ProbeCost:
    """What the eBPF probes have cost since they were attached, and how many events they missed."""

    runs: int
    run_seconds: float
    missed: int


RESOURCES = ("cpu", "io", "memory")
"""What tasks may be stalled for, as the kernel measures it."""

STALLS = ("some", "full")
"""How many of those that want to run are: at least one of them, or all at once."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Time that all CPUs together have been busy and idle since boot, in the kernel's ticks."""

    busy: int
    idle: int


@dataclass(frozen=True, slots=True)
class HostSample:
    """One reading of the whole host's figures, at ``time``.

    ``stalled`` has the seconds of stall since boot, by one of `RESOURCES` and one of `STALLS`.
    ``memory_available`` is the share (0 to 1) that new programs could have. ``lacks`` says why one
    of `RESOURCES`, ``stat`` or ``meminfo`` could not be read.
    """

    time: float
    stalled: Mapping[tuple[str, str], float]
    cpu: CpuTimes | None
    memory_available: float | None
    lacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A Prometheus query whose result is a signal; ``url`` is that of the server."""

    name: str
    url: str
    query: str
    every_seconds: float
    staleness_seconds: float
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of all sources. ``probes`` is keyed by (subsystem, function, edition).

    ``mismatches`` holds, per (subsystem, function), why the probes' figures and the module's exact
    counters disagree; such a function's signals are not trusted. ``sources`` has the newest results
    of the policies' sources, by name.
    """

    time: float
    kernel: KernelState
    probes: Mapping[tuple[str, str, str], FunctionSample]
    mismatches: Mapping[tuple[str, str], str] = field(default_factory=dict)
    host: HostSample | None = None
    sources: Mapping[str, Signal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signal:
    """A windowed measurement. ``value`` is None when there is no data; ``reason`` says why."""

    value: float | None
    trusted: bool = True
    reason: str = ""


SignalKey = tuple[str, str, str]
"""Signal name, function and edition; the edition is "" for all of them together."""


@dataclass(frozen=True, slots=True)
class Signals:
    """All signals at one time: ``values["calls_rate", "pipe_write", "original"]``."""

    time: float
    values: Mapping[SignalKey, Signal]


class RuleState(enum.StrEnum):
    """Where a rule stands; drawn in docs/policy.md.

    The last three are kinds of the others: an inactive rule without data to begin on, or with data
    that is not trusted, and an active or leaving one whose edition is in quarantine.
    """

    INACTIVE = "inactive"
    PENDING = "pending"
    ACTIVE = "active"
    LEAVING = "leaving"
    NO_DATA = "no_data"
    UNTRUSTED = "untrusted"
    QUARANTINED = "quarantined"


class PolicyPhase(enum.StrEnum):
    """Where a policy stands as a whole; the first of these that is true, from the top."""

    PAUSED = "paused"
    CANARY = "canary"
    FROZEN = "frozen"
    COOLDOWN = "cooldown"
    QUARANTINED = "quarantined"
    UNTRUSTED = "untrusted"
    NO_DATA = "no_data"
    TRIAL = "trial"
    ACTIVE = "active"
    PENDING = "pending"
    INACTIVE = "inactive"


class Suppression(enum.StrEnum):
    """Why a switch that signals or rules ask for is not made now."""

    OBSERVE = "observe"
    ADVISE = "advise"
    PAUSED = "paused"
    FROZEN = "frozen"
    MAX_SWITCHES = "max_switches"
    COOLDOWN = "cooldown"
    QUARANTINED = "quarantined"
    CANARY = "canary"
    KEEP_FOR = "keep_for"
    FOR = "for"
    SAMPLES = "samples"
    DURING = "during"
    UNTRUSTED = "untrusted"
    NO_DATA = "no_data"


class Action(enum.StrEnum):
    """What a decision asks for."""

    STAY = "stay"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class KnownEdition:
    """What an objective knows of an edition: its mean is right by ``margin``, None if unknown."""

    mean: float
    margin: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Learned:
    """What a policy's objective has found out; ``trying`` is None between rounds of trials.

    ``goal`` is ``minimize`` or ``maximize``, ``measure`` the number's text, ``value`` the number.
    """

    goal: str
    measure: str
    value: float | None
    preferred: str
    trying: str | None
    rounds: int
    trials: int
    editions: Mapping[str, KnownEdition]


class Verdict(enum.StrEnum):
    """What a guardrail has come to; the last three are those while it cannot tell."""

    WATCHING = "watching"
    PASSED = "passed"
    BREACHED = "breached"
    IDLE = "idle"
    NO_DATA = "no_data"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guardrail has found of the edition in use.

    It was broken in ``bad`` windows and not in ``good`` ones since it last came to a verdict; one
    is reached when one of them is ``needed`` more than the other. ``values`` are those it read.
    ``has_passed``: it has, since the edition is in use for these calls, whatever it says now.
    """

    verdict: Verdict
    bad: int
    good: int
    needed: int
    reason: str
    values: Mapping[str, float | None]
    has_passed: bool = False


@dataclass(frozen=True, slots=True)
class Breach:
    """An edition has broken a guardrail; the first quarantine for that is so long."""

    edition: str
    guardrail: str
    reason: str
    quarantine_seconds: float


@dataclass(frozen=True, slots=True)
class Guarded:
    """What a policy's guardrails say of the edition that is guarded, in use for ``seconds``.

    ``scope`` is which calls it gets, "" if it gets all.
    """

    edition: str
    scope: str
    seconds: float
    findings: Mapping[str, Finding]
    breach: Breach | None = None


class RolloutEvent(enum.StrEnum):
    """What happens to a canary: all but the first are switches, and the last four its end."""

    HOLDS = "holds"
    STARTED = "started"
    STEPPED = "stepped"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    GIVEN_UP = "given_up"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Part:
    """An edition that some of the calls get, and which, by a canary of the policy's own."""

    edition: str
    scope: str


@dataclass(frozen=True, slots=True)
class Rolling:
    """What a decision does with a canary.

    ``scope`` is which calls ``edition`` has behind it, "" for all, or after the end for none;
    ``step`` counts from 1, and is 0 at the end. ``seconds`` is for how long the step goes on.
    """

    edition: str
    event: RolloutEvent
    scope: str
    step: int
    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One evaluation's outcome and its reason; every one is recorded (unchanged ones folded).

    ``values`` are the signals the reason rests on, e.g. {'calls_rate("pipe_write")': 51234.0}.
    ``rule`` is "" when no rule is active and the baseline is wanted. ``suppressed`` is why another
    edition than the current one is not switched to, if one is asked for; in mode advise together
    with the action to switch. ``readings`` has the values of all that the policy reads.
    ``learned`` is None when the policy has no objective, or while a rule is in force; ``guarded``
    while no edition but the baseline is in use, or the policy has no guardrails. ``scope`` is which
    calls shall get the target, "" for all. ``rolling`` is None when no canary is going on.
    """

    time: float
    policy: str
    subsystem: str
    action: Action
    current: str
    target: str
    rule: str
    reason: str
    values: Mapping[str, float | None]
    rules: Mapping[str, RuleState]
    phase: PolicyPhase = PolicyPhase.INACTIVE
    suppressed: Suppression | None = None
    readings: Mapping[str, float | None] = field(default_factory=dict)
    learned: Learned | None = None
    guarded: Guarded | None = None
    scope: str = ""
    rolling: Rolling | None = None


PARTIAL_MODES = frozenset({"scoped", "per-object"})
"""The modes in which an edition may get a part of the new calls, for a while or for good."""


@dataclass(frozen=True, slots=True)
class SwitchOptions:
    """How to switch. What is None is the kernel module's choice."""

    mode: str | None = None
    timeout_seconds: float | None = None
    scope: str | None = None
    objects: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseState:
    """How a subsystem's lease stands: `HELD`, `LOST` or None, and by whom.

    ``known`` is False when the module does not show leases.
    """

    state: str | None
    holder: int = 0
    known: bool = True


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What a lease asks for: when it is lost, how long its grace is, and what is done then.

    ``action`` is ``baseline`` (a switch to the edition ``baseline``) or ``hold`` (nothing).
    """

    action: str
    baseline: str
    grace_seconds: float
    ttl_seconds: float


OUR_TRIGGERS = frozenset({"policy", "exit", "advice", "pin"})
"""The triggers of switches that the daemon makes, and measures."""


@dataclass(frozen=True, slots=True)
class SwitchResult:
    """What became of a switch, confirmed by reading back.

    ``trigger`` is "policy", "exit" or (an advice that a person accepted) "advice" for a switch of
    ours, "manual", "tripwire" or "lease" for one that others made; ``result`` is "ok", "refused" or
    "failed".
    ``mode`` is "" when it was the module's to choose and nothing came of it. ``partial``: the
    target gets a part of the new calls only (yet). ``changed``: it was not so before.
    """

    time: float
    subsystem: str
    origin: str
    target: str
    mode: str
    trigger: str
    result: str
    reason: str
    duration_seconds: float
    partial: bool = False
    scope: str | None = None
    changed: bool = True
