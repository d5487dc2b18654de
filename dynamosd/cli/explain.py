# SPDX-License-Identifier: GPL-2.0-or-later
"""``explain``: why the active edition is active, and what would change that."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.cli.output import print_json, print_note, warn_if_silent
from dynamosd.cli.subsystem import print_policy
from dynamosd.errors import InvalidInput
from dynamosd.policy.condition import compile_condition
from dynamosd.policy.durations import format_duration, format_number
from dynamosd.policy.explain import Comparison, Explanation, explain
from dynamosd.policy.problems import did_you_mean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from dynamosd.kmod import Kmod

_IN_FORCE = frozenset({"active", "leaving", "quarantined"})


def explain_policies(args: argparse.Namespace, kmod: Kmod) -> int:
    """Explain what the daemon's policies do now, from its status."""
    del kmod
    daemon = status.read_running(args.runtime_dir)
    warn_if_silent(daemon)
    policies = _chosen(daemon["policies"], args.policy)
    if args.output == "json":
        shown = [_json(policy, daemon) for policy in policies]
        print_json("Explanation", updated=daemon["updated"], policies=shown)
        return 0
    if not policies:
        print("the daemon has no policies: it only measures")
    for number, policy in enumerate(policies):
        if number:
            print()
        _print_policy(policy, daemon)
    return 0


def _chosen(policies: list[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    if name is None:
        return policies
    found = [policy for policy in policies if name in {policy["name"], policy["subsystem"]}]
    if not found:
        names = [policy[key] for policy in policies for key in ("name", "subsystem")]
        hint = did_you_mean(name, names) or f"there is: {', '.join(sorted(set(names)))}"
        raise InvalidInput(f'there is no policy or subsystem "{name}"', hint=hint)
    return found


# ------------------------------------------------------------------------------------- a rule


def _explain_rule(rule: Mapping[str, Any], readings: Mapping[str, Any]) -> tuple[str, Explanation]:
    """Give which condition matters now, and what it comes to."""
    if rule["state"] not in _IN_FORCE:
        return "when", explain(compile_condition(rule["when"]), readings)
    if rule["until"] is not None:
        return "until", explain(compile_condition(rule["until"]), readings)
    return "when", explain(compile_condition(rule["when"]), readings, wanted=False)


def _task(rule: Mapping[str, Any]) -> str:
    """Say what has to be true, for how long, to move the rule on."""
    if rule["state"] in _IN_FORCE:
        condition = "until-condition is true" if rule["until"] else "when-condition is false"
        return f"ends when its {condition} for {format_duration(rule['keep_for_seconds'])}"
    samples = rule["samples"]
    counted = f" in {samples['need']} of {samples['of']} samples" if samples["of"] > 1 else ""
    held = f" for {format_duration(rule['for_seconds'])}"
    return f"begins when its when-condition is true{counted}{held}"


# ------------------------------------------------------------------------------------ showing


def _print_policy(policy: Mapping[str, Any], daemon: Mapping[str, Any]) -> None:
    print_policy(policy)
    if "reason" not in policy:
        return
    last = daemon.get("last_switches", {}).get(policy["subsystem"])
    if last:
        arrow = f"{last['from']} -> {last['to']}"
        print_note(f"last switch: {arrow} at {last['time']} ({last['trigger']})")
    for key, show in _MORE.items():
        if policy.get(key):
            show(policy[key])
    for rule in policy["definition"]["rules"]:
        _print_rule(rule, policy["readings"])


def _print_learned(learned: Mapping[str, Any]) -> None:
    """Show what an objective knows of each edition."""
    value = learned["value"]
    now = "no usable value" if value is None else f"now {format_number(value)}"
    print(f"  objective: {learned['goal']} {learned['measure']} ({now})")
    tries = f", trying {learned['trying']}" if learned["trying"] else ""
    counted = f"{learned['trials']} trials in {learned['rounds']} rounds"
    print_note(f"prefers {learned['preferred']}{tries}; {counted} so far", indent="    ")
    for edition, known in learned["editions"].items():
        margin = known["margin"]
        unsure = "unknown" if margin is None else format_number(margin)
        mean = format_number(known["mean"])
        print_note(f"{edition}: {mean} ± {unsure}, {known['samples']} samples", indent="      ")


def _print_rolling(rolling: Mapping[str, Any]) -> None:
    """Show how far a canary has come."""
    if not rolling["step"]:
        print(f"  canary: {rolling['edition']}, {rolling['event']}")
        return
    spent = format_duration(rolling["seconds"])
    step = f"step {rolling['step']} of {rolling['steps']} ({rolling['scope']})"
    print(f"  canary: {rolling['edition']}, {step} for {spent}")


def _print_guarded(guarded: Mapping[str, Any]) -> None:
    """Show what the guardrails say of the edition in use."""
    used = format_duration(guarded["seconds"])
    scope = f" ({guarded['scope']})" if guarded["scope"] else ""
    print(f"  guardrails: {guarded['edition']}{scope}, in use for {used}")
    for name, found in guarded["guardrails"].items():
        print_note(f"{name}: {found['verdict']}; {found['reason']}", indent="    ")


_MORE = {"learned": _print_learned, "rolling": _print_rolling, "guarded": _print_guarded}
"""What some policies have besides rules."""


def _print_rule(rule: Mapping[str, Any], readings: Mapping[str, Any]) -> None:
    _, explanation = _explain_rule(rule, readings)
    since = format_duration(rule["held_seconds"])
    print(f"  rule {rule['name']} -> {rule['edition']}: {rule['state']} for {since}")
    print_note(_task(rule), indent="    ")
    for each in explanation.comparisons:
        print_note(f"{_verdict(each)}  {each.text}{_values(each)}", indent="      ")
    if explanation.needs:
        print_note(f"needs {explanation.needs}", indent="    ")
    elif rule["hours"]:
        print_note("has an effect at some times of the week only", indent="    ")


def _verdict(comparison: Comparison) -> str:
    return {True: "yes", False: "no ", None: "?  "}[comparison.result]


def _values(comparison: Comparison) -> str:
    if comparison.left is comparison.right is None and comparison.result is not None:
        return ""
    left, right = (
        "no usable value" if value is None else format_number(value)
        for value in (comparison.left, comparison.right)
    )
    return f"   {left} against {right}"


# --------------------------------------------------------------------------------------- JSON


def _json(policy: Mapping[str, Any], daemon: Mapping[str, Any]) -> dict[str, object]:
    keys = ("name", "file", "subsystem", "mode", "trouble", "phase", "suppressed", "current")
    shown: dict[str, object] = {key: policy.get(key) for key in keys}
    more = ("action", "target", "rule", "reason", *_MORE, "scope", "paused", "advice")
    shown |= {key: policy.get(key) for key in more}
    shown["last_switch"] = daemon.get("last_switches", {}).get(policy["subsystem"])
    # A policy that has not been evaluated yet has neither.
    rules = policy.get("definition", {}).get("rules", [])
    shown["rules"] = [_rule_json(rule, policy["readings"]) for rule in rules]
    return shown


def _rule_json(rule: Mapping[str, Any], readings: Mapping[str, Any]) -> dict[str, object]:
    condition, explanation = _explain_rule(rule, readings)
    return {
        **rule,
        "condition": condition,
        "result": explanation.result,
        "comparisons": [asdict(each) for each in explanation.comparisons],
        "needs": explanation.needs or None,
    }
