# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be asked, in one table: the server answers by it, and OpenAPI describes it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from dynamosd import records
from dynamosd.api import timeline
from dynamosd.api.documents import View, subsystem_json
from dynamosd.api.problems import ProblemError
from dynamosd.status import API_VERSION

BASE = "/api/v1alpha1"
JOURNAL_BYTES = 1024 * 1024
"""So much of the journal, from its end, is looked through for one request."""

MAX_RECORDS = 1000
_DEFAULT_RECORDS = 100

Json = dict[str, Any]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the handlers see it. ``is_local``: it came by the socket."""

    view: View
    is_local: bool
    name: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that may stand in the query."""

    name: str
    text: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Operation:
    """One path, and what answers it, with JSON or its text.

    ``reads_files``: it may wait for a disk.
    """

    path: str
    text: str
    answer: Callable[[Question], Json | str]
    schema: Schema
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[HTTPStatus, ...] = ()
    reads_files: bool = False

    def match(self, path: str) -> str | None:
        """Give the name in a path of this operation ("" if it has none), or None."""
        return name_in(self.path, path)


def name_in(template: str, path: str) -> str | None:
    """Give what stands in a path for ``{name}`` in a template ("" without one), or None."""
    pattern = re.escape(template).replace(r"\{name\}", "([^/]+)")
    found = re.fullmatch(pattern, path)
    return None if found is None else "".join(found.groups())


# -------------------------------------------------------------------------------- the answers


def _envelope(kind: str, **fields: object) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, **fields}


def _status(question: Question) -> Json:
    if not question.view.status:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the daemon has not looked yet")
    found: Json = json.loads(question.view.status)
    return found


def _policies(question: Question) -> Json:
    return _envelope("PolicyList", policies=_status(question)["policies"])


def _subsystems(question: Question) -> Json:
    kernel = question.view.kernel
    if kernel is None:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the kernel module is not to be seen")
    found = [subsystem_json(each) for each in kernel.subsystems.values()]
    return _envelope("SubsystemList", subsystems=found)


def _subsystem(question: Question) -> Json:
    for each in _subsystems(question)["subsystems"]:
        if each["name"] == question.name:
            return _envelope("Subsystem", **each)
    raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such subsystem")


def _timeline(question: Question) -> str:
    return timeline.text(question.view.timeline)


def _journal(question: Question) -> Json:
    path, query = question.view.journal, question.query
    limit = _number(query, "limit", _DEFAULT_RECORDS)
    since = _number(query, "since", 0.0)
    if limit != int(limit) or not 1 <= limit <= MAX_RECORDS:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, f"limit is a whole number from 1 to {MAX_RECORDS}"
        )
    try:
        # What only root may read is not told to whoever reaches the metrics' address.
        if not question.is_local and not path.stat().st_mode & stat.S_IROTH:
            raise ProblemError(HTTPStatus.FORBIDDEN, "the journal is not for all to read")
        newest, is_all = records.tail(path, JOURNAL_BYTES)
    except FileNotFoundError:
        newest, is_all = [], True
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = f"the journal cannot be read: {reason}"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, message) from error
    found = [each for each in newest if _is_wanted(each, query, since)]
    shown = found[-int(limit) :]
    return _envelope("JournalList", complete=is_all and len(shown) == len(found), records=shown)


def _is_wanted(record: Json, query: Mapping[str, str], since: float) -> bool:
    same = all(record.get(key) == query.get(key, record.get(key)) for key in ("kind", "subsystem"))
    at = record.get("time_seconds")
    return same and (not since or (isinstance(at, int | float) and at >= since))


def _number(query: Mapping[str, str], key: str, otherwise: float) -> float:
    text = query.get(key)
    if text is None:
        return otherwise
    # No float(): it takes nan, inf, blanks and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text):
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"{key} is not a number")
    return float(text)


# ----------------------------------------------------------------------------------- the table


def object_of(kind: str, **properties: Schema) -> Schema:
    """Give the schema of a document; later versions may have more in it."""
    properties = {
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": kind},
        **properties,
    }
    return {"type": "object", "required": list(properties), "properties": properties}


_TEXT: Schema = {"type": "string"}
_OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_GONE = HTTPStatus.SERVICE_UNAVAILABLE

OPERATIONS = (
    Operation(
        f"{BASE}/status",
        "What the daemon says of itself: the same as status.json",
        _status,
        object_of("DaemonStatus", pid={"type": "integer"}, updated=_TEXT, policies=_OBJECTS),
        problems=(_GONE,),
    ),
    Operation(
        f"{BASE}/policies",
        "The policies in force, and what they have decided",
        _policies,
        object_of("PolicyList", policies=_OBJECTS),
        problems=(_GONE,),
    ),
    Operation(
        f"{BASE}/subsystems",
        "The subsystems, as the kernel module showed them at the last tick",
        _subsystems,
        object_of("SubsystemList", subsystems=_OBJECTS),
        problems=(_GONE,),
    ),
    Operation(
        f"{BASE}/subsystems/{{name}}",
        "One subsystem",
        _subsystem,
        object_of("Subsystem", name=_TEXT, active=_TEXT, editions=_OBJECTS, functions=_OBJECTS),
        problems=(HTTPStatus.NOT_FOUND, _GONE),
    ),
    Operation(
        f"{BASE}/timeline",
        "The last hour since the daemon started: editions, signals (null: none to be trusted) and"
        " what the journal says of decisions",
        _timeline,
        object_of(
            timeline.KIND,
            since_seconds={"type": "number"},
            keep_seconds={"type": "number"},
            step_seconds={"type": "number"},
            subsystems=_OBJECTS,
            times_seconds=_NUMBERS,
            signals=_OBJECTS,
            records=_OBJECTS,
            left_out={"type": "object", "additionalProperties": {"type": "integer"}},
        ),
    ),
    Operation(
        f"{BASE}/journal",
        "The newest records of the journal, the oldest of them first",
        _journal,
        object_of("JournalList", complete={"type": "boolean"}, records=_OBJECTS),
        parameters=(
            Parameter(
                "limit",
                "at most so many records",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_RECORDS,
                    "default": _DEFAULT_RECORDS,
                },
            ),
            Parameter("kind", "only of this kind, e.g. switch", _TEXT),
            Parameter("subsystem", "only about this subsystem", _TEXT),
            Parameter(
                "since",
                "not before this time, in seconds of the Unix epoch",
                {"type": "number", "minimum": 0, "maximum": 10**12},
            ),
        ),
        problems=(HTTPStatus.FORBIDDEN, _GONE),
        reads_files=True,
    ),
)
