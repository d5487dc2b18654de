# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks the daemon at its Unix socket, and withdraws what nobody waits for any more."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from dynamosd.cli.output import tell_if_long, warn
from dynamosd.errors import DynamosError, InvalidInput, NoDaemon, Refused, Unreachable
from dynamosd.files import short_name
from dynamosd.kmod import GROUP_HINT
from dynamosd.status import SOCKET, START_HINT

_PATH = "/api/v1alpha1/requests"
_WITHDRAW_SECONDS = 5.0
_HISTORY_HINT = "see what it did: dynamosctl history --kind request"
_BYTES = 16 * 1024 * 1024

_ERRORS: dict[str, type[DynamosError]] = {
    each.code: each for each in (DynamosError, InvalidInput, Refused, Unreachable)
}

Json = dict[str, Any]


def ask(runtime_dir: Path, said: Json, timeout: float) -> Json:
    """Ask the daemon, and give its answer.

    Args:
        runtime_dir: the daemon's.
        said: what is asked.
        timeout: how long to wait, in seconds.

    Raises:
        NoDaemon: there is none.
        Unreachable: it is not ours to ask, or it does not answer.
        DynamosError: what the daemon says; the class is that of its error.
    """
    with tell_if_long(
        f"waiting for the daemon, {timeout:g} s at most; Ctrl-C withdraws the request"
    ):
        return _ask(runtime_dir, said, timeout)


def _ask(runtime_dir: Path, said: Json, timeout: float) -> Json:
    deadline = time.monotonic() + timeout
    asked = _put(runtime_dir, said, timeout)
    try:
        document = _wait(asked, deadline)
    except KeyboardInterrupt:
        _give_up(asked)
        raise
    if document is None and asked.withdraw():
        message = f"the daemon has not taken the request within {timeout:g} s; it is withdrawn"
        raise Unreachable(message, hint="it may be switching: dynamosctl status")
    if document is None:
        document = _look_once_more(asked)
    if document is None:
        message = f"the daemon has taken the request, and not answered within {timeout:g} s"
        raise Unreachable(message, hint=_HISTORY_HINT)
    return _answer(document)


def _put(runtime_dir: Path, said: Json, timeout: float) -> _Asked:
    try:
        status, found = _Connection(runtime_dir, timeout).exchange("POST", _PATH, said)
    except TimeoutError:
        raise _no_answer() from None
    match status:
        case HTTPStatus.ACCEPTED | HTTPStatus.OK:
            return _Asked(runtime_dir, f"{_PATH}/{found['id']}")
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            is_unknown = found.get("field") == "command"
            raise InvalidInput(found["detail"], hint="it is an older daemon" if is_unknown else "")
        case HTTPStatus.SERVICE_UNAVAILABLE:
            raise Unreachable(found["detail"], hint="ask again")
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            raise Unreachable("the daemon takes no requests", hint="it is an older one")
    raise DynamosError(f"the daemon says: {found.get('detail', int(status))}")


def _no_answer() -> Unreachable:
    """Say that nobody knows: it may have the request, or get it yet."""
    message = "the daemon does not answer; it may yet do what was asked"
    return Unreachable(message, hint=_HISTORY_HINT)


def _wait(asked: _Asked, deadline: float) -> Json | None:
    """Give what became of a request; None when the time is over."""
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            document = asked.look(math.ceil(left), left)
            if document["state"] == "answered":
                return document
    return None


def _look_once_more(asked: _Asked) -> Json | None:
    """Give an answer that has come while somebody kept us from looking, or none."""
    with contextlib.suppress(TimeoutError):
        document = asked.look(0, _WITHDRAW_SECONDS)
        return document if document["state"] == "answered" else None
    return None


def _give_up(asked: _Asked) -> None:
    """Withdraw what was interrupted, and say what that means."""
    try:
        is_withdrawn = asked.withdraw()
    except DynamosError as error:
        warn(f"the request could not be withdrawn: {error.message}")
    else:
        warn("the request is withdrawn" if is_withdrawn else "the daemon has taken the request")


def _answer(document: Json) -> Json:
    error = document["error"]
    if error is not None:
        kind = _ERRORS.get(error["code"], DynamosError)
        raise kind(error["message"], hint=error["hint"])
    answer: Json = document["answer"]
    return answer


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that the daemon has."""

    runtime_dir: Path
    path: str

    def look(self, seconds: int, timeout: float) -> Json:
        """Have the daemon say what became of it, when it knows or after so many seconds.

        Raises:
            TimeoutError: it does not say anything in time.
        """
        connection = _Connection(self.runtime_dir, timeout)
        status, found = connection.exchange("GET", self.path, Prefer=f"wait={seconds}")
        if status == HTTPStatus.OK:
            return found
        raise DynamosError("the daemon has forgotten the request", hint="see: dynamosctl history")

    def withdraw(self) -> bool:
        """Withdraw it; False when it has been taken.

        Raises:
            Unreachable: the daemon does not say.
        """
        try:
            connection = _Connection(self.runtime_dir, _WITHDRAW_SECONDS)
            status, _ = connection.exchange("DELETE", self.path)
        except TimeoutError:
            raise _no_answer() from None
        return status == HTTPStatus.NO_CONTENT


# ------------------------------------------------------------------------------ the socket


class _Connection(http.client.HTTPConnection):
    """A connection to a socket in a folder, however long the folder's name is."""

    def __init__(self, folder: Path, timeout: float) -> None:
        super().__init__("dynamosd", timeout=timeout)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_name(self._folder) as name:
            self.sock.connect(f"{name}/{SOCKET}")

    def exchange(
        self, method: str, path: str, body: Json | None = None, **headers: str
    ) -> tuple[HTTPStatus, Json]:
        """Ask one thing; give the status and the document of the answer.

        Raises:
            TimeoutError: there is none in time.
            NoDaemon: there is none.
            Unreachable: it is not ours, or it hangs up.
        """
        text = None if body is None else json.dumps(body)
        try:
            with contextlib.closing(self):
                self.request(method, path, text, headers)
                response = self.getresponse()
                return HTTPStatus(response.status), _parse(response.read(_BYTES))
        except TimeoutError:
            raise
        except PermissionError:
            raise Unreachable("the daemon is not ours to ask", hint=GROUP_HINT) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoDaemon("no daemon is running", hint=START_HINT) from None
        except BlockingIOError:
            raise Unreachable("the daemon has too many clients", hint="dynamosctl verify") from None
        except (ConnectionError, http.client.HTTPException, ValueError):
            message = "the daemon went away before it had answered"
            raise Unreachable(message, hint=_HISTORY_HINT) from None
        except OSError as error:
            raise Unreachable(f"the daemon cannot be asked: {error.strerror}") from error


def _parse(raw: bytes) -> Json:
    found = json.loads(raw) if raw else {}
    if not isinstance(found, dict):
        raise ValueError("no document")  # noqa: TRY004 - as of what is no JSON
    return found
