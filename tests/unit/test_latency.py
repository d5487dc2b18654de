# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.latency: buckets, quantiles and how wrong they may be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.latency import BUCKETS, MAX_ERROR, Latency, bucket_of, latency_of, lower_end

END = lower_end(BUCKETS)

times = st.integers(0, END - 1) | st.integers(0, 2000)


@given(times)
def test_a_value_is_between_the_ends_of_its_bucket(nanoseconds: int) -> None:
    bucket = bucket_of(nanoseconds)
    assert lower_end(bucket) <= nanoseconds < lower_end(bucket + 1)


def test_buckets_lie_side_by_side() -> None:
    ends = [lower_end(bucket) for bucket in range(BUCKETS + 1)]
    assert ends == sorted(set(ends))
    assert [bucket_of(end) for end in ends[:-1]] == list(range(BUCKETS))


def test_what_is_longer_than_all_buckets_counts_in_the_last() -> None:
    assert bucket_of(END) == bucket_of(2**63) == BUCKETS - 1


@given(st.lists(times, min_size=1), st.floats(0.0, 1.0))
def test_a_quantile_is_wrong_by_no_more_than_it_says(values: list[int], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = latency_of(values).quantile(share) * 1e9
    assert abs(found - exact) <= max(16.0, MAX_ERROR * exact) * (1 + 1e-9)


@given(st.lists(times), st.lists(times))
def test_what_has_come_since_is_what_was_added(before: list[int], more: list[int]) -> None:
    first = latency_of(before)
    assert (first + latency_of(more)).since(first) == latency_of(more)


def test_counting_that_began_again_began_at_nothing() -> None:
    assert latency_of([50]).since(latency_of([5000, 6000])) == latency_of([50])


@given(st.lists(times))
def test_a_coarse_histogram_has_all_and_is_exact(values: list[int]) -> None:
    bounds = (1024, 4096, 1 << 30)
    exact = [
        sum(low <= value < high for value in values)
        for low, high in zip((0, *bounds), (*bounds, END), strict=True)
    ]
    assert list(latency_of(values).coarse(bounds)) == exact


def test_without_calls_there_is_none() -> None:
    assert Latency().total == 0
    with pytest.raises(StopIteration):
        Latency().quantile(0.5)
