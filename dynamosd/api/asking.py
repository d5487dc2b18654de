# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to do something: put into the inbox, waited for, withdrawn. The control loop does them.

Only at the Unix socket, whose permissions say who may. Nobody is sure of a request whose client
hangs up while it waits: such a one is withdrawn, and not taken in if it comes too late.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp.web import RequestPayloadError, Response

from dynamosd.api.connection import Connection
from dynamosd.api.operations import BASE, Json, name_in, object_of
from dynamosd.api.peer import asker_of, has_hung_up
from dynamosd.api.problems import ProblemError
from dynamosd.errors import Refused
from dynamosd.requests import COMMANDS, MAX_BYTES, Inbox, Outcome, State, WrongField, check
from dynamosd.status import API_VERSION

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from dynamosd.requests import Asker

MAX_WAIT_SECONDS = 60
RETRY_SECONDS = 1
"""At its next tick, within a second, the loop takes all that wait."""

_PATH = f"{BASE}/requests"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of HTTP, and where requests to the daemon are. ``which``: the id in its path."""

    http: BaseRequest
    inbox: Inbox
    which: str


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done about requests. ``problems``: beside a query that is wrong."""

    method: str
    path: str
    text: str
    act: Callable[[Asked], Awaitable[Response]]
    answers: Mapping[HTTPStatus, str]
    problems: tuple[HTTPStatus, ...]
    body: Mapping[str, Any] | None = None
    can_wait: bool = False

    def match(self, path: str) -> str | None:
        """Give the id in a path of this action ("" if it has none), or None."""
        return name_in(self.path, path)


# ------------------------------------------------------------------------------ what is done


async def _ask(asked: Asked) -> Response:
    by = asker_of(asked.http)
    said = await _said(asked, by)
    seconds = _wait_of(asked.http)
    if has_hung_up(asked.http):
        asked.inbox.note(Outcome(by, said, "withdrawn"))
        raise ProblemError(HTTPStatus.BAD_REQUEST, "nobody is there for the answer")
    try:
        which = asked.inbox.put(by, said)
    except Refused as error:
        asked.inbox.note(Outcome(by, said, error.code, error.message))
        retry = {"Retry-After": str(RETRY_SECONDS)}
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, error.message, **retry) from None
    try:
        await _wait(asked, which, seconds)
    except asyncio.CancelledError:
        asked.inbox.withdraw(which)
        raise
    found = asked.inbox.look(which)
    is_over = found is not None and found["state"] == State.ANSWERED
    status = HTTPStatus.OK if is_over else HTTPStatus.ACCEPTED
    response = _document(found, seconds, status)
    response.headers["Location"] = f"{_PATH}/{which}"
    return response


async def _look(asked: Asked) -> Response:
    seconds = _wait_of(asked.http)
    await _wait(asked, asked.which, seconds)
    return _document(asked.inbox.look(asked.which), seconds, HTTPStatus.OK)


async def _withdraw(asked: Asked) -> Response:
    match asked.inbox.withdraw(asked.which):
        case State.WAITING:
            return Response(status=int(HTTPStatus.NO_CONTENT))
        case None:
            _unknown()
    raise ProblemError(HTTPStatus.CONFLICT, "the daemon has taken this request already")


async def _said(asked: Asked, by: Asker) -> Json:
    """Give what is asked, if it can be; what cannot is noted, too."""
    said: object = None
    try:
        said = await _body(asked.http)
        return check(said)
    except WrongField as error:
        name = said.get("command") if isinstance(said, dict) else None
        known = {"command": name} if isinstance(name, str) and name in COMMANDS else {}
        where = f"{error.field}: " if error.field else ""
        asked.inbox.note(Outcome(by, known, error.code, f"{where}{error.message}"))
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        raise ProblemError(status, error.message, field=error.field) from None
    except ProblemError as problem:
        asked.inbox.note(Outcome(by, {}, "invalid", problem.detail))
        raise


async def _body(http: BaseRequest) -> object:
    found = bytearray()
    try:
        while part := await http.content.readany():
            found += part
            if len(found) > MAX_BYTES:
                message = f"a request has at most {MAX_BYTES} bytes"
                raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return json.loads(bytes(found), parse_constant=_no_number)
    except (RequestPayloadError, ValueError, RecursionError):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "a request is JSON; this is none") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


# -------------------------------------------------------------------------------- waiting


def _wait_of(http: BaseRequest) -> int | None:
    """Give how many seconds the client would wait (RFC 7240); None if it does not say so well."""
    for preference in ",".join(http.headers.getall("Prefer", [])).split(","):
        found = re.fullmatch(r'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(;.*)?', preference, re.IGNORECASE)
        if found:
            return min(int(found[1]), MAX_WAIT_SECONDS)
    return None


async def _wait(asked: Asked, which: str, seconds: int | None) -> None:
    """Wait until a request is over, or for so long. The loop's thread only says that it is."""
    if not seconds:
        return
    if isinstance(asked.http.protocol, Connection):
        asked.http.protocol.allow(seconds)
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        # The server may have gone meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(over.set)

    if not asked.inbox.listen(which, tell):
        return
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()
    finally:
        asked.inbox.unlisten(which, tell)


def _document(found: Json | None, waited: int | None, status: HTTPStatus) -> Response:
    if found is None:
        _unknown()
    text = json.dumps({"apiVersion": API_VERSION, "kind": "Request", **found}) + "\n"
    headers = {} if waited is None else {"Preference-Applied": f"wait={waited}"}
    return Response(
        status=int(status), body=text.encode(), headers=headers, content_type="application/json"
    )


def _unknown() -> NoReturn:
    raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such request, or no longer")


# ------------------------------------------------------------------------------- the table


def _command_schema(command: str) -> Json:
    fields = COMMANDS[command]
    return {
        "type": "object",
        "required": ["command", *(name for name, kind in fields.items() if kind.is_needed)],
        "properties": {
            "command": {"const": command},
            **{name: dict(kind.schema) for name, kind in fields.items()},
        },
        "additionalProperties": False,
    }


DOCUMENT = object_of(
    "Request",
    id={"type": "string"},
    command={"enum": list(COMMANDS)},
    state={"enum": [str(each) for each in State]},
    answer={"type": ["object", "null"]},
    error={"type": ["object", "null"], "required": ["code", "message", "hint"]},
)

ACTIONS = (
    Action(
        "POST",
        _PATH,
        "Ask the daemon for something; it does so at its next tick",
        _ask,
        {
            HTTPStatus.OK: "What became of it",
            HTTPStatus.ACCEPTED: "It waits, or is being done; see Location",
        },
        (
            HTTPStatus.FORBIDDEN,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
        body={"oneOf": [_command_schema(each) for each in COMMANDS]},
        can_wait=True,
    ),
    Action(
        "GET",
        f"{_PATH}/{{name}}",
        "How far a request has got, and what became of it",
        _look,
        {HTTPStatus.OK: "What is known of it"},
        (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
        can_wait=True,
    ),
    Action(
        "DELETE",
        f"{_PATH}/{{name}}",
        "Withdraw a request: it is not done, unless the daemon has taken it already",
        _withdraw,
        {HTTPStatus.NO_CONTENT: "It is withdrawn, and will not be done"},
        (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    ),
)
