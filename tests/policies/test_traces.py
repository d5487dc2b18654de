# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped policies over what the daemon recorded on a real kernel: CONTRIBUTING.md says how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dynamosd import recording, replay
from dynamosd.policy.definition import Mode, Policy
from dynamosd.policy.load import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
TRACES = POLICIES / "traces"

# What the daemon switched to in the demo: random reads, a gap, sequential ones, none.
# `pipe` is from `make bench-editions`: a storm of small messages, bursts of them, none.
# `reclaim` too: others squeeze a job, and then leave it alone. `spinning`: four threads want one
# mutex, then one has it to itself.
SWITCHES = {
    "pipe": ["adaptive", "original"],
    "readahead": ["random", "original", "streaming", "original"],
    "reclaim": ["foreground", "original"],
    "spinning": ["no_spin", "original"],
    "readahead-objective": ["random", "streaming", "random", "streaming", "original"],
}


def load(name: str) -> Policy:
    """Load a shipped policy as it enforced in the demo."""
    return replace(load_policy(POLICIES / f"{name}.yaml"), mode=Mode.ENFORCE)


def trace(name: str) -> Path:
    return TRACES / f"{name}.jsonl.zst"


def test_every_shipped_policy_has_a_trace() -> None:
    names = {file.stem for file in POLICIES.glob("*.yaml")}
    assert {file.name for file in TRACES.iterdir()} == {trace(name).name for name in names}
    assert SWITCHES.keys() == names


@pytest.mark.parametrize("name", SWITCHES)
def test_the_policy_decides_what_it_decided_then(name: str) -> None:
    # A comment in the policy may have changed since: that is another file, but no other policy.
    digests = dict(replay.survey(recording.read(trace(name))).digests)
    policy = replace(load(name), digest=digests[name])
    made = replay.as_recorded(policy, recording.read(trace(name)))
    assert (made.differing, made.differences) == (0, [])
    assert made.compared > 100
    assert [switch.target for switch in made.switches] == SWITCHES[name]


def test_it_would_have_gone_the_same_way_by_itself() -> None:
    made = replay.as_if(load("readahead"), recording.read(trace("readahead")))
    assert [switch.target for switch in made.switches] == SWITCHES["readahead"]
    assert made.flaps(10.0) == 0, "each phase of the demo is longer"
