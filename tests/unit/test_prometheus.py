# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Prometheus scrapes a daemon: what monitoring/ asks for has answers, and alerts fire."""

from __future__ import annotations

import contextlib
import http.client
import math
import shutil
import socket
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from dynamosd import cli
from dynamosd.testing import FakeHost
from tests.unit.build import write_policy
from tests.unit.prometheus import Prometheus, of_dashboard
from tests.unit.test_main import Running, wait_for
from tests.unit.test_monitoring import ALERTS, RECORDED, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dynamosd.testing import FakeModule

ORDER = "page_cache_ra_order"
WRITE = "pipe_write"

GUARDRAIL = f"""\
  guardrails:
    - name: crowded
      breach: in_flight("{ORDER}") > 100.0 || p99("{ORDER}") > 10.0
      window: 100ms
"""

CANARY = """\
  canary:
    steps:
      - {scope: "share:1/100", pause: 1h}
  guardrails:
    - name: failing
      breach: error_share("pipe_write") > 0.5
"""

OBJECTIVE = f"""\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{name: learning}}
spec:
  subsystem: readahead
  mode: advise
  interval: 100ms
  objective:
    maximize: calls_rate("{ORDER}")
    editions: [original, random]
    trial: 1s
    settle: 300ms
"""

ONLY_IN_TROUBLE = {"dynamos_left_out_series"}
"""Metrics that alerts ask for and that nothing in the scenario has: its functions are few."""


@pytest.fixture
def ports() -> Iterator[Callable[[], int]]:
    """Give ports that nobody gets by chance meanwhile: who asks for one by its number does."""
    with contextlib.ExitStack() as stack:

        def reserve() -> int:
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("127.0.0.1", 0))
            return int(made.getsockname()[1])

        yield reserve


class Scenario(Running):
    """A daemon with policies of every kind, and what happens to it."""

    def __init__(self, folder: Path, module: FakeModule, port: int) -> None:
        """Have two subsystems; calls come while the context of `calls` lasts."""
        super().__init__(folder, module)
        module.register("pipe", [WRITE])
        module.load("pipe", "batched")
        self.host = FakeHost(folder / "proc")
        self.port = port
        self.lock = threading.Lock()
        self.arguments[-1] = f"127.0.0.1:{self.port}"

    def write_policies(self, prometheus: int) -> None:
        """Write a policy for each thing that has metrics of its own."""
        write_policy(self.config, interval="100ms", more=GUARDRAIL)
        busy = f'calls_rate("{WRITE}") > 1.0'
        pipe = {"subsystem": "pipe", "edition": "batched", "interval": "100ms"}
        write_policy(self.config, name="slowly", when=busy, more=CANARY, **pipe)
        source = "[{name: load, prometheus: {url: 'http://127.0.0.1:%d', query: up, every: 1s}}]"
        write_policy(
            self.config,
            name="advice",
            mode="advise",
            when=f'calls_rate("{ORDER}") > 1.0 || source("load") > 5.0',
            sources=source % prometheus,
            interval="100ms",
        )
        (self.config / "learning.yaml").write_text(OBJECTIVE)

    def command(self) -> list[str]:
        """Give the command of a daemon."""
        folders = [str(self.module.sysfs.parent), str(self.host.proc)]
        return [sys.executable, "-m", "tests.unit.scenario", *folders, *self.arguments]

    @contextlib.contextmanager
    def calls(self) -> Iterator[None]:
        """Let calls come, and the host have something to do."""
        over = threading.Event()

        def work() -> None:
            busy = 0
            while not over.wait(0.05):
                busy += 1
                self.enter(ORDER, "readahead")
                self.enter(WRITE, "pipe")
                self.host.run(busy=busy * 3, idle=1000 + busy)
                self.host.stall("io", some=busy / 100)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def enter(self, function: str, subsystem: str, *, blocked: int = 0) -> None:
        """Let calls run through, and some more stay; the module's files take one at a time."""
        with self.lock:
            self.module.call(subsystem, function, 20, blocked=blocked)

    def triggers(self) -> set[object]:
        """Give who has switched, as far as the daemon knows."""
        return {each["trigger"] for each in self.records("switch")}

    def type(self, *words: str) -> int:
        """Type a command."""
        return cli.main([*words, "--runtime-dir", str(self.run)], self.module.kmod)

    def page(self) -> str:
        """Scrape it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def needs_prometheus() -> None:
    """Skip where there is none; CI has it."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")


@pytest.mark.usefixtures("needs_prometheus")
def test_what_monitoring_asks_for_has_answers(
    tmp_path: Path, module: FakeModule, ports: Callable[[], int]
) -> None:
    scenario = Scenario(tmp_path, module, ports())
    prometheus = Prometheus(tmp_path, ports(), f"127.0.0.1:{scenario.port}")
    with prometheus.run():
        scenario.write_policies(prometheus.port)
        with scenario.daemon() as daemon, scenario.calls():
            # A switch, one that somebody else makes, and one back.
            scenario.enter(ORDER, "readahead", blocked=3)
            wait_for(lambda: scenario.active() == "random", "the switch")
            assert scenario.type("pause", "storm", "--for", "1h", "--reason", "test") == 0
            module.kmod.switch("readahead", "original")
            wait_for(lambda: "manual" in scenario.triggers(), "the other one")
            assert scenario.type("resume", "storm") == 0
            assert scenario.type("pause", "advice", "--for", "1h", "--reason", "test") == 0
            wait_for(lambda: scenario.active() == "random", "the way back")
            prometheus.wait_for_data(of_dashboard())

            # One guardrail is broken, and Prometheus itself says so.
            assert "DynamosGuardrailBreached" not in prometheus.firing()
            scenario.enter(ORDER, "readahead", blocked=200)
            expected = {"DynamosGuardrailBreached", "DynamosEditionQuarantined"}
            prometheus.wait_until(lambda: expected <= prometheus.firing(), f"{expected}")
            prometheus.wait_for_data({name: name for name in RECORDED})
            check_numbers(prometheus)
            check_alerts(prometheus)
            daemon.kill()
            daemon.wait()
            prometheus.wait_until(lambda: "DynamosDown" in prometheus.firing(), "DynamosDown")


def check_numbers(prometheus: Prometheus) -> None:
    """Check that answers are numbers, and that some are those that the scenario has made."""
    for expression in (RECORDED | of_dashboard()).values():
        for sample in prometheus.query(expression):
            # A quantile of a time without calls is none.
            value = float(sample["value"][1])
            assert not math.isinf(value) or "quantile" in expression, expression
    errors = prometheus.query('dynamos:errors:ratio5m{subsystem="pipe", edition="original"}')
    assert float(errors[0]["value"][1]) == pytest.approx(0.1, rel=0.2)
    triggers = prometheus.query("count by (trigger) (dynamos_switches_total)")
    assert {"policy", "manual"} <= {each["metric"]["trigger"] for each in triggers}


def check_alerts(prometheus: Prometheus) -> None:
    """Check that every rule was evaluated, and that all that alerts look at is there."""
    groups = prometheus.ask("rules")["groups"]
    found = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert set(found) == ALERTS.keys() | RECORDED.keys()
    assert {
        name: each.get("lastError") for name, each in found.items() if each["health"] != "ok"
    } == {}
    asked = {name for rule in ALERTS.values() for name in names(rule["expr"])}
    without = {name for name in asked if not prometheus.query(f"last_over_time({name}[1h])")}
    assert without == ONLY_IN_TROUBLE


def test_many_scrape_some_hang_and_the_loop_ticks_on(
    tmp_path: Path, module: FakeModule, ports: Callable[[], int]
) -> None:
    """Fifty clients scrape without end and ten hang in mid-request, until ticks have gone on."""
    scenario = Scenario(tmp_path, module, ports())
    scenario.write_policies(ports())
    with scenario.daemon(), contextlib.ExitStack() as stack:
        hanging = [
            stack.enter_context(socket.create_connection(("127.0.0.1", scenario.port)))
            for _ in range(10)
        ]
        for each in hanging:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: x")
        over = threading.Event()
        pages: list[str] = []

        def scrape() -> None:
            while not over.is_set():
                # Who comes again before the server has seen the end of the last time may be one
                # too many, and is turned away.
                with contextlib.suppress(OSError, http.client.HTTPException):
                    pages.append(scenario.page())

        threads = [threading.Thread(target=scrape) for _ in range(50)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: pages, "a scrape")
            before = ticks(pages[0])
            wait_for(lambda: ticks(pages[-1]) > before + 20, "the ticks")
            wait_for(lambda: len(pages) > 200, "the scrapes")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert all("dynamos_build_info{" in page for page in pages)


def ticks(page: str) -> float:
    """Give how many ticks of the loop have ended, by its page."""
    return float(page.partition("\ndynamos_loop_ticks_total ")[2].split("\n")[0] or 0)
