# SPDX-License-Identifier: GPL-2.0-or-later
"""monitoring/ on the real module: a real Prometheus scrapes a daemon that switches."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.guest import wait_until
from tests.kernel.test_daemon import OK, POLICIES, Daemon, Reader
from tests.unit.prometheus import Prometheus, of_dashboard
from tests.unit.test_monitoring import ALERTS, RECORDED

pytestmark = pytest.mark.one_kernel

PORT = 9090

ORDER = "page_cache_ra_order"

GUARDRAIL = f"""\
  guardrails:
    - name: slow
      breach: p99("{ORDER}") > 3600.0
    - name: forbidden
      breach: in_flight("{ORDER}") > 100000.0
"""

ADVICE = f"""\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{name: advice}}
spec:
  subsystem: readahead
  mode: advise
  interval: 500ms
  rules:
    - name: busy
      edition: streaming
      when: calls_rate("{ORDER}") > 1.0 && source("load") > 0.0
  sources:
    - {{name: load, prometheus: {{url: "http://127.0.0.1:{PORT}", query: count(up), every: 1s}}}}
  canary:
    steps:
      - {{scope: "share:1/100", pause: 1h}}
  guardrails:
    - name: slow
      breach: p99("{ORDER}") > 3600.0
"""

ONLY_AFTER_TROUBLE = {"dynamos:guardrail_breaches:increase15m"}
"""What has no data as long as no guardrail is broken."""


DRAINS = "dynamos_drain_duration_seconds_count"


class Watched(Daemon):
    """One with policies that have everything that there are metrics of."""

    def write_policies(self) -> None:
        """Write them."""
        self.config.mkdir()
        for name, more in (("readahead", GUARDRAIL), ("readahead-objective", "")):
            text = (POLICIES / f"{name}.yaml").read_text()
            (self.config / f"{name}.yaml").write_text(text + more)
        (self.config / "advice.yaml").write_text(ADVICE)


def metric(name: str) -> float:
    """Give the sum of a metric of the daemon's page."""
    with urllib.request.urlopen("http://127.0.0.1:9947/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_every_panel_and_rule_has_data_while_the_kernel_is_switched(
    modules: None, data: Path, tmp_path: Path
) -> None:
    del modules
    prometheus = Prometheus(tmp_path, PORT, "127.0.0.1:9947", "2s", guest.PATIENCE)
    with prometheus.run(), Watched(tmp_path) as daemon:
        reader = Reader(data, sequential=False)
        try:
            wait_until(lambda: control.active() == "random", "the switch", guest.PATIENCE)
            # The module's own events tell how long what was left has taken to drain.
            drained = DRAINS + '{subsystem="readahead",edition="original"}'
            wait_until(lambda: metric(drained) >= 1.0, "the drain", guest.PATIENCE)
            assert daemon.ask("pause", "readahead").returncode == OK
            wait = {name: name for name in RECORDED.keys() - ONLY_AFTER_TROUBLE}
            prometheus.wait_for_data(of_dashboard() | wait)
        finally:
            reader.stop()
        check_rules(prometheus)
        assert metric("dynamos_events_lost_total") == 0.0
        assert metric("dynamos_subsystem_switches_total") == control.switches()
        assert daemon.stop() == OK
        prometheus.wait_until(lambda: "DynamosDown" in prometheus.firing(), "DynamosDown")


def check_rules(prometheus: Prometheus) -> None:
    """Check that Prometheus could evaluate each, and that nothing critical is the matter."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {each["name"] for each in rules} == ALERTS.keys() | RECORDED.keys()
    assert [each["name"] for each in rules if each["health"] != "ok"] == []
    critical = {name for name, rule in ALERTS.items() if rule["labels"]["severity"] == "critical"}
    # An emulated machine may stand still for so long that its loop does, too.
    assert prometheus.firing() & critical <= {"DynamosLoopStalled"}
