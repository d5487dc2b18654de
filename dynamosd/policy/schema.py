# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of a policy file: keys, types, defaults. What is not implemented is not accepted.

policies/schema.json is made of it, for editors: ``python -m dynamosd.policy.schema >
policies/schema.json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from dynamosd.model import ORIGINAL
from dynamosd.percent import PERCENT_PATTERN, parse_percent
from dynamosd.policy.backoff import MAX_SECONDS as MAX_QUARANTINE_SECONDS
from dynamosd.policy.definition import (
    DEFAULT_GRACE_SECONDS,
    Mode,
    OnDaemonLoss,
    OnExit,
    OnFlap,
    OnNoData,
    SwitchMode,
)
from dynamosd.policy.durations import MAX_SECONDS, PATTERN, format_duration, parse_duration
from dynamosd.policy.guardrails import MAX_CONFIDENCE, MIN_CONFIDENCE
from dynamosd.policy.hours import CLOCK_PATTERN, DAYS, DAYS_PATTERN, parse_clock, parse_days
from dynamosd.policy.scopes import check_scope
from dynamosd.sources import check_url

API_VERSION = "dynamos/v1alpha1"
KIND = "SwitchPolicy"

MAX_RULES = 64
MIN_INTERVAL_SECONDS = 0.1
MAX_INTERVAL_SECONDS = 3600.0
MIN_TIMEOUT_SECONDS = 0.001
MAX_TIMEOUT_SECONDS = 60.0
MAX_GRACE_SECONDS = 3600.0
MAX_SAMPLES = 64
MAX_SWITCHES = 1000
MAX_HOURS = 32
MAX_TRIED_EDITIONS = 8
MAX_SEED = 2**31 - 1
MAX_SOURCES = 16
MAX_QUERY = 4096
MIN_EVERY_SECONDS = 1.0
MAX_EVERY_SECONDS = 3600.0
MAX_STALENESS_SECONDS = 86400.0
MIN_SOURCE_TIMEOUT_SECONDS = 0.1
MAX_SOURCE_TIMEOUT_SECONDS = 30.0
MAX_GUARDRAILS = 16
MAX_STEPS = 8
MAX_PARAMETERS = 64
MAX_VALUE = 192
MIN_QUARANTINE_SECONDS = 1.0


def _duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int) and value == 0 and value is not False:
        return 0.0
    raise ValueError("a duration has a unit, such as 500ms, 30s or 1h30m")


def _within(value: object, what: str, shortest: float, longest: float) -> float:
    seconds = _duration(value)
    if not shortest <= seconds <= longest:
        limits = f"{format_duration(shortest)} and {format_duration(longest)}"
        raise ValueError(f"{what} is between {limits}")
    return seconds


def _interval(value: object) -> float:
    return _within(value, "an interval", MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS)


def _timeout(value: object) -> float:
    return _within(value, "a timeout", MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS)


def _grace(value: object) -> float:
    return _within(value, "a grace", 0.0, MAX_GRACE_SECONDS)


def _every(value: object) -> float:
    return _within(value, "the time between two questions", MIN_EVERY_SECONDS, MAX_EVERY_SECONDS)


def _staleness(value: object) -> float:
    return _within(value, "a staleness", MIN_EVERY_SECONDS, MAX_STALENESS_SECONDS)


def _source_timeout(value: object) -> float:
    shortest, longest = MIN_SOURCE_TIMEOUT_SECONDS, MAX_SOURCE_TIMEOUT_SECONDS
    return _within(value, "the timeout of a question", shortest, longest)


def _quarantine(value: object) -> float:
    return _within(value, "a quarantine", MIN_QUARANTINE_SECONDS, MAX_QUARANTINE_SECONDS)


def _scope(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a scope is written such as share:1/100")  # noqa: TRY004 - pydantic's
    return check_scope(value)


def _value(value: object) -> str:
    if not isinstance(value, str):
        says = "a parameter's value is text: write it in quotes"
        raise ValueError(says)  # noqa: TRY004 - pydantic's
    if not re.fullmatch(r"[!#-~]*", value) or len(value) > MAX_VALUE:
        raise ValueError(f"a parameter's value is one word, {MAX_VALUE} characters at most")
    return value


def _url(value: object) -> str:
    if isinstance(value, str):
        return check_url(value)
    raise ValueError("a URL is written such as http://127.0.0.1:9090")


def _period(value: object) -> float:
    return _within(value, "a period", 0.001, MAX_SECONDS)


def _share(value: object) -> float:
    share = parse_percent(value)
    if share is not None and share <= 1.0:
        return share
    raise ValueError("a share is written in per cent, such as 5%, and is 100% at most")


def _confidence(value: object) -> float:
    says = f"a confidence is between {MIN_CONFIDENCE:.0%} and {100.0 * MAX_CONFIDENCE:g}%"
    share = parse_percent(value)
    if share is not None and MIN_CONFIDENCE <= (rounded := round(share, 6)) <= MAX_CONFIDENCE:
        return rounded
    raise ValueError(says)


def _days(value: object) -> frozenset[int]:
    if isinstance(value, str):
        return parse_days(value)
    raise ValueError("days are written such as mon-fri or sat,sun")


def _clock(value: object) -> int:
    if isinstance(value, str):
        return parse_clock(value)
    raise ValueError("a time of day is written such as 08:30")


_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": PATTERN})
Duration = Annotated[float, BeforeValidator(_duration), _DURATION_SCHEMA]
Interval = Annotated[float, BeforeValidator(_interval), _DURATION_SCHEMA]
Timeout = Annotated[float, BeforeValidator(_timeout), _DURATION_SCHEMA]
Grace = Annotated[float, BeforeValidator(_grace), _DURATION_SCHEMA]
Every = Annotated[float, BeforeValidator(_every), _DURATION_SCHEMA]
Staleness = Annotated[float, BeforeValidator(_staleness), _DURATION_SCHEMA]
SourceTimeout = Annotated[float, BeforeValidator(_source_timeout), _DURATION_SCHEMA]
Url = Annotated[str, BeforeValidator(_url), WithJsonSchema({"type": "string", "format": "uri"})]
Period = Annotated[float, BeforeValidator(_period), _DURATION_SCHEMA]
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN}),
]
Confidence = Annotated[
    float,
    BeforeValidator(_confidence),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN}),
]
ParameterValue = Annotated[str, BeforeValidator(_value), WithJsonSchema({"type": "string"})]
Scope = Annotated[str, BeforeValidator(_scope), WithJsonSchema({"type": "string"})]
Quarantine = Annotated[float, BeforeValidator(_quarantine), _DURATION_SCHEMA]
Days = Annotated[
    frozenset[int],
    BeforeValidator(_days),
    WithJsonSchema({"type": "string", "pattern": DAYS_PATTERN}),
]
Clock = Annotated[
    int, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": CLOCK_PATTERN})
]

OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
ObjectName = Annotated[str, Field(max_length=63, pattern=OBJECT_NAME_PATTERN)]
"""A policy's or a rule's name: it becomes a metric's label and a word in logs."""

KernelName = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""A subsystem's or an edition's name: it becomes a word of a command to the kernel module."""

ConditionText = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
    )


class Metadata(_Strict):
    """What the policy is called, and notes for people and tools."""

    name: ObjectName
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class SamplesSpec(_Strict):
    """How many of the last evaluations must have found a rule's condition true."""

    need: int = Field(ge=1, le=MAX_SAMPLES)
    of: int = Field(ge=1, le=MAX_SAMPLES)


class DuringSpec(_Strict):
    """A stretch of some days of the week in which a rule has an effect, in UTC."""

    days: Days = frozenset(range(7))
    from_: Clock = Field(default=0, alias="from")
    to: Clock = 24 * 60


class MaxSwitchesSpec(_Strict):
    """How many switches there may be in any period of some length."""

    count: int = Field(ge=1, le=MAX_SWITCHES)
    per: Period


class LimitsSpec(_Strict):
    """How often the policy may switch."""

    cooldown: Duration = 0.0
    max_switches: MaxSwitchesSpec | None = None
    on_flap: Annotated[OnFlap, Field(strict=False)] = OnFlap.FREEZE


class RuleSpec(_Strict):
    """One rule."""

    name: ObjectName
    edition: KernelName
    when: ConditionText
    until: ConditionText | None = None
    for_: Duration = Field(default=0.0, alias="for")
    keep_for: Duration = 0.0
    on_no_data: Annotated[OnNoData, Field(strict=False)] = OnNoData.HOLD
    samples: SamplesSpec | None = None
    during: list[DuringSpec] = Field(default_factory=list, max_length=MAX_HOURS)


class ObjectiveSpec(_Strict):
    """A number that shall be small or large, and how much may be tried for it."""

    minimize: ConditionText | None = None
    maximize: ConditionText | None = None
    editions: list[KernelName] | None = Field(
        default=None, min_length=1, max_length=MAX_TRIED_EDITIONS
    )
    trial: Period = 10.0
    settle: Period = 2.0
    every: Period = 300.0
    retry_after: Period | None = None
    min_difference: Share = 0.05
    activity: ConditionText | None = None
    retry_on: ConditionText | None = None
    seed: int = Field(default=1, ge=0, le=MAX_SEED)


class GuardrailSpec(_Strict):
    """What an edition may not do, and how long it is in quarantine when it has."""

    name: ObjectName
    breach: ConditionText
    activity: ConditionText | None = None
    window: Period = 2.0
    confidence: Confidence = 0.99
    staleness: Period = 3600.0
    quarantine: Quarantine = 3600.0


class StepSpec(_Strict):
    """One step of a canary: which calls the edition gets, and for how long at least."""

    scope: Scope
    pause: Period = 60.0


class CanarySpec(_Strict):
    """The steps in which an edition comes into use."""

    steps: list[StepSpec] = Field(min_length=1, max_length=MAX_STEPS)
    give_up_after: Duration = 1800.0
    retry_after: Period = 3600.0


class SwitchSpec(_Strict):
    """How the policy switches."""

    mode: Annotated[SwitchMode, Field(strict=False)] | None = None
    timeout: Timeout | None = None


class ParameterSpec(_Strict):
    """What a parameter of an edition is held at."""

    edition: KernelName
    name: KernelName
    value: ParameterValue


class PrometheusSpec(_Strict):
    """What to ask a Prometheus server, how often, and for how long an answer is good."""

    query: str = Field(min_length=1, max_length=MAX_QUERY)
    url: Url = "http://127.0.0.1:9090"
    every: Every = 15.0
    staleness: Staleness = 60.0
    timeout: SourceTimeout = 2.0

    @model_validator(mode="after")
    def _lasts_until_the_next(self) -> PrometheusSpec:
        if self.staleness < self.every:
            raise ValueError(
                'a result would be stale before the next: "staleness" is shorter than "every"'
            )
        return self


class SourceSpec(_Strict):
    """Where a number comes from that the kernel does not know."""

    name: KernelName
    prometheus: PrometheusSpec


class OnDaemonLossSpec(_Strict):
    """What becomes of the subsystem when the daemon has gone without a word."""

    action: Annotated[OnDaemonLoss, Field(strict=False)] = OnDaemonLoss.BASELINE
    grace: Grace = DEFAULT_GRACE_SECONDS


class Spec(_Strict):
    """What the policy does."""

    subsystem: KernelName
    mode: Annotated[Mode, Field(strict=False)] = Mode.ADVISE
    baseline: KernelName = ORIGINAL
    interval: Interval = 1.0
    on_exit: Annotated[OnExit, Field(strict=False)] = OnExit.BASELINE
    on_daemon_loss: OnDaemonLossSpec = Field(default_factory=OnDaemonLossSpec)
    switch: SwitchSpec = Field(default_factory=SwitchSpec)
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    rules: list[RuleSpec] = Field(default_factory=list, min_length=1, max_length=MAX_RULES)
    objective: ObjectiveSpec | None = None
    guardrails: list[GuardrailSpec] = Field(
        default_factory=list, min_length=1, max_length=MAX_GUARDRAILS
    )
    canary: CanarySpec | None = None
    parameters: list[ParameterSpec] = Field(default_factory=list, max_length=MAX_PARAMETERS)
    sources: list[SourceSpec] = Field(default_factory=list, max_length=MAX_SOURCES)


class PolicyFile(_Strict):
    """The whole file."""

    api_version: Literal["dynamos/v1alpha1"]
    kind: Literal["SwitchPolicy"]
    metadata: Metadata
    spec: Spec


# ------------------------------------------------------------------------------- for editors

_AS_WRITTEN: Mapping[str, Callable[[Any], str]] = {
    PATTERN: format_duration,
    DAYS_PATTERN: lambda _days: f"{DAYS[0]}-{DAYS[-1]}",
    CLOCK_PATTERN: lambda minutes: f"{minutes // 60:02d}:{minutes % 60:02d}",
    PERCENT_PATTERN: lambda share: f"{100.0 * share:g}%",
}
"""How defaults are written that are something else once they are read, by their pattern."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file. It knows the shape; `checks` knows the rest."""
    schema = PolicyFile.model_json_schema(by_alias=True)
    for model in (schema, *schema["$defs"].values()):
        for key in model.get("properties", {}).values():
            written = _AS_WRITTEN.get(key.get("pattern", ""))
            if written and "default" in key:
                key["default"] = written(key["default"])
            # What may be missing may not be empty.
            if {"type": "null"} in key.get("anyOf", ()):
                key.update(key.pop("anyOf")[0])
                del key["default"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{KIND} of {API_VERSION}",
        **{key: value for key, value in schema.items() if key != "title"},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
