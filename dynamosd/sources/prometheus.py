# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks a Prometheus server one instant query, and takes nothing but one finite number for it.

Whatever the server does, a question ends: there is a limit on the size of its answer, and one on
the time of all of it. Redirects are not followed, and no proxy is used: what the policy's URL
names is what is asked.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from dynamosd.model import Source

MAX_ANSWER_BYTES = 64 * 1024
"""An answer with one sample takes some hundred bytes."""

API = "/api/v1/query"

_CONNECTIONS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


class SourceError(Exception):
    """A source has no usable result; the text says why. The server has been asked, and says so."""


class Unanswered(SourceError):
    """The server could not be asked, or not answer: what it said before may still be so."""


def fetch(source: Source) -> float:
    """Ask the server, and return the one number that it answers.

    Raises:
        SourceError: there is none.
    """
    try:
        status, body = _ask(source)
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(_describe(error)) from error
    if len(body) > MAX_ANSWER_BYTES:
        raise SourceError(f"the answer is longer than {MAX_ANSWER_BYTES // 1024} KiB")
    return _number(status, body)


def _ask(source: Source) -> tuple[int, bytes]:
    """Return the status and the body, one byte more than the limit at most."""
    parts = urlsplit(source.url)
    connection = _CONNECTIONS[parts.scheme](
        parts.hostname or "", parts.port, timeout=source.timeout_seconds
    )
    path = f"{parts.path}{API}?{urlencode({'query': source.query})}"
    deadline = time.monotonic() + source.timeout_seconds
    try:
        connection.connect()
        with _deadline(connection.sock, deadline - time.monotonic()):
            headers = {"Accept": "application/json", "Connection": "close"}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER_BYTES + 1)
    finally:
        connection.close()


@contextlib.contextmanager
def _deadline(connected: socket.socket, seconds: float) -> Iterator[None]:
    """End all traffic when the time is up: a socket's own timeout begins again with each byte.

    Raises:
        TimeoutError: it was up.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            # Not the TLS socket's own, which would change it under its reader's feet.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, seconds), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    # What came until then may look whole: it is not to be relied on.
    if late.is_set():
        raise TimeoutError


def _describe(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return f"cannot be asked: {error.strerror or error}"
    return f"answers no HTTP: {type(error).__name__}"


def _number(status: int, body: bytes) -> float:
    """Take the answer apart; see Prometheus' HTTP API, "Instant queries"."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unanswered(_refusal(status, answer))
    if status != HTTPStatus.OK:
        raise SourceError(_refusal(status, answer))
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict) or not isinstance(answer, dict):
        raise SourceError("the answer is not one of Prometheus")
    if answer.get("status") != "success":
        raise SourceError(_refusal(status, answer))
    kind, result = data.get("resultType"), data.get("result")
    if kind == "vector" and isinstance(result, list):
        if len(result) != 1:
            raise SourceError(f"the query gives {len(result)} samples, not one")
        result = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind != "scalar":
        raise SourceError(f"the query gives a {str(kind)[:20]}, not a scalar or a vector")
    return _value(result)


def _value(sample: Any) -> float:  # noqa: ANN401 - whatever the answer has there
    """Return the value of a sample, which is a pair of a time and a number as text."""
    match sample:
        case [int() | float(), str(text)]:
            pass
        case _:
            raise SourceError("the answer is not one of Prometheus")
    try:
        value = float(text)
    except ValueError:
        raise SourceError(f"the result is not a number: {text[:20]!r}") from None
    if not math.isfinite(value):
        raise SourceError(f"the result is {text[:20]}")
    return value


def _refusal(status: int, answer: Any) -> str:  # noqa: ANN401 - as above
    """Say why there is no result, in the server's words if they are some."""
    says = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(says, str) and says:
        plain = "".join(letter if letter.isprintable() else " " for letter in says[:200])
        return f"the server says: {plain}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return f"HTTP {status}: redirects are not followed"
    return f"HTTP {status}"
