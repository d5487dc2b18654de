# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets dynamosctl ask a daemon whose clock is a manual one, in the same process."""

from __future__ import annotations

import io
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamosd import cli
from dynamosd.api.handler import Shown
from dynamosd.api.server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.daemon import Daemon
    from tests.unit.test_daemon import House

PATIENCE_SECONDS = 60.0


@dataclass(slots=True)
class Answer:
    """How a command ended, once it has."""

    words: tuple[str, ...]
    thread: threading.Thread | None = None
    code: int = -1
    out: str = ""
    err: str = ""

    def wait(self) -> Answer:
        """Wait until it has ended."""
        assert self.thread is not None, f"{self.words} was never begun"
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive(), f"{self.words} does not end"
        return self


@dataclass(slots=True)
class Operator:
    """Types commands while the daemon's clock stands still; they are answered at its next tick.

    So there is a tick between two of them. The house's daemon is asked over its socket.
    """

    house: House
    answers: list[Answer] = field(default_factory=list)
    _asked: Daemon | None = None
    _server: ApiServer | None = None

    def types(self, *words: str | Callable[[], str]) -> Callable[[], Answer]:
        """Give what begins a command; words that are not known yet are asked for then."""

        def begin() -> Answer:
            # One at a time: they share one stdout.
            self.ended()
            daemon = self._served()
            said = tuple(word if isinstance(word, str) else word() for word in words)
            answer = Answer(said)
            before = daemon.inbox.waiting
            answer.thread = threading.Thread(target=self._run, args=(answer,), daemon=True)
            answer.thread.start()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while answer.thread.is_alive() and daemon.inbox.waiting <= before:
                assert time.monotonic() < deadline, f"{said} asks for nothing"
                time.sleep(0.001)
            self.answers.append(answer)
            return answer

        return begin

    def ended(self) -> list[Answer]:
        """Wait for all commands; give how they ended."""
        return [answer.wait() for answer in self.answers]

    def close(self) -> None:
        """Wait for all, and let nobody ask any more."""
        self.ended()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _served(self) -> Daemon:
        """Give the daemon that runs now, once it can be asked."""
        daemon = self.house.daemon
        assert daemon is not None, "there is no daemon to ask"
        if daemon is not self._asked:
            self.close()
            shown = Shown(daemon.page.text, lambda: daemon.ready, lambda: daemon.view)
            folder = self.house.settings.runtime_dir
            self._server = ApiServer(("127.0.0.1", 0), folder, shown, daemon.inbox)
            self._asked = daemon
        return daemon

    def _run(self, answer: Answer) -> None:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            where = ("--runtime-dir", str(self.house.settings.runtime_dir))
            answer.code = cli.main([*answer.words, *where], self.house.module.kmod)
        answer.out, answer.err = out.getvalue(), err.getvalue()
