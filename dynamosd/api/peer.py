# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at the other end of the Unix socket, by what the kernel says."""

from __future__ import annotations

import select
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.requests import Asker

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

PROC = Path("/proc")

_CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""
_NO_LOGIN = 2**32 - 1


def is_local(request: BaseRequest) -> bool:
    """Tell whether a request came by the Unix socket."""
    own = request.get_extra_info("socket")
    return own is not None and own.family == socket.AF_UNIX


def has_hung_up(request: BaseRequest) -> bool:
    """Tell whether nobody is there any more who could learn of an answer."""
    own = request.get_extra_info("socket")
    if own is None or own.fileno() < 0:
        return True
    poll = select.poll()
    # What poll() tells without being asked: both directions are shut.
    poll.register(own.fileno(), 0)
    return bool(poll.poll(0))


def asker_of(request: BaseRequest) -> Asker:
    """Give the process that connected, as it was then, and who logged in there."""
    own = request.get_extra_info("socket")
    found = own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return Asker(uid, pid, _login(pid))


def _login(pid: int) -> int | None:
    """Give the uid that somebody logged in with; None if nobody has, or the process is gone."""
    try:
        uid = int((PROC / str(pid) / "loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if uid == _NO_LOGIN else uid
