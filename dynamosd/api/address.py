# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses to listen on, as people write them."""

from __future__ import annotations

from dynamosd.errors import InvalidInput

_PORT_MAX = 65535

Address = tuple[str, int]


def parse_address(text: str) -> Address:
    """Take ``HOST:PORT`` or ``[IPv6]:PORT`` apart.

    Raises:
        InvalidInput: it is not one.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _PORT_MAX:
        raise InvalidInput(f"{text!r} is not an address", hint="e.g. 127.0.0.1:9947")
    return host.removeprefix("[").removesuffix("]"), int(port)
