# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that lives through some minutes of made-up work, on a clock of ours; then we look."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dynamosd.api.documents import View
from dynamosd.api.handler import Shown
from dynamosd.api.server import ApiServer
from dynamosd.config import Config
from dynamosd.daemon import Daemon, World, read_policies
from dynamosd.journal import rfc3339
from dynamosd.journald import Journald
from dynamosd.orders import Orders, Pause, Person
from dynamosd.policy.names import names_of
from dynamosd.requests import Asker, Inbox
from dynamosd.service import Service
from dynamosd.testing import FakeModule, FakeProbe, ManualClock

ORDER, WRITE = "page_cache_ra_order", "pipe_write"

_READAHEAD = Path(__file__).parents[2] / "policies/readahead.yaml"
_PIPE = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {name: pipe-storm}
spec:
  subsystem: pipe
  mode: advise
  interval: 5s
  rules:
    - {name: storm, edition: batched, when: 'calls_rate("pipe_write") > 500.0', for: 10s}
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What the programs do until a time: calls a second, and which share of them is sequential."""

    until: float
    calls: int
    sequential: float


_WORK = (
    Work(0.10, 90, 0.1),
    Work(0.32, 140, 0.02),
    Work(0.40, 1, 0.5),
    Work(0.66, 60, 0.97),
    Work(0.72, 30, 0.5),
    Work(0.90, 170, 0.03),
    Work(1.00, 80, 0.95),
)
"""Times are shares of the whole."""


class Hour:
    """A daemon's hour, or less of it. It is over now; ``view`` is what its last tick left."""

    def __init__(self, folder: Path, seconds: int = 3600) -> None:
        """Let it go by; that takes some seconds."""
        self.seconds = seconds
        folder.mkdir(exist_ok=True)
        self.module = _module(folder / "module")
        self.probe = FakeProbe(kmod=self.module.kmod)
        self._proc = folder / "proc"
        (self._proc / "pressure").mkdir(parents=True)
        self._host(0)
        self.clock = ManualClock(0.0, wall=time.time() - seconds)
        self.settings = _settings(folder)
        self._pause()
        kernel = self.module.kmod.read()
        world = World(
            lambda _line: None,
            self.module.kmod,
            lambda: self.probe,
            self.clock,
            folder / "proc",
            journald=Journald(),
            service=Service(),
        )
        policies = read_policies(self.settings, names_of(kernel), world.say)
        daemon = Daemon(self.settings, world, policies, kernel)
        daemon.attach()
        for second in range(seconds):
            self.clock.at(second + 0.5, lambda now=second: self._work(now))  # type: ignore[misc]
        self.clock.at(0.70 * seconds, lambda: self.module.trip("readahead", "streaming", "warn"))
        self.clock.at(0.50 * seconds, lambda: self.module.kmod.switch("pipe", "batched"))
        self.clock.at(0.56 * seconds, lambda: self.module.kmod.switch("pipe", "original"))
        pin: dict[str, object] = {"command": "pin", "subsystem": "pipe", "edition": "original"}
        pin |= {"for": 9e4, "reason": "not tonight"}
        self.clock.at(0.60 * seconds, lambda: daemon.inbox.put(Asker(0, 1, 1000), pin))
        self.view = daemon.view
        self.clock.at(seconds + 0.25, lambda: self._end(daemon))
        daemon.run()

    def _end(self, daemon: Daemon) -> None:
        self.view = daemon.view
        daemon.request_stop()

    def _pause(self) -> None:
        orders = Orders(self.settings.orders, lambda _line: None)
        begin = self.clock.wall()
        pause = Pause("pipe-storm", "", begin, begin + 9e4, "the backup runs", Person(0, 1000))
        orders.pauses[pause.scope] = pause
        orders.save()

    def _work(self, now: int) -> None:
        work = next(each for each in _WORK if now < each.until * self.seconds)
        calls = int(work.calls * (1.0 + 0.2 * math.sin(now / 17) + 0.1 * math.sin(now / 3)))
        active = self.module.kmod.read_active("readahead") or ""
        self.module.call("readahead", ORDER, calls)
        key = ("readahead", ORDER, active)
        before = self.probe.figures.get(key, (0, 0))
        found = (before[0] + round(calls * work.sequential), before[1] + calls)
        self.probe.figures[key] = found
        self.module.call("pipe", WRITE, int(700 + 400 * math.sin(now / 300)))
        self._host(now)

    def _host(self, now: int) -> None:
        """Write what the kernel says of the machine."""
        busy = int(25 * now + 600 * math.sin(now / 40))
        (self._proc / "stat").write_text(
            f"cpu {1000 + busy} 0 0 {9000 + 100 * now - busy} 0 0 0 0\n"
        )
        available = int(600 + 200 * math.cos(now / 500))
        memory = f"MemTotal: 1000 kB\nMemAvailable: {available} kB\n"
        (self._proc / "meminfo").write_text(memory)
        for name, share in (("cpu", 0.05), ("io", 0.2), ("memory", 0.0)):
            total = int(1e6 * share * (now + 20 * math.sin(now / 60)))
            lines = [
                f"{kind} avg10=0 avg60=0 avg300=0 total={total}\n" for kind in ("some", "full")
            ]
            (self._proc / "pressure" / name).write_text("".join(lines))

    # ------------------------------------------------------------------------------- the server

    def live(self) -> View:
        """Give the view of a loop that ticks: it was there a moment ago."""
        found = json.loads(self.view.status)
        return dataclasses.replace(
            self.view, status=json.dumps({**found, "updated": rfc3339(time.time())})
        )

    @contextlib.contextmanager
    def served(self, folder: Path, view: Callable[[], View] | None = None) -> Iterator[ApiServer]:
        """Serve it."""
        shown = Shown(lambda: b"", lambda: True, view or self.live)
        server = ApiServer(("127.0.0.1", 0), folder, shown, Inbox())
        try:
            yield server
        finally:
            server.close()


def _module(folder: Path) -> FakeModule:
    made = FakeModule(folder)
    made.insert()
    made.register("readahead", [ORDER])
    made.load("readahead", "random", [ORDER])
    made.load("readahead", "streaming", [ORDER])
    made.register("pipe", [WRITE, "pipe_read"])
    made.load("pipe", "batched", [WRITE])
    return made


def _settings(folder: Path) -> Config:
    for name in ("config", "run", "state"):
        (folder / name).mkdir()
    policy = _READAHEAD.read_text().replace("interval: 500ms", "interval: 1s")
    (folder / "config/readahead.yaml").write_text(policy)
    (folder / "config/pipe-storm.yaml").write_text(_PIPE)
    return Config(
        folder / "config",
        ("127.0.0.1", 0),
        folder / "state/journal.jsonl",
        folder / "run",
        window_seconds=2.0,
        vendor_policies=folder / "none",
    )
