# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP server for the metrics, made so that no client can hurt the loop.

A few connections at a time, each with a deadline; the next one is turned away at once. Nothing
is read but a request line and headers, and the answer is text that was there before.
"""

from __future__ import annotations

import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from dynamosd import __version__
from dynamosd.errors import DynamosError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 8
DEADLINE_SECONDS = 10.0
_POLL_SECONDS = 0.25
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


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = f"dynamosd/{__version__}"
    sys_version = ""
    timeout = DEADLINE_SECONDS

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, self.server.text(), CONTENT_TYPE_PLAIN_0_0_4)
            case "/-/healthy":
                self._answer(HTTPStatus.OK, b"healthy\n")
            case "/-/ready":
                if self.server.ready():
                    self._answer(HTTPStatus.OK, b"ready\n")
                else:
                    self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
            case "/":
                self._answer(HTTPStatus.OK, b"dynamosd: see /metrics\n")
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"not found\n")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing: scrapes are no news."""


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self, address: Address, text: Callable[[], bytes], ready: Callable[[], bool]
    ) -> None:
        self.text = text
        self.ready = ready
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - theirs
        with self._lock:
            full = len(self._deadlines) >= CONNECTIONS
            if not full:
                self._deadlines[request] = time.monotonic() + DEADLINE_SECONDS
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - theirs
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off those whose time is up, however they keep the line busy."""
        now = time.monotonic()
        with self._lock:
            late = [each for each, deadline in self._deadlines.items() if deadline < now]
            for each in late:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - theirs
        """Forget it: a client that went away is no event."""


class WebServer:
    """Serves ``/metrics``, ``/-/healthy`` and ``/-/ready`` from a thread of its own.

    Raises:
        DynamosError: the address cannot be had.
    """

    def __init__(
        self, address: Address, text: Callable[[], bytes], ready: Callable[[], bool]
    ) -> None:
        """Listen at once. ``text`` gives the page of metrics, ``ready`` whether all is up."""
        try:
            self._server = _Server(address, text, ready)
        except (OSError, UnicodeError) as error:
            what = getattr(error, "strerror", None) or str(error)
            message = f"cannot listen on {address[0]}:{address[1]}: {what}"
            raise DynamosError(message, hint="choose another: --metrics-address") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="web", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening. Connections that are open end with the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
