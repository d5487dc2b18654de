# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark of editions: a limit that is not kept is named, and spread is shown."""

from __future__ import annotations

import pytest

from bench.editions import trials
from bench.editions.calls import durations
from bench.editions.model import (
    COUNTING,
    ORIGINAL,
    Figures,
    Limit,
    Load,
    Trial,
    broken,
    share,
    table,
)

TRIAL = Trial(
    "pipe",
    ("dynamos_pipe_coalesce",),
    "pipe_load",
    COUNTING,
    (Load("storm", "", "stream 1 64"),),
    {ORIGINAL: ORIGINAL, "coalesce": "coalesce"},
    ("switches",),
    (Limit("storm", "coalesce", "switches", 1 / 3),),
)


def figures(*coalesce: float) -> Figures:
    """Give those of one load: 300 of the original, and these."""
    return {
        "storm": {
            ORIGINAL: {"switches": [290.0, 300.0, 400.0]},
            "coalesce": {"switches": list(coalesce)},
        }
    }


def test_share_is_that_of_the_medians() -> None:
    assert share(figures(10.0, 30.0, 900.0), "storm", "coalesce", "switches") == pytest.approx(0.1)


def test_limit_that_is_kept_and_one_that_is_not() -> None:
    assert broken(TRIAL, figures(100.0)) == []
    assert broken(TRIAL, figures(150.0)) == [
        "pipe coalesce, storm: 0.50 times the original's switches, may be 0.33"
    ]


def test_table_has_medians_spread_and_share() -> None:
    lines = table(TRIAL, figures(20.0, 30.0, 40.0)).splitlines()
    assert lines[0] == f"pipe: {COUNTING.about}"
    assert lines[2].split() == ["storm", "original", "300", "±", "18%", "x1.00"]
    assert lines[3].split() == ["coalesce", "30", "±", "33%", "x0.10"]


@pytest.mark.parametrize(
    "trial", trials.TRIALS, ids=lambda each: f"{each.subsystem}-{each.machine.about}"
)
def test_limits_are_about_what_is_measured(trial: Trial) -> None:
    loads = {load.name for load in trial.loads}
    for limit in trial.limits:
        assert limit.load in loads
        assert limit.edition in trial.ways
        assert limit.figure in trial.figures


TRACE = """\
# tracer: nop
     spinning_load-71  [001] d..1.  12.500000: edition_exit: function=7 edition=0 ret=0x1
     spinning_load-72  [000] ...1.  13.000000: edition_enter: function=7 edition=0 arg0=0x1
     a name with-3-73  [001] ...1.  13.000100: edition_enter: function=7 edition=0 arg0=0x1
     a name with-3-73  [001] ...1.  13.000200: edition_exit: function=7 edition=0 ret=0x0
     spinning_load-72  [000] ...1.  13.500000: edition_exit: function=7 edition=0 ret=0x1
     spinning_load-72  [000] ...1.  14.000000: edition_enter: function=7 edition=0 arg0=0x1
"""


def test_calls_of_which_both_ends_were_seen_are_timed() -> None:
    assert list(durations(TRACE.splitlines())) == pytest.approx([100_000, 500_000_000])
