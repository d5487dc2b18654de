# SPDX-License-Identifier: GPL-2.0-or-later
"""Another process, which does one thing and lives no longer than a block."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.kernel import guest
from tests.kernel.block import Block


class Child(Block):
    """Such a process. It is killed at the end of the block, wherever it is."""

    def __init__(self, *argv: str) -> None:
        """Start it."""
        self._argv = argv
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def is_over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.process.poll() is not None

    def is_stopped(self) -> bool:
        """Whether it has been stopped by a signal."""
        stat = Path("/proc", str(self.pid), "stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def output(self, said: str = "", patience: float = guest.PATIENCE) -> str:
        """Say something to it, wait until it has ended, well, and give what it has printed."""
        out, complaint = self.process.communicate(said, timeout=patience)
        assert self.process.returncode == 0, f"{self._argv}: {complaint}"
        return out

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; returns when it has ended."""
        self.process.send_signal(number)
        self.process.communicate(timeout=guest.PATIENCE)

    def kill(self) -> None:
        """Kill it; returns when it is dead."""
        self.signal(signal.SIGKILL)
