# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts how many rules the policy engine evaluates in a second of CPU time: ``make bench-policy``.

Policies of five rules, with hysteresis and two comparisons a condition, under three loads: one that
comes and goes and has a gap now and then, one that nobody feels, and signals that are all missing,
which takes the longest way. What is measured is `evaluate` alone, in CPU time of this process, so
that other processes do not matter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dynamosd.model import Action, Signal, Signals
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import PolicyState, Situation, evaluate
from dynamosd.policy.load import parse_policy
from dynamosd.signals import ALL

POLICIES = 500
RULES = 5
SECONDS = 20

Load = Callable[[int, int], tuple[float | None, float | None, float | None]]
"""Rate, threads in flight and share of a policy's function, by its number and the second."""

TARGET_PER_CPU_SECOND = 100_000
TARGET_SHARE = 0.05

_HEAD = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{name: p{number}}}
spec:
  subsystem: s{number}
  mode: enforce
  limits: {{cooldown: 10s, maxSwitches: {{count: 6, per: 1h}}}}
  rules:
"""

_RULE = """\
    - name: r{rule}
      edition: e{rule}
      when: calls_rate("f{number}") > {high} && in_flight("f{number}") < 64.0
      until: calls_rate("f{number}") < {low} || sequential_share("f{number}") > 0.9
      for: 3s
      keepFor: 30s
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured. ``switches`` shows that the policies had something to do."""

    policies: int
    rules: int
    evaluations: int
    switches: int
    cpu_seconds: float

    @property
    def rules_per_cpu_second(self) -> float:
        """Rules evaluated in a second of CPU time."""
        return self.evaluations * self.rules / self.cpu_seconds

    @property
    def share_of_a_core(self) -> float:
        """What evaluating all policies once a second takes of one core."""
        return self.policies * self.rules / self.rules_per_cpu_second


def make_policy(number: int, rules: int = RULES) -> Policy:
    """Return a policy about a subsystem of its own."""
    text = _HEAD.format(number=number) + "".join(
        _RULE.format(number=number, rule=rule, high=1e4 * (rule + 1), low=5e3 * (rule + 1))
        for rule in range(rules)
    )
    return parse_policy(text.encode(), f"p{number}.yaml")


def _busy(number: int, second: int) -> tuple[float | None, float | None, float | None]:
    turn = (second + number) % 40
    return (1500.0 * turn or None), float(turn), turn / 40.0


def _idle(number: int, second: int) -> tuple[float | None, float | None, float | None]:
    return float((number + second) % 7), 0.0, 0.5


def _missing(_number: int, _second: int) -> tuple[float | None, float | None, float | None]:
    return None, None, None


LOADS: Mapping[str, Load] = {"busy": _busy, "idle": _idle, "no data": _missing}


def make_signals(policies: int, second: int, load: Load) -> Signals:
    """Return the signals of all policies' functions in a second."""
    names = ("calls_rate", "in_flight", "sequential_share")
    return Signals(
        float(second),
        {
            (name, f"f{number}", ALL): Signal(value, reason="" if value is not None else "a gap")
            for number in range(policies)
            for name, value in zip(names, load(number, second), strict=True)
        },
    )


def measure(policies: Sequence[Policy], seconds: int, load: Load) -> Result:
    """Evaluate all policies once for each second."""
    states = [PolicyState()] * len(policies)
    current = ["original"] * len(policies)
    signals = [make_signals(len(policies), second, load) for second in range(seconds)]
    switches = 0
    begin = time.process_time()
    for second in range(seconds):
        for number, policy in enumerate(policies):
            situation = Situation(current[number], float(second), float(second))
            decision, states[number] = evaluate(policy, signals[second], states[number], situation)
            if decision.action is Action.SWITCH:
                current[number] = decision.target
                switches += 1
    spent = time.process_time() - begin
    return Result(len(policies), RULES, len(policies) * seconds, switches, spent)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and show the figures; 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description=__doc__)
    parser.add_argument("--policies", type=int, default=POLICIES)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how many evaluations of each")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    args = parser.parse_args(argv)
    policies = [make_policy(number) for number in range(args.policies)]
    results = {name: measure(policies, args.seconds, load) for name, load in LOADS.items()}
    good = results["busy"].rules_per_cpu_second >= TARGET_PER_CPU_SECOND
    good &= all(each.share_of_a_core < TARGET_SHARE for each in results.values())
    if args.output == "json":
        figures = {
            name: {"rules_per_cpu_second": each.rules_per_cpu_second, "share": each.share_of_a_core}
            for name, each in results.items()
        }
        print(json.dumps({"policies": args.policies, "rules": RULES, "good": good, **figures}))
        return 0 if good else 1
    print(f"{'LOAD':<8}  {'RULES PER CPU SECOND':>20}  {'SHARE OF A CORE':>15}")
    for name, each in results.items():
        print(f"{name:<8}  {each.rules_per_cpu_second:>20.0f}  {each.share_of_a_core:>15.2%}")
    print(
        f"the share is that of {args.policies} policies of {RULES} rules, evaluated once a second"
    )
    targets = f"{TARGET_PER_CPU_SECOND} rules when busy, {TARGET_SHARE:.0%} of a core at most"
    print(f"targets: {targets}: {'met' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
