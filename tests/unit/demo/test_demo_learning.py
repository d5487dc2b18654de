# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo of a policy that learns must fail when it learned the wrong thing, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.demo import learning
from tests.demo.machine import DemoError
from tests.demo.model import Run, Switch
from tests.unit.demo.test_demo_report import phase

RANDOM = (
    [("original", 97, 25.0)] * 10 + [("streaming", 20, 90.0)] * 10 + [("random", 300, 1.0)] * 40
)
SEQUENTIAL = (
    [("original", 3000, 1.0)] * 20 + [("random", 300, 1.0)] * 10 + [("original", 3000, 1.0)] * 40
)
TARGETS = ("streaming", "random", "original", "random", "original")


def run() -> Run:
    """A run as it should be."""
    phases = {
        "random": phase("random", 0.0, RANDOM),
        "sequential": phase("sequential", 60.0, SEQUENTIAL),
        "idle again": phase("idle again", 130.0, [("original", 0, 0.0)] * 5),
    }
    switches = tuple(Switch(float(at), "x", to, "objective: …") for at, to in enumerate(TARGETS))
    return Run("learning", phases, switches)


def failed(made: Run) -> list[str]:
    return [check.text for check in learning.judge(made).checks if not check.passed]


def test_a_run_that_found_the_best_passes() -> None:
    assert failed(run()) == []
    assert learning.summary(run(), learning.judge(run())).endswith("demo: passed")


def test_random_reads_with_another_edition_fail() -> None:
    bad = phase("random", 0.0, [("original", 97, 25.0)] * 60)
    (text,) = failed(replace(run(), phases={**run().phases, "random": bad}))
    assert text.startswith("random reads, second half: `random` in use for 0%")


def test_sequential_reads_without_readahead_fail() -> None:
    bad = phase("sequential", 60.0, [("random", 300, 1.0)] * 70)
    (text,) = failed(replace(run(), phases={**run().phases, "sequential": bad}))
    assert text.startswith("sequential reads, second half: `random` in use for 100%")


@pytest.mark.parametrize("switches", [(), run().switches[2:], run().switches[:-1]])
def test_not_trying_all_or_not_going_back_fails(switches: tuple[Switch, ...]) -> None:
    assert failed(replace(run(), switches=switches))


def test_the_shipped_policy_is_made_to_enforce(tmp_path: Path) -> None:
    (file,) = learning.write_config(tmp_path).iterdir()
    assert "mode: enforce\n" in file.read_text()


def test_a_policy_that_does_not_advise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("spec: {}\n")
    monkeypatch.setattr(learning, "POLICY", other)
    with pytest.raises(DemoError, match="does not advise"):
        learning.write_config(tmp_path)
