# SPDX-License-Identifier: GPL-2.0-or-later
"""What the service manager is told: systemd's notify protocol, datagrams of ``NAME=value`` lines.

Nothing here waits. A message that the manager has no room for now is sent again with the next
one, so that a state is told late rather than never; only a heartbeat is not made up for.
Without a manager that asks for it (``NOTIFY_SOCKET``), nothing is sent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamosd.datagrams import Send, sender, to_nobody

_BEATS = 4
"""So many heartbeats in the time after which the manager gives us up."""


@dataclass(slots=True)
class Service:
    """The daemon as its service manager sees it.

    Args:
        send: how a message gets there.
        watchdog_seconds: without a heartbeat for so long we are killed; 0: nobody looks.
        errors: how often a message could not be sent.
    """

    send: Send = to_nobody
    watchdog_seconds: float = 0.0
    errors: int = 0
    _unsent: dict[str, str] = field(default_factory=dict)
    _status: str = ""
    _is_ready: bool = False
    _slack: float = 0.0
    _is_paused: bool = False
    _beat_at: float = 0.0

    def allow(self, seconds: float) -> None:
        """Say that from now on a tick may take so much longer than the watchdog thinks."""
        if seconds != self._slack:
            self._slack = seconds
            self._tell(self._patience(0.0))

    def expect_pause(self, seconds: float) -> None:
        """Say that we shall be busy for up to so long now: no heartbeat, no change of state."""
        self._tell(self._pause(seconds))

    def tick_ended(self, now: float, status: str) -> None:
        """Say that the control loop has been round once more; the first time, that we are ready.

        Args:
            now: seconds of CLOCK_MONOTONIC.
            status: how things are, for people, in one line.
        """
        said = {}
        if not self._is_ready:
            self._is_ready = True
            said["READY"] = "1"
        if status != self._status:
            self._status = status
            said["STATUS"] = " ".join(status.split())
        if self._is_paused:
            self._is_paused = False
            said |= self._patience(0.0)
        if self.watchdog_seconds and now >= self._beat_at:
            self._beat_at = now + self.watchdog_seconds / _BEATS
            said["WATCHDOG"] = "1"
        if said or self._unsent:
            self._tell(said)

    def reloading(self, now: float) -> None:
        """Say that the policies are read again now; to be ended by `reloaded`."""
        self._tell({"RELOADING": "1", "MONOTONIC_USEC": _usec(now)})

    def reloaded(self) -> None:
        """Say that they have been read, whatever has come of it."""
        for name in ("RELOADING", "MONOTONIC_USEC"):
            self._unsent.pop(name, None)
        self._tell({"READY": "1"})

    def stopping(self, seconds: float) -> None:
        """Say that we leave, which may take up to so long."""
        self._tell({"STOPPING": "1", "STATUS": "leaving"} | self._pause(seconds))

    def _pause(self, seconds: float) -> dict[str, str]:
        if not seconds:
            return {}
        self._is_paused = True
        return {"EXTEND_TIMEOUT_USEC": _usec(seconds)} | self._patience(seconds)

    def _patience(self, more: float) -> dict[str, str]:
        """Tell the watchdog how long to wait for us."""
        if not self.watchdog_seconds:
            return {}
        return {"WATCHDOG_USEC": _usec(self.watchdog_seconds + self._slack + more)}

    def _tell(self, said: dict[str, str]) -> None:
        message = self._unsent | said
        if not message:
            return
        try:
            self.send("".join(f"{name}={value}\n" for name, value in message.items()).encode())
        except OSError:
            self.errors += 1
            # It is the loop's word that it is alive now, and means nothing later.
            message.pop("WATCHDOG", None)
            self._beat_at = 0.0
            self._unsent = message
        else:
            self._unsent = {}


def _usec(seconds: float) -> str:
    return str(int(seconds * 1e6))


def from_environment(environ: Mapping[str, str]) -> Service:
    """Give the service that we are, by what systemd has put into the environment."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return Service()
    return Service(sender(address), _watchdog_seconds(environ))


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Give how long the manager waits for a heartbeat of ours; 0 if it does not, or not for us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() else 0.0
