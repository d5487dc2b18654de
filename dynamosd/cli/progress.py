# SPDX-License-Identifier: GPL-2.0-or-later
"""Says on a terminal what takes long, and how far it has come."""

from __future__ import annotations

import sys
import time

from dynamosd.cli.output import PATIENCE_SECONDS, WIDTH, warn


class Progress:
    """Keeps silent for as long as a person would; then shows one line, which it takes away again.

    Where stderr is no terminal, each thing that takes long is one line, once.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self._begin = time.monotonic()
        self._what = ""
        self._shown = ""

    def __call__(self, what: str, part: float) -> None:
        """Say what is being done, and which part of it is."""
        if time.monotonic() - self._begin < PATIENCE_SECONDS:
            return
        if not sys.stderr.isatty():
            if what != self._what:
                warn(what)
            self._what = what
            return
        text = f"{what}: {part:.0%}"[: WIDTH - 1]
        if text != self._shown:
            print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
            self._shown = text

    def close(self) -> None:
        """Take the line away."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._shown = ""
