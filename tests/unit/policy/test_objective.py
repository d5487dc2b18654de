# SPDX-License-Identifier: GPL-2.0-or-later
"""Learning what is better: trials, evidence and verdicts, seen through whole evaluations."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.model import Action, Decision, PolicyPhase, Signal, Suppression
from dynamosd.policy.definition import Mode, Policy
from dynamosd.policy.evaluate import PolicyState, Situation, adopt, carry_over, evaluate
from dynamosd.policy.load import parse_policy
from dynamosd.policy.objective import Evidence, Goal
from dynamosd.recording import state_from_json, state_to_json
from tests.unit.policy.build import KNOWN, policy_of, signals_of

EDITIONS = ("original", "batched", "quiet")
COST = 'calls_rate("pipe_write")'
LOAD = 'in_flight("pipe_write")'

HEAD = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {name: test}
spec:
  subsystem: pipe
  mode: enforce
"""


def learning_policy(objective: str = "", spec: str = "") -> Policy:
    text = (
        f"{HEAD}{spec}  objective:\n    minimize: '{COST}'\n"
        "    editions: [original, batched, quiet]\n"
        "    trial: 10s\n    settle: 2s\n    every: 5m\n"
        f"    activity: '{LOAD} > 5.0'\n{objective}"
    )
    return parse_policy(text.encode(), "test.yaml", known=KNOWN)


Costs = Mapping[str, float]
CHEAP_BATCHED: Costs = {"original": 20.0, "batched": 10.0, "quiet": 30.0}


@dataclass
class House:
    """A subsystem whose cost depends on the edition in use; switches succeed at once."""

    policy: Policy
    costs: Costs = field(default_factory=lambda: CHEAP_BATCHED)
    current: str = "original"
    now: float = 100.0
    state: PolicyState = field(default_factory=PolicyState)
    load: Signal = field(default_factory=lambda: Signal(50.0))
    noise: Callable[[], float] = lambda: 0.0
    lost: Signal | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)
    paused: str = ""
    obeyed: bool = True
    switches: list[tuple[float, str]] = field(default_factory=list)

    def step(self, after: float = 1.0) -> Decision:
        self.now += after
        cost = self.lost or Signal(self.costs[self.current] * (1.0 + self.noise()))
        signals = signals_of(self.now, calls_rate=cost, in_flight=self.load)
        situation = Situation(self.current, self.now, 0.0, self.quarantined, self.paused)
        decision, self.state = evaluate(self.policy, signals, self.state, situation)
        if decision.action is Action.SWITCH and self.obeyed:
            self.current = decision.target
            self.switches.append((self.now - 100.0, self.current))
        return decision

    def live(self, seconds: float) -> list[Decision]:
        return [self.step() for _ in range(int(seconds))]

    @property
    def targets(self) -> list[str]:
        return [target for _, target in self.switches]


def trials_in(decisions: list[Decision]) -> int:
    learned = decisions[-1].learned
    assert learned
    return learned.trials


# ------------------------------------------------------------------------------------ the round


def test_every_edition_is_tried_and_the_best_is_kept() -> None:
    house = House(learning_policy())
    decisions = house.live(60)
    assert house.current == "batched"
    assert sorted(house.targets[:2]) == ["batched", "quiet"]
    assert trials_in(decisions) == 3
    assert decisions[0].phase is PolicyPhase.TRIAL
    assert decisions[3].reason == "objective: trial of original, 3s of 10s"
    last = decisions[-1]
    assert last.phase is PolicyPhase.ACTIVE
    assert last.reason.startswith("objective: batched 10 ± 0 (")
    assert "against original 20 ± 0 (5 samples), quiet 30 ± 0 (5 samples)" in last.reason
    assert last.values == {COST: 10.0, LOAD: 50.0}


def test_each_trial_lasts_as_long_as_it_says() -> None:
    house = House(learning_policy())
    house.live(60)
    times = [time for time, _ in house.switches]
    # A switch is seen at the next evaluation, a second later.
    assert [round(second - first) for first, second in pairwise([1.0, *times])] == [10, 11, 11]


def test_nothing_is_measured_before_it_has_settled() -> None:
    house = House(learning_policy())
    house.live(12)
    assert house.current != "original"
    other = house.current
    house.costs = {**CHEAP_BATCHED, other: 1000.0}
    house.live(1)
    house.costs = CHEAP_BATCHED
    house.live(9)
    learning = house.state.learning
    assert learning
    assert learning.evidence[other].mean == pytest.approx(CHEAP_BATCHED[other])


def test_maximize_wants_the_largest() -> None:
    policy = learning_policy()
    assert policy.objective
    house = House(replace(policy, objective=replace(policy.objective, goal=Goal.MAXIMIZE)))
    house.live(60)
    assert house.current == "quiet"


@pytest.mark.parametrize(("cost", "best"), [(19.2, "original"), (18.8, "batched")])
def test_too_small_a_difference_is_none(cost: float, best: str) -> None:
    house = House(learning_policy(), {"original": 20.0, "batched": cost, "quiet": 30.0})
    decisions = house.live(60)
    assert house.current == best
    if best == "original":
        assert "nothing is better than original for certain" in decisions[-1].reason
        assert decisions[-1].phase is PolicyPhase.INACTIVE


def test_too_much_noise_is_no_difference() -> None:
    lots = random.Random(3)  # noqa: S311 - repeatable
    house = House(learning_policy(), {"original": 20.0, "batched": 19.0, "quiet": 21.0})
    house.noise = lambda: lots.uniform(-0.9, 0.9)
    house.live(60)
    assert house.current == "original"


def test_the_baseline_is_always_one_of_them() -> None:
    text = HEAD + f"  objective: {{minimize: '{COST}', editions: [quiet]}}\n"
    policy = parse_policy(text.encode(), "test.yaml", known=KNOWN)
    assert policy.objective
    assert policy.objective.editions == ("original", "quiet")
    assert policy.editions == ("original", "quiet")
    assert policy.objective.retry_seconds == 20.0


def test_the_host_can_be_the_goal() -> None:
    policy = policy_of(spec="objective: {minimize: cpu_busy()}\n")
    assert policy.objective
    assert [read.text for read in policy.objective.inputs] == ["cpu_busy()"]


def test_editions_are_those_of_the_rules() -> None:
    policy = policy_of(spec=f"objective: {{minimize: '{COST}'}}\n")
    assert policy.objective
    assert policy.objective.editions == ("original", "batched")


# ------------------------------------------------------------------------------------ afterwards


def test_the_others_are_tried_again_in_time_and_no_sooner() -> None:
    house = House(learning_policy())
    house.live(299)
    rounds = len(house.switches)
    assert rounds == 3
    house.live(40)
    # The one in use comes first: that takes no switch.
    assert sorted(house.targets[rounds : rounds + 2]) == ["original", "quiet"]
    assert house.targets[rounds + 2 :] == ["batched"]


def test_a_better_one_is_found_in_the_next_round() -> None:
    house = House(learning_policy())
    house.live(200)
    house.costs = {**CHEAP_BATCHED, "quiet": 2.0}
    house.live(150)
    assert house.current == "quiet"


def test_another_workload_begins_all_anew() -> None:
    house = House(learning_policy())
    house.live(60)
    house.costs = {"original": 50.0, "batched": 70.0, "quiet": 40.0}
    decisions = house.live(5)
    assert house.current == "batched"
    decisions = house.live(10)
    assert "the workload is another one" in "".join(each.reason for each in decisions)
    decisions = house.live(60)
    assert house.current == "quiet"
    assert trials_in(decisions) == 6


def test_one_odd_value_is_no_other_workload() -> None:
    house = House(learning_policy())
    house.live(60)
    switches = list(house.switches)
    for _ in range(10):
        house.costs = {**CHEAP_BATCHED, "batched": 90.0}
        house.live(2)
        house.costs = CHEAP_BATCHED
        house.live(4)
    assert house.switches == switches


def test_retry_on_tells_workloads_apart() -> None:
    house = House(learning_policy(f"    retryOn: '{LOAD} > 100.0'\n"))
    house.live(60)
    # However much it costs now: that is not what was asked to look at.
    house.costs = {"original": 50.0, "batched": 70.0, "quiet": 40.0}
    house.live(60)
    assert house.current == "batched"
    house.load = Signal(200.0)
    decisions = house.live(4)
    assert "the workload is another one" in decisions[-1].reason or house.current == "original"
    house.live(60)
    assert house.current == "quiet"


def test_a_round_that_has_switched_nothing_yet_begins_anew_at_once() -> None:
    house = House(learning_policy(f"    retryOn: '{LOAD} > 100.0'\n"))
    house.load = Signal(200.0)
    house.live(4)
    house.load = Signal(50.0)
    house.live(38)
    assert (house.current, sorted(house.targets)) == ("batched", ["batched", "quiet"])


def test_a_round_that_has_switched_is_not_made_again_at_once() -> None:
    house = House(learning_policy(f"    retryOn: '{LOAD} > 100.0'\n"))
    house.live(14)
    assert house.current != "original"
    house.load = Signal(200.0)
    house.live(30)
    assert house.current == "original"
    assert len(house.targets) == 2, "there, and back"


def test_retry_on_may_change_its_mind_for_a_moment() -> None:
    house = House(learning_policy(f"    retryOn: '{LOAD} > 100.0'\n"))
    house.live(60)
    switches = list(house.switches)
    for _ in range(5):
        house.load = Signal(200.0)
        house.live(1)
        house.load = Signal(50.0)
        house.live(3)
    assert house.switches == switches


def test_when_the_load_ends_all_is_forgotten() -> None:
    house = House(learning_policy())
    house.live(60)
    house.load = Signal(0.0)
    decisions = house.live(5)
    assert decisions[-1].reason == "objective: no load, what is in use stays for now"
    assert house.current == "batched"
    decisions = house.live(10)
    assert house.current == "original"
    assert decisions[-1].learned
    assert decisions[-1].learned.editions == {}
    house.load = Signal(50.0)
    house.live(60)
    assert house.current == "batched"


def test_a_gap_in_the_load_ends_no_trial_also_after_a_load_that_ended() -> None:
    house = House(learning_policy())
    house.live(36)
    house.load = Signal(0.0)
    house.live(12)
    house.load = Signal(50.0)
    house.live(31)
    before = trials_in(house.live(1))
    assert before > 3, "it is in its second round"
    trial = house.current
    assert trial != "original"
    house.load = Signal(0.0)
    house.live(1)
    assert house.current == trial
    house.load = Signal(50.0)
    assert trials_in(house.live(2)) == before


def test_without_load_nothing_is_tried() -> None:
    house = House(learning_policy(), load=Signal(0.0))
    decisions = house.live(100)
    assert house.switches == []
    assert trials_in(decisions) == 0


@pytest.mark.parametrize(
    ("signal", "phase"),
    [
        (Signal(None, reason="nothing there"), PolicyPhase.NO_DATA),
        (Signal(5.0, trusted=False, reason="lost calls"), PolicyPhase.UNTRUSTED),
    ],
)
def test_a_trial_waits_for_data(signal: Signal, phase: PolicyPhase) -> None:
    house = House(learning_policy(), lost=signal)
    decisions = house.live(30)
    assert house.switches == []
    assert decisions[-1].phase is phase
    assert decisions[-1].suppressed is Suppression(phase)
    assert decisions[-1].reason.startswith(f"objective: nothing can be told ({COST}: ")
    house.lost = None
    house.live(13)
    assert house.switches
    house.lost = signal
    before = list(house.switches)
    house.live(100)
    assert house.switches == before
    house.lost = None
    # What the trial has missed takes another round.
    house.live(120)
    assert house.current == "batched"


def test_a_number_that_is_none_is_no_data() -> None:
    text = HEAD + f"  objective: {{minimize: '1.0 / {COST}', editions: [quiet]}}\n"
    policy = parse_policy(text.encode(), "test.yaml", known=KNOWN)
    house = House(policy, costs=dict.fromkeys(EDITIONS, 0.0))
    decisions = house.live(30)
    assert house.switches == []
    assert "the number is not finite" in decisions[-1].reason


# ------------------------------------------------------------------------------ rules and limits


def test_rules_decide_first() -> None:
    rules = "- {name: storm, edition: quiet, when: 'in_flight(\"pipe_write\") > 100.0'}\n"
    spec = (
        f"mode: enforce\nobjective:\n  minimize: '{COST}'\n"
        "  editions: [original, batched]\n  trial: 10s\n"
    )
    house = House(policy_of(rules, spec))
    house.live(15)
    assert house.current == "batched"
    house.load = Signal(200.0)
    decisions = house.live(60)
    assert house.current == "quiet"
    assert decisions[-1].rule == "storm"
    assert decisions[-1].learned is None
    house.load = Signal(50.0)
    decisions = house.live(60)
    assert house.current == "batched"
    assert decisions[-1].reason.startswith("objective: batched 10")
    assert "rule storm inactive" in decisions[-1].reason


def test_a_cooldown_makes_trials_longer() -> None:
    house = House(learning_policy(spec="  limits: {cooldown: 30s}\n"))
    decisions = house.live(200)
    apart = [second - first for (first, _), (second, _) in pairwise(house.switches)]
    assert min(apart) >= 30.0
    assert house.current == "batched"
    assert Suppression.COOLDOWN in {each.suppressed for each in decisions}


def test_a_trial_leaves_a_switch_for_the_way_back() -> None:
    house = House(learning_policy(spec="  limits: {maxSwitches: {count: 2, per: 1h}}\n"))
    decisions = house.live(600)
    assert PolicyPhase.FROZEN not in {each.phase for each in decisions}
    # One was tried, and was better or was left again.
    assert house.targets in (["batched"], ["quiet", "original"])


def test_one_switch_is_too_few_for_a_trial() -> None:
    house = House(learning_policy(spec="  limits: {maxSwitches: {count: 1, per: 1h}}\n"))
    house.live(100)
    assert house.switches == []


def test_a_pause_postpones_the_trial() -> None:
    house = House(learning_policy(), paused="no lease")
    decisions = house.live(60)
    assert house.switches == []
    assert decisions[-1].suppressed is Suppression.PAUSED
    house.paused = ""
    house.live(60)
    assert house.current == "batched"


def test_an_edition_in_quarantine_is_not_tried() -> None:
    house = House(learning_policy(), quarantined={"batched": "it broke"})
    house.live(100)
    assert "batched" not in house.targets
    assert house.current == "original"


def test_the_best_is_left_when_it_comes_into_quarantine() -> None:
    house = House(learning_policy())
    house.live(60)
    assert house.current == "batched"
    house.quarantined = {"batched": "it broke"}
    house.step()
    assert house.current == "original"
    house.live(400)
    assert house.targets.count("batched") == 2 or "batched" not in house.targets[-3:]
    assert house.current == "original"


def test_a_trial_in_quarantine_is_over() -> None:
    house = House(learning_policy())
    house.live(13)
    tried = house.current
    assert tried != "original"
    house.quarantined = {tried: "it broke"}
    house.step()
    assert house.current != tried
    house.live(60)
    assert house.current == ("original" if tried == "batched" else "batched")


@pytest.mark.parametrize("mode", [Mode.ADVISE, Mode.OBSERVE])
def test_without_enforcing_nothing_is_tried(mode: Mode) -> None:
    house = House(replace(learning_policy(), mode=mode), obeyed=False)
    decisions = house.live(30)
    assert trials_in(decisions) == 0
    assert {each.action for each in decisions} == {Action.STAY}
    # But what others do is learned from.
    house.current = "batched"
    house.live(30)
    house.current = "original"
    decisions = house.live(30)
    assert decisions[-1].target == "batched"


def test_someone_else_may_switch_in_a_trial() -> None:
    house = House(learning_policy())
    house.live(14)
    house.current = "quiet" if house.current == "batched" else "batched"
    house.live(80)
    assert house.current == "batched"


# ---------------------------------------------------------------------------------- what is kept


def test_state_is_data() -> None:
    house = House(learning_policy())
    for _ in range(80):
        house.step()
        text = json.dumps(state_to_json(house.state))
        assert state_from_json(json.loads(text)) == house.state


def test_a_recording_of_before_has_no_learning() -> None:
    data = state_to_json(PolicyState())
    del data["learning"]
    assert state_from_json(data) == PolicyState()


def test_a_restart_keeps_what_it_finds_until_it_knows() -> None:
    policy = learning_policy()
    house = House(policy, current="batched", state=adopt(policy, "batched", 100.0))
    house.lost = Signal(None)
    house.live(30)
    assert house.switches == []
    house.lost = None
    house.live(60)
    assert house.current == "batched"


def test_a_reload_keeps_what_is_known_of_the_same_objective() -> None:
    policy = learning_policy()
    house = House(policy)
    house.live(60)
    other = learning_policy(spec="  limits: {cooldown: 1s}\n")
    kept = carry_over(policy, house.state, other, house.current, house.now)
    assert kept.learning == house.state.learning
    other = learning_policy("    seed: 2\n")
    anew = carry_over(policy, house.state, other, house.current, house.now)
    assert anew.learning
    assert anew.learning.evidence == {}
    assert anew.learning.preferred == "batched"


def test_evidence_counts_for_half_after_its_half_life() -> None:
    evidence = Evidence(0, 0.0, 0.0, 0.0, 0.0)
    for time, value in enumerate([1.0, 2.0, 3.0]):
        evidence = evidence.add(value, float(time), 1e9)
    assert evidence.mean == pytest.approx(2.0)
    assert evidence.deviation == pytest.approx(1.0)
    old = evidence.aged(2.0 + 60.0, 60.0)
    assert old.weight == pytest.approx(1.5, rel=1e-6)
    assert old.deviation == pytest.approx(1.0)
    assert old.margin
    assert evidence.margin
    assert old.margin == pytest.approx(evidence.margin * 2**0.5)
    newer = old.add(10.0, 62.0, 60.0)
    assert newer.mean == pytest.approx((1.5 * 2.0 + 10.0) / 2.5)


# ----------------------------------------------------------------------------------- properties

COSTS = st.permutations([10.0, 20.0, 40.0]).map(
    lambda costs: dict(zip(EDITIONS, costs, strict=True))
)
LOADS = st.sampled_from(
    [Signal(50.0)] * 4 + [Signal(0.0), Signal(None), Signal(5.0, trusted=False)]
)
STRETCHES = st.lists(st.tuples(LOADS, COSTS, st.integers(1, 40)), min_size=1, max_size=12)
LIMITS = st.sampled_from(
    [
        "",
        "  limits: {cooldown: 7s}\n",
        "  limits: {maxSwitches: {count: 3, per: 1m}}\n",
        "  limits: {cooldown: 3s, maxSwitches: {count: 5, per: 2m}, onFlap: hold}\n",
    ]
)


def play(
    stretches: list[tuple[Signal, Costs, int]], limits: str, seed: int = 1
) -> Iterator[tuple[Signal, str, Decision]]:
    """Live through stretches of one load and one price list each."""
    house = House(learning_policy(f"    seed: {seed}\n", spec=limits))
    for load, costs, seconds in stretches:
        house.load, house.costs = load, costs
        for _ in range(seconds):
            before = house.current
            yield load, before, house.step()


@given(STRETCHES, LIMITS)
def test_never_more_trials_than_allowed(
    stretches: list[tuple[Signal, Costs, int]], limits: str
) -> None:
    """A round that has switched is followed by none for `retryAfter`; three trials are one."""
    seen = list(play(stretches, limits))
    last = seen[-1][2].learned
    assert last
    retry, editions = 30.0, len(EDITIONS)
    assert last.trials <= editions * last.rounds
    begun: dict[int, float] = {}
    switched: set[int] = set()
    for _, before, decision in seen:
        assert decision.learned
        number = decision.learned.rounds
        begun.setdefault(number, decision.time)
        if decision.phase is PolicyPhase.TRIAL and decision.target != before:
            switched.add(number)
    for number in switched & {each - 1 for each in begun}:
        assert begun[number + 1] - begun[number] >= retry
    assert len(switched) <= 1 + len(seen) / retry


@given(STRETCHES, LIMITS)
def test_never_a_trial_without_load_or_data(
    stretches: list[tuple[Signal, Costs, int]], limits: str
) -> None:
    last_trials = 0
    for load, before, decision in play(stretches, limits):
        assert decision.learned
        usable = load.trusted and load.value is not None
        if not usable or not load.value:
            assert decision.learned.trials == last_trials
            assert decision.phase is not PolicyPhase.TRIAL
            # Only the way home, and only on data.
            assert decision.action is Action.STAY or (usable and decision.target == "original")
        last_trials = decision.learned.trials
        assert before in EDITIONS


@given(COSTS, st.integers(0, 1000), st.floats(0.0, 0.1))
def test_it_ends_with_the_best(costs: Costs, seed: int, noise: float) -> None:
    lots = random.Random(seed)  # noqa: S311 - repeatable
    house = House(learning_policy(f"    seed: {seed}\n"), costs)
    house.noise = lambda: lots.uniform(-noise, noise)
    house.live(60)
    assert house.current == min(costs, key=costs.__getitem__)


@given(STRETCHES, LIMITS, st.integers(0, 5))
def test_the_same_seed_decides_the_same(
    stretches: list[tuple[Signal, Costs, int]], limits: str, seed: int
) -> None:
    assert list(play(stretches, limits, seed)) == list(play(stretches, limits, seed))


def test_the_seed_gives_the_order() -> None:
    orders = set()
    for seed in range(20):
        house = House(learning_policy(f"    seed: {seed}\n"))
        house.live(40)
        orders.add(tuple(house.targets[:2]))
    assert orders == {("batched", "quiet"), ("quiet", "batched")}
