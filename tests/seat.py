# SPDX-License-Identifier: GPL-2.0-or-later
"""A terminal with a shell in it, and somebody who types and looks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import tempfile
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyte

DEADLINE_SECONDS = 120.0
PROMPT = "ready> "
REDRAWN = b"\033[H\033[2K"
"""What each drawing begins with."""

_OTHER_SCREEN = 1049


class _Screen(pyte.Screen):
    """A screen whose other one is empty whenever it is gone to: pyte has one only."""

    def set_mode(self, *modes: int, **also: Any) -> None:  # noqa: ANN401 - pyte's
        self._clear_for(modes)
        super().set_mode(*modes, **also)

    def reset_mode(self, *modes: int, **also: Any) -> None:  # noqa: ANN401 - pyte's
        self._clear_for(modes)
        super().reset_mode(*modes, **also)

    def _clear_for(self, modes: tuple[int, ...]) -> None:
        if _OTHER_SCREEN in modes:
            self.erase_in_display(2)
            self.cursor_position()


class Seat:
    """Bash on a terminal of its own."""

    def __init__(self, environment: Mapping[str, str], columns: int = 80, lines: int = 24) -> None:
        """Start it."""
        self.screen = _Screen(columns, lines)
        self.raw = bytearray()
        self._stream = pyte.ByteStream(self.screen)
        given = {"TERM": "xterm-256color", "PS1": PROMPT, "LC_ALL": "C.UTF-8", **environment}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            command = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
            os.execvpe(command[0], command, given)  # noqa: S606 - it is the shell
        self.resize(columns, lines)
        self.until(lambda: self.text.endswith(PROMPT.rstrip()))

    def hang_up(self) -> None:
        """Take the terminal away; once is enough."""
        terminal, self._terminal = self._terminal, -1
        if terminal >= 0:
            os.close(terminal)

    def close(self) -> None:
        """End it, whatever runs there."""
        self.hang_up()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The same, as one text."""
        return "\n".join(self.lines).rstrip()

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window."""
        self.screen.resize(lines, columns)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def until(self, seen: Callable[[], object], meanwhile: Callable[[], object] = int) -> None:
        """Look until something is seen; do something again and again meanwhile."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not seen():
            assert time.monotonic() < deadline, self.text
            meanwhile()
            ready, _, _ = select.select([self._terminal], [], [], 0.05)
            if ready:
                block = os.read(self._terminal, 65536)
                self.raw += block
                self._stream.feed(block)

    def until_shown(self, *texts: str) -> None:
        """Look until all of that is there."""
        self.until(lambda: all(text in self.text for text in texts))

    def until_drawn_again(self, times: int = 3) -> None:
        """Look until all has been drawn so many times more."""
        before = self.raw.count(REDRAWN)
        self.until(lambda: self.raw.count(REDRAWN) >= before + times)

    def last_drawing(self) -> str:
        """Give the last drawing that is whole, as it was written."""
        return bytes(self.raw).split(REDRAWN)[-2].decode()

    def run(self, command: str) -> str:
        """Have the shell run a command that ends; give what it says."""
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder) / "said"
            self.type(f"{{ {command}; }} >{folder}/new; mv {folder}/new {said}\n")
            self.until(said.exists)
            self.until(lambda: self.text.endswith(PROMPT.rstrip()))
            return said.read_text().strip()
