# SPDX-License-Identifier: GPL-2.0-or-later
"""Guardrails: what is compared, the test, and what becomes of an edition that breaks one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.model import (
    Action,
    Decision,
    Finding,
    Part,
    PolicyPhase,
    Signal,
    Signals,
    Suppression,
    Verdict,
)
from dynamosd.policy.backoff import MAX_SECONDS, Backoff
from dynamosd.policy.condition import ConditionError, Sides, compile_condition
from dynamosd.policy.definition import Mode, Policy
from dynamosd.policy.evaluate import PolicyState, Situation, carry_over, evaluate
from dynamosd.policy.expression import Input
from dynamosd.policy.guardrails import KEPT_SMOOTH_SECONDS, Guardrail
from dynamosd.policy.load import parse_policy
from dynamosd.policy.rollout import stands_after
from dynamosd.recording import state_from_json, state_to_json
from tests.unit.policy.build import RULE, policy_of, text_of

WRITE = "pipe_write"
SLOWER = """\
guardrails:
  - name: slower
    breach: p99("pipe_write") > 1.5 * baseline(p99("pipe_write"))
    confidence: 98%
"""
FAILING = """\
guardrails:
  - name: failing
    breach: error_share("pipe_write") > 0.1
    activity: calls_rate("pipe_write") > 20.0
    confidence: 98%
    quarantine: 100s
"""
ENFORCE = "mode: enforce\n"


@dataclass
class Bench:
    """A policy that is evaluated each second; switches succeed at once, and breaches count."""

    policy: Policy
    current: str = "original"
    state: PolicyState = field(default_factory=PolicyState)
    now: float = 1000.0
    backoff: Backoff = field(default_factory=Backoff)
    suspended: str = ""
    paused: str = ""
    part: Part | None = None
    decisions: list[Decision] = field(default_factory=list)

    def see(self, times: int = 1, **values: float | Signal | None) -> Decision:
        """Evaluate so many times with signals of ``pipe_write``, written ``p99__batched``."""
        for _ in range(times):
            found = {"calls_rate": 500.0, **values}
            signals = {
                (name.partition("__")[0], WRITE, name.partition("__")[2]): value
                if isinstance(value, Signal)
                else Signal(value)
                for name, value in found.items()
            }
            self.now += 1.0
            situation = Situation(
                self.current,
                self.now,
                self.now,
                self.backoff.quarantined(self.now),
                self.paused,
                self.suspended,
                part=self.part,
            )
            made, self.state = evaluate(
                self.policy, Signals(self.now, signals), self.state, situation
            )
            if self.policy.mode is Mode.ENFORCE:
                self.backoff.take(made, self.now)
                self.current, self.part = stands_after(made, self.part)
            self.decisions.append(made)
        return self.decisions[-1]

    def verdict(self, name: str) -> Verdict | None:
        """Give what a guardrail said last."""
        found = self.finding(name)
        return found.verdict if found else None

    def finding(self, name: str) -> Finding | None:
        """Give all that a guardrail said last."""
        guarded = self.decisions[-1].guarded
        return guarded.findings[name] if guarded else None


def bench(spec: str = SLOWER, rules: str = RULE, mode: str = ENFORCE) -> Bench:
    return Bench(policy_of(rules, mode + spec))


def warm_up(made: Bench) -> None:
    """Have the baseline in use for a while, and then the edition."""
    made.see(5, calls_rate=0.0, **compared(None, 0.010))
    made.see(1, **compared(None, 0.010))
    assert made.current == "batched"


def compared(
    own: float | Signal | None, other: float | Signal | None
) -> dict[str, float | Signal | None]:
    return {"p99__batched": own, "p99__original": other}


# ------------------------------------------------------------------------------ what is compared


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ('p99("f") > 1.0', ['p99("f", "new")']),
        ('p99("f") > baseline(p99("f"))', ['p99("f", "new")', 'p99("f", "old")']),
        ('p99("f", "third") > 1.0', ['p99("f", "third")']),
        (
            'ewma(p99("f"), "5s") > baseline(ewma(p99("f"), "5s"))',
            ['ewma(p99("f", "new"), "5s")', 'ewma(p99("f", "old"), "5s")'],
        ),
        (
            'cpu_busy() > 0.5 && pressure("cpu", "some") > 0.1 && hour() > 3.0',
            ["cpu_busy()", 'pressure("cpu", "some")', "hour()"],
        ),
        (
            'calls_share("f", "third") > 0.5 || parameter("pages", "third") > 1.0',
            ['calls_share("f", "third")', 'parameter("pages", "third")'],
        ),
    ],
)
def test_signals_are_of_the_edition_in_use_and_of_the_baseline(
    text: str, inputs: list[str]
) -> None:
    condition = compile_condition(text, Sides("new", "old"))
    assert [each.text for each in condition.inputs] == inputs


def test_other_conditions_have_no_baseline() -> None:
    with pytest.raises(ConditionError, match="for guardrails only"):
        compile_condition('p99("f") > baseline(p99("f"))')


def test_policy_reads_what_its_guardrails_read() -> None:
    policy = policy_of(RULE + RULE.replace("storm", "calm").replace("batched", "quiet"), SLOWER)
    read = {key[2] for key in policy.signals if key[0] == "p99"}
    assert read == {"original", "batched", "quiet"}


# -------------------------------------------------------------------------------------- the test


@pytest.mark.parametrize(
    ("confidence", "needed"),
    [(0.8, 1), (0.801, 2), (0.941, 2), (0.95, 3), (0.984, 3), (0.99, 4), (0.996, 4), (0.999, 5)],
)
def test_how_many_windows_decide(confidence: float, needed: int) -> None:
    guardrail = Guardrail("g", {}, {}, 2.0, confidence, 1.0, 1.0)
    assert guardrail.needed == needed
    # Of a walk with steps of 4:1, this share never gets as far the wrong way.
    assert 4.0**needed / (1.0 + 4.0**needed) >= confidence


def test_bad_edition_is_found_in_as_many_windows_as_it_takes() -> None:
    made = bench()
    warm_up(made)
    assert made.current == "batched"
    # It is seen in use at the next evaluation; then there are three windows, each of 2 s.
    made.see(8, **compared(0.020, None))
    assert made.current == "original"
    (last,) = [each for each in made.decisions if each.guarded and each.guarded.breach]
    assert (last.action, last.target, last.phase) == (
        Action.SWITCH,
        "original",
        PolicyPhase.QUARANTINED,
    )
    breach = last.guarded.breach if last.guarded else None
    assert breach is not None
    assert (breach.edition, breach.guardrail, breach.quarantine_seconds) == (
        "batched",
        "slower",
        3600.0,
    )
    assert "broken in 3 windows and not in 0" in breach.reason
    assert "(guardrail slower)" in last.reason


def test_good_edition_passes_and_is_watched_on() -> None:
    made = bench()
    warm_up(made)
    made.see(10, **compared(0.011, None))
    assert (made.verdict("slower"), made.current) == (Verdict.PASSED, "batched")
    made.see(60, **compared(0.011, None))
    assert made.verdict("slower") is Verdict.PASSED
    # What was good for long does not weigh against what is bad now.
    made.see(12, **compared(0.030, None))
    assert made.current == "original"


def test_answers_both_ways_are_inconclusive() -> None:
    made = bench()
    warm_up(made)
    for _ in range(20):
        made.see(2, **compared(0.011, None))
        made.see(2, **compared(0.030, None))
    assert (made.verdict("slower"), made.current) == (Verdict.WATCHING, "batched")
    found = made.finding("slower")
    assert found is not None
    assert found.bad + found.good >= 18


@pytest.mark.parametrize(
    ("own", "verdict"),
    [
        (Signal(None, reason="12 calls returned in the window, 100 needed"), Verdict.NO_DATA),
        (Signal(0.5, trusted=False, reason="lost calls"), Verdict.UNTRUSTED),
    ],
)
def test_without_samples_nothing_is_counted(own: Signal, verdict: Verdict) -> None:
    made = bench()
    warm_up(made)
    made.see(100, **compared(own, None))
    found = made.finding("slower")
    assert found is not None
    assert (found.verdict, found.bad, found.good) == (verdict, 0, 0)
    assert own.reason in found.reason
    assert made.current == "batched"


def test_idle_windows_do_not_count() -> None:
    made = bench(FAILING)
    made.see(3, error_share__batched=0.5, calls_rate__batched=500.0)
    made.see(100, error_share__batched=0.5, calls_rate__batched=3.0)
    found = made.finding("failing")
    assert found is not None
    assert (found.verdict, found.bad) == (Verdict.IDLE, 0)
    made.see(8, error_share__batched=0.5, calls_rate__batched=500.0)
    assert made.current == "original"


def test_windows_do_not_overlap() -> None:
    made = bench(FAILING.replace("98%", "99.9%").replace("failing\n", "failing\n    window: 10s\n"))
    made.see(1)
    made.see(49, error_share__batched=0.5, calls_rate__batched=500.0)
    found = made.finding("failing")
    assert found is not None
    assert found.bad == 4


# ---------------------------------------------------------------------------------- the baseline


def test_nothing_is_compared_with_a_baseline_that_nobody_knows() -> None:
    made = bench()
    made.current = "batched"
    made.see(50, **compared(0.5, 0.0))
    found = made.finding("slower")
    assert found is not None
    assert (found.verdict, made.current) == (Verdict.NO_DATA, "batched")
    assert "nothing was kept of the baseline" in found.reason


def test_kept_baseline_gets_too_old() -> None:
    made = bench(SLOWER + "    staleness: 10s\n")
    warm_up(made)
    made.see(30, **compared(0.011, 0.001))
    found = made.finding("slower")
    assert found is not None
    assert found.verdict is Verdict.NO_DATA
    assert "is older than 10s" in found.reason


def test_kept_baseline_is_an_average_of_when_it_was_in_use_alone() -> None:
    made = bench(rules=RULE.replace("100.0", "600.0"))
    made.see(2, **compared(None, 9.0))
    key = Input("p99", WRITE, "original")
    # Its first window may have calls of another edition in it.
    assert made.state.watch is not None
    assert made.state.watch.kept == {}
    made.see(1, **compared(None, 1.0))
    made.see(1, **compared(None, 2.0))
    weight = 1.0 - math.exp(-1.0 / KEPT_SMOOTH_SECONDS)
    assert made.state.watch.kept[key].value == pytest.approx(1.0 + weight)


# ------------------------------------------------------------------------------- what becomes of it


def broken(made: Bench, seconds: int = 30) -> Bench:
    """Let the edition fail for a while."""
    made.see(seconds, error_share__batched=0.5, calls_rate__batched=500.0)
    return made


def test_quarantine_doubles_and_is_forgiven() -> None:
    made = bench(FAILING)
    lengths = []
    for _ in range(3):
        while not (sentence := made.backoff.sentences.get("batched")) or sentence.until <= made.now:
            broken(made, 1)
        lengths.append(sentence.seconds)
        while made.current == "original":
            made.see(error_share__batched=0.0, calls_rate__batched=500.0)
    assert lengths == [100.0, 200.0, 400.0]
    made.see(395, error_share__batched=0.0, calls_rate__batched=500.0)
    assert "batched" in made.backoff.sentences
    made.see(10, error_share__batched=0.0, calls_rate__batched=500.0)
    assert made.backoff.sentences == {}


def test_quarantine_has_a_longest() -> None:
    decision = broken(bench(FAILING), 12).decisions
    (breached,) = [each for each in decision if each.guarded and each.guarded.breach]
    backoff = Backoff()
    for _ in range(40):
        backoff.take(breached, 0.0)
    assert backoff.sentences["batched"].seconds == MAX_SECONDS
    assert backoff.quarantined(MAX_SECONDS - 1.0) != {}
    assert backoff.quarantined(MAX_SECONDS) == {}
    # Nothing is held against anyone for longer than a week.
    backoff.take(replace(breached, guarded=None), 2 * MAX_SECONDS - 1.0)
    assert "batched" in backoff.sentences
    backoff.take(replace(breached, guarded=None), 2 * MAX_SECONDS)
    assert backoff.sentences == {}


def test_cleared_quarantine_counts() -> None:
    made = broken(bench(FAILING))
    assert made.backoff.clear("batched", made.now) is not None
    assert made.backoff.clear("batched", made.now) is None
    broken(made)
    assert made.backoff.sentences["batched"].count == 2


@pytest.mark.parametrize(
    "limits",
    [
        "limits: {cooldown: 1h}\n",
        "limits: {maxSwitches: {count: 1, per: 1h}, onFlap: hold}\n",
        "limits: {maxSwitches: {count: 1, per: 1h}, onFlap: freeze}\n",
    ],
)
def test_no_limit_holds_the_way_back_up(limits: str) -> None:
    assert broken(bench(FAILING + limits)).current == "original"


def test_no_pause_by_a_person_does() -> None:
    made = bench(FAILING)
    made.see(2)
    made.suspended = "paused by uid 0"
    assert broken(made).current == "original"


def test_breach_without_a_lease_is_followed_when_there_is_one() -> None:
    made = bench(FAILING)
    made.see(2)
    made.paused = "there is no lease of pipe yet"
    broken(made)
    assert made.current == "batched"
    assert made.decisions[-1].suppressed is Suppression.PAUSED
    # The one verdict is enough: it is in quarantine.
    assert sum(bool(each.guarded and each.guarded.breach) for each in made.decisions) == 1
    made.paused = ""
    made.see()
    assert made.current == "original"


def test_breach_while_the_rule_is_leaving_or_has_no_data() -> None:
    made = bench(FAILING, RULE + "  keepFor: 1h\n")
    made.see(2)
    made.see(20, error_share__batched=0.5, calls_rate__batched=500.0, calls_rate=0.0)
    assert made.current == "original"
    made = bench(FAILING)
    made.see(2)
    made.see(20, error_share__batched=0.5, calls_rate__batched=500.0, calls_rate=None)
    assert made.current == "original"


def test_next_rule_takes_over() -> None:
    rules = RULE + RULE.replace("storm", "calm").replace("batched", "quiet")
    made = broken(bench(FAILING, rules))
    assert (made.current, made.decisions[-1].rule) == ("quiet", "calm")


@pytest.mark.parametrize("mode", ["observe", "advise"])
def test_other_modes_only_say_so(mode: str) -> None:
    made = bench(FAILING, mode=f"mode: {mode}\n")
    made.current = "batched"
    broken(made)
    assert made.verdict("failing") is Verdict.BREACHED
    last = made.decisions[-1]
    assert (last.target, last.action, last.phase) == ("batched", Action.STAY, PolicyPhase.ACTIVE)
    made.see(20, error_share__batched=0.0, calls_rate__batched=500.0)
    assert made.verdict("failing") is not Verdict.BREACHED


def test_edition_that_is_not_the_policys_is_not_judged() -> None:
    made = bench(FAILING, mode="mode: observe\n")
    made.current = "other"
    made.see(20, error_share__batched=0.5, calls_rate__batched=500.0)
    guarded = made.decisions[-1].guarded
    assert guarded is not None
    assert guarded.findings == {}


def test_objective_does_not_try_what_is_in_quarantine() -> None:
    objective = """\
objective:
  maximize: calls_rate("pipe_write")
  editions: [batched]
  trial: 30s
"""
    text = text_of("", ENFORCE + objective + FAILING).replace("  rules:\n", "")
    made = Bench(parse_policy(text.encode(), "test.yaml"))
    made.see(120, error_share__batched=0.5, calls_rate__batched=500.0, error_share__original=0.0)
    assert made.current == "original"
    tried = [each for each in made.decisions if each.current == "batched"]
    assert 0 < len(tried) < 15


# ------------------------------------------------------------------------------------------ state


def test_policy_that_was_read_again_goes_on() -> None:
    made = broken(bench(FAILING), 4)
    same = carry_over(made.policy, made.state, made.policy, "batched", made.now)
    assert same.watch == made.state.watch
    other = policy_of(RULE, ENFORCE + FAILING.replace("0.1", "0.2"))
    assert carry_over(made.policy, made.state, other, "batched", made.now).watch is None
    limits = policy_of(RULE, ENFORCE + FAILING + "limits: {cooldown: 5s}\n")
    assert carry_over(made.policy, made.state, limits, "batched", made.now).watch is not None


SHARES = st.sampled_from([0.0, 0.05, 0.5, None])
BASES = st.sampled_from([0.01, 0.02, 0.3, None])
SEEN = st.lists(st.tuples(SHARES, BASES, st.sampled_from([0.0, 500.0])), min_size=5, max_size=80)
BOTH = FAILING + SLOWER.partition("\n")[2].replace("p99", "error_share")


def written(state: PolicyState) -> PolicyState:
    """Give a state back from a recording."""
    return state_from_json(json.loads(json.dumps(state_to_json(state))))


@given(SEEN)
def test_always_back_to_the_baseline_after_a_breach(
    seen: Iterable[tuple[float | None, float | None, float]],
) -> None:
    made = bench(BOTH, RULE + "  keepFor: 10s\n", ENFORCE + "limits: {cooldown: 30s}\n")
    for own, base, rate in seen:
        made.state = written(made.state)
        decision = made.see(
            error_share__batched=own,
            error_share__original=base,
            calls_rate__batched=500.0,
            calls_rate=rate,
        )
        breached = decision.guarded is not None and decision.guarded.breach is not None
        assert not (breached and made.current != "original")
        if made.backoff.quarantined(made.now):
            assert made.current == "original"
