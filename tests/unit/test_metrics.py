# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.metrics: the table, the page, the documentation."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bench.metrics import kernel_of, sample_of, signals_of, snapshot_of
from dynamosd import metrics
from dynamosd.drains import Drain
from dynamosd.latency import latency_of
from dynamosd.metrics import (
    DEFINITIONS,
    DURATION_BUCKETS,
    MAX_SERIES,
    Histogram,
    Page,
    Snapshot,
    Tally,
    Values,
    kernel_values,
    latency_histograms,
    lease_values,
    policy_values,
    probe_values,
    sample_values,
    signal_values,
    source_values,
)
from dynamosd.model import (
    Action,
    Breach,
    Decision,
    Finding,
    FunctionSample,
    Guarded,
    PolicyPhase,
    ProbeCost,
    Rolling,
    RolloutEvent,
    RuleState,
    Sample,
    Signal,
    Signals,
    Suppression,
    SwitchResult,
    Verdict,
)
from dynamosd.sources.poll import Found
from tests.unit.policy.build import policy_of

if TYPE_CHECKING:
    from dynamosd.testing import FakeModule

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN_LABELS = {"pid", "comm", "cgroup", "command", "process"}


def result(outcome: str = "ok", trigger: str = "policy", seconds: float = 0.002) -> SwitchResult:
    """Give a switch."""
    where = ("readahead", "original", "random", "concurrent")
    return SwitchResult(5.0, *where, trigger, outcome, "", seconds)


def decision(suppressed: Suppression | None = Suppression.COOLDOWN) -> Decision:
    """Give what a policy decided."""
    return Decision(
        time=5.0,
        policy="storm",
        subsystem="readahead",
        action=Action.STAY,
        current="original",
        target="random",
        rule="busy",
        reason="it is so",
        values={},
        rules={"busy": RuleState.ACTIVE},
        phase=PolicyPhase.COOLDOWN,
        suppressed=suppressed,
    )


def guarded() -> Decision:
    """Give a decision whose guardrail was looked at."""
    found = {"slower": Finding(Verdict.PASSED, 0, 3, 3, "it is not", {})}
    return dataclasses.replace(decision(), guarded=Guarded("random", "", 5.0, found))


def full_snapshot(module: FakeModule) -> Snapshot:
    """Give a snapshot that has every metric there is."""
    module.call("readahead", "page_cache_ra_order", 5, blocked=1)
    kernel = module.kmod.read()
    key = ("readahead", "page_cache_ra_order", "original")
    took = latency_of([2_000, 5_000, 2_000_000_000])
    figures = FunctionSample(6, 5, 3, 4, errors=2, untimed=1, latency=took)
    sample = Sample(5.0, kernel, {key: figures})
    signals = Signals(
        5.0,
        {
            ("calls_rate", "page_cache_ra_order", ""): Signal(12.5),
            ("in_flight", "page_cache_ra_order", ""): Signal(1.0, trusted=False, reason="lost"),
            ("sequential_share", "page_cache_ra_order", ""): Signal(None, reason="no data"),
            ("pressure", "io", "some"): Signal(0.25),
            ("pressure", "io", "full"): Signal(None, reason="no data"),
            ("cpu_busy", "", ""): Signal(0.5),
            ("memory_available", "", ""): Signal(0.75),
            ("source", "depth", ""): Signal(-7.0),
        },
    )
    tally = Tally()
    tally.add_switch(result(), 1.7e9)
    tally.add_evaluation(guarded(), 1.7e9)
    tally.add_lease_error("readahead")
    tally.add_canary("storm", Rolling("random", RolloutEvent.STARTED, "share:1/9", 1, 2, 0.0))
    tally.add_breach("storm", Breach("random", "slower", "it is slow", 3600.0))
    values = {each.name: {tuple("x" for _ in each.labels): 1.0} for each in DEFINITIONS}
    values |= kernel_values(kernel) | sample_values(sample) | signal_values(signals)
    values |= tally.values() | probe_values("gate", ProbeCost(9, 0.5, 1), 2, 3)
    values |= source_values({"depth": Found(-7.0, 4.0, 1.7e9, "", 12, 5), "age": Found()})
    tally.add_drain(Drain("readahead", "random", 0.002))
    return Snapshot(values, tally.histograms() | latency_histograms(sample))


def samples(page: Page) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Give the page's samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.text().decode())
        for sample in family.samples
    }


def test_page_is_clean_for_promtool(module: FakeModule) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    page = Page()
    page.show(full_snapshot(module))
    done = subprocess.run([promtool, "check", "metrics"], input=page.text(), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_every_metric_of_the_table_is_on_the_page(module: FakeModule) -> None:
    page = Page()
    page.show(full_snapshot(module))
    lines = page.text().decode().splitlines()
    types = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    assert types == {each.name: each.type for each in DEFINITIONS}


def test_values_on_the_page(module: FakeModule) -> None:
    page = Page()
    page.show(full_snapshot(module))
    shown = samples(page)
    order, together = ("function", "page_cache_ra_order"), ("edition", "")
    where = (("edition", "original"), order, ("subsystem", "readahead"))
    assert shown["dynamos_function_calls_total", where] == 6
    assert shown["dynamos_function_in_flight_threads", where] == 1
    assert shown["dynamos_function_sequential_calls_total", where] == 3
    assert shown["dynamos_function_classified_calls_total", where] == 4
    assert shown["dynamos_function_errors_total", where] == 2
    assert shown["dynamos_function_untimed_calls_total", where] == 1
    took = "dynamos_function_latency_seconds"
    assert shown[f"{took}_count", where] == 3
    assert shown[f"{took}_sum", where] == pytest.approx(2.000007)
    counted = {
        float(dict(labels)["le"]): value
        for (name, labels), value in shown.items()
        if name == f"{took}_bucket"
    }
    assert [counted[bound] for bound in (1.024e-06, 4.096e-06, 1.6384e-05, math.inf)] == [
        0,
        1,
        2,
        3,
    ]
    assert shown["dynamos_signal", (together, order, ("signal", "calls_rate"))] == 12.5
    assert shown["dynamos_signal_trusted", (together, order, ("signal", "in_flight"))] == 0
    assert ("dynamos_signal", (together, order, ("signal", "sequential_share"))) not in shown
    stall = ("stall", "some")
    assert shown["dynamos_pressure_ratio", (("resource", "io"), stall)] == 0.25
    assert ("dynamos_pressure_ratio", (("resource", "io"), ("stall", "full"))) not in shown
    assert shown["dynamos_cpu_busy_ratio", ()] == 0.5
    assert shown["dynamos_memory_available_ratio", ()] == 0.75
    assert (
        "dynamos_signal_trusted",
        (together, ("function", ""), ("signal", "cpu_busy")),
    ) not in shown
    depth, age = (("source", "depth"),), (("source", "age"),)
    assert shown["dynamos_source_value", depth] == -7.0
    assert shown["dynamos_source_fetches_total", depth] == 12
    assert shown["dynamos_source_errors_total", depth] == 5
    assert shown["dynamos_source_last_result_timestamp_seconds", depth] == 1.7e9
    assert shown["dynamos_source_fetches_total", age] == 0
    assert ("dynamos_source_last_result_timestamp_seconds", age) not in shown
    active = "dynamos_edition_active"
    assert shown[active, (("edition", "original"), ("subsystem", "readahead"))] == 1
    assert shown[active, (("edition", "random"), ("subsystem", "readahead"))] == 0
    partial = "dynamos_edition_partial"
    assert shown[partial, (("edition", "original"), ("subsystem", "readahead"))] == 0
    assert shown["dynamos_subsystem_held_callers", (("subsystem", "readahead"),)] == 0


def test_what_drains_and_whose_lease_it_is(module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=1)
    module.kmod.switch("readahead", "random")
    (module.sysfs / "readahead" / "lease").write_text("lost\n")
    (module.sysfs / "readahead" / "unreliable").write_text("2\n")
    values = kernel_values(module.kmod.read())
    assert values["dynamos_edition_draining"] == {
        ("readahead", "original"): 1,
        ("readahead", "random"): 0,
    }
    assert values["dynamos_subsystem_switches_total"] == {("readahead",): 1}
    lease = values["dynamos_subsystem_lease"]
    assert {labels for labels, value in lease.items() if value} == {("readahead", "lost")}
    assert len(lease) == 3
    assert values["dynamos_subsystem_unknown_threads"] == {
        ("readahead", "before_gate"): 0,
        ("readahead", "unreliable"): 2,
    }


def test_looks_at_guardrails_are_counted_by_verdict() -> None:
    tally = Tally()
    tally.add_evaluation(guarded(), 1.0)
    tally.add_evaluation(guarded(), 2.0)
    tally.add_evaluation(decision(), 3.0)
    checks = tally.values()["dynamos_guardrail_checks_total"]
    assert checks == {("storm", "slower", "passed"): 2}


def test_what_was_counted_of_a_policy_goes_with_it() -> None:
    tally = Tally()
    tally.add_switch(result(), 1.0)
    for name in ("storm", "other"):
        tally.add_evaluation(dataclasses.replace(guarded(), policy=name), 1.0)
        tally.add_breach(name, Breach("random", "slower", "it is slow", 3600.0))
        tally.add_canary(name, Rolling("random", RolloutEvent.STARTED, "share:1/9", 1, 2, 0.0))
    tally.keep([dataclasses.replace(policy_of(), name="other")])
    left = {name: set(found) for name, found in tally.values().items()}
    assert {each[0] for name, found in left.items() if "switch" not in name for each in found} == {
        "other"
    }
    assert left["dynamos_switches_suppressed_total"] == {("other", "cooldown")}
    assert len(left["dynamos_switches_total"]) == 1


def test_page_is_of_limited_length() -> None:
    page, many = Page(), MAX_SERIES + 7
    values: Values = {
        "dynamos_signal": {("calls_rate", str(each), ""): 1.0 for each in range(many)},
        "dynamos_module_up": {(): 1.0},
    }
    tally = Tally(drains={("readahead", str(each)): Histogram() for each in range(many)})
    page.show(Snapshot(values, tally.histograms()))
    shown = page.text().decode()
    assert shown.count("\ndynamos_signal{") == MAX_SERIES
    assert shown.count("\ndynamos_drain_duration_seconds_sum{") == MAX_SERIES
    assert "\ndynamos_module_up 1.0\n" in shown
    for metric in ("dynamos_signal", "dynamos_drain_duration_seconds"):
        assert f'dynamos_left_out_series{{metric="{metric}"}} 7.0\n' in shown
    page.show(Snapshot({"dynamos_module_up": {(): 1.0}}))
    assert "left_out" not in page.text().decode()


def test_series_of_functions_are_as_many_as_the_documentation_says() -> None:
    def series(calls: int, *, timed: bool) -> int:
        samples = [sample_of(time, kernel_of(2, 5, calls * time), timed=timed) for time in (1, 2)]
        page = Page()
        page.show(snapshot_of(samples[-1], signals_of(*samples)))
        lines = page.text().decode().splitlines()
        of_functions = [line for line in lines if "some_function_" in line]
        assert max(map(len, of_functions)) < 200
        return len(of_functions)

    assert series(1000, timed=True) == 2 * 5 * (3 * (22 + 22) + 20)
    assert series(1000, timed=False) == 2 * 5 * (3 * (5 + 14) + 12)


def test_no_value_is_not_a_number(module: FakeModule) -> None:
    page = Page()
    page.show(full_snapshot(module))
    assert "NaN" not in page.text().decode()


def test_no_label_grows_without_bound() -> None:
    assert not FORBIDDEN_LABELS & {label for each in DEFINITIONS for label in each.labels}


def test_names() -> None:
    names = [each.name for each in DEFINITIONS]
    assert len(names) == len(set(names))
    for each in DEFINITIONS:
        assert each.name.startswith("dynamos_")
        assert (each.type == "counter") == each.name.endswith("_total")
        assert each.help.endswith(".")


def test_documentation_is_current() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics.document()


def test_page_before_the_first_tick() -> None:
    assert "dynamos_build_info{" in Page().text().decode()


def test_page_is_rendered_once_a_snapshot(module: FakeModule) -> None:
    page = Page()
    page.show(full_snapshot(module))
    assert page.text() is page.text()
    page.show(full_snapshot(module))
    assert page.text()


def test_refused_and_manual_switches_have_no_duration() -> None:
    tally = Tally()
    tally.add_switch(result("refused"), 1.0)
    tally.add_switch(result(trigger="manual"), 2.0)
    assert not tally.durations
    assert sum(tally.switches.values()) == 2
    assert tally.last_switches == {("readahead",): 2.0}


def test_what_is_partial_and_held(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random", "scoped", scope="handler")
    (module.sysfs / "readahead" / "held").write_text("4\n")
    values = kernel_values(module.kmod.read())
    assert values["dynamos_edition_partial"]["readahead", "random"] == 1
    assert values["dynamos_edition_active"]["readahead", "random"] == 0
    assert values["dynamos_subsystem_held_callers"] == {("readahead",): 4}


def test_what_is_in_quarantine_and_what_has_died(module: FakeModule) -> None:
    module.trip("readahead", "random")
    values = kernel_values(module.kmod.read())
    assert values["dynamos_edition_quarantined"] == {
        ("readahead", "original"): 0,
        ("readahead", "random"): 1,
    }
    assert values["dynamos_edition_died_threads_total"]["readahead", "random"] == 1


@pytest.mark.parametrize("value", [1, 0])
def test_whether_the_module_is_switched_on(module: FakeModule, value: int) -> None:
    module.enable(value)
    assert kernel_values(module.kmod.read())["dynamos_module_enabled"] == {(): value}


def test_leases() -> None:
    shown = lease_values({"readahead": True, "pipe": False})
    assert shown == {"dynamos_lease_held": {("readahead",): 1, ("pipe",): 0}}


@pytest.mark.parametrize("trigger", ["tripwire", "lease"])
def test_switches_by_the_module_have_no_duration(trigger: str) -> None:
    tally = Tally()
    tally.add_switch(result(trigger=trigger), 1.0)
    assert not tally.durations
    assert tally.last_switches == {("readahead",): 1.0}


def test_durations_are_kept_apart_by_mode() -> None:
    tally = Tally()
    tally.add_switch(result(), 1.0)
    tally.add_switch(dataclasses.replace(result(seconds=30.0), mode="exclusive"), 2.0)
    assert {key[1]: each.total for key, each in tally.durations.items()} == {
        "concurrent": 0.002,
        "exclusive": 30.0,
    }


def test_phase_and_states_of_a_policy() -> None:
    values = policy_values([policy_of()], {"test": dataclasses.replace(decision(), policy="test")})
    phases = values["dynamos_policy_phase"]
    assert {labels for labels, value in phases.items() if value} == {("test", "cooldown")}
    assert len(phases) == len(PolicyPhase)
    states = values["dynamos_policy_rule_state"]
    assert {labels for labels, value in states.items() if value} == {("test", "busy", "active")}
    assert policy_values([policy_of()], {})["dynamos_policy_phase"] == {}


def test_suppressed_switches_are_counted_by_reason() -> None:
    tally = Tally()
    for reason in (Suppression.COOLDOWN, None, Suppression.COOLDOWN, Suppression.NO_DATA):
        tally.add_evaluation(decision(reason), 1.0)
    values = tally.values()
    assert values["dynamos_policy_evaluations_total"] == {("storm",): 4}
    assert values["dynamos_switches_suppressed_total"] == {
        ("storm", "cooldown"): 2,
        ("storm", "no_data"): 1,
    }


def test_table_names_every_state_phase_and_reason() -> None:
    helps = {each.name: each.help for each in DEFINITIONS}
    for name, words in (
        ("dynamos_policy_rule_state", RuleState),
        ("dynamos_policy_phase", PolicyPhase),
        ("dynamos_switches_suppressed_total", Suppression),
    ):
        listed = helps[name].rstrip(".").rpartition(": ")[2].split(", ")
        assert set(listed) == {str(word) for word in words}


@given(st.lists(st.floats(0.0, 100.0)))
def test_histogram_counts_everything_once(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram = histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    for place, bound in enumerate(DURATION_BUCKETS):
        assert sum(histogram.counts[: place + 1]) == sum(value <= bound for value in values)
