# SPDX-License-Identifier: GPL-2.0-or-later
"""Small policies and signals for the tests."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from dynamosd.model import Signal, Signals
from dynamosd.policy.definition import Policy
from dynamosd.policy.load import parse_policy
from dynamosd.policy.names import SubsystemNames
from dynamosd.policy.problems import PolicyErrors, Problem

KNOWN = {
    "pipe": SubsystemNames(
        editions=frozenset({"original", "batched", "quiet"}),
        functions=frozenset({"pipe_write", "pipe_read"}),
        parameters=frozenset({"batch_pages"}),
    )
}

LABELS = frozenset({"hostname", "kernel", "role"})

RULE = """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
"""


def text_of(rules: str = RULE, spec: str = "", metadata: str = "name: test") -> str:
    """Return a policy file; ``spec`` is added before the rules."""
    head = f"""\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{{metadata}}}
spec:
  subsystem: pipe
"""
    return head + textwrap.indent(spec, "  ") + "  rules:\n" + textwrap.indent(rules, "  ")


def policy_of(rules: str = RULE, spec: str = "") -> Policy:
    """Return a policy that must be right."""
    return parse_policy(text_of(rules, spec).encode(), "test.yaml", known=KNOWN, labels=LABELS)


def problems_of(
    text: str | bytes, known: Mapping[str, SubsystemNames] | None = KNOWN
) -> list[Problem]:
    """Return all that is said about a file's content."""
    raw = text if isinstance(text, bytes) else text.encode()
    try:
        return list(parse_policy(raw, "test.yaml", known=known, labels=LABELS).remarks)
    except PolicyErrors as errors:
        return list(errors.problems)


def lines_of(text: str | bytes) -> list[str]:
    """Return what an operator would read about a file's content."""
    return [str(problem) for problem in problems_of(text)]


def signals_of(time: float = 0.0, **values: float | Signal | None) -> Signals:
    """Return signals of ``pipe_write``, by signal name."""
    return Signals(
        time,
        {
            (name, "pipe_write", ""): value if isinstance(value, Signal) else Signal(value)
            for name, value in values.items()
        },
    )
