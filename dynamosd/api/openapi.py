# SPDX-License-Identifier: GPL-2.0-or-later
"""The OpenAPI description, made from the table that the server answers by.

``python -m dynamosd.api.openapi > docs/openapi.json`` writes the one that is in the documentation.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

from dynamosd.api import problems
from dynamosd.api.asking import ACTIONS, DOCUMENT, MAX_WAIT_SECONDS
from dynamosd.api.operations import BASE, OPERATIONS, Json

if TYPE_CHECKING:
    from dynamosd.api.asking import Action
    from dynamosd.api.operations import Operation

PATH = f"{BASE}/openapi.json"

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "What of a request is wrong"},
    },
}

_PATH_PARAMETER = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": f"wait=N: wait up to N seconds (at most {MAX_WAIT_SECONDS}) for the answer",
    "schema": {"type": "string"},
}


def document() -> Json:
    """Give the description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dynamosd",
            "version": "v1alpha1",
            "description": "What the daemon shows of itself; and, only at its Unix socket, what "
            "it is asked to do.",
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
        },
        "paths": {each.path: {"get": _operation(each)} for each in OPERATIONS} | _actions(),
        "components": {"schemas": {"Problem": _PROBLEM, "Request": dict(DOCUMENT)}},
    }


def _operation(operation: Operation) -> Json:
    found = [HTTPStatus.BAD_REQUEST, *operation.problems]
    return {
        "operationId": _id("get", operation.path),
        "summary": operation.text,
        "parameters": _parameters(operation),
        "responses": {
            "200": {
                "description": "The answer",
                "content": {"application/json": {"schema": dict(operation.schema)}},
            },
            **{str(int(status)): _problem(status) for status in found},
        },
    }


def _id(method: str, path: str) -> str:
    words = path.removeprefix(BASE).replace("{name}", "one").strip("/").split("/")
    return "-".join([method, *words])


def _actions() -> Json:
    paths: Json = {}
    for each in ACTIONS:
        paths.setdefault(each.path, {})[each.method.lower()] = _action(each)
    return paths


def _action(action: Action) -> Json:
    body = {"required": True, "content": {"application/json": {"schema": action.body}}}
    found = [HTTPStatus.BAD_REQUEST, *action.problems]
    return {
        "operationId": _id(action.method.lower(), action.path),
        "summary": action.text,
        "parameters": [
            *([_PATH_PARAMETER] if "{name}" in action.path else []),
            *([_PREFER] if action.can_wait else []),
        ],
        **({"requestBody": body} if action.body else {}),
        "responses": {
            **{str(int(status)): _answer(status, text) for status, text in action.answers.items()},
            **{str(int(status)): _problem(status) for status in found},
        },
    }


def _answer(status: HTTPStatus, text: str) -> Json:
    if status == HTTPStatus.NO_CONTENT:
        return {"description": text}
    schema = {"$ref": "#/components/schemas/Request"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _parameters(operation: Operation) -> list[Json]:
    query = [
        {"name": each.name, "in": "query", "description": each.text, "schema": dict(each.schema)}
        for each in operation.parameters
    ]
    return [*([_PATH_PARAMETER] if "{name}" in operation.path else []), *query]


def _problem(status: HTTPStatus) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": status.phrase, "content": {problems.TYPE: {"schema": schema}}}


def text() -> str:
    """Give it as text."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
