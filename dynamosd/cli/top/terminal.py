# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal while it is ours: its keys one by one, a screen of its own, and both given back.

Signals raise nothing: each leaves its number in a pipe, and is looked at where one waits for keys.
So whatever ends or stops the program does so at a place where the terminal can be given back.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from rich.text import Text

_STDIN = 0
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SIGNALS = (signal.SIGINT, *_ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)

_OWN_SCREEN, _BACK = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
_HOME, _ERASE_LINE = "\033[H", "\033[2K"

_KEY = re.compile(r"\033(?:\[[0-9;]*[A-Za-z~]|O[A-Z])|.", re.DOTALL)
_NAMES = {
    "\033[A": "up",
    "\033[B": "down",
    "\033OA": "up",
    "\033OB": "down",
    "\033[5~": "pageup",
    "\033[6~": "pagedown",
    "\033[H": "home",
    "\033[F": "end",
    "\033OH": "home",
    "\033OF": "end",
    "\033[1~": "home",
    "\033[4~": "end",
    "\033": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}

END = "end of it"
"""No key: a signal asks us to leave, or the terminal is gone."""


class Terminal:
    """Standard output's terminal, and standard input's keys if that is one too."""

    def __init__(self) -> None:
        """Look at it; nothing is changed yet."""
        self._keys = _STDIN if os.isatty(_STDIN) else None
        self._console = Console(file=sys.stdout, force_terminal=True, highlight=False)
        self._ended_by: signal.Signals | None = None
        self._saved: list[Any] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._woken, self._waker = -1, -1
        self._old_waker = -1

    @property
    def size(self) -> tuple[int, int]:
        """Give the columns and the lines there are now."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
            if columns and lines:
                return columns, lines
        return 80, 24

    # ------------------------------------------------------------------------- taken, given back

    def __enter__(self) -> Self:
        """Take it."""
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_waker = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._handlers[number] = self._handle(number)
        try:
            self._take()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back; what was told to end by a signal ends by that."""
        self._release()
        if self._ended_by and error is None:
            signal.signal(self._ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), self._ended_by)

    def _release(self) -> None:
        self._give_back()
        signal.set_wakeup_fd(self._old_waker)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._waker)

    def _handle(self, number: signal.Signals) -> Any:  # noqa: ANN401 - as signal.signal() has it
        """Have a signal only noticed; give what was done before."""
        before = signal.signal(number, lambda *_: None)
        # Setting a terminal up goes on after SIGCONT; select() does not, whatever is said here.
        signal.siginterrupt(number, False)
        return before

    def _take(self) -> None:
        if self._keys is not None:
            # Anew each time: meanwhile a shell may have changed it.
            self._saved = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._write(_OWN_SCREEN)

    def _give_back(self) -> None:
        # A terminal that is gone needs nothing back. Modes first: in the background that waits,
        # and another's screen is not written to.
        with contextlib.suppress(termios.error):
            if self._keys is not None and self._saved is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)
        with contextlib.suppress(OSError, ValueError):
            self._write(_BACK)

    def _stop(self) -> None:
        """Be stopped, as Ctrl-Z wants it, until somebody has us go on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        self._handle(signal.SIGTSTP)
        self._take()

    # ------------------------------------------------------------------------------ in between

    def draw(self, lines: Iterable[Text]) -> None:
        """Show lines in place of what was there; they must fit."""
        parts = [_HOME]
        for line in lines:
            with self._console.capture() as captured:
                self._console.print(line, end="", no_wrap=True, crop=False, soft_wrap=True)
            # Erased before it is written: behind the last column, that would take a letter.
            parts.append(f"{_ERASE_LINE}{captured.get()}\r\n")
        self._write("".join(parts).removesuffix("\r\n"))

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def wait(self, seconds: float) -> list[str]:
        """Wait for keys; none came when the time is over, or the size has changed."""
        watched = [self._woken] if self._keys is None else [self._woken, self._keys]
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._woken in ready:
            # Keys are for the next time: those that were there may have been thrown away.
            return [END] if self._notice(os.read(self._woken, 512)) else []
        return self._read() if ready else []

    def _notice(self, numbers: bytes) -> bool:
        """Do what signals ask for; tell whether that is to leave."""
        for number in numbers:
            if number in _ENDING:
                self._ended_by = signal.Signals(number)
            if number in {signal.SIGINT, *_ENDING}:
                return True
            if number == signal.SIGTSTP:
                self._stop()
            elif number == signal.SIGCONT:
                # It may have been SIGSTOP that stopped us, behind our back.
                self._give_back()
                self._take()
        return False

    def _read(self) -> list[str]:
        try:
            data = os.read(_STDIN, 1024)
        except OSError:
            data = b""
        if not data:
            return [END]
        return [_NAMES.get(key, key) for key in _KEY.findall(data.decode(errors="ignore"))]
