# SPDX-License-Identifier: GPL-2.0-or-later
"""Datagrams to a socket of this machine, sent at once or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable

Send = Callable[[bytes], None]
"""Sends a datagram at once; raises `OSError` when that cannot be."""


def to_nobody(_message: bytes) -> None:
    """Send nothing: nobody has asked for it."""


def sender(address: str) -> Send:
    """Give what sends to a socket of the file system, or with ``@`` of the abstract names."""
    target = "\0" + address[1:] if address.startswith("@") else address

    def send(message: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as from_us:
            from_us.setblocking(False)
            from_us.sendto(message, target)

    return send
