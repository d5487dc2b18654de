# SPDX-License-Identifier: GPL-2.0-or-later
"""Canaries and guardrails on the real module: a good edition, a slow one, one that fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamosd import journal
from tests.kernel import guest, target
from tests.kernel.control import Controlled
from tests.kernel.guest import (
    CORE,
    SELFTEST,
    SELFTEST_B,
    SELFTEST_FAILING,
    SELFTEST_SLOW,
    TARGET,
    wait_until,
)
from tests.kernel.target import Target
from tests.kernel.test_daemon import OK, Daemon, ctl

# What is wanted is told by parameters: of delay_us, 1 is for the edition that does no harm.
pytestmark = pytest.mark.one_kernel

POLICY = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {name: careful}
spec:
  subsystem: selftest
  mode: enforce
  interval: 500ms
  canary:
    steps:
      - {scope: "share:1/4", pause: 3s}
      - {scope: "share:1/2", pause: 3s}
  guardrails:
    - name: slower
      breach: p50("target_value") > 5.0 * baseline(p50("target_value")) + 0.001
      window: 4s
      confidence: 90%
    - name: failing
      breach: error_share("target_value") > baseline(error_share("target_value")) + 0.1
      window: 4s
      confidence: 90%
  rules:
    - {name: good, edition: b, when: 'parameter("delay_us", "slow") == 1.0'}
    - {name: slow, edition: slow, when: 'parameter("delay_us", "slow") > 1.0'}
    - {name: failing, edition: failing, when: 'parameter("errors_in", "failing") > 0.0'}
"""
WINDOW = "window: 4s\n"
DELAY_US = 5000
EVALUATIONS = 5
CALLS_AT_ONCE = "spin 4"


class Careful(Daemon):
    """One whose policy has a canary."""

    @property
    def policy_file(self) -> Path:
        """Where its policy is."""
        return self.config / "careful.yaml"

    def write_policies(self) -> None:
        """Write it."""
        self.config.mkdir()
        (self.config / "dynamosd.yaml").write_text(WINDOW)
        self.policy_file.write_text(POLICY)

    def records(self, kind: str, edition: str, key: str = "edition") -> list[dict[str, Any]]:
        """Give the journal's records of a kind that are about an edition."""
        found = journal.read(self.journal)
        return [each for each in found if each["kind"] == kind and each.get(key) == edition]

    def events(self, edition: str) -> list[tuple[str, int, str]]:
        """Give the story of an edition's canaries."""
        keys = ("event", "step", "scope")
        found = [tuple(each[key] for key in keys) for each in self.records("canary", edition)]
        return [(event, step, scope) for event, step, scope in found]

    def evaluates(self, times: int) -> None:
        """Wait until the policy was evaluated so many times more."""
        for _ in range(times):
            before = self.status()["updated"]
            wait_until(lambda: self.status()["updated"] != before, "another evaluation")  # noqa: B023 - at once


class Load:
    """Calls `target_value` until it is stopped."""

    def __init__(self) -> None:
        """Start calling in another thread."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            Target().run(CALLS_AT_ONCE)

    def stop(self) -> None:
        """Return when nothing is called any more."""
        self._stop.set()
        self._thread.join(guest.PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """The modules, and somebody who calls."""
    guest.load_all((CORE, TARGET, SELFTEST, SELFTEST_B, SELFTEST_SLOW, SELFTEST_FAILING))
    running = Load()
    yield running
    running.stop()
    guest.unload_all()


@pytest.fixture(scope="module")
def daemon(load: Load, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Careful]:
    """One for all tests: it takes a BCC compile to start."""
    del load
    with Careful(tmp_path_factory.mktemp("careful")) as running:
        yield running


@pytest.fixture
def selftest() -> Controlled:
    """The subsystem."""
    return Controlled("selftest")


def stopped_at_the_first_step(daemon: Careful, selftest: Controlled, edition: str) -> None:
    """Wait until an edition is in quarantine, and check how it came there."""
    wait_until(lambda: daemon.records("quarantine", edition), f"{edition} is in quarantine")
    wait_until(lambda: len(daemon.events(edition)) > 1, "its canary is over")
    assert (selftest.active(), selftest.partial()) == ("original", "none")
    assert daemon.events(edition) == [("started", 1, "share:1/4"), ("rolled_back", 0, "")]
    (there,) = daemon.records("switch", edition, "to")
    (back,) = daemon.records("switch", edition, "from")
    assert (there["from"], there["result"], there["partial"]) == ("original", "ok", True)
    assert (there["scope"], there["mode"]) == ("share:1/4", "scoped")
    assert (back["to"], back["result"], back["trigger"]) == ("original", "ok", "policy")
    # It had calls, and never all of them.
    assert selftest.number("target_value", edition, "calls") > 0


def is_not_chosen_again(daemon: Careful, selftest: Controlled, edition: str) -> None:
    """Check that a rule that still wants it does not get it."""
    before = selftest.switches()
    daemon.evaluates(EVALUATIONS)
    assert (selftest.active(), selftest.partial()) == ("original", "none")
    assert selftest.switches() == before
    shown = daemon.policy()
    assert (shown["phase"], shown["target"]) == ("quarantined", "original")
    found = [each["edition"] for each in daemon.status()["quarantines"]]
    assert edition in found


def test_slow_edition_is_stopped_at_the_first_step(daemon: Careful, selftest: Controlled) -> None:
    daemon.evaluates(EVALUATIONS)
    assert selftest.switches() == 0
    target.set_parameter(SELFTEST_SLOW, "delay_us", DELAY_US)
    stopped_at_the_first_step(daemon, selftest, "slow")
    (begun,) = daemon.records("quarantine", "slow")
    assert (begun["result"], begun["guardrail"], begun["count"]) == ("begun", "slower", 1)
    assert begun["seconds"] == 3600.0
    assert 'p50("target_value", "slow")' in begun["reason"]
    verdicts = [each["verdict"] for each in daemon.records("guardrail", "slow")]
    assert "breached" in verdicts
    is_not_chosen_again(daemon, selftest, "slow")
    target.set_parameter(SELFTEST_SLOW, "delay_us", 0)


def test_failing_edition_is_stopped_at_the_first_step(
    daemon: Careful, selftest: Controlled
) -> None:
    target.set_parameter(SELFTEST_FAILING, "errors_in", 1)
    stopped_at_the_first_step(daemon, selftest, "failing")
    (begun,) = daemon.records("quarantine", "failing")
    assert (begun["result"], begun["guardrail"]) == ("begun", "failing")
    assert 'error_share("target_value", "failing") = 1' in begun["reason"]
    is_not_chosen_again(daemon, selftest, "failing")
    shown = daemon.ask("status").stdout
    assert "failing: in quarantine until" in shown
    assert "slow: in quarantine until" in shown
    target.set_parameter(SELFTEST_FAILING, "errors_in", 0)


def test_person_clears_and_the_next_quarantine_is_longer(
    daemon: Careful, selftest: Controlled
) -> None:
    cleared = daemon.ask("edition", "clear", "selftest", "failing")
    assert (cleared.returncode, cleared.stderr) == (OK, "")
    target.set_parameter(SELFTEST_FAILING, "errors_in", 1)
    wait_until(lambda: len(daemon.events("failing")) == 4, "it is tried, and stopped again")
    wait_until(lambda: len(daemon.records("quarantine", "failing")) == 3, "another quarantine")
    results = [
        (each["result"], each["seconds"]) for each in daemon.records("quarantine", "failing")
    ]
    assert results == [("begun", 3600.0), ("cleared", 3600.0), ("begun", 7200.0)]
    target.set_parameter(SELFTEST_FAILING, "errors_in", 0)
    assert selftest.active() == "original"


def test_good_edition_gets_all_calls_step_by_step(daemon: Careful, selftest: Controlled) -> None:
    target.set_parameter(SELFTEST_SLOW, "delay_us", 1)
    wait_until(lambda: selftest.active() == "b", "all calls have it")
    wait_until(lambda: len(daemon.events("b")) == 3, "that is told")
    assert daemon.events("b") == [
        ("started", 1, "share:1/4"),
        ("stepped", 2, "share:1/2"),
        ("completed", 0, ""),
    ]
    # The guardrails go on, with what is remembered of the baseline.
    wait_until(
        lambda: (
            {each["verdict"] for each in (daemon.policy()["guarded"] or {})["guardrails"].values()}
            == {"passed"}
        ),
        "it is still found good",
    )
    target.set_parameter(SELFTEST_SLOW, "delay_us", 0)
    wait_until(lambda: selftest.active() == "original", "back when nothing wants it")
    assert daemon.records("quarantine", "b") == []


def test_canary_that_goes_on_ends_with_the_daemon_and_is_replayed(
    daemon: Careful, selftest: Controlled
) -> None:
    target.set_parameter(SELFTEST_SLOW, "delay_us", 1)
    wait_until(lambda: selftest.partial() == "b", "a canary goes on")
    assert daemon.stop() == OK
    assert (selftest.active(), selftest.partial()) == ("original", "none")
    replayed = ctl("replay", str(daemon.policy_file), str(daemon.journal.parent / "recordings"))
    assert (replayed.returncode, replayed.stderr) == (OK, "")
    assert "original -> slow for share:1/4" in replayed.stdout
    assert "slow -> original" in replayed.stdout
