# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.api.openapi: the description is the one in docs, and the server keeps to it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, settings
from requests.adapters import HTTPAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dynamosd.api import openapi
from dynamosd.errors import Refused
from tests.unit.api import local

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from dynamosd.api.server import ApiServer
    from tests.unit.api.conftest import Answers

DOCUMENT = Path(__file__).parents[3] / "docs/openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_dict(openapi.document())


def test_document_in_docs_is_the_one_that_is_served() -> None:
    assert DOCUMENT.read_text() == openapi.text()


@schema.parametrize()
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_server_keeps_to_it(
    case: schemathesis.Case[Any], server: ApiServer, answers: Answers
) -> None:
    answers.journal.chmod(0o644)
    answer = case.call(base_url=f"http://127.0.0.1:{server.port}", timeout=60)
    case.validate_response(answer, checks=CHECKS)


# ----------------------------------------------------------------------------- at the socket


class _Connection(urllib3.connection.HTTPConnection):
    """A connection to the socket in a folder."""

    folder = Path()

    def _new_conn(self) -> socket.socket:
        return local.connect(self.folder)


class _Adapter(HTTPAdapter):
    """Has every address be the socket's."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._pool = urllib3.HTTPConnectionPool("dynamosd", 80)
        self._pool.ConnectionCls = type("Local", (_Connection,), {"folder": folder})

    def get_connection_with_tls_context(self, *_: object, **__: object) -> Any:  # noqa: ANN401
        return self._pool


@pytest.fixture
def session(server: ApiServer, answers: Answers) -> Iterator[requests.Session]:
    """Ask at the socket of a daemon that does half of what it is asked, and refuses the rest."""
    assert server.port
    over = threading.Event()

    def serve() -> None:
        while not over.wait(0.001):
            for number, each in enumerate(answers.inbox.take()):
                answers.inbox.answer(each, Refused("no") if number % 2 else {"warning": ""})

    loop = threading.Thread(target=serve)
    loop.start()
    with requests.Session() as made:
        made.mount("http://", _Adapter(answers.journal.parent))
        yield made
    over.set()
    loop.join()


@schema.parametrize()
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_server_keeps_to_it_at_the_socket(
    case: schemathesis.Case[Any], session: requests.Session
) -> None:
    answer = case.call(base_url="http://dynamosd", session=session, timeout=120)
    case.validate_response(answer, checks=CHECKS)
