# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/policy.md says what the code does: its example loads, its tables are complete."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import BaseModel

from dynamosd.model import PolicyPhase, RuleState, Suppression, Verdict
from dynamosd.policy.load import parse_policy
from dynamosd.policy.schema import (
    CanarySpec,
    DuringSpec,
    GuardrailSpec,
    LimitsSpec,
    MaxSwitchesSpec,
    Metadata,
    ObjectiveSpec,
    OnDaemonLossSpec,
    ParameterSpec,
    PrometheusSpec,
    RuleSpec,
    SamplesSpec,
    SourceSpec,
    Spec,
    StepSpec,
    SwitchSpec,
)
from dynamosd.signals import SIGNALS
from tests.unit.policy.build import KNOWN, RULE, text_of

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policy.md").read_text()


def test_example_is_a_policy_without_remarks() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example
    assert parse_policy(example[1].encode(), "policy.md", known=KNOWN).remarks == ()


def test_example_of_parameters_is_right() -> None:
    example = re.search(r"```yaml\n(  parameters:\n.*?)```", PAGE, re.DOTALL)
    assert example
    text = text_of(RULE).replace("batched", "foreground") + example[1]
    assert parse_policy(text.encode(), "policy.md").settings[0].value == "/jobs/interactive"


@pytest.mark.parametrize("key", ["guardrails", "canary"])
def test_examples_of_what_guards_an_edition_have_no_remarks(key: str) -> None:
    example = re.search(rf"```yaml\n(  {key}:\n.*?)```", PAGE, re.DOTALL)
    assert example
    text = text_of(RULE) + example[1]
    assert parse_policy(text.encode(), "policy.md", known=KNOWN).remarks == ()


def test_every_key_has_its_line() -> None:
    keys = {"apiVersion", "kind"}
    models: dict[str, type[BaseModel]] = {
        "metadata.": Metadata,
        "spec.": Spec,
        "spec.switch.": SwitchSpec,
        "spec.onDaemonLoss.": OnDaemonLossSpec,
        "spec.limits.": LimitsSpec,
        "spec.objective.": ObjectiveSpec,
        "spec.canary.": CanarySpec,
        "spec.canary.steps.": StepSpec,
        "spec.limits.maxSwitches.": MaxSwitchesSpec,
        "spec.parameters.": ParameterSpec,
        "spec.sources.": SourceSpec,
        "spec.sources.prometheus.": PrometheusSpec,
        "": RuleSpec,
        "samples.": SamplesSpec,
    }
    for prefix, model in models.items():
        keys |= {prefix + (field.alias or "") for field in model.model_fields.values()}
    tables = PAGE.partition("## Keys")[2].partition("\nA **name**")[0]
    sections = {"spec.switch", "spec.onDaemonLoss", "spec.limits", "spec.objective", "samples"}
    sections |= {"spec.canary"}
    sections |= {"spec.sources", "spec.sources.prometheus"}
    for model in (DuringSpec, GuardrailSpec):
        keys |= {field.alias or "" for field in model.model_fields.values()}
    assert set(re.findall(r"^\| `([\w.]+)` \|", tables, re.MULTILINE)) == keys - sections


@pytest.mark.parametrize("words", [PolicyPhase, RuleState, Suppression, Verdict])
def test_every_word_of_a_decision_is_explained(words: type[StrEnum]) -> None:
    assert {
        word for word in words if f"`{word}`" not in PAGE and f"| {word} |" not in PAGE
    } == set()


def test_every_signal_has_its_line() -> None:
    assert set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)) == set(SIGNALS)


def test_every_code_has_its_line() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "dynamosd" / "policy").glob("*.py"))
    table = PAGE.partition("| code | meaning |")[2]
    codes = re.findall(r"`([a-z]+(?:-[a-z0-9]+)+)`", table)
    assert {code for code in codes if f'"{code}"' not in sources} == set()
    words = set(re.findall(r'"((?:[a-z0-9]+-)+[a-z0-9]+)"', sources))
    assert words - {"when-condition", "until-condition", "per-object"} <= set(codes)
