# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks at the Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamosd.files import short_name
from dynamosd.status import SOCKET

TIMEOUT_SECONDS = 120.0
REQUESTS = "/api/v1alpha1/requests"

Answer = tuple[int, Any, Mapping[str, str]]


def connect(folder: Path) -> socket.socket:
    """Connect, and say nothing."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(TIMEOUT_SECONDS)
    with short_name(folder) as name:
        made.connect(f"{name}/{SOCKET}")
    return made


def ask(
    folder: Path, method: str, path: str, body: str | bytes | None = None, **headers: str
) -> Answer:
    """Ask; give status, document and headers."""
    client = http.client.HTTPConnection("dynamosd")
    client.sock = connect(folder)
    with contextlib.closing(client):
        client.request(method, path, body, {**headers})
        answer = client.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None, dict(answer.headers)


def post(folder: Path, said: object, **headers: str) -> Answer:
    """Ask the daemon for something."""
    return ask(folder, "POST", REQUESTS, json.dumps(said), **headers)
