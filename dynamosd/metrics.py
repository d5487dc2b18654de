# SPDX-License-Identifier: GPL-2.0-or-later
"""The metrics: their table, the snapshot that the loop leaves, and the page that shows it.

The loop builds a `Snapshot` after each tick and hands it over in one assignment. A scrape reads
that object and nothing else: it never touches the kernel, and it cannot make the loop wait.
docs/metrics.md is made from the table here: ``python -m dynamosd.metrics > docs/metrics.md``.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from dynamosd import __version__
from dynamosd.hostsignals import CPU_BUSY, MEMORY_AVAILABLE, PRESSURE, SOURCE
from dynamosd.model import OUR_TRIGGERS, PolicyPhase, RuleState, Verdict
from dynamosd.policy.definition import Mode
from dynamosd.signals import SIGNAL_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dynamosd.model import (
        Breach,
        Decision,
        KernelState,
        ProbeCost,
        Rolling,
        Sample,
        Signals,
        SwitchResult,
    )
    from dynamosd.orders import Pause
    from dynamosd.policy.backoff import Sentence
    from dynamosd.policy.definition import Policy
    from dynamosd.sources.poll import Found

Labels = tuple[str, ...]
Values = dict[str, dict[Labels, float]]
"""By metric and by the values of its labels, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. ``type`` is ``counter``, ``gauge`` or ``histogram``."""

    name: str
    type: str
    labels: Labels
    help: str


_COUNTERS = ("subsystem", "function", "edition")
_SIGNAL = SIGNAL_KEYS
_LATENCY = "dynamos_function_latency_seconds"

DEFINITIONS = (
    Definition("dynamos_build_info", "gauge", ("version",), "Version of the daemon; always 1."),
    Definition(
        "dynamos_module_info",
        "gauge",
        ("version",),
        "Version of the kernel module; always 1, absent while it is not loaded.",
    ),
    Definition(
        "dynamos_module_up", "gauge", (), "Whether the kernel module answered the last time."
    ),
    Definition(
        "dynamos_module_enabled",
        "gauge",
        (),
        "Whether the module may switch away from the originals: 0 while its parameter enable is.",
    ),
    Definition(
        "dynamos_function_calls_total",
        "counter",
        _COUNTERS,
        "Calls that entered an edition of a function since it was loaded (exact, the module's).",
    ),
    Definition(
        "dynamos_function_in_flight_threads",
        "gauge",
        _COUNTERS,
        "Threads now executing an edition of a function (exact, the module's).",
    ),
    Definition(
        "dynamos_function_classified_calls_total",
        "counter",
        _COUNTERS,
        "Calls whose access pattern the probes could judge.",
    ),
    Definition(
        "dynamos_function_sequential_calls_total",
        "counter",
        _COUNTERS,
        "Judged calls that went on where the last one on the same file ended.",
    ),
    Definition(
        "dynamos_function_errors_total",
        "counter",
        _COUNTERS,
        "Returns that were errors, as the probes saw them.",
    ),
    Definition(
        _LATENCY,
        "histogram",
        _COUNTERS,
        "How long calls took, of the functions of which a policy reads a latency quantile.",
    ),
    Definition(
        "dynamos_function_untimed_calls_total",
        "counter",
        _COUNTERS,
        "Calls that were to be timed and of which one end was not seen, or was too deep.",
    ),
    Definition(
        "dynamos_edition_active",
        "gauge",
        ("subsystem", "edition"),
        "Whether a new call of the subsystem's functions gets this edition.",
    ),
    Definition(
        "dynamos_edition_partial",
        "gauge",
        ("subsystem", "edition"),
        "Whether a part of the new calls gets this edition: a scoped or per-object switch goes on.",
    ),
    Definition(
        "dynamos_edition_quarantined",
        "gauge",
        ("subsystem", "edition"),
        "Whether the edition may not be switched to: it has faulted, or somebody said so.",
    ),
    Definition(
        "dynamos_edition_died_threads_total",
        "counter",
        ("subsystem", "edition"),
        "Threads that have died inside the edition since it was loaded.",
    ),
    Definition(
        "dynamos_subsystem_held_callers",
        "gauge",
        ("subsystem",),
        "Callers that wait for an exclusive switch or for an object's transfer.",
    ),
    Definition(
        "dynamos_switches_total",
        "counter",
        ("subsystem", "from", "to", "trigger", "result"),
        "Switches; trigger: policy, exit, advice (ours), manual, tripwire, lease (others'); "
        "result: ok, refused, failed.",
    ),
    Definition(
        "dynamos_switch_duration_seconds",
        "histogram",
        ("subsystem", "mode"),
        "Time from the command until the daemon had it back, of its own successful switches.",
    ),
    Definition(
        "dynamos_last_switch_timestamp_seconds",
        "gauge",
        ("subsystem",),
        "When the daemon last saw the active or the partial edition change, Unix time.",
    ),
    Definition(
        "dynamos_lease_held",
        "gauge",
        ("subsystem",),
        "Whether this daemon holds the lease of a subsystem that it is to enforce.",
    ),
    Definition(
        "dynamos_lease_renewal_errors_total",
        "counter",
        ("subsystem",),
        "Times the lease could not be taken or renewed.",
    ),
    Definition(
        "dynamos_signal",
        "gauge",
        _SIGNAL,
        "A windowed measurement as the policies see it, without edition that of all; absent while "
        "there is no data.",
    ),
    Definition(
        "dynamos_signal_trusted",
        "gauge",
        _SIGNAL,
        "Whether policies may rest on the signal; 0 while probes and module disagree.",
    ),
    Definition(
        "dynamos_pressure_ratio",
        "gauge",
        ("resource", "stall"),
        "Share of the window in which some or all busy tasks waited for the resource; absent while "
        "there is no data.",
    ),
    Definition(
        "dynamos_cpu_busy_ratio",
        "gauge",
        (),
        "Share of the window that all CPUs together were not idle; absent while there is no data.",
    ),
    Definition(
        "dynamos_memory_available_ratio",
        "gauge",
        (),
        "Share of the memory that new programs could have; absent while there is no data.",
    ),
    Definition(
        "dynamos_source_value",
        "gauge",
        ("source",),
        "Newest result of a policy's source; absent while there is none, or it is stale.",
    ),
    Definition(
        "dynamos_source_fetches_total", "counter", ("source",), "Times the source was asked."
    ),
    Definition(
        "dynamos_source_errors_total",
        "counter",
        ("source",),
        "Times the source was asked and gave no result.",
    ),
    Definition(
        "dynamos_source_last_result_timestamp_seconds",
        "gauge",
        ("source",),
        "When the newest result of the source was asked for, Unix time.",
    ),
    Definition(
        "dynamos_policy_mode",
        "gauge",
        ("policy", "mode"),
        "1 for the mode that the policy is in: observe, advise, enforce.",
    ),
    Definition(
        "dynamos_policy_rule_state",
        "gauge",
        ("policy", "rule", "state"),
        "1 for the state that the rule is in: inactive, pending, active, leaving, no_data, "
        "untrusted, quarantined.",
    ),
    Definition(
        "dynamos_policy_phase",
        "gauge",
        ("policy", "phase"),
        "1 for the phase that the policy is in: paused, canary, frozen, cooldown, quarantined, "
        "untrusted, no_data, trial, active, pending, inactive.",
    ),
    Definition(
        "dynamos_objective_mean",
        "gauge",
        ("policy", "edition"),
        "The mean of the objective's number while the edition was in use, as far as it is known.",
    ),
    Definition(
        "dynamos_objective_margin",
        "gauge",
        ("policy", "edition"),
        "How far that mean may be from the true one: two standard errors.",
    ),
    Definition(
        "dynamos_objective_samples",
        "gauge",
        ("policy", "edition"),
        "How many values that mean is of; values of before the workload changed are forgotten.",
    ),
    Definition(
        "dynamos_objective_preferred",
        "gauge",
        ("policy", "edition"),
        "Whether the objective prefers the edition: the only one with a value, and it is 1.",
    ),
    Definition(
        "dynamos_objective_trials_total",
        "counter",
        ("policy",),
        "Trials of editions that have begun.",
    ),
    Definition(
        "dynamos_guardrail_verdict",
        "gauge",
        ("policy", "guardrail", "edition", "verdict"),
        "What a guardrail says of the edition in use: 1 for one of watching, passed, breached, "
        "idle, no_data, untrusted; absent while the baseline is in use.",
    ),
    Definition(
        "dynamos_guardrail_breaches_total",
        "counter",
        ("policy", "guardrail", "edition"),
        "Times an edition has broken a guardrail; in modes observe and advise, evaluations that "
        "found it so.",
    ),
    Definition(
        "dynamos_canary_step",
        "gauge",
        ("policy",),
        "At which step the policy's canary is, from 1; 0 while none goes on, absent if it has no "
        "steps.",
    ),
    Definition(
        "dynamos_canary_events_total",
        "counter",
        ("policy", "edition", "event"),
        "What has become of canaries; event: started, stepped, completed, rolled_back, given_up, "
        "ended.",
    ),
    Definition(
        "dynamos_edition_quarantine_end_timestamp_seconds",
        "gauge",
        ("subsystem", "edition"),
        "When the quarantine for a broken guardrail is over, Unix time; absent without one.",
    ),
    Definition(
        "dynamos_policy_paused",
        "gauge",
        ("policy",),
        "Whether a person has paused the policy (dynamosctl pause).",
    ),
    Definition(
        "dynamos_policy_pause_end_timestamp_seconds",
        "gauge",
        ("policy",),
        "When that pause is over, Unix time; absent if it lasts until somebody ends it.",
    ),
    Definition(
        "dynamos_policy_open_advice",
        "gauge",
        ("policy",),
        "Advice of the policy that is neither accepted nor muted; only of policies in mode advise.",
    ),
    Definition(
        "dynamos_switches_suppressed_total",
        "counter",
        ("policy", "reason"),
        "Evaluations that did not switch though something asked for it; reason: observe, advise, "
        "paused, frozen, max_switches, cooldown, quarantined, canary, keep_for, for, samples, "
        "during, untrusted, no_data.",
    ),
    Definition(
        "dynamos_policy_evaluations_total", "counter", ("policy",), "Evaluations of the policy."
    ),
    Definition(
        "dynamos_policy_last_evaluation_timestamp_seconds",
        "gauge",
        ("policy",),
        "When the policy was last evaluated, Unix time.",
    ),
    Definition(
        "dynamos_loop_lag_seconds", "gauge", (), "How late the last tick of the loop began."
    ),
    Definition(
        "dynamos_loop_missed_ticks_total",
        "counter",
        (),
        "Ticks that were left out because the one before took too long.",
    ),
    Definition("dynamos_probe_attached", "gauge", ("probe",), "Whether the probe is attached."),
    Definition(
        "dynamos_probe_runs_total",
        "counter",
        ("probe",),
        "Runs of the probe's eBPF programs since they were attached.",
    ),
    Definition(
        "dynamos_probe_run_seconds_total",
        "counter",
        ("probe",),
        "CPU time of the probe's eBPF programs since they were attached.",
    ),
    Definition(
        "dynamos_probe_missed_runs_total",
        "counter",
        ("probe",),
        "Runs that the kernel left out, since the probe was attached.",
    ),
    Definition(
        "dynamos_probe_dropped_calls_total",
        "counter",
        ("probe",),
        "Calls that the probe had no place to count, since it was attached.",
    ),
    Definition(
        "dynamos_probe_mismatches_total",
        "counter",
        ("probe",),
        "Times the probe's calls could not be brought in line with the module's exact counters.",
    ),
    Definition("dynamos_journal_errors_total", "counter", (), "Records that could not be written."),
    Definition(
        "dynamos_recording_errors_total", "counter", (), "Times a recording could not be written."
    ),
    Definition(
        "dynamos_orders_errors_total",
        "counter",
        (),
        "Times pauses and muted advice could not be kept, or read.",
    ),
    Definition(
        "dynamos_quarantines_errors_total",
        "counter",
        (),
        "Times quarantines for broken guardrails could not be kept, or read.",
    ),
    Definition(
        "dynamos_status_errors_total", "counter", (), "Times status.json could not be written."
    ),
    Definition(
        "dynamos_config_last_reload_successful",
        "gauge",
        (),
        "Whether the last attempt to read the policies succeeded.",
    ),
    Definition(
        "dynamos_config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the policies in force were read, Unix time.",
    ),
)

_LATENCY_BOUNDS_NS = tuple(4**power for power in range(5, 18))
"""From 1 µs to 17 s; powers of two are ends of the probes' own buckets."""

LATENCY_BUCKETS = tuple(bound / 1e9 for bound in _LATENCY_BOUNDS_NS)

DURATION_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.1,
    0.5,
    1.0,
    5.0,
    60.0,
)
"""Upper bounds, in seconds: a switch is one store in the kernel, and what is seen is the way there;
but an exclusive one waits until nobody is inside, for up to a minute."""

_DURATION = "dynamos_switch_duration_seconds"

_OTHER_SIGNALS: Mapping[str, str] = {
    PRESSURE: "dynamos_pressure_ratio",
    CPU_BUSY: "dynamos_cpu_busy_ratio",
    MEMORY_AVAILABLE: "dynamos_memory_available_ratio",
    SOURCE: "dynamos_source_value",
}
"""The metrics of those signals that are not of a function; their arguments are the labels."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations: how many in each bucket (not cumulative, the last is the rest), their sum."""

    counts: tuple[int, ...] = (0,) * (len(DURATION_BUCKETS) + 1)
    total: float = 0.0

    def observe(self, value: float) -> Histogram:
        """Give the histogram with one observation more."""
        bucket = sum(bound < value for bound in DURATION_BUCKETS)
        counts = (*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :])
        return Histogram(counts, self.total + value)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the page shows, at one time."""

    values: Mapping[str, Mapping[Labels, float]]
    durations: Mapping[Labels, Histogram] = field(default_factory=dict)
    latencies: Mapping[Labels, Histogram] = field(default_factory=dict)


# --------------------------------------------------------------------------- from the stages


def kernel_values(kernel: KernelState) -> Values:
    """Give what the module shows."""
    calls: dict[Labels, float] = {}
    in_flight: dict[Labels, float] = {}
    active: dict[Labels, float] = {}
    partial: dict[Labels, float] = {}
    for subsystem in kernel.subsystems.values():
        for edition in subsystem.editions:
            active[subsystem.name, edition] = float(edition == subsystem.active)
            partial[subsystem.name, edition] = float(edition == subsystem.partial)
        for function in subsystem.functions.values():
            for edition, counts in function.counts.items():
                calls[subsystem.name, function.name, edition] = counts.calls
                in_flight[subsystem.name, function.name, edition] = counts.in_flight
    return {
        "dynamos_module_info": {(kernel.version,): 1.0},
        "dynamos_module_enabled": {(): float(kernel.enabled)},
        "dynamos_function_calls_total": calls,
        "dynamos_function_in_flight_threads": in_flight,
        "dynamos_edition_active": active,
        "dynamos_edition_partial": partial,
        "dynamos_subsystem_held_callers": {
            (each.name,): float(each.held) for each in kernel.subsystems.values()
        },
        **_safety_values(kernel),
    }


def _safety_values(kernel: KernelState) -> Values:
    """Give which editions are in quarantine, and what has died in them."""
    editions = {
        (subsystem.name, edition.name): edition
        for subsystem in kernel.subsystems.values()
        for edition in subsystem.editions.values()
    }
    return {
        "dynamos_edition_quarantined": {
            labels: float(edition.quarantine is not None) for labels, edition in editions.items()
        },
        "dynamos_edition_died_threads_total": {
            labels: float(edition.died) for labels, edition in editions.items()
        },
    }


def sample_values(sample: Sample) -> Values:
    """Give what the probes say: errors, and access patterns of the functions that have one."""
    judged = {key: each for key, each in sample.probes.items() if each.classified}
    timed = {key: each for key, each in sample.probes.items() if each.latency is not None}
    return {
        "dynamos_function_errors_total": {
            key: float(each.errors) for key, each in sample.probes.items()
        },
        "dynamos_function_untimed_calls_total": {
            key: float(each.untimed) for key, each in timed.items()
        },
        "dynamos_function_classified_calls_total": {
            key: float(each.classified) for key, each in judged.items()
        },
        "dynamos_function_sequential_calls_total": {
            key: float(each.sequential) for key, each in judged.items()
        },
    }


def latency_histograms(sample: Sample) -> dict[Labels, Histogram]:
    """Give how long calls took, with fewer and larger buckets than the probes have."""
    return {
        key: Histogram(each.latency.coarse(_LATENCY_BOUNDS_NS), each.latency.nanoseconds / 1e9)
        for key, each in sample.probes.items()
        if each.latency is not None
    }


def signal_values(signals: Signals) -> Values:
    """Give the signals, those of functions without data only by whether they are trusted."""
    known: dict[Labels, float] = {}
    trusted: dict[Labels, float] = {}
    others: Values = {metric: {} for metric in _OTHER_SIGNALS.values()}
    for key, signal in signals.values.items():
        metric = _OTHER_SIGNALS.get(key[0])
        if metric is None:
            trusted[key] = float(signal.trusted)
        if signal.value is not None:
            labels = key if metric is None else tuple(filter(None, key[1:]))
            (known if metric is None else others[metric])[labels] = signal.value
    return {"dynamos_signal": known, "dynamos_signal_trusted": trusted, **others}


def source_values(found: Mapping[str, Found]) -> Values:
    """Give how the policies' sources do, by name."""
    return {
        "dynamos_source_fetches_total": {
            (name,): float(each.fetches) for name, each in found.items()
        },
        "dynamos_source_errors_total": {
            (name,): float(each.errors) for name, each in found.items()
        },
        "dynamos_source_last_result_timestamp_seconds": {
            (name,): each.wall for name, each in found.items() if each.value is not None
        },
    }


def lease_values(held: Mapping[str, bool]) -> Values:
    """Give the leases that the daemon needs; ``held`` tells which it has, by subsystem."""
    return {"dynamos_lease_held": {(name,): float(ours) for name, ours in held.items()}}


def policy_values(policies: Iterable[Policy], decisions: Mapping[str, Decision]) -> Values:
    """Give each policy's mode and where it and its rules stand; ``decisions`` are the last ones."""
    modes: dict[Labels, float] = {}
    phases: dict[Labels, float] = {}
    rules: dict[Labels, float] = {}
    for policy in policies:
        for mode in Mode:
            modes[policy.name, str(mode)] = float(mode is policy.mode)
        decision = decisions.get(policy.name)
        if decision is None:
            continue
        for phase in PolicyPhase:
            phases[policy.name, str(phase)] = float(phase is decision.phase)
        for rule, now in decision.rules.items():
            for state in RuleState:
                rules[policy.name, rule, str(state)] = float(state is now)
    return {
        "dynamos_policy_mode": modes,
        "dynamos_policy_rule_state": rules,
        "dynamos_policy_phase": phases,
    }


def pause_values(policies: Iterable[Policy], pause_of: Callable[[Policy], Pause | None]) -> Values:
    """Give which policies a person has paused, and until when."""
    pauses = {(each.name,): pause_of(each) for each in policies}
    return {
        "dynamos_policy_paused": {name: float(each is not None) for name, each in pauses.items()},
        "dynamos_policy_pause_end_timestamp_seconds": {
            name: each.until for name, each in pauses.items() if each and each.until is not None
        },
    }


def advice_values(open_advice: Mapping[str, int]) -> Values:
    """Give how much open advice there is, by policy."""
    return {
        "dynamos_policy_open_advice": {(name,): float(n) for name, n in open_advice.items()},
    }


def objective_values(decisions: Mapping[str, Decision]) -> Values:
    """Give what the policies' objectives have found out, by their last decisions."""
    means: dict[Labels, float] = {}
    margins: dict[Labels, float] = {}
    samples: dict[Labels, float] = {}
    preferred: dict[Labels, float] = {}
    trials: dict[Labels, float] = {}
    for name, decision in decisions.items():
        learned = decision.learned
        if learned is None:
            continue
        trials[name,] = learned.trials
        preferred[name, learned.preferred] = 1.0
        for edition, known in learned.editions.items():
            means[name, edition] = known.mean
            samples[name, edition] = known.samples
            if known.margin is not None:
                margins[name, edition] = known.margin
    return {
        "dynamos_objective_mean": means,
        "dynamos_objective_margin": margins,
        "dynamos_objective_samples": samples,
        "dynamos_objective_preferred": preferred,
        "dynamos_objective_trials_total": trials,
    }


def canary_values(policies: Iterable[Policy], decisions: Mapping[str, Decision]) -> Values:
    """Give at which step the policies' canaries are, by their last decisions."""
    steps: dict[Labels, float] = {}
    for policy in policies:
        decision = decisions.get(policy.name)
        if policy.canary is not None and decision is not None:
            steps[policy.name,] = decision.rolling.step if decision.rolling else 0.0
    return {"dynamos_canary_step": steps}


def guardrail_values(decisions: Mapping[str, Decision]) -> Values:
    """Give what the policies' guardrails say, by their last decisions."""
    verdicts: dict[Labels, float] = {}
    for policy, decision in decisions.items():
        guarded = decision.guarded
        if guarded is None:
            continue
        for name, found in guarded.findings.items():
            for verdict in Verdict:
                labels = policy, name, guarded.edition, str(verdict)
                verdicts[labels] = float(verdict is found.verdict)
    return {"dynamos_guardrail_verdict": verdicts}


def quarantine_values(lasting: Iterable[tuple[str, Sentence]]) -> Values:
    """Give when the daemon's own quarantines end."""
    ends: dict[Labels, float] = {(name, each.edition): each.until for name, each in lasting}
    return {"dynamos_edition_quarantine_end_timestamp_seconds": ends}


def probe_values(probe: str, cost: ProbeCost, dropped: int, mismatches: int) -> Values:
    """Give what a probe that is attached costs, and how well it sees."""
    by_name = {
        "dynamos_probe_attached": 1.0,
        "dynamos_probe_runs_total": cost.runs,
        "dynamos_probe_run_seconds_total": cost.run_seconds,
        "dynamos_probe_missed_runs_total": cost.missed,
        "dynamos_probe_dropped_calls_total": dropped,
        "dynamos_probe_mismatches_total": mismatches,
    }
    return {name: {(probe,): float(value)} for name, value in by_name.items()}


@dataclass(slots=True)
class Tally:
    """What the daemon counts itself. Belongs to the loop; `values` gives copies."""

    switches: Counter[Labels] = field(default_factory=Counter)
    last_switches: dict[Labels, float] = field(default_factory=dict)
    durations: dict[Labels, Histogram] = field(default_factory=dict)
    evaluations: Counter[Labels] = field(default_factory=Counter)
    last_evaluations: dict[Labels, float] = field(default_factory=dict)
    suppressed: Counter[Labels] = field(default_factory=Counter)
    lease_errors: Counter[Labels] = field(default_factory=Counter)
    breaches: Counter[Labels] = field(default_factory=Counter)
    canaries: Counter[Labels] = field(default_factory=Counter)

    def add_switch(self, result: SwitchResult, wall: float) -> None:
        """Count a switch that was tried, or seen; ``wall`` is when, in Unix time."""
        labels = (result.subsystem, result.origin, result.target, result.trigger, result.result)
        self.switches[labels] += 1
        if result.result != "ok":
            return
        self.last_switches[(result.subsystem,)] = wall
        if result.trigger in OUR_TRIGGERS:
            which = (result.subsystem, result.mode)
            before = self.durations.get(which, Histogram())
            self.durations[which] = before.observe(result.duration_seconds)

    def add_evaluation(self, decision: Decision, wall: float) -> None:
        """Count an evaluation, done at ``wall`` in Unix time."""
        self.evaluations[(decision.policy,)] += 1
        self.last_evaluations[(decision.policy,)] = wall
        if decision.suppressed is not None:
            self.suppressed[decision.policy, str(decision.suppressed)] += 1

    def add_lease_error(self, subsystem: str) -> None:
        """Count a lease that could not be had or kept."""
        self.lease_errors[(subsystem,)] += 1

    def add_breach(self, policy: str, breach: Breach) -> None:
        """Count a guardrail that was broken."""
        self.breaches[policy, breach.guardrail, breach.edition] += 1

    def add_canary(self, policy: str, rolling: Rolling) -> None:
        """Count what has become of a canary."""
        self.canaries[policy, rolling.edition, str(rolling.event)] += 1

    def values(self) -> Values:
        """Give all counts so far."""
        return {
            "dynamos_switches_total": {**self.switches},
            "dynamos_last_switch_timestamp_seconds": {**self.last_switches},
            "dynamos_policy_evaluations_total": {**self.evaluations},
            "dynamos_switches_suppressed_total": {**self.suppressed},
            "dynamos_policy_last_evaluation_timestamp_seconds": {**self.last_evaluations},
            "dynamos_lease_renewal_errors_total": {**self.lease_errors},
            "dynamos_guardrail_breaches_total": {**self.breaches},
            "dynamos_canary_events_total": {**self.canaries},
        }


# ---------------------------------------------------------------------------------- the page


class Page(Collector):
    """The text of ``/metrics``, made once for each snapshot."""

    def __init__(self) -> None:
        """Start with what is known before the first tick."""
        self._snapshot = Snapshot({"dynamos_build_info": {(__version__,): 1.0}})
        self._rendered: tuple[Snapshot, bytes] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def show(self, snapshot: Snapshot) -> None:
        """Put a new snapshot in the place of the last one."""
        self._snapshot = snapshot

    def text(self) -> bytes:
        """Give the page. Threads that come at the same time may each render it; none waits."""
        rendered, snapshot = self._rendered, self._snapshot
        if rendered is None or rendered[0] is not snapshot:
            rendered = (snapshot, generate_latest(self._registry))
            self._rendered = rendered
        return rendered[1]

    def collect(self) -> Iterator[Metric]:
        """Give the snapshot's metrics, in the order of the table."""
        snapshot = self._snapshot
        for definition in DEFINITIONS:
            if definition.name == _DURATION:
                yield _histogram(definition, snapshot.durations, DURATION_BUCKETS)
            elif definition.name == _LATENCY:
                if snapshot.latencies:
                    yield _histogram(definition, snapshot.latencies, LATENCY_BUCKETS)
            elif values := snapshot.values.get(definition.name):
                yield _family(definition, values)

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: the registry has this collector alone."""
        return iter(())


def _family(definition: Definition, values: Mapping[Labels, float]) -> Metric:
    kind = CounterMetricFamily if definition.type == "counter" else GaugeMetricFamily
    family = kind(definition.name, definition.help, labels=definition.labels)
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _histogram(
    definition: Definition, durations: Mapping[Labels, Histogram], ends: Iterable[float]
) -> Metric:
    family = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
    bounds = [*(str(bound) for bound in ends), "+Inf"]
    for labels, histogram in sorted(durations.items(), key=lambda each: each[0]):
        sums = [sum(histogram.counts[: place + 1]) for place in range(len(bounds))]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, sums, strict=True)]
        family.add_metric(labels, buckets, histogram.total)
    return family


# ----------------------------------------------------------------------------- documentation

_DOCUMENT = """\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
# Metrics

Made from the table in `dynamosd/metrics.py`: `python -m dynamosd.metrics > docs/metrics.md`.

The daemon serves them at `http://127.0.0.1:9947/metrics` (`--metrics-address`). A scrape shows the
state after the last tick of the loop. Labels come from the module's and the policies' names; none
is ever a process, a command or a cgroup.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
"""


def document() -> str:
    """Give docs/metrics.md."""
    rows = (
        f"| `{each.name}` | {each.type} | {', '.join(each.labels) or '-'} | {each.help} |"
        for each in DEFINITIONS
    )
    return _DOCUMENT + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
