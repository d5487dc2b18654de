# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that policies have from elsewhere. Optional: without a source nothing is connected to."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("http", "https")

_PRINTABLE = range(0x21, 0x7F)


def check_url(url: str) -> str:
    """Return the URL of a server as it is used.

    Raises:
        ValueError: it is not one that can be asked.
    """
    if not all(ord(letter) in _PRINTABLE for letter in url):
        raise ValueError("a URL has neither spaces nor letters beyond ASCII in it")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("a URL is written such as http://127.0.0.1:9090")
    if parts.username is not None:
        raise ValueError("a URL has no user and no password in it")
    if "?" in url or "#" in url:
        raise ValueError("a URL ends with its path: the query has a key of its own")
    return url.rstrip("/")
