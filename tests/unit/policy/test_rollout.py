# SPDX-License-Identifier: GPL-2.0-or-later
"""Canaries: the steps of a switch, what they wait for, and how they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamosd.model import Action, Part, PolicyPhase, RolloutEvent, Signal, Signals, Suppression
from dynamosd.policy.evaluate import PolicyState, Situation, adopt, carry_over, evaluate
from dynamosd.policy.load import parse_policy
from dynamosd.policy.names import SubsystemNames
from dynamosd.policy.rollout import stands_after
from dynamosd.policy.scopes import check_scope, one_in
from dynamosd.recording import Evaluated, Recorder, read
from dynamosd.replay import as_recorded
from tests.unit.policy.build import RULE, policy_of, problems_of, text_of
from tests.unit.policy.test_guardrails import Bench, written

CANARY = """\
mode: enforce
canary:
  steps:
    - {scope: "share:1/100", pause: 10s}
    - {scope: "cgroup:/test.slice", pause: 20s}
  giveUpAfter: 60s
  retryAfter: 300s
"""
FAILING = """\
guardrails:
  - name: failing
    breach: error_share("pipe_write") > baseline(error_share("pipe_write")) + 0.1
    confidence: 95%
    quarantine: 500s
"""
OBJECTIVE = """\
objective:
  maximize: calls_rate("pipe_write")
  editions: [batched]
  trial: 30s
"""
FIRST, SECOND = Part("batched", "share:1/100"), Part("batched", "cgroup:/test.slice")
OTHER = RULE.replace("storm", "calm").replace("batched", "quiet").replace("100.0", "10.0")

Story = list[tuple[RolloutEvent, str]]


def bench(spec: str = CANARY + FAILING, rules: str = RULE) -> Bench:
    return Bench(policy_of(rules, spec))


def good(made: Bench, seconds: int = 1, share: float | None = 0.01, rate: float = 500.0) -> None:
    """Let an edition do so well for a while, and the baseline always well."""
    made.see(
        seconds,
        calls_rate=rate,
        error_share__batched=share,
        error_share__quiet=share,
        error_share__original=0.01,
    )


def stands(made: Bench) -> tuple[str, Part | None]:
    """Give what is active, and who has some calls."""
    return made.current, made.part


def story(made: Bench) -> Story:
    """Give what has happened to its canaries."""
    return [
        (each.rolling.event, each.scope)
        for each in made.decisions
        if each.rolling and each.rolling.event is not RolloutEvent.HOLDS
    ]


STARTED = (RolloutEvent.STARTED, FIRST.scope)
STEPPED = (RolloutEvent.STEPPED, SECOND.scope)
COMPLETED = (RolloutEvent.COMPLETED, "")

# ------------------------------------------------------------------------------------ good ones


def test_good_edition_gets_more_calls_step_by_step() -> None:
    made = bench()
    good(made)
    assert stands(made) == ("original", FIRST)
    first = made.decisions[-1]
    assert (first.action, first.target, first.scope) == (Action.SWITCH, "batched", FIRST.scope)
    assert (first.phase, first.suppressed) == (PolicyPhase.CANARY, None)
    assert first.reason.endswith("canary: step 1 of 2 (share:1/100)")
    good(made, 5)
    waits = made.decisions[-1]
    assert (waits.action, waits.phase) == (Action.STAY, PolicyPhase.CANARY)
    assert (waits.target, waits.suppressed) == ("batched", Suppression.CANARY)
    assert "canary: step 1 of 2 (share:1/100), 5s of 10s" in waits.reason
    good(made, 5)
    assert made.part == SECOND
    good(made, 20)
    assert stands(made) == ("batched", None)
    good(made, 20)
    assert story(made) == [STARTED, STEPPED, COMPLETED]
    assert made.decisions[-1].phase is PolicyPhase.ACTIVE


def test_step_waits_for_every_guardrail_to_pass_in_it() -> None:
    made = bench()
    good(made)
    good(made, 40, share=None)
    assert made.part == FIRST
    assert "inconclusive: failing no_data" in made.decisions[-1].reason
    # Three windows.
    good(made, 6)
    assert made.part == SECOND
    good(made, 19, share=None)
    good(made, 4)
    # It had passed in the step before, and not yet in this one.
    assert made.part == SECOND
    good(made, 2)
    assert made.current == "batched"


def test_step_waits_while_a_guardrail_is_on_its_way_to_a_breach() -> None:
    made = bench()
    good(made)
    good(made, 7)
    good(made, 4, share=0.9)
    assert made.part == FIRST
    assert "inconclusive: failing passed" in made.decisions[-1].reason
    good(made, 1)
    assert made.part == FIRST
    good(made, 3)
    assert made.part == SECOND


def test_both_are_compared_over_the_same_window() -> None:
    made = bench()
    good(made)
    # That the baseline fails as well is no fault of the edition.
    made.see(60, error_share__batched=0.5, error_share__original=0.5)
    assert made.current == "batched"


def test_without_guardrails_steps_only_wait() -> None:
    made = bench(CANARY)
    made.see(31)
    assert made.current == "batched"
    assert story(made) == [STARTED, STEPPED, COMPLETED]


def test_from_one_edition_to_another_the_way_is_over_the_baseline() -> None:
    made = bench(rules=RULE + OTHER)
    good(made, 60, rate=50.0)
    assert made.current == "quiet"
    good(made, rate=500.0)
    assert stands(made) == ("original", None)
    good(made, rate=500.0)
    assert stands(made) == ("original", FIRST)


# ------------------------------------------------------------------------------------- bad ones


def test_bad_edition_is_stopped_at_the_first_step() -> None:
    made = bench()
    good(made)
    good(made, 9, share=0.9)
    assert stands(made) == ("original", None)
    assert story(made) == [STARTED, (RolloutEvent.ROLLED_BACK, "")]
    (last,) = [each for each in made.decisions if each.guarded and each.guarded.breach]
    assert (last.action, last.target, last.phase) == (
        Action.SWITCH,
        "original",
        PolicyPhase.QUARANTINED,
    )
    assert "canary: back from batched (share:1/100)" in last.reason
    good(made, 400)
    assert len(story(made)) == 2
    good(made, 200)
    # Its quarantine is over.
    assert made.current == "batched"


@pytest.mark.parametrize("share", [None, 0.9])
def test_no_pause_by_a_person_keeps_a_bad_edition_in_use(share: float | None) -> None:
    made = bench()
    good(made)
    made.suspended = "paused by uid 0"
    good(made, 100, share=share)
    assert made.part == (FIRST if share is None else None)
    assert made.decisions[-1].phase is PolicyPhase.PAUSED


def test_inconclusive_canary_is_given_up_and_tried_again() -> None:
    made = bench()
    good(made, share=None)
    good(made, 69, share=None)
    assert made.part == FIRST
    good(made, 1, share=None)
    assert stands(made) == ("original", None)
    assert made.backoff.sentences == {}
    good(made, 299, share=None)
    last = made.decisions[-1]
    assert (last.action, last.suppressed) == (Action.STAY, Suppression.CANARY)
    assert "no switch to batched: its canary was given up, and is tried again in 1s" in last.reason
    good(made, 2)
    assert made.part == FIRST
    assert story(made) == [STARTED, (RolloutEvent.GIVEN_UP, ""), STARTED]


def test_rule_that_ends_takes_the_canary_back() -> None:
    made = bench()
    good(made, 3)
    good(made, rate=0.0)
    assert stands(made) == ("original", None)
    assert story(made) == [STARTED, (RolloutEvent.ENDED, "")]


def test_edition_of_another_rule_begins_its_own() -> None:
    made = bench(rules=RULE + OTHER)
    good(made, 5)
    good(made, rate=50.0)
    assert stands(made) == ("original", None)
    good(made, rate=50.0)
    assert made.part == Part("quiet", FIRST.scope)


# --------------------------------------------------------------------------------- limits, pauses


def test_limits_hold_up_the_beginning_and_nothing_else() -> None:
    made = bench(CANARY + FAILING + "limits: {cooldown: 1h}\n")
    good(made, 60)
    # Neither the steps nor all calls had to wait.
    assert made.current == "batched"
    good(made, 100, rate=0.0)
    assert made.decisions[-1].suppressed is Suppression.COOLDOWN
    made = bench(CANARY + FAILING + "limits: {maxSwitches: {count: 1, per: 1h}, onFlap: hold}\n")
    good(made, 3)
    good(made, 3, rate=0.0)
    assert made.part is None
    good(made, 3)
    assert (made.part, made.decisions[-1].suppressed) == (None, Suppression.MAX_SWITCHES)


def test_step_waits_while_the_policy_may_not_switch() -> None:
    made = bench()
    good(made)
    made.paused = "there is no lease of pipe yet"
    good(made, 100)
    assert made.part == FIRST
    last = made.decisions[-1]
    assert (last.phase, last.suppressed) == (PolicyPhase.PAUSED, Suppression.PAUSED)
    assert "the canary stays as it is: there is no lease" in last.reason
    made.paused = ""
    good(made)
    assert made.part == SECOND


@pytest.mark.parametrize("mode", ["observe", "advise"])
def test_other_modes_have_no_canary(mode: str) -> None:
    made = bench(CANARY.replace("enforce", mode) + FAILING)
    good(made, 30)
    assert stands(made) == ("original", None)
    last = made.decisions[-1]
    assert (last.target, last.scope, last.rolling) == ("batched", "", None)


# ----------------------------------------------------------------------------- others, restarts


def test_canary_that_somebody_has_ended_begins_again() -> None:
    made = bench()
    good(made, 12)
    assert made.part == SECOND
    made.part = None
    good(made)
    assert made.part == FIRST


def test_step_that_could_not_be_made_is_tried_again() -> None:
    made = bench()
    good(made, 11)
    made.part = FIRST
    good(made)
    assert made.decisions[-1].action is Action.STAY
    good(made, 9)
    assert made.part == SECOND


def test_restarted_daemon_goes_on_with_the_step_that_it_finds() -> None:
    made = bench()
    made.part = SECOND
    made.state = adopt(made.policy, "batched", made.now)
    good(made, 20)
    assert made.part == SECOND
    good(made, 1)
    assert made.current == "batched"
    assert story(made) == [COMPLETED]


def test_policy_that_was_read_again() -> None:
    made = bench()
    good(made, 5)
    limited = policy_of(RULE, CANARY + FAILING + "limits: {cooldown: 5s}\n")
    kept = carry_over(made.policy, made.state, limited, "original", made.now)
    assert kept.rollout == made.state.rollout is not None
    # Other steps: what goes on is not one of them.
    others = policy_of(RULE, CANARY.replace("1/100", "1/50") + FAILING)
    made.state = carry_over(made.policy, made.state, others, "original", made.now)
    assert made.state.rollout is None
    made.policy = others
    good(made)
    assert made.part == Part("batched", "share:1/50")
    # No steps at all.
    none = policy_of(RULE, "mode: enforce\n" + FAILING)
    made.state = carry_over(made.policy, made.state, none, "original", made.now)
    made.policy = none
    good(made)
    assert stands(made) == ("batched", None)


def test_objective_tries_in_steps_and_measures_nothing_meanwhile() -> None:
    text = text_of("", CANARY + FAILING + OBJECTIVE).replace("  rules:\n", "")
    made = Bench(parse_policy(text.encode(), "test.yaml"))
    good(made, 40)
    assert made.part == FIRST
    learning = made.state.learning
    assert learning is not None
    before = learning.evidence["original"].samples
    # While nothing can be told of the objective, the edition stays wanted.
    made.see(10, calls_rate=None, error_share__batched=0.01, error_share__original=0.01)
    assert made.part == SECOND
    good(made, 10)
    assert made.state.learning is not None
    assert made.state.learning.evidence["original"].samples == before
    good(made, 30)
    assert made.current == "batched"
    # One that is given up is left out of the round.
    made = Bench(made.policy)
    good(made, 300, share=None)
    last = made.decisions[-1]
    assert (made.current, made.part, last.phase) == ("original", None, PolicyPhase.INACTIVE)


# -------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize(("scope", "number"), [("share:1/7", 7), ("cpus:0-3", None), ("x", None)])
def test_one_in(scope: str, number: int | None) -> None:
    assert one_in(scope) == number


@pytest.mark.parametrize("scope", ["cpus:0,2-3", "cgroup:/a b", "share:1/1", "handler", "cpus:"])
def test_scopes(scope: str) -> None:
    if scope in {"cgroup:/a b", "cpus:"}:
        with pytest.raises(ValueError, match="is not a scope"):
            check_scope(scope)
    else:
        assert check_scope(scope) == scope


def test_editions_must_allow_it() -> None:
    modes = {"original": frozenset({"concurrent", "scoped"}), "batched": frozenset({"concurrent"})}
    names = frozenset({"original", "batched"})
    known = {"pipe": SubsystemNames(names, frozenset({"pipe_write"}), modes)}
    (problem,) = problems_of(text_of(spec=CANARY + FAILING), known)
    assert (problem.line, problem.code) == (8, "mode-not-allowed")
    assert problem.message == 'edition "batched" does not allow mode "scoped"'


# ---------------------------------------------------------------------------------- properties

SHARE = st.sampled_from([0.0, 0.0, 0.0, 0.5, None])
RATE = st.sampled_from([0.0, 500.0, 500.0, 500.0])
HELD = st.sampled_from(["", "", "", "", "", "paused"])
SEEN = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 1.0, 5.0]), SHARE, SHARE, RATE, HELD, HELD),
    min_size=10,
    max_size=100,
)
LIMITS = st.sampled_from(["", "limits: {cooldown: 10s}\n"])
Seen = Sequence[tuple[float, float | None, float | None, float, str, str]]


def played(
    limits: str, seen: Seen, *, fail: int = 0
) -> tuple[Bench, list[Evaluated], list[Signals]]:
    """Play it; each switch whose number divides by ``fail`` fails."""
    made, evaluated, signals = bench(CANARY + FAILING + limits, RULE + OTHER), [], []
    switches = 0
    for after, own, base, rate, paused, suspended in seen:
        made.now += after
        shares = {"batched": own, "quiet": own, "original": base}
        values = {("error_share", "pipe_write", each): Signal(x) for each, x in shares.items()}
        found = Signals(made.now, {**values, ("calls_rate", "pipe_write", ""): Signal(rate)})
        quarantined = made.backoff.quarantined(made.now)
        held = (paused, suspended)
        where = Situation(made.current, made.now, made.now, quarantined, *held, part=made.part)
        before = made.state
        decision, made.state = evaluate(made.policy, found, before, where)
        evaluated.append(Evaluated(made.policy, where, before, decision, made.state))
        signals.append(found)
        made.decisions.append(decision)
        made.backoff.take(decision, made.now)
        switches += decision.action is Action.SWITCH
        if not fail or switches % fail or decision.action is Action.STAY:
            made.current, made.part = stands_after(decision, made.part)
    return made, evaluated, signals


@settings(max_examples=60)
@given(LIMITS, SEEN, st.integers(0, 5))
def test_no_edition_in_quarantine_has_calls_for_longer_than_it_takes(
    limits: str, seen: Seen, fail: int
) -> None:
    made, evaluated, _ = played(limits, seen, fail=fail)
    for each in evaluated:
        decision, where = each.decision, each.situation
        breach = decision.guarded.breach if decision.guarded else None
        bad = {*where.quarantined, *([breach.edition] if breach else [])}
        active, part = stands_after(decision, where.part)
        if not where.paused:
            assert active not in bad
            assert part is None or part.edition not in bad
        assert part is None or active == made.policy.baseline
        if where.paused:
            assert decision.action is Action.STAY
    # A new step, or all calls, only from the one before.
    for event, scope in story(made):
        assert (event is RolloutEvent.STEPPED) <= (scope == SECOND.scope)


@settings(max_examples=40)
@given(limits=LIMITS, seen=SEEN)
def test_replay_of_a_canary_is_what_was_live(
    limits: str, seen: Seen, tmp_path_factory: pytest.TempPathFactory
) -> None:
    said: list[str] = []
    folder = tmp_path_factory.mktemp("recordings")
    recorder = Recorder(folder, said.append, max_bytes=3000)
    made, evaluated, signals = played(limits, seen)
    for each, found in zip(evaluated, signals, strict=True):
        recorder.record(each.situation.now, each.situation.wall, found, [each])
    recorder.close()
    replayed = as_recorded(made.policy, read(folder))
    assert (replayed.differing, replayed.compared, said) == (0, len(evaluated), [])
    assert [each.decision for each in replayed.evaluations] == made.decisions


@settings(max_examples=40)
@given(LIMITS, SEEN)
def test_state_of_a_canary_survives_being_written_down(limits: str, seen: Seen) -> None:
    _, evaluated, _ = played(limits, seen)
    for each in evaluated:
        assert written(each.after) == each.after


def test_state_of_before_there_were_canaries_is_read() -> None:
    assert written(PolicyState()) == replace(PolicyState(), rollout=None, watch=None)
