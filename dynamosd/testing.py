# SPDX-License-Identifier: GPL-2.0-or-later
"""Fakes for tests: the module over a folder, probes, and a clock that is moved by hand.

`FakeModule` keeps all its state in files, as the real one shows it, so that several processes
can use one folder. It stands in for ``/sys/kernel/dynamos`` and ``/dev/dynamos`` of docs/abi.md.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.errors import Unreachable
from dynamosd.kmod import CommandFailed, Kmod
from dynamosd.model import ORIGINAL, FunctionSample, ProbeCost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dynamosd.model import Counts, KernelState

Key = tuple[str, str, str]
"""(subsystem, function, edition)."""

COMMAND_MAX = 255
UNSUPPORTED_MODES = frozenset({"exclusive", "per-object", "scoped"})


class FakeModule:
    """The kernel module, as far as its files go."""

    def __init__(self, folder: Path | str) -> None:
        """Use what is in ``folder``; an empty one is a module that is not loaded."""
        self._folder = Path(folder)
        self.sysfs = self._folder / "sysfs"
        self.device = self._folder / "device"
        self.kmod = Kmod(self.sysfs, self.device, port=self)

    # ------------------------------------------------------------------- what the kernel does

    def insert(self, version: str = "0.1.0") -> None:
        """Load the module itself."""
        _put(self.sysfs / "version", version)
        _put(self.device, "")

    def remove(self) -> None:
        """Take the module out, whatever it holds."""
        shutil.rmtree(self.sysfs)
        self.device.unlink()

    def register(self, subsystem: str, functions: Iterable[str]) -> None:
        """Add a subsystem with its original edition."""
        folder = self.sysfs / subsystem
        first = 1 + len(list(self.sysfs.glob("*/functions/*")))
        for number, function in enumerate(functions, first):
            _put(folder / "functions" / function / "id", number)
            _put(folder / "functions" / function / "backend", "none")
        _put(folder / "mode", "concurrent")
        _put(folder / "switches", 0)
        _put(folder / "active", ORIGINAL)
        self.load(subsystem, ORIGINAL)

    def load(self, subsystem: str, edition: str, functions: Iterable[str] | None = None) -> None:
        """Add an edition of ``functions`` (all of them); the second one installs the gates."""
        folder = self.sysfs / subsystem
        editions = folder / "editions"
        taken = {int(path.read_text()) for path in editions.glob("*/index")}
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        _put(editions / edition / "index", index)
        _put(editions / edition / "module", f"dynamos_{subsystem}")
        _put(editions / edition / "state", "active" if edition == ORIGINAL else "idle")
        names = functions or [path.name for path in (folder / "functions").iterdir()]
        for function in names:
            _put(folder / "functions" / function / edition / "calls", 0)
            _put(folder / "functions" / function / edition / "in_flight", 0)
            _put(folder / "functions" / function / "backend", "direct" if index else "none")

    def unload(self, subsystem: str, edition: str) -> None:
        """Take an edition out; raises `OSError` with EBUSY while it is active or in flight."""
        folder = self.sysfs / subsystem / "editions" / edition
        if (folder / "state").read_text().strip() != "idle":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        shutil.rmtree(folder)
        for counts in (self.sysfs / subsystem / "functions").glob(f"*/{edition}"):
            shutil.rmtree(counts)

    def call(self, subsystem: str, function: str, times: int = 1, *, blocked: int = 0) -> None:
        """Let ``times`` calls run through, and ``blocked`` more enter and stay."""
        folder = self.sysfs / subsystem / "functions" / function
        active = self.sysfs / subsystem / "active"
        edition = folder / active.read_text().strip()
        if not edition.exists():
            edition = folder / ORIGINAL
        _add(edition / "calls", times + blocked)
        _add(edition / "in_flight", blocked)

    # ------------------------------------------------------------------- what the device does

    def command(self, line: str) -> None:
        """Carry a command out as the module would, with its errnos and events."""
        if not self.device.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.device))
        if len(line) > COMMAND_MAX:
            raise CommandFailed(errno.E2BIG, "")
        try:
            self._command(line.split())
        except CommandFailed as failure:
            text = f'command="{line}" by={os.getpid()} errno={failure.number}'
            self._emit("refused", f'{text} reason="{failure.reason}"')
            raise

    def _command(self, words: list[str]) -> None:
        if len(words) < 3 or words[0] != "switch":  # noqa: PLR2004 - switch SUBSYSTEM EDITION
            raise CommandFailed(errno.EINVAL, "switch needs a subsystem and an edition")
        for option in words[3:]:
            mode = option.removeprefix("mode=")
            if mode in UNSUPPORTED_MODES:
                reason = f"mode {mode} is not supported by this version"
                raise CommandFailed(errno.EOPNOTSUPP, reason)
            if option != "mode=concurrent":
                raise CommandFailed(errno.EINVAL, f"unknown option {option}")
        self._switch(words[1], words[2])

    def _switch(self, subsystem: str, edition: str) -> None:
        folder = self.sysfs / subsystem
        if not folder.is_dir():
            raise CommandFailed(errno.ENOENT, f"there is no subsystem {subsystem}")
        if not (folder / "editions" / edition).is_dir():
            reason = f"subsystem {subsystem} has no edition {edition}"
            raise CommandFailed(errno.ENXIO, reason)
        origin = (folder / "active").read_text().strip()
        if origin == edition:
            return
        _put(folder / "active", edition)
        _put(folder / "editions" / edition / "state", "active")
        busy = any(int(path.read_text()) for path in folder.glob(f"functions/*/{origin}/in_flight"))
        _put(folder / "editions" / origin / "state", "draining" if busy else "idle")
        _add(folder / "switches", 1)
        text = f"subsystem={subsystem} from={origin} to={edition} mode=concurrent"
        self._emit("switched", f"{text} by={os.getpid()}")

    def _emit(self, name: str, fields: str) -> None:
        seq = 1 + len(self.device.read_text().splitlines())
        with self.device.open("a") as device:
            device.write(f"seq={seq} time={seq}.000000000 event={name} {fields}\n")


def _put(path: Path, value: object) -> None:
    """Replace a value at once, as a reader of sysfs sees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(f"{value}\n" if value != "" else "")
    new.replace(path)


def _add(path: Path, number: int) -> None:
    _put(path, int(path.read_text()) + number)


@dataclass
class FakeProbe:
    """Probes that see what the module counts, but for ``lost`` calls.

    ``figures`` gives the sequential and the classified calls of a (subsystem, function, edition).
    ``between`` runs after each reading: calls that come while a sample is taken.
    """

    lost: dict[Key, int] = field(default_factory=dict)
    figures: dict[Key, tuple[int, int]] = field(default_factory=dict)
    between: Callable[[], object] = lambda: None
    kmod: Kmod | None = None
    watched: list[KernelState] = field(default_factory=list)
    closed: bool = False

    def watch(self, state: KernelState) -> None:
        """Note what there is."""
        self.watched.append(state)

    def read(self, state: KernelState) -> Mapping[Key, FunctionSample]:
        """Count what the module counts at this moment."""
        if self.closed:
            raise Unreachable("the probe is closed")
        now = self.kmod.read() if self.kmod else state
        figures = {
            key: FunctionSample(
                counts.calls - self.lost.get(key, 0),
                counts.calls - counts.in_flight - self.lost.get(key, 0),
                *self.figures.get(key, (0, 0)),
            )
            for key, counts in _counts(now)
        }
        self.between()
        return figures

    def cost(self) -> ProbeCost:
        """Cost something."""
        return ProbeCost(runs=10, run_seconds=0.5, missed=0)

    def dropped(self) -> int:
        """Drop nothing."""
        return 0

    def close(self) -> None:
        """Detach."""
        self.closed = True


def _counts(state: KernelState) -> Iterator[tuple[Key, Counts]]:
    for subsystem in state.subsystems.values():
        for function in subsystem.functions.values():
            for edition, counts in function.counts.items():
                yield (subsystem.name, function.name, edition), counts


class ManualClock:
    """A clock that stands still until something waits; then it is the time waited for.

    ``at`` lets things happen while the loop waits: ``clock.at(3.0, module.remove)``.
    """

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        """Start at ``now`` seconds, which is ``wall`` seconds of the Unix epoch."""
        self._now = now
        self._wall = wall - now
        self._woken = False
        self._plans: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        """Give seconds of CLOCK_MONOTONIC."""
        return self._now

    def wall(self) -> float:
        """Give seconds of the Unix epoch."""
        return self._wall + self._now

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Let ``action`` happen when the clock gets to ``time``."""
        self._plans.append((time, action))
        self._plans.sort(key=lambda plan: plan[0])

    def advance(self, seconds: float) -> None:
        """Let time pass, and what was planned in it happen."""
        self._pass_until(self._now + seconds, wakes=False)

    def wait_until(self, deadline: float) -> None:
        """Be there at once, unless something wakes us on the way."""
        self._pass_until(deadline, wakes=True)

    def wake(self) -> None:
        """End the wait; the next one too, if none is going on."""
        self._woken = True

    def _pass_until(self, deadline: float, *, wakes: bool) -> None:
        while self._plans and self._plans[0][0] <= deadline and not (wakes and self._woken):
            time, action = self._plans.pop(0)
            self._now = max(self._now, time)
            action()
        if wakes and self._woken:
            self._woken = False
        else:
            self._now = max(self._now, deadline)
