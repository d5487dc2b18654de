# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that calls the self-test's functions whenever it is told to, itself or in a child."""

from __future__ import annotations

import subprocess
from typing import Self

from tests.kernel import guest
from tests.kernel.block import Block
from tests.kernel.target import DEVICE

# All of it is the shell's own, so that nobody else is there: only ( ) makes a child.
_LOOP = """
call() { printf %s "$1" >&3 && read -r line <&3 && printf '%s\\n' "$line"; }
exec 3<>"$1"
while read -r where what; do
    case $where in
    itself) call "$what" ;;
    child) (call "$what") ;;
    storm)
        count=0
        while [ $count -lt "$what" ]; do
            (exec 3<>"$1"; call 'value 3' >/dev/null) &
            count=$((count + 1))
        done
        wait
        echo result=0
        ;;
    esac
done
"""
_BELOW = 'sh -c "$1" worker "$2"; exit'


class Worker(Block):
    """Such a process, which lives for the length of a block."""

    def __init__(self, *, below: bool = False) -> None:
        """Start it; ``below`` a process that does nothing, whose pid is then `pid`."""
        argv = ["sh", "-c", _LOOP, "worker", str(DEVICE)]
        if below:
            argv = ["sh", "-c", _BELOW, "parent", _LOOP, str(DEVICE)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Wait until it, and whoever is above it, is there."""
        self.run("value 0")
        return self

    def end(self) -> None:
        """Have it come to its end; returns when it is gone."""
        self._process.communicate(timeout=guest.PATIENCE)

    def run(self, command: str, where: str = "itself") -> int:
        """Have it carry out a command of the device; ``where`` is `itself` or `child`."""
        return self._ask(f"{where} {command}")

    def storm(self, children: int) -> None:
        """Have it make many children at once, each of which makes one call of `target_value`."""
        self._ask(f"storm {children}")

    def _ask(self, line: str) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        return int(self._process.stdout.readline().removeprefix("result="))
