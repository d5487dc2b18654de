# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows, resets, gaps and trust."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.latency import MAX_ERROR, Latency, latency_of
from dynamosd.model import (
    Counts,
    Edition,
    EditionState,
    Function,
    FunctionSample,
    KernelState,
    Sample,
    Signal,
    Signals,
    Subsystem,
)
from dynamosd.signals import ARGUMENTS, FUNCTION, MIN_CLASSIFIED, QUANTILES, SignalWindow


def sample(
    time: float,
    calls: dict[str, int] | None,
    *,
    in_flight: int = 0,
    shares: dict[str, tuple[int, int]] | None = None,
    backend: str = "direct",
) -> Sample:
    """Return a sample of pipe_write, by edition; ``shares`` are (sequential, classified)."""
    counts = {name: Counts(value, in_flight) for name, value in (calls or {}).items()}
    functions = {} if calls is None else {"pipe_write": Function("pipe_write", 1, backend, counts)}
    editions = {"original": Edition("original", 0, EditionState.ACTIVE, "dynamos")}
    pipe = Subsystem("pipe", "original", "concurrent", 0, editions, functions)
    probes = {
        ("pipe", "pipe_write", name): FunctionSample(0, 0, sequential, classified)
        for name, (sequential, classified) in (shares or {}).items()
    }
    return Sample(time, KernelState("0.1.0", {"pipe": pipe}), probes)


def rate(signals: Signals) -> Signal:
    return signals.values["calls_rate", "pipe_write", ""]


def share(signals: Signals) -> Signal:
    return signals.values["sequential_share", "pipe_write", ""]


def test_first_sample_has_no_rate_but_a_number_in_flight() -> None:
    signals = SignalWindow().add(sample(10.0, {"original": 5, "batched": 7}, in_flight=3))
    assert rate(signals) == Signal(None, reason="first sample: no rate yet")
    assert signals.values["in_flight", "pipe_write", ""] == Signal(6.0)
    assert signals.time == 10.0


def test_every_function_has_every_signal() -> None:
    signals = SignalWindow().add(sample(0.0, {"original": 0}))
    assert signals.values.keys() == {
        (name, "pipe_write", edition)
        for name, forms in ARGUMENTS.items()
        if FUNCTION in forms[0]
        for edition in ("", "original")
        if (edition or name != "calls_share") and name not in {*QUANTILES, "parameter"}
    }


def test_each_edition_has_its_own_figures() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 100}, shares={"original": (0, 0)}))
    shares = {"original": (10, 20), "batched": (40, 40)}
    after = window.add(sample(0.5, {"original": 150, "batched": 150}, in_flight=2, shares=shares))
    found = {
        (name, edition): signal.value
        for (name, _, edition), signal in after.values.items()
        if edition and "error" not in name
    }
    assert found == {
        ("calls_rate", "original"): 100.0,
        ("calls_rate", "batched"): 300.0,
        ("in_flight", "original"): 2.0,
        ("in_flight", "batched"): 2.0,
        ("calls_share", "original"): 0.25,
        ("calls_share", "batched"): 0.75,
        ("sequential_share", "original"): 0.5,
        ("sequential_share", "batched"): 1.0,
        ("pages_rate", "original"): 0.0,
        ("pages_rate", "batched"): 0.0,
    }


def test_pages_rate_is_how_far_readers_get_in_a_second() -> None:
    window = SignalWindow()
    first = sample(0.0, {"original": 5}, shares={"original": (0, 0)})
    key = ("pages_rate", "pipe_write", "")
    assert window.add(first).values[key] == Signal(None, reason="first sample: no rate yet")
    figures = {
        ("pipe", "pipe_write", "original"): FunctionSample(0, 0, 5, 10, pages=300),
        ("pipe", "pipe_write", "batched"): FunctionSample(0, 0, 5, 10, pages=200),
    }
    values = window.add(replace(sample(0.5, {"original": 5}), probes=figures)).values
    assert values[key] == Signal(1000.0)
    assert values["pages_rate", "pipe_write", "original"] == Signal(600.0)
    assert window.add(sample(1.0, {"original": 5})).values[key] == Signal(
        None, reason="no probe figures"
    )


def test_an_edition_that_was_away_goes_on_where_it_was() -> None:
    window = SignalWindow(window_seconds=1.0)
    steps = ({"original": 0, "b": 0}, {"original": 0, "b": 50}, {"original": 0})
    for time, calls in enumerate((*steps, {"original": 10, "b": 80})):
        signals = window.add(sample(float(time), calls))
    assert signals.values["calls_rate", "pipe_write", "b"].value == 30.0
    assert signals.values["calls_share", "pipe_write", "b"].value == 0.75


def test_without_calls_no_edition_has_a_share_of_them() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 5}))
    signals = window.add(sample(0.5, {"original": 5}))
    assert signals.values["calls_share", "pipe_write", "original"] == Signal(
        None, reason="no calls in the window"
    )


def test_rate_sums_the_editions() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 100, "batched": 10}))
    assert rate(window.add(sample(0.5, {"original": 150, "batched": 60}))).value == 200.0


def test_rate_covers_the_window_and_forgets_what_is_older() -> None:
    window = SignalWindow(window_seconds=2.0)
    window.add(sample(0.0, {"original": 0}))
    window.add(sample(1.0, {"original": 1000}))
    assert rate(window.add(sample(2.0, {"original": 1000}))).value == 500.0
    assert rate(window.add(sample(3.0, {"original": 1000}))).value == 0.0


def test_jitter_does_not_shorten_the_window() -> None:
    window = SignalWindow(window_seconds=2.0)
    window.add(sample(0.0, {"original": 0}))
    window.add(sample(1.005, {"original": 0}))
    assert rate(window.add(sample(2.01, {"original": 201}))).value == pytest.approx(100.0)


def test_reset_counts_from_zero_again() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 0, "batched": 5000}))
    assert rate(window.add(sample(1.0, {"original": 0, "batched": 40}))).value == 40.0


def test_edition_that_appears_began_at_zero() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 1000}))
    assert rate(window.add(sample(1.0, {"original": 1000, "batched": 30}))).value == 30.0


def test_edition_missing_from_one_reading_makes_no_spike() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 0, "batched": 1_000_000}))
    window.add(sample(1.0, {"original": 0}))
    signals = window.add(sample(2.0, {"original": 0, "batched": 1_000_010}))
    assert rate(signals).value == 5.0


def test_function_that_returns_has_no_rate_from_before() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 1_000_000}))
    window.add(sample(0.5, None))
    assert rate(window.add(sample(1.0, {"original": 5}))).value is None
    assert rate(window.add(sample(1.5, {"original": 10}))).value == 10.0


def test_function_without_a_gate_is_not_counted() -> None:
    window = SignalWindow()
    signals = window.add(sample(0.0, {"original": 0}, backend="none"))
    assert rate(signals) == Signal(None, reason="no gate is installed")
    assert signals.values["in_flight", "pipe_write", ""].value is None
    assert rate(window.add(sample(1.0, {"original": 7}))).value is None
    assert rate(window.add(sample(2.0, {"original": 17}))).value == 10.0


def test_gap_starts_again() -> None:
    window = SignalWindow(window_seconds=2.0)
    window.add(sample(0.0, {"original": 0}))
    signals = window.add(sample(60.0, {"original": 6_000_000}))
    assert rate(signals) == Signal(None, reason="no sample for 60.0s before this one: no rate yet")
    assert rate(window.add(sample(61.0, {"original": 6_000_010}))).value == 10.0


@pytest.mark.parametrize("time", [5.0, 4.0])
def test_clock_that_stands_or_jumps_back_starts_again(time: float) -> None:
    window = SignalWindow()
    window.add(sample(5.0, {"original": 0}))
    assert rate(window.add(sample(time, {"original": 100}))).value is None
    assert rate(window.add(sample(time + 1, {"original": 110}))).value == 10.0


def test_share_of_the_window_over_all_editions() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 0}, shares={"original": (100, 1000), "random": (0, 0)}))
    signals = window.add(
        sample(1.0, {"original": 0}, shares={"original": (130, 1040), "random": (0, 20)})
    )
    assert share(signals) == Signal(0.5)


def test_share_of_too_few_calls_is_no_data() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 0}, shares={"original": (0, 0)}))
    few = MIN_CLASSIFIED - 1
    signals = window.add(sample(1.0, {"original": 0}, shares={"original": (few, few)}))
    assert share(signals) == Signal(None, reason="19 calls judged in the window, 20 needed")


def test_share_never_leaves_its_range() -> None:
    window = SignalWindow()
    window.add(sample(0.0, {"original": 0}, shares={"original": (0, 0)}))
    signals = window.add(sample(1.0, {"original": 0}, shares={"original": (31, 30)}))
    assert share(signals).value == 1.0


def test_without_probes_there_is_no_share() -> None:
    signals = SignalWindow().add(sample(0.0, {"original": 0}))
    assert share(signals) == Signal(None, reason="no probe figures")


def test_mismatch_is_not_trusted_until_it_has_left_the_window() -> None:
    window = SignalWindow(window_seconds=1.0)
    mismatch = {("pipe", "pipe_write"): "probes missed 5 calls"}
    window.add(replace(sample(0.0, {"original": 0}), mismatches=mismatch))
    during = window.add(sample(1.0, {"original": 10}))
    after = window.add(sample(2.0, {"original": 20}))
    assert rate(during) == Signal(10.0, trusted=False, reason="probes missed 5 calls")
    assert not during.values["in_flight", "pipe_write", ""].trusted
    assert rate(after) == Signal(10.0)


def returned(time: float, **editions: tuple[int, int, Latency | None]) -> Sample:
    """Return a sample of pipe_write: by edition returns, errors, and how long calls took."""
    probes = {
        ("pipe", "pipe_write", name): FunctionSample(0, returns, errors=errors, latency=latency)
        for name, (returns, errors, latency) in editions.items()
    }
    return replace(sample(time, dict.fromkeys(editions, 0)), probes=probes)


def test_errors_of_each_edition_and_of_all() -> None:
    window = SignalWindow()
    window.add(returned(0.0, original=(100, 50, None), bad=(0, 0, None)))
    values = window.add(returned(0.5, original=(180, 50, None), bad=(20, 5, None))).values
    found = {
        edition: (
            values["errors_rate", "pipe_write", edition].value,
            values["error_share", "pipe_write", edition].value,
        )
        for edition in ("", "original", "bad")
    }
    assert found == {"": (10.0, 0.05), "original": (0.0, 0.0), "bad": (10.0, 0.25)}


def test_share_of_errors_takes_some_returns() -> None:
    window = SignalWindow()
    window.add(returned(0.0, original=(0, 0, None)))
    values = window.add(returned(0.5, original=(19, 19, None))).values
    assert values["errors_rate", "pipe_write", "original"] == Signal(38.0)
    assert values["error_share", "pipe_write", "original"] == Signal(
        None, reason="19 calls returned in the window, 20 needed"
    )


def test_quantiles_are_of_the_window_and_of_an_edition() -> None:
    window = SignalWindow(window_seconds=1.0)
    before, fast = latency_of([10**9] * 50), latency_of([10**6] * 100)
    slow = latency_of([10**8] * 100)
    window.add(returned(0.0, original=(0, 0, before), b=(0, 0, Latency())))
    values = window.add(returned(1.0, original=(0, 0, before + fast), b=(0, 0, slow))).values
    found = {edition: values["p99", "pipe_write", edition].value for edition in ("original", "b")}
    assert found == {
        "original": pytest.approx(1e-3, rel=MAX_ERROR),
        "b": pytest.approx(0.1, rel=MAX_ERROR),
    }
    together = [values[name, "pipe_write", ""].value for name in ("p50", "p90")]
    assert together == [pytest.approx(1e-3, rel=MAX_ERROR), pytest.approx(0.1, rel=MAX_ERROR)]


@pytest.mark.parametrize(
    ("calls", "known"), [(19, []), (20, ["p50", "p90", "p95"]), (100, list(QUANTILES))]
)
def test_a_quantile_takes_calls_beyond_it(calls: int, known: list[str]) -> None:
    window = SignalWindow()
    window.add(returned(0.0, original=(0, 0, Latency())))
    values = window.add(returned(0.5, original=(0, 0, latency_of([500] * calls)))).values
    found = [name for name in QUANTILES if values[name, "pipe_write", "original"].value is not None]
    assert found == known


def test_calls_of_before_they_were_timed_again_are_not_in_it() -> None:
    window = SignalWindow()
    window.add(returned(0.0, original=(0, 0, latency_of([10**9] * 500))))
    window.add(returned(0.5, original=(0, 0, None)))
    values = window.add(returned(1.0, original=(0, 0, Latency()))).values
    assert values["p50", "pipe_write", ""] == Signal(None, reason="no call is timed yet")
    values = window.add(returned(1.5, original=(0, 0, latency_of([10**3] * 20)))).values
    assert values["p50", "pipe_write", ""].value == pytest.approx(1e-6, rel=MAX_ERROR)


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5.0), ("-3", -3.0), ("Y", 1.0), ("N", 0.0), ("fast", None)]
)
def test_parameters_that_are_numbers(text: str, value: float | None) -> None:
    edition = Edition("batched", 1, EditionState.IDLE, "pipe_batched", (), {"limit": text})
    pipe = Subsystem("pipe", "original", "concurrent", 0, {"batched": edition}, {})
    kernel = KernelState("0.1.0", {"pipe": pipe})
    found = SignalWindow().add(Sample(0.0, kernel, {})).values["parameter", "limit", "batched"]
    assert found.value == value
    assert (value is None) == (found.reason == 'its value is no number: "fast"')


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_window_without_length_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        SignalWindow(window_seconds=seconds)


counters = st.dictionaries(st.sampled_from(["original", "a", "b"]), st.integers(0, 10**9))
readings = st.lists(
    st.tuples(
        st.floats(-1.0, 10.0),
        st.none() | counters,
        st.dictionaries(
            st.sampled_from(["original", "a"]),
            st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
        ),
    ),
    max_size=12,
)


@given(readings)
def test_no_input_makes_a_negative_rate_or_a_share_out_of_range(
    steps: list[tuple[float, dict[str, int] | None, dict[str, tuple[int, int]]]],
) -> None:
    window = SignalWindow()
    time = 0.0
    for step, calls, shares in steps:
        time += step
        for (name, *_), signal in window.add(sample(time, calls, shares=shares)).values.items():
            if signal.value is None:
                assert signal.reason
            else:
                assert signal.value >= 0.0
                assert "share" not in name or signal.value <= 1.0
