# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy as the engine uses it: checked, compiled, frozen. All times are in seconds."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from dynamosd.policy.condition import Condition
from dynamosd.policy.problems import Problem

DEFAULT_GRACE_SECONDS = 30.0
"""Long enough for a daemon that is started again to take its lease over."""


class Mode(enum.StrEnum):
    """How far a policy may go: only watch, say what it would do, or do it."""

    OBSERVE = "observe"
    ADVISE = "advise"
    ENFORCE = "enforce"


class OnExit(enum.StrEnum):
    """What becomes of the subsystem when the daemon is stopped cleanly."""

    BASELINE = "baseline"
    HOLD = "hold"


class OnDaemonLoss(enum.StrEnum):
    """What the kernel module does with the subsystem when the daemon has gone without a word."""

    BASELINE = "baseline"
    HOLD = "hold"


class OnNoData(enum.StrEnum):
    """What an active rule does while its until-condition has no answer."""

    HOLD = "hold"
    BASELINE = "baseline"


class SwitchMode(enum.StrEnum):
    """How a policy switches. There is no ``scoped``: a policy is about the whole subsystem."""

    CONCURRENT = "concurrent"
    EXCLUSIVE = "exclusive"
    PER_OBJECT = "per-object"


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to use an edition. Without ``until``, the rule ends when ``when`` is false."""

    name: str
    edition: str
    when: Condition
    until: Condition | None
    for_seconds: float
    keep_for_seconds: float
    on_no_data: OnNoData


@dataclass(frozen=True, slots=True)
class Policy:
    """When to switch a subsystem, to which edition, and how.

    Without ``switch_mode`` the kernel module chooses one that both editions allow. The module does
    ``on_loss`` when the daemon has been gone for ``loss_grace_seconds``.
    """

    file: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    subsystem: str
    mode: Mode
    baseline: str
    interval_seconds: float
    on_exit: OnExit
    rules: tuple[Rule, ...]
    switch_mode: SwitchMode | None = None
    switch_timeout_seconds: float | None = None
    on_loss: OnDaemonLoss = OnDaemonLoss.BASELINE
    loss_grace_seconds: float = DEFAULT_GRACE_SECONDS
    remarks: tuple[Problem, ...] = ()
    """Warnings and notes about the file."""

    @property
    def signals(self) -> frozenset[tuple[str, str]]:
        """All (signal, function) pairs that the rules' conditions use."""
        used: set[tuple[str, str]] = set()
        for rule in self.rules:
            used.update(rule.when.signals)
            if rule.until is not None:
                used.update(rule.until.signals)
        return frozenset(used)
