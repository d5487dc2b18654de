# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP server, made so that no client can hurt the control loop.

One thread with an event loop of its own. A connection has one request and a deadline, however it
keeps the line busy; of each kind so many are open at a time, and the next one is turned away at
once. Nothing is read but a request line, headers and a body of limited size. The control loop never
waits for this thread: it leaves a view behind, does not know who looks at it, and takes what it is
asked from an inbox when it comes round.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dynamosd.api.connection import DEADLINE_SECONDS, Connections
from dynamosd.api.handler import Handler, Shown
from dynamosd.errors import DynamosError
from dynamosd.files import short_name
from dynamosd.status import SOCKET

if TYPE_CHECKING:
    from pathlib import Path

    from dynamosd.api.address import Address
    from dynamosd.requests import Inbox

_BACKLOG = 128
_SOCKET_MODE = 0o660
_MAX_HEADERS = 64

_LOG = logging.getLogger(__name__)


class ApiServer:
    """Serves the metrics' address and the socket ``api.sock`` from a thread of its own.

    Raises:
        DynamosError: the address or the socket cannot be had.
    """

    def __init__(self, address: Address, folder: Path, shown: Shown, inbox: Inbox) -> None:
        """Listen at once. The socket is made in ``folder``, where no other daemon may be."""
        self._tcp = _listen_tcp(address)
        try:
            self._unix = _listen_unix(folder)
        except DynamosError:
            self._tcp.close()
            raise
        self.port = int(self._tcp.getsockname()[1])
        self._path = folder / SOCKET
        self._shown, self._inbox = shown, inbox
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and cut off who is connected."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda _loop, _context: None)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        files = ThreadPoolExecutor(1, thread_name_prefix="api-files")
        handler = Handler(self._shown, self._inbox, files)
        made = [_connections(handler), _connections(handler)]
        listening = [
            await self._loop.create_server(made[0], sock=self._tcp, backlog=_BACKLOG),
            await self._loop.create_unix_server(made[1], sock=self._unix, backlog=_BACKLOG),
        ]
        await self._stop.wait()
        # First nobody new: asyncio forgets a connection whose server is closed while it is made.
        for own in (self._tcp, self._unix):
            self._loop.remove_reader(own)
        files.shutdown(wait=False, cancel_futures=True)
        await _cut_off(made)
        for each in listening:
            each.close()


async def _cut_off(made: list[Connections]) -> None:
    """End all connections. aiohttp's own way would wait for those who wait for an answer."""
    me = {asyncio.current_task()}
    while asyncio.all_tasks() - me or any(each.connections for each in made):
        for each in made:
            each.cut_off()
        await asyncio.sleep(0)


def _connections(handler: Handler) -> Connections:
    return Connections(
        handler,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        logger=_LOG,
        max_headers=_MAX_HEADERS,
        lingering_time=1.0,
        keepalive_timeout=DEADLINE_SECONDS,
    )


def _listen_tcp(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        made.close()
        what = getattr(error, "strerror", None) or str(error)
        message = f"cannot listen on {address[0]}:{address[1]}: {what}"
        raise DynamosError(message, hint="choose another: --metrics-address") from error
    return made


def _listen_unix(folder: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux makes the file with the mode of the socket: nobody else gets in before a chmod.
        os.fchmod(made.fileno(), _SOCKET_MODE)
        with short_name(folder) as name:
            (folder / SOCKET).unlink(missing_ok=True)
            made.bind(f"{name}/{SOCKET}")
            (folder / SOCKET).chmod(_SOCKET_MODE)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        message = f"cannot listen on {folder / SOCKET}: {error.strerror}"
        raise DynamosError(message, hint="choose another folder: --runtime-dir") from error
    return made
