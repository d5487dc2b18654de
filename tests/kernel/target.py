# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of the functions that the self-test's modules gate: kmod/selftest/README.md.

`Target` makes them from this process, `Caller` from one of its own: whoever may have to wait, or
to die, must be another process, because a thread of this one that is stuck would keep a dying
test alive.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.kernel import guest
from tests.kernel.child import Child

DEVICE = Path("/dev/dynamos_target")
FIRST_VALUE = 100
"""What an object has at first."""

KEYS = range(64)
"""The objects that tests make; whoever makes others ends them."""

_LINE_BYTES = 128

# printf and read are the shell's own: the pid that makes the call is the shell's.
_CALL = 'exec 3<>"$1" && printf %s "$2" >&3 && read -r line <&3 && printf "%s\\n" "$line"'


def _parse(line: str) -> dict[str, int]:
    return {key: int(value) for key, _, value in (word.partition("=") for word in line.split())}


class Target:
    """Makes calls, each in the thread that asks for it. It holds nothing open in between."""

    def run(self, command: str) -> dict[str, int]:
        """Carry out one command, and give its result.

        Raises:
            OSError: the command's answer, when it is no.
        """
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, command.encode())
            return _parse(os.read(fd, _LINE_BYTES).decode())
        finally:
            os.close(fd)

    def result(self, command: str) -> int:
        """Carry out one command that has one result."""
        return self.run(command)["result"]

    def waiting(self) -> int:
        """How many calls are asleep in `target_block`."""
        return self.result("waiting")


class Caller(Child):
    """Another process that carries out one command."""

    def __init__(self, command: str) -> None:
        """Start it; it may not have come to the call yet."""
        super().__init__("sh", "-c", _CALL, "caller", str(DEVICE), command)

    def wait(self) -> dict[str, int]:
        """Wait for its end, and give its result."""
        return _parse(self.output())

    def result(self) -> int:
        """Wait for its end, and give the one result that it has."""
        return self.wait()["result"]


@contextmanager
def blocked(key: int, callers: int = 1) -> Iterator[list[Caller]]:
    """Have other processes be inside `target_block`, about one object, until it is released."""
    target = Target()
    before = target.waiting()
    with ExitStack() as stack:
        inside = [stack.enter_context(Caller(f"block {key}")) for _ in range(callers)]
        guest.wait_until(
            lambda: target.waiting() == before + callers, f"{callers} callers are inside"
        )
        yield inside


def release(key: int, callers: list[Caller]) -> None:
    """Let those who are inside about an object go; returns when they have ended well."""
    Target().run(f"release {key}")
    for caller in callers:
        assert caller.result() == 0


def new(*keys: int) -> None:
    """Make objects."""
    for key in keys:
        Target().run(f"new {key}")


def free(keys: Iterable[int]) -> None:
    """End objects, those of them that there are."""
    for key in keys:
        with suppress(FileNotFoundError):
            Target().run(f"free {key}")


def parameter(module: str, name: str) -> int:
    """One of the parameters of a module, most of which count something."""
    return int(_parameter(module, name).read_text())


def parameters(module: str, *names: str) -> Mapping[str, int]:
    """Several of them."""
    return {name: parameter(module, name) for name in names}


def set_parameter(module: str, name: str, value: int) -> None:
    """Set one that may be written."""
    set_parameter_text(module, name, str(value))


def set_parameter_text(module: str, name: str, value: str) -> None:
    """Set one that is a word."""
    _parameter(module, name).write_text(value)


def _parameter(module: str, name: str) -> Path:
    return Path("/sys/module", module, "parameters", name)


def gather(*calls: Callable[[], object]) -> None:
    """Make calls in other threads, all at once; returns when the last has ended well."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for activity in [pool.submit(call) for call in calls]:
            activity.result()
