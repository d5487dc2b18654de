# SPDX-License-Identifier: GPL-2.0-or-later
"""The name of an advice: the same for the same situation, on every machine and after every restart.

It is made of what a person judges when they accept or mute it: which policy wants to go from which
edition to which, and the rule that says so. A rule that is changed gives another advice.
"""

from __future__ import annotations

import base64
import hashlib
import json

from dynamosd.model import Action, Decision
from dynamosd.policy.definition import Mode, Policy, Rule

ID_LENGTH = 8
"""Of 32 letters and digits: that two of a thousand advices share one is one in two million."""


def advice_id(policy: Policy, decision: Decision) -> str | None:
    """Return the id of the advice that a decision is; None when it is none."""
    if policy.mode is not Mode.ADVISE or decision.action is not Action.SWITCH:
        return None
    rule = next((each for each in policy.rules if each.name == decision.rule), None)
    meaning = {
        "policy": policy.name,
        "subsystem": policy.subsystem,
        "from": decision.current,
        "to": decision.target,
        "rule": None if rule is None else _meaning(rule),
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).digest()
    return base64.b32encode(digest).decode("ascii")[:ID_LENGTH].lower()


def _meaning(rule: Rule) -> dict[str, object]:
    """Return what a rule says. Not all its fields: a new one must not change the ids there are."""
    return {
        "name": rule.name,
        "when": rule.when.text,
        "until": rule.until.text if rule.until else None,
        "for": rule.for_seconds,
        "keepFor": rule.keep_for_seconds,
        "onNoData": str(rule.on_no_data),
        "samples": [rule.samples.need, rule.samples.of],
        "during": [[sorted(each.days), each.begin, each.end] for each in rule.hours],
    }
