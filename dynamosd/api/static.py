# SPDX-License-Identifier: GPL-2.0-or-later
"""The page's files, and the headers that keep a browser to them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from aiohttp.web import Response

from dynamosd.api.problems import ProblemError

FOLDER = Path(__file__).parent / "page"

FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
"""Each path's file, and of what kind that is."""

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "form-action 'none'",
)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def answer(path: str) -> Response:
    """Give a file of the page."""
    name, kind = FILES[path]
    return Response(body=_read(name), content_type=kind, charset="utf-8", headers=HEADERS)


@functools.cache
def _read(name: str) -> bytes:
    """Read a file once: all of them are of one version, though others be installed meanwhile."""
    try:
        return (FOLDER / name).read_bytes()
    except OSError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"{name} is not installed") from error
