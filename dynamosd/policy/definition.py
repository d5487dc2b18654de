# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy as the engine uses it: checked, compiled, frozen. All times are in seconds."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamosd.hostsignals import FROM_SITUATION
from dynamosd.model import SignalKey, Source
from dynamosd.policy.condition import Condition
from dynamosd.policy.expression import Input
from dynamosd.policy.guardrails import Guardrail
from dynamosd.policy.hours import Hours
from dynamosd.policy.objective import Objective
from dynamosd.policy.problems import Problem
from dynamosd.policy.rollout import Canary

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


class OnFlap(enum.StrEnum):
    """What becomes of a policy that wants more switches than it may make."""

    FREEZE = "freeze"
    HOLD = "hold"


class SwitchMode(enum.StrEnum):
    """How a policy switches. There is no ``scoped``: that is what a canary's steps are."""

    CONCURRENT = "concurrent"
    EXCLUSIVE = "exclusive"
    PER_OBJECT = "per-object"


@dataclass(frozen=True, slots=True)
class Samples:
    """How many of the last ``of`` evaluations must have found ``when`` true: at least ``need``."""

    need: int = 1
    of: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a policy may switch.

    No sooner than ``cooldown_seconds`` after its last switch, and no more than ``max_switches``
    times (None: no limit) in any ``per_seconds``.
    """

    cooldown_seconds: float = 0.0
    max_switches: int | None = None
    per_seconds: float = 0.0
    on_flap: OnFlap = OnFlap.FREEZE

    @property
    def memory_seconds(self) -> float:
        """For how long a switch matters."""
        return max(self.cooldown_seconds, self.per_seconds)


NO_LIMITS = Limits()
EVERY_SAMPLE = Samples()


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to use an edition. Without ``until``, the rule ends when ``when`` is false.

    It has an effect only during ``hours``; always, if there are none.
    """

    name: str
    edition: str
    when: Condition
    until: Condition | None
    for_seconds: float
    keep_for_seconds: float
    on_no_data: OnNoData
    samples: Samples = EVERY_SAMPLE
    hours: tuple[Hours, ...] = ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Everything that the conditions read."""
        return (*self.when.inputs, *(self.until.inputs if self.until else ()))


@dataclass(frozen=True, slots=True)
class Setting:
    """What a policy holds a parameter of an edition at."""

    edition: str
    name: str
    value: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.edition} {self.name}={self.value}"


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
    limits: Limits = NO_LIMITS
    objective: Objective | None = None
    guardrails: tuple[Guardrail, ...] = ()
    canary: Canary | None = None
    settings: tuple[Setting, ...] = ()
    sources: tuple[Source, ...] = ()
    remarks: tuple[Problem, ...] = ()
    """Warnings and notes about the file."""
    digest: str = field(default="", compare=False)
    """What tells this content of the file from another one, whatever its name."""
    inputs: tuple[Input, ...] = field(init=False, repr=False, compare=False)
    """Everything that the rules, the objective and the guardrails read, each once."""
    names: Mapping[str, Input] = field(init=False, repr=False, compare=False)
    """The same by its name, as conditions write it."""
    from_situation: tuple[SignalKey, ...] = field(init=False, repr=False, compare=False)
    """What of it follows from the situation: the time, and the labels of the host."""

    def __post_init__(self) -> None:
        """Collect the inputs: evaluating needs them each time."""
        inputs = dict.fromkeys(read for rule in self.rules for read in rule.inputs)
        inputs |= dict.fromkeys(self.objective.inputs if self.objective else ())
        inputs |= dict.fromkeys(read for each in self.guardrails for read in each.inputs)
        object.__setattr__(self, "inputs", tuple(inputs))
        object.__setattr__(self, "names", {sys.intern(read.text): read for read in inputs})
        outside = dict.fromkeys(read.key for read in inputs if read.signal in FROM_SITUATION)
        object.__setattr__(self, "from_situation", tuple(outside))

    @property
    def signals(self) -> frozenset[SignalKey]:
        """All signals that are used."""
        return frozenset(read.key for read in self.inputs)

    @property
    def editions(self) -> tuple[str, ...]:
        """All editions that it may switch to, the baseline first."""
        tried = self.objective.editions if self.objective else ()
        used = (self.baseline, *(rule.edition for rule in self.rules), *tried)
        return tuple(dict.fromkeys(used))
