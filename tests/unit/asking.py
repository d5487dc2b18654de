# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets dynamosctl ask a daemon whose clock is a manual one, in the same process."""

from __future__ import annotations

import io
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamosd import cli, requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.kmod import Kmod

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

    So there is a tick between two of them.
    """

    runtime_dir: Path
    kmod: Kmod
    answers: list[Answer] = field(default_factory=list)

    def types(self, *words: str | Callable[[], str]) -> Callable[[], Answer]:
        """Give what begins a command; words that are not known yet are asked for then."""

        def begin() -> Answer:
            # One at a time: they share one stdout.
            self.ended()
            said = tuple(word if isinstance(word, str) else word() for word in words)
            answer = Answer(said)
            before = self._asked()
            answer.thread = threading.Thread(target=self._run, args=(answer,), daemon=True)
            answer.thread.start()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while answer.thread.is_alive() and self._asked() <= before:
                assert time.monotonic() < deadline, f"{said} asks for nothing"
                time.sleep(0.001)
            self.answers.append(answer)
            return answer

        return begin

    def ended(self) -> list[Answer]:
        """Wait for all commands; give how they ended."""
        return [answer.wait() for answer in self.answers]

    def _asked(self) -> int:
        return len(list((self.runtime_dir / requests.FOLDER).glob("[!.]*.json")))

    def _run(self, answer: Answer) -> None:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            where = ("--runtime-dir", str(self.runtime_dir))
            answer.code = cli.main([*answer.words, *where], self.kmod)
        answer.out, answer.err = out.getvalue(), err.getvalue()
