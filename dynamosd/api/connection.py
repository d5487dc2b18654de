# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections: how many there may be, for how long, and what is answered when one goes wrong."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dynamosd.api.problems import ProblemError

CONNECTIONS = 64
DEADLINE_SECONDS = 10.0


class Connection(RequestHandler):
    """One connection; whatever goes wrong with it is answered with a problem document."""

    __slots__ = ("_end",)

    def begin(self, transport: asyncio.Transport) -> None:
        """Let it end when its time is over, however it keeps the line busy."""
        self._end = asyncio.get_running_loop().call_later(DEADLINE_SECONDS, transport.abort)

    def allow(self, seconds: float) -> None:
        """Give it so much more time, from now: we keep the client waiting."""
        transport = self.transport
        if transport is not None:
            self._end.cancel()
            loop = asyncio.get_running_loop()
            self._end = loop.call_later(seconds + DEADLINE_SECONDS, transport.abort)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and what we did not foresee; only the latter is an event."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log_exception("a request that could not be answered", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        what = "this is no HTTP request" if message else "the daemon could not answer this"
        response = ProblemError(HTTPStatus(status), what).response()
        response.force_close()
        return response


class Connections(web.Server):
    """The connections of one listening socket."""

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take one in, unless there are enough."""
        full = len(self.connections) >= CONNECTIONS
        super().connection_made(handler, transport)
        if full:
            transport.abort()
        elif isinstance(handler, Connection):
            handler.begin(transport)

    def cut_off(self) -> None:
        """End all of them, whatever they wait for: what answers them is cancelled."""
        for each in self.connections:
            if each.transport is not None:
                each.transport.abort()
