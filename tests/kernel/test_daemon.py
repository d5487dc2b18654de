# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs as a user runs them, on the real module: dynamosd and dynamosctl."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from dynamosd import cli, journal, status
from tests.kernel import control, guest
from tests.kernel.block import Block
from tests.kernel.guest import wait_until

pytestmark = pytest.mark.one_kernel

POLICIES = Path(__file__).resolve().parents[2] / "policies"
METRICS = "http://127.0.0.1:9947/metrics"
READY = "http://127.0.0.1:9947/-/ready"
GRACE = "1s"
NOBODY = 65534
PAGE = 4096

OK, INVALID, USAGE, WARNED, NOT_SUPPORTED, UNREACHABLE, REFUSED = 0, 1, 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    returncode: int
    stdout: str
    stderr: str


def ctl(*argv: str) -> Done:
    """Run dynamosctl, in this process: starting Python takes seconds in an emulated machine."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(argv)
    return Done(code, out.getvalue(), err.getvalue())


def run_daemon(config: Path, runtime: Path) -> subprocess.CompletedProcess[str]:
    """Run a dynamosd that is expected to end at once."""
    command = ["dynamosd", "run", "--config", str(config), "--runtime-dir", str(runtime)]
    return subprocess.run(command, capture_output=True, text=True, timeout=guest.PATIENCE)


def shipped(folder: Path, which: str = "readahead*.yaml") -> Path:
    """Put shipped policies into a folder: those for the subsystem that is loaded here."""
    folder.mkdir()
    for policy in POLICIES.glob(which):
        shutil.copy(policy, folder)
    return folder


def one_line(text: str) -> str:
    """Give the error line of a program; there must be one, and no traceback."""
    lines = [line for line in text.splitlines() if "error:" in line]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


class Daemon(Block):
    """A running dynamosd, with its own settings and journal; killed if it outlives its block."""

    probe_budget = "100%"
    """An emulated CPU takes a hundred times as long for a probe: nothing is left off for that."""

    def __init__(self, folder: Path) -> None:
        """Start it, and wait until it is ready (a BCC compile)."""
        self.config = folder / "config"
        self.runtime = folder / "run"
        self.journal = folder / "journal.jsonl"
        self.log = folder / "log"
        self.write_policies()
        command = ["dynamosd", "run", "--config", str(self.config)]
        command += ["--journal", str(self.journal), "--runtime-dir", str(self.runtime)]
        command += ["--probe-budget", self.probe_budget]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_until(self._is_ready, "dynamosd is ready", 4 * guest.PATIENCE)

    def write_policies(self) -> None:
        """Give it the shipped ones, with a grace that a test can wait for."""
        shipped(self.config)
        policy = self.config / "readahead.yaml"
        loss = f"onDaemonLoss: {{action: baseline, grace: {GRACE}}}"
        policy.write_text(
            policy.read_text().replace("mode: enforce\n", f"mode: enforce\n  {loss}\n")
        )

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(READY) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def said(self, text: str) -> bool:
        """Tell whether it has written that to stderr."""
        return text in self.log.read_text()

    def ask(self, *words: str) -> Done:
        """Run dynamosctl for it."""
        return ctl(*words, "--runtime-dir", str(self.runtime))

    def status(self) -> dict[str, Any]:
        """Give its status."""
        shown = status.read(self.runtime)
        assert shown is not None, self.log.read_text()
        return shown

    def policy(self) -> dict[str, Any]:
        """Give what its status says of its first policy."""
        policy: dict[str, Any] = self.status()["policies"][0]
        return policy

    def end(self) -> None:
        """Kill it, unless it has gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """Ask it to leave; give its exit status."""
        self.process.terminate()
        return self.process.wait(guest.PATIENCE)


class Reader:
    """Reads one page after the other through a new mapping, until it is stopped."""

    def __init__(self, data: Path, *, sequential: bool) -> None:
        """Start reading in another thread."""
        self._data, self._sequential = data, sequential
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pages = self._data.stat().st_size // PAGE
        chance = random.Random(7)  # noqa: S311 (only to jump about)
        while not self._stop.is_set():
            guest.evict(self._data)
            if self._sequential:
                offsets = [page * PAGE for page in range(pages)]
            else:
                offsets = [chance.randrange(pages) * PAGE for _ in range(pages // 8)]
            for start in range(0, len(offsets), 64):
                if self._stop.is_set():
                    return
                guest.map_bytes(self._data, offsets[start : start + 64])
                # Slow enough for the machine to do other things than this.
                time.sleep(0.02)

    def stop(self) -> None:
        """Return when nothing is read any more."""
        self._stop.set()
        self._thread.join(guest.PATIENCE)


@pytest.fixture(scope="module")
def loaded() -> Iterator[None]:
    """All modules, for all tests of this file that need them."""
    guest.load_all()
    control.switch_and_drain("original")
    yield
    guest.unload_all()


@pytest.fixture(scope="module")
def daemon(loaded: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for many tests: it takes a BCC compile to start."""
    del loaded
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture
def module_absent() -> Iterator[None]:
    """None of our modules is loaded; afterwards all are again."""
    guest.unload_all()
    yield
    guest.load_all()


@pytest.mark.usefixtures("loaded")
def test_wrong_names_leave_the_kernel_untouched() -> None:
    before = control.switches()
    wrong = ctl("switch", "readahead", "bogus")
    assert (wrong.returncode, "bogus" in one_line(wrong.stderr)) == (INVALID, True)
    wrong = ctl("switch", "bogus", "original")
    assert (wrong.returncode, "bogus" in one_line(wrong.stderr)) == (INVALID, True)
    refused = ctl("switch", "readahead", "random", "--mode", "per-object")
    assert (refused.returncode, "about an object" in one_line(refused.stderr)) == (REFUSED, True)
    assert (control.switches(), control.active()) == (before, "original")


@pytest.mark.usefixtures("loaded")
def test_switching_by_hand_and_back() -> None:
    assert ctl("switch", "readahead", "random").returncode == OK
    shown = json.loads(ctl("status", "-o", "json").stdout)
    assert shown["subsystems"][0]["active"] == "random"
    refused = ctl("edition", "unload", "readahead/random")
    assert (refused.returncode, "active" in one_line(refused.stderr)) == (REFUSED, True)
    assert ctl("switch", "readahead", "original").returncode == OK
    assert control.active() == "original"


@pytest.mark.usefixtures("loaded")
def test_list_and_status_fit_a_terminal() -> None:
    for command in ("status", "list"):
        done = ctl(command)
        assert done.returncode == OK
        assert "readahead" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.usefixtures("loaded")
def test_doctor_finds_nothing_missing_here() -> None:
    done = ctl("doctor", "-o", "json")
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode in {OK, 3}, done.stdout
    assert not [one for one in findings if one["verdict"] in {"fail", "cannot"}]


@pytest.mark.usefixtures("loaded")
def test_check_and_run_know_the_names_of_the_module(tmp_path: Path) -> None:
    text = (POLICIES / "readahead.yaml").read_text()
    wrong = {
        "edition: random": "edition: randum",
        "subsystem: readahead": "subsystem: readahed",
        "keepFor: 1s": "keepfor: 1s",
        'calls_rate("page_cache_ra_order")': 'calls_rat("page_cache_ra_order")',
    }
    for number, (good, bad) in enumerate(wrong.items()):
        (tmp_path / f"wrong{number}.yaml").write_text(text.replace(good, bad, 1))
    assert ctl("check", str(shipped(tmp_path / "good"))).returncode == OK
    waits = ctl("check", str(shipped(tmp_path / "all", "*.yaml")))
    said = waits.stdout + waits.stderr
    assert (waits.returncode, said.count("warning:")) == (WARNED, 3)
    assert "pipe.yaml:" in said
    assert "reclaim.yaml:" in said
    assert "spinning.yaml:" in said
    checked = ctl("check", str(tmp_path))
    said = checked.stdout + checked.stderr
    assert checked.returncode == INVALID, said
    for number, hint in enumerate(("random", "readahead", "keepFor", "calls_rate")):
        assert f"wrong{number}.yaml:" in said
        assert f'did you mean "{hint}"' in said

    for number in range(1, len(wrong)):
        (tmp_path / f"wrong{number}.yaml").unlink()
    started = run_daemon(tmp_path, tmp_path / "run")
    assert started.returncode == INVALID
    assert "wrong0.yaml:" in started.stderr
    assert 'did you mean "random"' in started.stderr
    assert (control.active(), "Traceback" in started.stderr) == ("original", False)


@pytest.mark.usefixtures("loaded", "module_absent")
def test_a_missing_module_is_said_so(tmp_path: Path) -> None:
    for command in (["status"], ["list"], ["switch", "readahead", "original"]):
        done = ctl(*command)
        assert done.returncode == UNREACHABLE
        assert "not loaded" in one_line(done.stderr)
    started = run_daemon(POLICIES, tmp_path / "run")
    assert (started.returncode, "not loaded" in one_line(started.stderr)) == (UNREACHABLE, True)


@pytest.mark.usefixtures("loaded")
def test_someone_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    command = ["dynamosctl", "switch", "readahead", "random"]
    done = subprocess.run(
        command, capture_output=True, text=True, user=NOBODY, group=NOBODY, timeout=guest.PATIENCE
    )
    assert (done.returncode, "root" in done.stderr) == (UNREACHABLE, True)
    command = ["dynamosd", "run", "--config", str(POLICIES), "--runtime-dir", str(tmp_path)]
    started = subprocess.run(
        command, capture_output=True, text=True, user=NOBODY, group=NOBODY, timeout=guest.PATIENCE
    )
    assert (started.returncode, "root" in started.stderr) == (UNREACHABLE, True)
    assert control.active() == "original"


@pytest.mark.usefixtures("loaded")
def test_a_machine_without_bcc_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("raise ImportError('no BCC on this machine')\n")
    config = shipped(tmp_path / "config")
    command = ["dynamosd", "run", "--config", str(config), "--runtime-dir", str(tmp_path / "r")]
    started = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=guest.PATIENCE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert started.returncode == NOT_SUPPORTED
    assert "python3-bpfcc" in started.stderr


def test_a_second_daemon_is_refused(daemon: Daemon) -> None:
    second = run_daemon(daemon.config, daemon.runtime)
    assert second.returncode == REFUSED
    assert str(daemon.process.pid) in one_line(second.stderr)


def made_by(daemon: Daemon) -> list[journal.Record]:
    """Give the switches that the daemon's policy has made, from its journal."""
    records = journal.read(daemon.journal)
    return [one for one in records if one["kind"] == "switch" and one["trigger"] == "policy"]


def test_it_follows_the_workload_and_goes_back(daemon: Daemon, disk: Path, data: Path) -> None:
    large = disk / "large"
    with large.open("wb") as file:
        for _ in range(4):
            file.write(data.read_bytes())
    reader = Reader(large, sequential=False)
    wait_until(lambda: control.active() == "random", "random while files are read at random")
    reader.stop()
    reader = Reader(large, sequential=True)
    wait_until(lambda: control.active() == "streaming", "streaming while files are read on and on")
    reader.stop()
    wait_until(lambda: control.active() == "original", "original when nothing is read")
    large.unlink()
    # The module has switched before the daemon has written that it did.
    expected = {"random", "streaming", "original"}
    wait_until(lambda: expected <= {one["to"] for one in made_by(daemon)}, "the journal has all")
    assert all(one["result"] == "ok" and one["reason"] for one in made_by(daemon))


def parse(text: str) -> list[Sample]:
    """Take a page of metrics apart."""
    return [one for family in text_string_to_metric_families(text) for one in family.samples]


def scrape() -> str:
    """Do what Prometheus does."""
    with urllib.request.urlopen(METRICS) as answer:
        return str(answer.read().decode())


def active_by_metrics() -> str:
    """Give the active edition as the metrics have it; it is the only one."""
    name = "dynamos_edition_active"
    (found,) = [one for one in parse(scrape()) if one.name == name and one.value == 1]
    return found.labels["edition"]


def test_metrics_are_clean_and_agree_with_the_module(daemon: Daemon) -> None:
    text = scrape()
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (lint.returncode, lint.stdout + lint.stderr) == (OK, "")
    wait_until(lambda: active_by_metrics() == control.active(), "the metrics follow the module")
    samples = parse(text)
    assert [one.value for one in samples if one.name == "dynamos_probe_mismatches_total"] == [0]
    assert sum(one.value for one in samples if one.name == "dynamos_switches_total")
    assert daemon.process.poll() is None


def test_a_reload_with_a_typo_keeps_the_last_good_policies(daemon: Daemon) -> None:
    policy = daemon.config / "readahead.yaml"
    good = policy.read_text()
    policy.write_text(good.replace("interval:", "intervall:"))
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.said("intervall"), "the typo is told")
    wait_until(lambda: daemon.said("last good"), "the last good ones stay")
    policy.write_text(good)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.said("policies read again"), "the good policy is read")
    assert daemon.process.poll() is None


def stands_still(daemon: Daemon, edition: str) -> bool:
    """Stop the daemon, unless it has no lease now, or another edition is active: it may go on."""
    daemon.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED)
    lease = (control.READAHEAD / "lease").read_text()
    if (control.active(), lease) == (edition, "held\n"):
        return True
    daemon.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    return False


def verified(daemon: Daemon) -> dict[str, dict[str, str]]:
    """Have the kernel compared with what the daemon wants; give what is not ok, by its name."""
    done = daemon.ask("verify", "-o", "json")
    assert done.returncode in {OK, 1, 3}, done.stderr
    findings = json.loads(done.stdout)["findings"]
    bad = {each["name"]: each for each in findings if each["verdict"] != "ok"}
    assert (done.returncode == OK) == (not bad)
    return bad


def test_verify_agrees_with_the_kernel(daemon: Daemon, data: Path) -> None:
    wait_until(lambda: not verified(daemon), "all agrees")
    shown = " ".join(daemon.ask("verify", "readahead").stdout.split())
    for function in guest.FUNCTIONS:
        assert f"{function} (direct)" in shown
    reader = Reader(data, sequential=False)
    wait_until(lambda: control.active() == "random", "random is active")
    wait_until(lambda: not verified(daemon), "all agrees again")
    wait_until(lambda: made_by(daemon)[-1]["to"] == "random", "the journal has the switch")
    shown = " ".join(daemon.ask("show", "readahead").stdout.split())
    told = " ".join(daemon.ask("history", "--kind", "switch").stdout.split())
    reader.stop()
    assert "readahead: random is active" in shown
    assert "(policy readahead, rule " in shown
    assert f"lease held by pid {daemon.process.pid}" in shown
    assert "-> random (policy readahead, rule " in told
    wait_until(lambda: control.active() == "original", "original when nothing is read")


def test_verify_tells_what_was_done_behind_the_daemons_back(daemon: Daemon) -> None:
    assert daemon.ask("pause", "--reason", "a test").returncode == OK
    control.switch("streaming")
    wait_until(lambda: "edition" in verified(daemon), "the switch by hand is told")
    differs = verified(daemon)["edition"]
    assert differs["verdict"] == "differs"
    assert "streaming is active; policy readahead wants original: all pol" in differs["seen"]
    assert "dynamosctl resume" in differs["remedy"]
    assert daemon.ask("verify").returncode == INVALID
    assert "(by hand)" in daemon.ask("show", "readahead").stdout
    assert daemon.ask("resume").returncode == OK
    wait_until(lambda: control.active() == "original", "the policy has its way")
    wait_until(lambda: not verified(daemon), "all agrees")


def test_verify_tells_when_an_edition_or_all_gates_are_gone(daemon: Daemon) -> None:
    assert daemon.ask("pause", "--reason", "a test").returncode == OK
    guest.remove_when_free(guest.RANDOM)
    found = verified(daemon)
    assert "random is not loaded; policy readahead may want it" in found["editions"]["seen"]
    assert "edition load readahead/random" in found["editions"]["remedy"]
    assert "gates" not in found
    guest.remove_when_free(guest.STREAMING)
    found = verified(daemon)
    # With the last edition the gates go too, and the module says so.
    assert guest.gated_functions() == []
    assert "gates" not in found
    guest.load_all()
    assert daemon.ask("resume").returncode == OK
    wait_until(lambda: not verified(daemon), "all agrees")


def test_verify_tells_when_the_daemon_stands_still(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: "daemon" in verified(daemon), "it is seen to stand still")
        assert f"kill -CONT {daemon.process.pid}" in verified(daemon)["daemon"]["remedy"]
        wait_until(lambda: "lease" in verified(daemon), "its lease is lost")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    wait_until(lambda: not verified(daemon), "all agrees")


def test_verify_without_root_says_what_it_cannot_see(daemon: Daemon) -> None:
    command = ["dynamosctl", "verify", "--runtime-dir", str(daemon.runtime)]
    done = subprocess.run(
        command, capture_output=True, text=True, user=NOBODY, group=NOBODY, timeout=guest.PATIENCE
    )
    assert "who holds the functions' entries cannot be seen" in " ".join(done.stdout.split())
    assert "-> only root may do this" in done.stdout


def test_who_stands_still_is_missed_and_comes_back(daemon: Daemon, data: Path) -> None:
    reader = Reader(data, sequential=False)
    with control.Follower() as events:
        wait_until(lambda: stands_still(daemon, "random"), "it is stopped while random is active")
        lost = events.wait_for("lease_lost", subsystem="readahead", why="silent")
        assert lost.fields["by"] == str(daemon.process.pid)
        events.wait_for("switched", **{"from": "random", "to": "original", "by": "0"})
        assert control.active() == "original"
        daemon.process.send_signal(signal.SIGCONT)
        events.wait_for("leased", subsystem="readahead", by=str(daemon.process.pid))
    wait_until(lambda: daemon.said("was lost"), "it says so")
    wait_until(lambda: control.active() == "random", "it goes on from there")
    reader.stop()


def test_sigterm_goes_back_to_the_baseline_and_detaches(
    daemon: Daemon, disk: Path, data: Path
) -> None:
    del disk
    reader = Reader(data, sequential=False)
    wait_until(lambda: control.active() == "random", "random is active")
    with control.Follower() as events:
        assert daemon.stop() == OK
        assert events.wait_for("released").fields["subsystem"] == "readahead"
    reader.stop()
    assert control.active() == "original"
    assert (control.READAHEAD / "lease").read_text() == "none\n"
    guest.unload_all()
    assert guest.gated_functions() == []
    guest.load_all()


@pytest.mark.usefixtures("loaded")
def test_who_is_killed_leaves_the_baseline(tmp_path: Path, data: Path) -> None:
    killed = Daemon(tmp_path)
    reader = Reader(data, sequential=False)
    wait_until(lambda: control.active() == "random", "random is active")
    with control.Follower() as events:
        killed.process.kill()
        killed.process.wait()
        events.wait_for("lease_lost", why="closed")
        events.wait_for("lease_expired", action="baseline", baseline="original")
        events.wait_for("switched", **{"from": "random", "to": "original", "by": "0"})
    reader.stop()
    assert control.active() == "original"
    wait_until(lambda: (control.READAHEAD / "lease").read_text() == "none\n", "the lease is over")


@pytest.mark.usefixtures("loaded")
def test_quarantine_by_hand_and_back() -> None:
    assert ctl("edition", "quarantine", "readahead", "random").returncode == OK
    refused = ctl("switch", "readahead", "random")
    assert (refused.returncode, "quarantine" in one_line(refused.stderr)) == (REFUSED, True)
    shown = json.loads(ctl("edition", "list", "-o", "json").stdout)
    assert "command" in json.dumps(shown)
    assert ctl("edition", "clear", "readahead", "random").returncode == OK
    assert ctl("switch", "readahead", "random").returncode == OK
    assert ctl("switch", "readahead", "original").returncode == OK
