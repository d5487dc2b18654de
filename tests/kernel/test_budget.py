# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes may cost, as the kernel measures it: over that, they are left off in steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamosd import journal
from tests.kernel import control, guest
from tests.kernel.guest import wait_until
from tests.kernel.test_daemon import Daemon, Reader

pytestmark = pytest.mark.one_kernel

POLICY = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {name: slow}
spec:
  subsystem: readahead
  mode: advise
  interval: 500ms
  rules:
    - name: slow
      edition: random
      when: p99("page_cache_ra_order") > 3600.0 && calls_rate("page_cache_ra_order") > 1.0
"""


class Frugal(Daemon):
    """One whose probes may cost next to nothing."""

    probe_budget = "0.0001%"

    def write_policies(self) -> None:
        """Have it time calls."""
        self.config.mkdir()
        (self.config / "slow.yaml").write_text(POLICY)

    def steps(self) -> list[dict[str, Any]]:
        """Give the steps that its journal has."""
        return [each for each in journal.read(self.journal) if each["kind"] == "budget"]

    def rate(self) -> float:
        """Give what it measures of calls per second; 0 while it knows none."""
        rates = [
            each["value"] or 0.0
            for each in self.status()["signals"]
            if (each["signal"], each["function"]) == ("calls_rate", "page_cache_ra_order")
        ]
        return float(max(rates, default=0.0))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Frugal]:
    """Start it, with all modules loaded."""
    guest.load_all()
    control.switch_and_drain("original")
    with Frugal(tmp_path) as running:
        yield running
    guest.unload_all()


def test_probes_that_cost_too_much_are_left_off_in_steps(daemon: Frugal, data: Path) -> None:
    reader = Reader(data, sequential=False)
    try:
        wait_until(lambda: len(daemon.steps()) > 1, "times, then probes are left off")
        wait_until(lambda: not daemon.status()["probes_attached"], "they are detached")
        # The module's counters go on.
        wait_until(lambda: daemon.rate() > 1.0, "calls are counted still")
    finally:
        reader.stop()
    assert [each["step"] for each in daemon.steps()] == ["untimed", "detached"]
    assert all(each["share"] > each["limit"] == 1e-6 for each in daemon.steps())
    assert "detached" in daemon.ask("status").stdout
    assert daemon.stop() == 0
