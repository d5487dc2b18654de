# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes to which anything may happen: callers of gated functions, and holders of leases."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from random import Random

from tests.kernel import control, target
from tests.kernel.child import Child

# All of it is the shell's own, so that a signal to it finds it in the call.
_CALL = """
exec 3<>"$1" 2>/dev/null
shift
trap : USR1
while :; do
    for what; do
        printf %s "$what" >&3 && read -r line <&3 || continue
        [ "$what" = "value 5" ] || continue
        case $line in
        result=6 | result=1006 | result=2006 | result=3006) ;;
        *) exit 9 ;;
        esac
    done
done
"""

# Who sleeps does not have the file: it is closed when the shell dies.
_LOOK_AFTER = """
exec 3<>"$1" 2>/dev/null
shift
trap : USR1
while :; do
    for line; do
        printf %s "$line" >&3
    done
    sleep 0.05 3>&-
done
"""

_CALLS = ("value 5", "use {}", "outer 5", "block {}", "new {}", "free {}", "recurse 3", "tail 1")
_KEYS = 4

_ENDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
SIGNALS = (*_ENDS, *_ENDS, signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT)

_BASELINES = ("original", "original", "b")
_SWITCHES = (
    "mode=concurrent",
    "mode=exclusive timeout_ms=500",
    "mode=per-object",
    "mode=scoped scope=share:1/2",
)


class People:
    """So many of a kind as there may be; whoever has died makes room for another one."""

    def __init__(self, most: int, make: Callable[[Random], Child]) -> None:
        """Have nobody yet."""
        self._most, self._make = most, make
        self._all: list[Child] = []
        self._lock = threading.Lock()

    def let_one_come(self, dice: Random) -> str:
        """Start one more, if there is room."""
        with self._lock:
            self._bury()
            if len(self._all) == self._most:
                return "full"
            self._all.append(self._make(dice))
        return ""

    def signal_one(self, dice: Random) -> str:
        """Send a signal to one of them; say which."""
        with self._lock:
            self._bury()
            if not self._all:
                return "nobody"
            number = dice.choice(SIGNALS)
            dice.choice(self._all).process.send_signal(number)
        return signal.Signals(number).name

    def end(self) -> None:
        """End all; each must have been well until then."""
        with self._lock:
            for child in self._all:
                # Who is stopped can be killed, but is not waited for by anybody who waits for it.
                os.kill(child.pid, signal.SIGKILL)
            for child in self._all:
                child.process.communicate()
            self._bury()

    def _bury(self) -> None:
        for child in [child for child in self._all if child.is_over()]:
            self._all.remove(child)
            child.process.communicate()
            status = child.process.returncode
            assert -status in SIGNALS, f"a caller ended with status {status}: a wrong result is 9"


def caller(dice: Random) -> Child:
    """Call functions of the self-test's, about few objects, until it is killed."""
    calls = [dice.choice(_CALLS).format(dice.randrange(_KEYS)) for _ in range(8)]
    return Child("nice", "-n", "20", "sh", "-c", _CALL, "caller", str(target.DEVICE), *calls)


def holder(subsystems: Sequence[str]) -> Callable[[Random], Child]:
    """Make those who hold leases, renew them, and switch, as a daemon does."""

    def start(dice: Random) -> Child:
        subsystem = dice.choice(subsystems)
        lease = f"lease {subsystem} grace_ms={dice.choice([0, 100, 1000])}"
        lease += f" ttl_ms={dice.choice([0, 100, 300, 5000])}"
        if subsystem == "selftest":
            lease += f" baseline={dice.choice(_BASELINES)}"
        lease += f" action={dice.choice(['baseline', 'baseline', 'hold'])}"
        edition = dice.choice(["original", "b", "streaming", "random"])
        lines = [lease, f"switch {subsystem} {edition} {dice.choice(_SWITCHES)}"]
        if dice.random() < 0.3:
            lines.append(f"release {subsystem}")
        return Child("sh", "-c", _LOOK_AFTER, "holder", str(control.DEVICE), *lines)

    return start
