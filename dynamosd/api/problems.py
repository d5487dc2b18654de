# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong with a request, as a problem document (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from aiohttp.web import Response

TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that gets a problem for an answer."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, field: str | None = None, **headers: str
    ) -> None:
        """Say what is wrong, with which HTTP status and headers, and with which field of it."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers

    def response(self) -> Response:
        """Give it as an answer."""
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            **({} if self.field is None else {"field": self.field}),
        }
        body = json.dumps(document).encode() + b"\n"
        return Response(status=int(self.status), body=body, content_type=TYPE, headers=self.headers)
