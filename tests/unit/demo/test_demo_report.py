# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo must fail when the kernel did not switch, or when switching did not pay."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from tests.demo import fio, report, timeline
from tests.demo.model import Observation, Phase, Point, Run, Switch

FUNCTIONS = ("page_cache_ra_order", "page_cache_sync_ra", "page_cache_async_ra")
PAGE = 4096


def phase(name: str, began: float, steps: list[tuple[str, int, float]]) -> Phase:
    """One second a step: active edition, reads in that second, bytes read per byte asked."""
    points = []
    asked = disk = calls = 0
    for second, (active, reads, ratio) in enumerate([(steps[0][0], 0, 0.0), *steps]):
        asked += reads * PAGE
        disk += int(reads * PAGE * ratio)
        calls += reads
        seen = Observation(
            active,
            dict.fromkeys(FUNCTIONS, calls),
            dict.fromkeys(FUNCTIONS, 0),
            0.01 if reads else None,
        )
        points.append(Point(began + second, name, asked, float(second), disk, seen))
    return Phase(name, began, began + len(steps), tuple(points))


SWITCHES = (
    Switch(
        8.0, "original", "random", 'rule random: sequential_share("page_cache_ra_order") = 0.01'
    ),
    Switch(31.0, "random", "original", "no rule is active"),
)


def adaptive() -> Run:
    """A run as it should be."""
    return Run(
        "adaptive",
        {
            "idle": phase("idle", 0.0, [("original", 0, 0.0)] * 5),
            "random": phase(
                "random", 5.0, [("original", 97, 25.0)] * 3 + [("random", 300, 1.0)] * 22
            ),
            "sequential": phase("sequential", 30.0, [("original", 3000, 1.0)] * 25),
            "idle again": phase("idle again", 55.0, [("original", 0, 0.0)] * 5),
        },
        SWITCHES,
    )


def original() -> Run:
    """The same phases with the original held."""
    return Run(
        "original",
        {
            "random": phase("random", 0.0, [("original", 97, 25.0)] * 25),
            "sequential": phase("sequential", 30.0, [("original", 3000, 1.0)] * 25),
        },
    )


def failed(run: Run, held: Run) -> list[str]:
    """Texts of the checks that failed."""
    return [check.text for check in report.judge(run, held).checks if not check.passed]


def test_a_run_that_switched_and_gained_passes() -> None:
    assert failed(adaptive(), original()) == []
    assert "demo: passed" in report.summary(
        adaptive(), original(), report.judge(adaptive(), original())
    )


@pytest.mark.parametrize("switches", [(), SWITCHES[:1], SWITCHES[1:]])
def test_not_switching_both_ways_fails(switches: tuple[Switch, ...]) -> None:
    (text,) = failed(replace(adaptive(), switches=switches), original())
    assert text.startswith("switched by itself")


def test_an_edition_that_still_reads_ahead_fails() -> None:
    bad = phase("random", 5.0, [("original", 97, 25.0)] * 3 + [("random", 300, 2.0)] * 22)
    run = adaptive()
    texts = failed(replace(run, phases={**run.phases, "random": bad}), original())
    assert any("after the switch: 2.00" in text for text in texts)


def test_switching_too_late_fails() -> None:
    late = phase("random", 5.0, [("original", 97, 25.0)] * 15 + [("random", 300, 1.0)] * 10)
    run = adaptive()
    (text,) = failed(replace(run, phases={**run.phases, "random": late}), original())
    assert "whole phase" in text


def test_a_slower_sequential_phase_fails() -> None:
    slow = phase("sequential", 30.0, [("random", 300, 1.0)] * 10 + [("original", 3000, 1.0)] * 15)
    run = adaptive()
    (text,) = failed(replace(run, phases={**run.phases, "sequential": slow}), original())
    assert text.startswith("sequential:")


def test_nothing_to_gain_fails() -> None:
    held = original()
    calm = phase("random", 0.0, [("original", 97, 1.0)] * 25)
    (text,) = failed(adaptive(), replace(held, phases={**held.phases, "random": calm}))
    assert "nothing to gain" in text


def test_noise_is_what_the_original_shows() -> None:
    wild = [("original", 3000, 1.0)] * 8 + [("original", 1500, 1.0)] * 16
    assert report.noise(phase("sequential", 0.0, wild)) > 0.3
    steady = [("original", 3000, 1.0)] * 24
    assert report.noise(phase("sequential", 0.0, steady)) == report.NOISE_AT_LEAST


def test_the_timeline_is_a_picture_with_bands_marks_and_reasons() -> None:
    text = timeline.draw(adaptive(), original())
    root = ET.fromstring(text)  # noqa: S314 (our own text)
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["original", "random", "original"]
    assert "1. original → random: rule random" in text
    assert "idle again" in text


def test_fio_is_heard_while_it_runs_and_its_failure_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"x" * (64 * PAGE))
    heard: list[fio.Progress] = []
    fio.run(data, ["--ioengine=psync", "--rw=read"], heard.append)
    assert heard[-1].asked == 64 * PAGE
    with pytest.raises(fio.FioError, match="no_such_engine"):
        fio.run(data, ["--ioengine=no_such_engine", "--rw=read"], heard.append)
