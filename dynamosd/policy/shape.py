# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares a document with the schema and says in an operator's words what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dynamosd.policy.positions import Document, Path
from dynamosd.policy.problems import Problem, did_you_mean
from dynamosd.policy.schema import (
    OBJECT_NAME_PATTERN,
    DuringSpec,
    LimitsSpec,
    MaxSwitchesSpec,
    Metadata,
    OnDaemonLossSpec,
    PolicyFile,
    RuleSpec,
    SamplesSpec,
    Spec,
    SwitchSpec,
)

_MODELS: Mapping[Path, type[BaseModel]] = {
    (): PolicyFile,
    ("metadata",): Metadata,
    ("spec",): Spec,
    ("spec", "onDaemonLoss"): OnDaemonLossSpec,
    ("spec", "switch"): SwitchSpec,
    ("spec", "limits"): LimitsSpec,
    ("spec", "limits", "maxSwitches"): MaxSwitchesSpec,
    ("spec", "rules", 0): RuleSpec,
    ("spec", "rules", 0, "samples"): SamplesSpec,
    ("spec", "rules", 0, "during", 0): DuringSpec,
}

_WRONG_TYPES: Mapping[str, str] = {
    "model_type": "keys and values",
    "dict_type": "keys and values",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
}

_WRONG_SIZES: Mapping[str, str] = {
    "too_short": "needs at least {min_length} item",
    "too_long": "has more than {max_length} items",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}

_TIMES = frozenset({"days", "from", "to"})

_KERNEL_LETTERS = "letters, digits, _ . and -"

_QUOTED = re.compile(r"'([^']*)'")


def validate(document: Document) -> tuple[PolicyFile | None, list[Problem]]:
    """Return the typed content, or None and every error of the document's shape."""
    problems = [
        document.error(path, f"{_name(path)} has no value", "empty-value")
        for path in _empty(document.data, ())
    ]
    try:
        content = PolicyFile.model_validate(document.data)
    except ValidationError as errors:
        problems.extend(
            _translate(document, error)
            for error in errors.errors(include_url=False)
            # An empty value has been reported; that it also has the wrong type is no news.
            if error["input"] is not None or error["type"] == "extra_forbidden"
        )
        return None, problems
    return (None if problems else content), problems


def _empty(data: object, path: Path) -> list[Path]:
    """Return the ways to all empty values; at the top, that is a missing document."""
    if data is None:
        return [path]
    found: list[Path] = []
    if isinstance(data, dict):
        for key, value in data.items():
            found += _empty(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            found += _empty(value, (*path, index))
    return found


def _translate(document: Document, error: ErrorDetails) -> Problem:
    path: Path = error["loc"]
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(document, path)
    message, code, hint = _explain(kind, path, error)
    return document.error(path, message, code, hint)


def _unknown_key(document: Document, path: Path) -> Problem:
    key = str(path[-1])
    parent = tuple(0 if isinstance(part, int) else part for part in path[:-1])
    hint = did_you_mean(key, _keys(_MODELS[parent]))
    return document.error_at_key(path, f'unknown key "{key}"', "unknown-key", hint)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _explain(kind: str, path: Path, error: ErrorDetails) -> tuple[str, str, str]:
    """Return message, code and hint."""
    name = _name(path)
    value = error["input"]
    context = error.get("ctx", {})
    if kind == "missing":
        return f"{name} is missing", "missing-key", ""
    if kind in _WRONG_TYPES:
        is_scalar = isinstance(value, (bool, int, float))
        hint = "write it in quotes" if kind == "string_type" and is_scalar else ""
        return f"{name} must be {_WRONG_TYPES[kind]}", "wrong-type", hint
    if kind in {"literal_error", "enum"}:
        choices = _QUOTED.findall(context["expected"])
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        return f"{name} must be {context['expected'].replace(chr(39), chr(34))}", "bad-value", hint
    if kind == "string_pattern_mismatch":
        is_object = context["pattern"] == OBJECT_NAME_PATTERN
        letters = "lower-case letters, digits, - and ." if is_object else _KERNEL_LETTERS
        return f"{name} may hold {letters} only, and begins with a letter or digit", "bad-name", ""
    if kind == "value_error":
        code = "bad-time" if path[-1] in _TIMES else "bad-duration"
        return f"{name}: {context['error']}", code, ""
    says = _WRONG_SIZES.get(kind, "is not accepted").format(**context)
    return f"{name} {says}", "bad-value", ""


def _name(path: Path) -> str:
    """Return what to call a value: its key, or its place in a list."""
    if not path:
        return "the policy"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {_name(path[:-1])}"
    return f'"{path[-1]}"'
