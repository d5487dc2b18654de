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

from dynamosd import __version__
from dynamosd.budget import Budget, Step
from dynamosd.exposition import Exposition, Family, Labels
from dynamosd.hostsignals import CPU_BUSY, MEMORY_AVAILABLE, PRESSURE, SOURCE
from dynamosd.model import HELD, LOST, OUR_TRIGGERS, EditionState, PolicyPhase, RuleState, Verdict
from dynamosd.policy.definition import Mode
from dynamosd.signals import SIGNAL_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from dynamosd.drains import Drain
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
    from dynamosd.orders import Pause, Pin
    from dynamosd.policy.backoff import Sentence
    from dynamosd.policy.definition import Policy
    from dynamosd.sources.poll import Found

Values = dict[str, dict[Labels, float]]
"""By metric and by the values of its labels, in the order of the table."""


MAX_SERIES = 50_000
"""So many series, or histograms, of one metric are shown; what is beyond is counted."""

_COUNTERS = ("subsystem", "function", "edition")
_SIGNAL = SIGNAL_KEYS
_DURATION = "dynamos_switch_duration_seconds"
_DRAIN = "dynamos_drain_duration_seconds"
_LATENCY = "dynamos_function_latency_seconds"
_LEFT_OUT = "dynamos_left_out_series"

_LEFT_OUT_FAMILY = Family(
    _LEFT_OUT,
    "gauge",
    ("metric",),
    f"Series (or histograms) of a metric that are not shown: those beyond {MAX_SERIES}.",
)

DEFINITIONS = (
    Family("dynamos_build_info", "gauge", ("version",), "Version of the daemon; always 1."),
    Family(
        "dynamos_module_info",
        "gauge",
        ("version",),
        "Version of the kernel module; always 1, absent while it is not loaded.",
    ),
    Family("dynamos_module_up", "gauge", (), "Whether the kernel module answered the last time."),
    Family(
        "dynamos_module_enabled",
        "gauge",
        (),
        "Whether the module may switch away from the originals: 0 while its parameter enable is.",
    ),
    Family(
        "dynamos_function_calls_total",
        "counter",
        _COUNTERS,
        "Calls that entered an edition of a function since it was loaded (exact, the module's).",
    ),
    Family(
        "dynamos_function_in_flight_threads",
        "gauge",
        _COUNTERS,
        "Threads now executing an edition of a function (exact, the module's).",
    ),
    Family(
        "dynamos_function_classified_calls_total",
        "counter",
        _COUNTERS,
        "Calls whose access pattern the probes could judge.",
    ),
    Family(
        "dynamos_function_sequential_calls_total",
        "counter",
        _COUNTERS,
        "Judged calls that went on where the last one on the same file ended.",
    ),
    Family(
        "dynamos_function_errors_total",
        "counter",
        _COUNTERS,
        "Returns that were errors, as the probes saw them.",
    ),
    Family(
        _LATENCY,
        "histogram",
        _COUNTERS,
        "How long calls took, of the functions of which a policy reads a latency quantile.",
    ),
    Family(
        "dynamos_function_untimed_calls_total",
        "counter",
        _COUNTERS,
        "Calls that were to be timed and of which one end was not seen, or was too deep.",
    ),
    Family(
        "dynamos_edition_active",
        "gauge",
        ("subsystem", "edition"),
        "Whether a new call of the subsystem's functions gets this edition.",
    ),
    Family(
        "dynamos_edition_partial",
        "gauge",
        ("subsystem", "edition"),
        "Whether a part of the new calls gets this edition: a scoped or per-object switch goes on.",
    ),
    Family(
        "dynamos_edition_draining",
        "gauge",
        ("subsystem", "edition"),
        "Whether the edition was left and still has threads in flight.",
    ),
    Family(
        "dynamos_edition_quarantined",
        "gauge",
        ("subsystem", "edition"),
        "Whether the edition may not be switched to: it has faulted, or somebody said so.",
    ),
    Family(
        "dynamos_edition_died_threads_total",
        "counter",
        ("subsystem", "edition"),
        "Threads that have died inside the edition since it was loaded.",
    ),
    Family(
        "dynamos_subsystem_held_callers",
        "gauge",
        ("subsystem",),
        "Callers that wait for an exclusive switch or for an object's transfer.",
    ),
    Family(
        "dynamos_subsystem_unknown_threads",
        "gauge",
        ("subsystem", "kind"),
        "Threads on no counter at the module's last look at all stacks; kind: before_gate (inside "
        "before the gate was there), unreliable (the stack cannot be read: may be inside).",
    ),
    Family(
        "dynamos_switches_total",
        "counter",
        ("subsystem", "from", "to", "trigger", "result"),
        "Switches; trigger: policy, exit, advice, pin (ours), manual, tripwire, lease (others'); "
        "result: ok, refused, failed.",
    ),
    Family(
        _DURATION,
        "histogram",
        ("subsystem", "mode"),
        "Time from the command until the daemon had it back, of its own successful switches.",
    ),
    Family(
        "dynamos_last_switch_timestamp_seconds",
        "gauge",
        ("subsystem",),
        "When the daemon last saw the active or the partial edition change, Unix time.",
    ),
    Family(
        _DRAIN,
        "histogram",
        ("subsystem", "edition"),
        "Time from when an edition was left until it had drained (nothing in flight, its text free "
        "to go), as the module's events tell since the daemon was started.",
    ),
    Family(
        "dynamos_subsystem_switches_total",
        "counter",
        ("subsystem",),
        "Switches, whoever made them, since the subsystem was registered (exact, the module's).",
    ),
    Family(
        "dynamos_subsystem_lease",
        "gauge",
        ("subsystem", "state"),
        "1 for how the module says that the lease stands, whoever has it: none, held, lost.",
    ),
    Family(
        "dynamos_lease_held",
        "gauge",
        ("subsystem",),
        "Whether this daemon holds the lease of a subsystem that it is to enforce.",
    ),
    Family(
        "dynamos_lease_renewal_errors_total",
        "counter",
        ("subsystem",),
        "Times the lease could not be taken or renewed.",
    ),
    Family(
        "dynamos_signal",
        "gauge",
        _SIGNAL,
        "A windowed measurement as the policies see it, without edition that of all; absent while "
        "there is no data.",
    ),
    Family(
        "dynamos_signal_trusted",
        "gauge",
        _SIGNAL,
        "Whether policies may rest on the signal; 0 while probes and module disagree.",
    ),
    Family(
        "dynamos_pressure_ratio",
        "gauge",
        ("resource", "stall"),
        "Share of the window in which some or all busy tasks waited for the resource; absent while "
        "there is no data.",
    ),
    Family(
        "dynamos_cpu_busy_ratio",
        "gauge",
        (),
        "Share of the window that all CPUs together were not idle; absent while there is no data.",
    ),
    Family(
        "dynamos_memory_available_ratio",
        "gauge",
        (),
        "Share of the memory that new programs could have; absent while there is no data.",
    ),
    Family(
        "dynamos_source_value",
        "gauge",
        ("source",),
        "Newest result of a policy's source; absent while there is none, or it is stale.",
    ),
    Family("dynamos_source_fetches_total", "counter", ("source",), "Times the source was asked."),
    Family(
        "dynamos_source_errors_total",
        "counter",
        ("source",),
        "Times the source was asked and gave no result.",
    ),
    Family(
        "dynamos_source_last_result_timestamp_seconds",
        "gauge",
        ("source",),
        "When the newest result of the source was asked for, Unix time.",
    ),
    Family(
        "dynamos_policy_mode",
        "gauge",
        ("policy", "mode"),
        "1 for the mode that the policy is in: observe, advise, enforce.",
    ),
    Family(
        "dynamos_policy_rule_state",
        "gauge",
        ("policy", "rule", "state"),
        "1 for the state that the rule is in: inactive, pending, active, leaving, no_data, "
        "untrusted, quarantined.",
    ),
    Family(
        "dynamos_policy_phase",
        "gauge",
        ("policy", "phase"),
        "1 for the phase that the policy is in: paused, canary, frozen, cooldown, quarantined, "
        "untrusted, no_data, trial, active, pending, inactive.",
    ),
    Family(
        "dynamos_objective_mean",
        "gauge",
        ("policy", "edition"),
        "The mean of the objective's number while the edition was in use, as far as it is known.",
    ),
    Family(
        "dynamos_objective_margin",
        "gauge",
        ("policy", "edition"),
        "How far that mean may be from the true one: two standard errors.",
    ),
    Family(
        "dynamos_objective_samples",
        "gauge",
        ("policy", "edition"),
        "How many values that mean is of; values of before the workload changed are forgotten.",
    ),
    Family(
        "dynamos_objective_preferred",
        "gauge",
        ("policy", "edition"),
        "Whether the objective prefers the edition: the only one with a value, and it is 1.",
    ),
    Family(
        "dynamos_objective_trials_total",
        "counter",
        ("policy",),
        "Trials of editions that have begun.",
    ),
    Family(
        "dynamos_guardrail_verdict",
        "gauge",
        ("policy", "guardrail", "edition", "verdict"),
        "What a guardrail says of the edition in use: 1 for one of watching, passed, breached, "
        "idle, no_data, untrusted; absent while the baseline is in use.",
    ),
    Family(
        "dynamos_guardrail_checks_total",
        "counter",
        ("policy", "guardrail", "verdict"),
        "Times a guardrail was looked at, by what it said.",
    ),
    Family(
        "dynamos_guardrail_breaches_total",
        "counter",
        ("policy", "guardrail", "edition"),
        "Times an edition has broken a guardrail; in modes observe and advise, evaluations that "
        "found it so.",
    ),
    Family(
        "dynamos_canary_step",
        "gauge",
        ("policy",),
        "At which step the policy's canary is, from 1; 0 while none goes on, absent if it has no "
        "steps.",
    ),
    Family(
        "dynamos_canary_events_total",
        "counter",
        ("policy", "edition", "event"),
        "What has become of canaries; event: started, stepped, completed, rolled_back, given_up, "
        "ended.",
    ),
    Family(
        "dynamos_edition_quarantine_end_timestamp_seconds",
        "gauge",
        ("subsystem", "edition"),
        "When the daemon's own quarantine of it is over, Unix time; absent without one.",
    ),
    Family(
        "dynamos_policy_paused",
        "gauge",
        ("policy",),
        "Whether a person has paused the policy (dynamosctl pause).",
    ),
    Family(
        "dynamos_policy_pause_end_timestamp_seconds",
        "gauge",
        ("policy",),
        "When that pause is over, Unix time.",
    ),
    Family(
        "dynamos_subsystem_pinned",
        "gauge",
        ("subsystem", "edition"),
        "1 while a person holds the subsystem at the edition (dynamosctl pin); absent otherwise.",
    ),
    Family(
        "dynamos_subsystem_pin_end_timestamp_seconds",
        "gauge",
        ("subsystem",),
        "When that pin is over, Unix time; absent if it lasts until somebody ends it.",
    ),
    Family(
        "dynamos_policy_open_advice",
        "gauge",
        ("policy",),
        "Advice of the policy that is neither accepted nor muted; only of policies in mode advise.",
    ),
    Family(
        "dynamos_switches_suppressed_total",
        "counter",
        ("policy", "reason"),
        "Evaluations that did not switch though something asked for it; reason: observe, advise, "
        "paused, frozen, max_switches, cooldown, quarantined, canary, keep_for, for, samples, "
        "during, untrusted, no_data.",
    ),
    Family(
        "dynamos_policy_evaluations_total", "counter", ("policy",), "Evaluations of the policy."
    ),
    Family(
        "dynamos_policy_last_evaluation_timestamp_seconds",
        "gauge",
        ("policy",),
        "When the policy was last evaluated, Unix time.",
    ),
    Family("dynamos_loop_lag_seconds", "gauge", (), "How late the last tick of the loop began."),
    Family(
        "dynamos_loop_missed_ticks_total",
        "counter",
        (),
        "Ticks that were left out because the one before took too long.",
    ),
    Family("dynamos_loop_ticks_total", "counter", (), "Ticks of the loop that have ended."),
    Family(
        "dynamos_loop_busy_seconds_total",
        "counter",
        (),
        "Time that ticks have taken, from their begin to their end.",
    ),
    Family(
        "dynamos_last_tick_timestamp_seconds",
        "gauge",
        (),
        "When the last tick of the loop ended, Unix time: far from now if the loop stands still.",
    ),
    Family("dynamos_probe_attached", "gauge", ("probe",), "Whether the probe is attached."),
    Family(
        "dynamos_probe_runs_total",
        "counter",
        ("probe",),
        "Runs of the probe's eBPF programs since they were attached.",
    ),
    Family(
        "dynamos_probe_run_seconds_total",
        "counter",
        ("probe",),
        "CPU time of the probe's eBPF programs since they were attached.",
    ),
    Family(
        "dynamos_probe_cost_ratio",
        "gauge",
        ("probe",),
        "That CPU time in the last ten seconds, as a part of all CPUs' time; "
        "absent while the kernel does not tell.",
    ),
    Family(
        "dynamos_probe_budget_ratio",
        "gauge",
        ("probe",),
        "What the probe may cost, as a part of all CPUs' time (probes.budget).",
    ),
    Family(
        "dynamos_probe_budget_step",
        "gauge",
        ("probe", "step"),
        "1 for what the probe does: full, untimed (it times no calls), detached.",
    ),
    Family(
        "dynamos_probe_budget_changes_total",
        "counter",
        ("probe", "step"),
        "Times it went over to that, because it cost too much, or to see whether it still does.",
    ),
    Family(
        "dynamos_probe_missed_runs_total",
        "counter",
        ("probe",),
        "Runs that the kernel left out, since the probe was attached.",
    ),
    Family(
        "dynamos_probe_dropped_calls_total",
        "counter",
        ("probe",),
        "Calls that the probe had no place to count, since it was attached.",
    ),
    Family(
        "dynamos_probe_mismatches_total",
        "counter",
        ("probe",),
        "Times the probe's calls could not be brought in line with the module's exact counters.",
    ),
    Family("dynamos_journal_errors_total", "counter", (), "Records that could not be written."),
    Family(
        "dynamos_recording_errors_total", "counter", (), "Times a recording could not be written."
    ),
    Family(
        "dynamos_orders_errors_total",
        "counter",
        (),
        "Times pauses, pins and muted advice could not be kept, or read.",
    ),
    Family(
        "dynamos_quarantines_errors_total",
        "counter",
        (),
        "Times the daemon's quarantines could not be kept, or read.",
    ),
    Family(
        "dynamos_journald_dropped_total",
        "counter",
        (),
        "Records that systemd's journal had no room for; the daemon's own has them.",
    ),
    Family(
        "dynamos_boot_guard_errors_total",
        "counter",
        (),
        "Times the file of the boot-loop guard could not be written, or read.",
    ),
    Family("dynamos_status_errors_total", "counter", (), "Times status.json could not be written."),
    Family(
        "dynamos_events_lost_total",
        "counter",
        (),
        "Events of the module that were overwritten before the daemon had read them.",
    ),
    Family(
        "dynamos_start_timestamp_seconds", "gauge", (), "When the daemon was started, Unix time."
    ),
    Family(
        "dynamos_config_reloads_total",
        "counter",
        ("result",),
        "Times the policies were read again; result: ok, failed.",
    ),
    Family(
        "dynamos_config_last_reload_successful",
        "gauge",
        (),
        "Whether the last attempt to read the policies succeeded.",
    ),
    Family(
        "dynamos_config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the policies in force were read, Unix time.",
    ),
    _LEFT_OUT_FAMILY,
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
    600.0,
    3600.0,
)
"""Upper bounds, in seconds: a switch is one store in the kernel, and what is seen is the way there;
but an exclusive one waits until nobody is inside, for up to a minute, and a thread that is blocked
in an edition may be there for hours."""

_BUCKETS: Mapping[str, Sequence[float]] = {
    _DURATION: DURATION_BUCKETS,
    _DRAIN: DURATION_BUCKETS,
    _LATENCY: LATENCY_BUCKETS,
}

_NO_LEASE = "none"

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
    histograms: Mapping[str, Mapping[Labels, Histogram]] = field(default_factory=dict)


# --------------------------------------------------------------------------- from the stages


def kernel_values(kernel: KernelState) -> Values:
    """Give what the module shows."""
    calls: dict[Labels, float] = {}
    in_flight: dict[Labels, float] = {}
    active: dict[Labels, float] = {}
    partial: dict[Labels, float] = {}
    draining: dict[Labels, float] = {}
    for subsystem in kernel.subsystems.values():
        for edition, found in subsystem.editions.items():
            active[subsystem.name, edition] = float(edition == subsystem.active)
            partial[subsystem.name, edition] = float(edition == subsystem.partial)
            draining[subsystem.name, edition] = float(found.state is EditionState.DRAINING)
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
        "dynamos_edition_draining": draining,
        "dynamos_subsystem_held_callers": {
            (each.name,): float(each.held) for each in kernel.subsystems.values()
        },
        **_subsystem_values(kernel),
        **_safety_values(kernel),
    }


def _subsystem_values(kernel: KernelState) -> Values:
    """Give what the module counts of whole subsystems, and how their leases stand."""
    subsystems = kernel.subsystems.values()
    return {
        "dynamos_subsystem_switches_total": {
            (each.name,): float(each.switches) for each in subsystems
        },
        "dynamos_subsystem_unknown_threads": {
            (each.name, kind): float(count)
            for each in subsystems
            for kind, count in (("before_gate", each.before_gate), ("unreliable", each.unreliable))
        },
        "dynamos_subsystem_lease": {
            (each.name, state): float(state == (each.lease or _NO_LEASE))
            for each in subsystems
            for state in (_NO_LEASE, HELD, LOST)
        },
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


def latency_histograms(sample: Sample) -> dict[str, Mapping[Labels, Histogram]]:
    """Give how long calls took, with fewer and larger buckets than the probes have."""
    found: dict[Labels, Histogram] = {
        key: Histogram(each.latency.coarse(_LATENCY_BOUNDS_NS), each.latency.nanoseconds / 1e9)
        for key, each in sample.probes.items()
        if each.latency is not None
    }
    return {_LATENCY: found}


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


def pin_values(pins: Iterable[Pin]) -> Values:
    """Give which subsystems a person has pinned, where, and until when."""
    found = list(pins)
    return {
        "dynamos_subsystem_pinned": {(each.subsystem, each.edition): 1.0 for each in found},
        "dynamos_subsystem_pin_end_timestamp_seconds": {
            (each.subsystem,): each.until for each in found if each.until is not None
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


def reload_values(tried: int, failed: int) -> Values:
    """Give how often the policies were read again."""
    counts = {"ok": float(tried - failed), "failed": float(failed)}
    return {"dynamos_config_reloads_total": {(word,): each for word, each in counts.items()}}


def budget_values(probe: str, budget: Budget) -> Values:
    """Give what the probe may cost, what it does cost, and what was left off for that."""
    values: Values = {
        "dynamos_probe_budget_ratio": {(probe,): budget.limit},
        "dynamos_probe_budget_step": {
            (probe, str(step)): float(step is budget.step) for step in Step
        },
        "dynamos_probe_budget_changes_total": {
            (probe, str(step)): float(budget.steps[str(step)]) for step in Step
        },
    }
    if budget.share is not None:
        values["dynamos_probe_cost_ratio"] = {(probe,): budget.share}
    return values


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
    drains: dict[Labels, Histogram] = field(default_factory=dict)
    checks: Counter[Labels] = field(default_factory=Counter)
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
        for name, found in decision.guarded.findings.items() if decision.guarded else ():
            self.checks[decision.policy, name, str(found.verdict)] += 1

    def add_drain(self, drain: Drain) -> None:
        """Count an edition that has drained."""
        which = (drain.subsystem, drain.edition)
        self.drains[which] = self.drains.get(which, Histogram()).observe(drain.seconds)

    def add_lease_error(self, subsystem: str) -> None:
        """Count a lease that could not be had or kept."""
        self.lease_errors[(subsystem,)] += 1

    def add_breach(self, policy: str, breach: Breach) -> None:
        """Count a guardrail that was broken."""
        self.breaches[policy, breach.guardrail, breach.edition] += 1

    def add_canary(self, policy: str, rolling: Rolling) -> None:
        """Count what has become of a canary."""
        self.canaries[policy, rolling.edition, str(rolling.event)] += 1

    def keep(self, policies: Iterable[Policy]) -> None:
        """Forget what was counted of all policies but these: names may change at each reload."""
        names = {each.name for each in policies}
        for counts in (
            self.evaluations,
            self.suppressed,
            self.checks,
            self.breaches,
            self.canaries,
        ):
            for labels in [each for each in counts if each[0] not in names]:
                del counts[labels]
        for labels in [each for each in self.last_evaluations if each[0] not in names]:
            del self.last_evaluations[labels]

    def histograms(self) -> dict[str, Mapping[Labels, Histogram]]:
        """Give all durations so far."""
        return {_DURATION: {**self.durations}, _DRAIN: {**self.drains}}

    def values(self) -> Values:
        """Give all counts so far."""
        return {
            "dynamos_switches_total": {**self.switches},
            "dynamos_last_switch_timestamp_seconds": {**self.last_switches},
            "dynamos_policy_evaluations_total": {**self.evaluations},
            "dynamos_switches_suppressed_total": {**self.suppressed},
            "dynamos_policy_last_evaluation_timestamp_seconds": {**self.last_evaluations},
            "dynamos_lease_renewal_errors_total": {**self.lease_errors},
            "dynamos_guardrail_checks_total": {**self.checks},
            "dynamos_guardrail_breaches_total": {**self.breaches},
            "dynamos_canary_events_total": {**self.canaries},
        }


# ---------------------------------------------------------------------------------- the page


class Page:
    """The text of ``/metrics``, made once for each snapshot."""

    def __init__(self) -> None:
        """Start with what is known before the first tick."""
        self._snapshot = Snapshot({"dynamos_build_info": {(__version__,): 1.0}})
        self._rendered: tuple[Snapshot, bytes] | None = None
        self._exposition = Exposition(MAX_SERIES)

    def show(self, snapshot: Snapshot) -> None:
        """Put a new snapshot in the place of the last one."""
        self._snapshot = snapshot

    def text(self) -> bytes:
        """Give the page. It is for one thread: that of the server."""
        rendered, snapshot = self._rendered, self._snapshot
        if rendered is None or rendered[0] is not snapshot:
            rendered = (snapshot, "".join(self._render(snapshot)).encode())
            self._rendered = rendered
        return rendered[1]

    def _render(self, snapshot: Snapshot) -> Iterator[str]:
        """Give the metrics that have values, in the order of the table."""
        self._exposition.left_out.clear()
        for family in DEFINITIONS:
            if family.type == "histogram":
                if found := snapshot.histograms.get(family.name):
                    yield self._exposition.write_histograms(family, found, _BUCKETS[family.name])
            elif values := snapshot.values.get(family.name):
                yield self._exposition.write(family, values)
        if left_out := self._exposition.left_out:
            values = {(name,): float(count) for name, count in left_out.items()}
            yield self._exposition.write(_LEFT_OUT_FAMILY, values)


# ----------------------------------------------------------------------------- documentation

_DOCUMENT = """\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
# Metrics

Made from the table in `dynamosd/metrics.py`: `python -m dynamosd.metrics > docs/metrics.md`.

The daemon serves them at `http://127.0.0.1:9947/metrics` (`--metrics-address`). A scrape shows the
state after the last tick of the loop. What the module counts goes on over switches and over a
restart of the daemon; what the daemon counts itself begins at 0 with it.

Labels come from the names of subsystems, functions, editions, policies and what is in them, and
from words that are listed here; none is ever a process, a command or a cgroup. What was counted of
a policy goes when it is taken out of force.

How many series there are: 5 of each function and edition, and 14 of its signals; 12 of the signals
of each function; where a policy wants the calls timed, 22, 22 and 20. Of each subsystem and policy
there are some dozens. Whatever happens, a metric has no more than %d series (or histograms)
on the page, and `dynamos_left_out_series` says of which there were more.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
"""


def document() -> str:
    """Give docs/metrics.md."""
    rows = (
        f"| `{each.name}` | {each.type} | {', '.join(each.labels) or '-'} | {each.help} |"
        for each in DEFINITIONS
    )
    return _DOCUMENT % MAX_SERIES + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
