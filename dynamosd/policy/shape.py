# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares a document with the schema and says in an operator's words what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dynamosd.policy.positions import Document, Path
from dynamosd.policy.problems import Problem, did_you_mean
from dynamosd.policy.schema import OBJECT_NAME_PATTERN, PolicyFile

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

_WRONG_VALUES: Mapping[str, str] = {
    "days": "bad-time",
    "from": "bad-time",
    "to": "bad-time",
    "start": "bad-time",
    "values": "bad-series",
    "trusted": "bad-series",
    "signal": "bad-signal",
    "suppressed": "bad-value",
    "minDifference": "bad-value",
    "confidence": "bad-value",
    "scope": "bad-scope",
    "url": "bad-url",
    "value": "bad-value",
    "prometheus": "bad-value",
}
"""Codes of values that are wrong in their own way; the others of that kind are durations."""

_KERNEL_LETTERS = "letters, digits, _ . and -"

_QUOTED = re.compile(r"'([^']*)'")


_Model = TypeVar("_Model", bound=BaseModel)


def validate(document: Document) -> tuple[PolicyFile | None, list[Problem]]:
    """Return a policy's typed content, or None and every error of the document's shape."""
    return validate_as(PolicyFile, document)


def validate_as(model: type[_Model], document: Document) -> tuple[_Model | None, list[Problem]]:
    """Return a document's content as a model, or None and every error of its shape."""
    problems = [
        document.error(path, f"{_name(path)} has no value", "empty-value")
        for path in _empty(document.data, ())
    ]
    try:
        content = model.model_validate(document.data)
    except ValidationError as errors:
        problems.extend(
            _translate(model, document, error)
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


def _translate(model: type[BaseModel], document: Document, error: ErrorDetails) -> Problem:
    path: Path = error["loc"]
    kind = error["type"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        hint = did_you_mean(key, _keys(model, path[:-1]))
        return document.error_at_key(path, f'unknown key "{key}"', "unknown-key", hint)
    message, code, hint = _explain(kind, path, error)
    return document.error(path, message, code, hint)


def _keys(model: type[BaseModel], path: Path) -> list[str]:
    """Return the keys that may stand at a place, which is inside of models and lists of them."""
    for part in path:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if isinstance(part, str):
            model = next(_models(fields[part].annotation))
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that a field may hold, optionally or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


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
        code = _WRONG_VALUES.get(str(path[-1]), "bad-duration")
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
