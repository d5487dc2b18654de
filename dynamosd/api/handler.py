# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers one HTTP request, from what the loop has left behind; or takes it in, for the loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp.web import BaseRequest, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from dynamosd import __version__
from dynamosd.api import openapi, static
from dynamosd.api.asking import ACTIONS, Action, Asked
from dynamosd.api.documents import View
from dynamosd.api.operations import BASE, OPERATIONS, Operation, Question
from dynamosd.api.peer import is_local
from dynamosd.api.problems import ProblemError
from dynamosd.requests import Inbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dynamosd.api.operations import Parameter

_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Shown:
    """Where the answers come from. None of the three may wait.

    ``text`` gives the page of metrics, ``ready`` whether all is up, ``view`` the loop's last view.
    """

    text: Callable[[], bytes]
    ready: Callable[[], bool]
    view: Callable[[], View]


@dataclass(frozen=True, slots=True)
class Handler:
    """Answers requests; ``files`` runs what may wait for a disk."""

    shown: Shown
    inbox: Inbox
    files: Executor

    async def __call__(self, request: BaseRequest) -> Response:
        """Answer one; each connection is for one request."""
        try:
            response = await self._answer(request)
        except ProblemError as problem:
            response = problem.response()
        response.headers["Server"] = f"dynamosd/{__version__}"
        response.force_close()
        return response

    async def _answer(self, request: BaseRequest) -> Response:
        path = request.rel_url.raw_path
        if found := [(each, name) for each in ACTIONS if (name := each.match(path)) is not None]:
            return await self._act(found, request)
        if request.method not in _METHODS:
            raise _wrong_method("only GET and HEAD: nothing can be changed here", _METHODS)
        if not path.startswith(f"{BASE}/"):
            return self._page(path)
        if path == openapi.PATH:
            return _json(openapi.text())
        for operation in OPERATIONS:
            if (name := operation.match(path)) is not None:
                return await self._operate(operation, unquote(name), request)
        raise ProblemError(HTTPStatus.NOT_FOUND, f"see {openapi.PATH}")

    async def _act(self, found: list[tuple[Action, str]], request: BaseRequest) -> Response:
        if not is_local(request):
            message = "what changes something is asked at the Unix socket"
            raise ProblemError(HTTPStatus.FORBIDDEN, message)
        method = "GET" if request.method == "HEAD" else request.method
        for action, name in found:
            if action.method == method:
                _query((), request)
                return await action.act(Asked(request, self.inbox, unquote(name)))
        methods = [action.method for action, _ in found]
        raise _wrong_method(f"only {' and '.join(methods)}", methods)

    def _page(self, path: str) -> Response:
        match path:
            case "/metrics":
                return _plain(self.shown.text(), kind=CONTENT_TYPE_PLAIN_0_0_4)
            case "/-/healthy":
                return _plain(b"healthy\n")
            case "/-/ready" if self.shown.ready():
                return _plain(b"ready\n")
            case "/-/ready":
                return _plain(b"not ready\n", HTTPStatus.SERVICE_UNAVAILABLE)
            case _ if path in static.FILES:
                return static.answer(path)
        raise ProblemError(HTTPStatus.NOT_FOUND, f"see /metrics and {openapi.PATH}")

    async def _operate(self, operation: Operation, name: str, request: BaseRequest) -> Response:
        query = _query(operation.parameters, request)
        question = Question(self.shown.view(), is_local(request), name, query)
        if operation.reads_files:
            loop = asyncio.get_running_loop()
            return _json(await loop.run_in_executor(self.files, _text, operation, question))
        return _json(_text(operation, question))


def _text(operation: Operation, question: Question) -> str:
    answer = operation.answer(question)
    return answer if isinstance(answer, str) else json.dumps(answer) + "\n"


def _query(parameters: Iterable[Parameter], request: BaseRequest) -> Mapping[str, str]:
    """Give the query; a word that is not known, or said twice, is a slip and no filter."""
    found = request.rel_url.query
    known = {each.name for each in parameters}
    if len(set(found)) < len(found) or not set(found) <= known:
        said = ", ".join(sorted(known)) or "nothing"
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the query may say, once each: {said}")
    return dict(found)


def _wrong_method(message: str, methods: Iterable[str]) -> ProblemError:
    return ProblemError(HTTPStatus.METHOD_NOT_ALLOWED, message, Allow=", ".join(methods))


def _plain(body: bytes, status: HTTPStatus = HTTPStatus.OK, kind: str = "text/plain") -> Response:
    return Response(status=int(status), body=body, headers={"Content-Type": kind})


def _json(text: str) -> Response:
    return Response(body=text.encode(), content_type="application/json")
