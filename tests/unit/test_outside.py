# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies that ask the host, the time, labels and a server: through the daemon, and replayed."""

from __future__ import annotations

import dataclasses
import html
import json
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli
from dynamosd.daemon import read_policies
from dynamosd.model import Source
from dynamosd.policy import schema
from dynamosd.policy.load import load_policy
from dynamosd.policy.problems import PolicyErrors
from dynamosd.recording import read
from dynamosd.replay import as_if, as_recorded
from dynamosd.sources.prometheus import SourceError, Unanswered
from dynamosd.testing import FakeHost
from tests.unit.build import write_policy
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.testing import FakeModule, ManualClock

PATIENCE = 60.0

PRESSED = 'pressure("io", "some") > 0.5'
DEEP = 'source("depth") > 100.0'
DEPTH = "[{name: depth, prometheus: {query: queue_depth, every: 1ms, staleness: 5s}}]"


class Server:
    """Answers what it is told; `answered` tells that somebody has been told so."""

    def __init__(self) -> None:
        """Have an empty queue."""
        self._answer: float | SourceError = 0.0
        self.asked: list[Source] = []
        self.answered = threading.Event()

    def __call__(self, source: Source) -> float:
        """Answer a question."""
        self.asked.append(source)
        answer = self._answer
        self.answered.set()
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def answers(self, answer: float | SourceError) -> None:
        """Answer like that from now on."""
        self._answer = answer


class Host(House):
    """A daemon over a host whose figures are made up, and a server that may be asked."""

    def __init__(self, folder: Path, module: FakeModule, clock: ManualClock) -> None:
        """Prepare the host."""
        super().__init__(folder, module, clock)
        self.figures = FakeHost(folder / "proc")
        self.server = Server()
        self.world = dataclasses.replace(self.world, proc=self.figures.proc, ask=self.server)
        self.label(role="db")

    def label(self, **labels: str) -> None:
        """Give the host these labels."""
        own = {"hostname": "n1", "kernel": "6.1.0"}
        self.settings = dataclasses.replace(self.settings, labels={**own, **labels})

    def stall(self, seconds: float) -> Callable[[], None]:
        """Give what lets tasks have waited for the disk for so long by then."""
        return lambda: self.figures.stall("io", some=seconds)

    def status(self) -> dict[str, Any]:
        """Give the daemon's status."""
        text = (self.settings.runtime_dir / "status.json").read_text()
        found: dict[str, Any] = json.loads(text)
        return found


@pytest.fixture
def host(
    tmp_path: Path, module: FakeModule, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> Host:
    # Threads ask by the machine's clock, and a test has no time to wait for them.
    monkeypatch.setattr(schema, "MIN_EVERY_SECONDS", 0.001)
    return Host(tmp_path, module, clock)


def targets(host: Host) -> list[str]:
    """Give what was switched to, but for the way back at the end."""
    return [target for _, target, trigger, _ in host.switches() if trigger == "policy"]


def reasons_of(host: Host) -> set[str]:
    """Give the reasons of all decisions that the journal has."""
    return {each["reason"] for each in host.records("decision") if "repeated" not in each}


# ------------------------------------------------------------------------------------- the host


def test_pressure_switches_and_ends(host: Host) -> None:
    write_policy(host.policies, when=PRESSED)
    shown: dict[str, float] = {}
    ratios: list[float | None] = []

    def look() -> None:
        host.stall(1.8)()
        shown.update((each["signal"], each["value"]) for each in host.status()["host_signals"])

    def look_at_the_page() -> None:
        ratios.append(host.metric("dynamos_pressure_ratio", resource="io", stall="some"))

    host.run(9.0, {2.5: host.stall(0.9), 3.5: look, 4.5: look_at_the_page})
    assert targets(host) == ["random", "original"]
    assert shown['pressure("io", "some")'] == pytest.approx(0.45)
    assert shown["memory_available()"] == 0.9
    assert ratios == [pytest.approx(0.9)]
    (first, *_) = [each["reason"] for each in host.records("switch")]
    assert first.startswith('rule busy: pressure("io", "some") = 0.')


def test_a_kernel_without_psi_says_so_and_nothing_begins(host: Host) -> None:
    host.figures.switch_psi_off()
    write_policy(host.policies, when=PRESSED)
    host.run(4.0)
    assert targets(host) == []
    reasons = reasons_of(host)
    assert any("boot it with psi=1" in reason for reason in reasons)


def test_figures_of_the_host_that_are_gone_do_not_stop_the_daemon(host: Host) -> None:
    write_policy(host.policies, when="cpu_busy() > 0.5 || memory_available() < 0.1")
    host.clock.at(1000.5, lambda: host.figures.run(busy=10, idle=1090))
    host.clock.at(1002.5, (host.figures.proc / "stat").unlink)
    host.clock.at(1002.5, (host.figures.proc / "meminfo").unlink)
    assert host.run(5.0) == 0
    reasons = reasons_of(host)
    assert any("cpu_busy(): no data: cannot be read" in reason for reason in reasons)


# ---------------------------------------------------------------------------------- labels, time


@pytest.mark.parametrize(
    ("when", "switches"),
    [
        ('label("role") == "db"', True),
        ('label("role") != "db"', False),
        ('label("role") in ["web", "db"]', True),
        ('label("hostname") == "n1" && label("kernel") == "6.1.0"', True),
        ('!(label("role") == "web")', True),
    ],
)
def test_labels_of_the_host(host: Host, when: str, switches: bool) -> None:  # noqa: FBT001
    write_policy(host.policies, when=f"'{when}'")
    host.run(2.0)
    assert targets(host) == (["random"] if switches else [])
    assert host.clock.now() == 1002.0


def test_a_label_that_the_host_does_not_have_is_an_error(host: Host) -> None:
    write_policy(host.policies, when='\'label("rol") == "db"\'')
    with pytest.raises(PolicyErrors) as caught:
        read_policies(host.settings, None, host.said.append)
    assert 'the host has no label "rol" (did you mean "role"?)' in caught.value.message


def test_the_time_is_that_of_utc(host: Host) -> None:
    # It is 22:13:20 on a Tuesday.
    write_policy(host.policies, when="day_of_week() == 2.0 && hour() == 22.0 && minute() == 14.0")
    host.run(120.0)
    found = {each["to"]: each["time"] for each in host.records("switch")}
    assert found == {"random": "2023-11-14T22:14:00.000Z", "original": "2023-11-14T22:15:00.000Z"}


# -------------------------------------------------------------------------------------- sources


def wait_for_answers(host: Host, count: int = 1) -> None:
    """Wait until the server has answered again; the daemon's clock stands still meanwhile."""
    wanted = len(host.server.asked) + count
    deadline = time.monotonic() + PATIENCE
    while len(host.server.asked) < wanted:
        assert time.monotonic() < deadline, "nobody asks"
        time.sleep(0.001)


def test_a_source_switches_and_its_end_does_too(host: Host) -> None:
    write_policy(host.policies, when=DEEP, sources=DEPTH)
    seen: list[float | None] = []

    def deep() -> None:
        host.server.answers(500.0)
        wait_for_answers(host, 2)

    def gone() -> None:
        seen.append(host.metric("dynamos_source_value", source="depth"))
        host.server.answers(SourceError("the query gives 0 samples, not one"))
        wait_for_answers(host, 2)

    host.run(8.0, {1.5: deep, 4.5: gone})
    assert seen == [500.0]
    assert targets(host)[:1] == ["random"]
    reasons = reasons_of(host)
    assert any("no data: the query gives 0 samples" in reason for reason in reasons)
    assert host.metric("dynamos_source_value", source="depth") is None
    errors = host.metric("dynamos_source_errors_total", source="depth")
    fetches = host.metric("dynamos_source_fetches_total", source="depth")
    assert errors is not None
    assert fetches is not None
    assert 0 < errors < fetches
    assert not any(each.name == "source depth" for each in threading.enumerate())


def test_a_source_that_is_silent_goes_stale(host: Host) -> None:
    write_policy(host.policies, when=DEEP, sources=DEPTH)
    host.server.answers(500.0)

    def silent() -> None:
        host.server.answers(Unanswered("no answer in time"))
        wait_for_answers(host, 2)

    host.run(12.0, {0.5: lambda: wait_for_answers(host, 2), 2.5: silent})
    assert targets(host) == ["random"]
    reasons = reasons_of(host)
    assert any("stale since 2023-" in reason for reason in reasons)
    assert any("no answer in time" in reason for reason in reasons)


def test_a_reload_asks_what_the_policies_say_now(host: Host) -> None:
    write_policy(host.policies, when=DEEP, sources=DEPTH)
    made = host.start()

    def change() -> None:
        wait_for_answers(host)
        write_policy(host.policies, when=DEEP, sources=DEPTH.replace("queue_depth", "other"))
        made.request_reload()

    host.clock.at(1001.2, change)
    host.clock.at(1003.2, lambda: wait_for_answers(host, 2))
    host.clock.at(1004.0, made.request_stop)
    made.run()
    queries = [each.query for each in host.server.asked]
    assert (queries[0], queries[-1]) == ("queue_depth", "other")


def test_without_sources_nobody_is_asked(host: Host) -> None:
    write_policy(host.policies)
    names: list[str] = []
    host.clock.at(1001.5, lambda: names.extend(each.name for each in threading.enumerate()))
    host.run(3.0)
    # Others may come and go meanwhile.
    assert names
    assert not [name for name in names if name.startswith("source ")]
    assert host.server.asked == []


# ------------------------------------------------------------------------- recorded and replayed

EVERYTHING = (
    f"({PRESSED} || {DEEP} || cpu_busy() > 0.7 || memory_available() < 0.2) && minute() < 59.0"
    ' && label("role") in ["db", "web"]'
)


@pytest.mark.parametrize("seed", range(3))
def test_replay_gives_the_daemons_own_decisions(host: Host, seed: int) -> None:
    """Whatever the host, the server and the time were: replayed they are the same, bit for bit."""
    file = write_policy(host.policies, when=f"'{EVERYTHING}'", sources=DEPTH, interval="500ms")
    chance = random.Random(seed)  # noqa: S311 - a load
    stalled, busy, idle = 0.0, 0, 1000
    answers: list[float | SourceError] = [1.0 / 3.0, 200.0, SourceError("no"), Unanswered("no")]

    def live() -> None:
        nonlocal stalled, busy, idle
        stalled, busy, idle = stalled + chance.random(), busy + chance.randrange(99), idle + 50
        host.figures.stall("io", some=stalled)
        host.figures.run(busy=busy, idle=idle)
        host.figures.remember(total=1000, available=chance.randrange(1001))
        host.server.answers(chance.choice(answers))
        wait_for_answers(host, 2)

    host.run(60.0, {second + chance.random(): live for second in range(60)})
    found = list(read(host.settings.recordings))
    replayed = as_recorded(load_policy(file), found)
    assert (replayed.differing, replayed.differences) == (0, [])
    assert replayed.compared == host.metric("dynamos_policy_evaluations_total")
    assert len(replayed.switches) == len(targets(host)) > 0


def test_replay_uses_the_labels_of_the_host_that_recorded(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_policy(host.policies, when='\'label("role") == "db"\'')
    host.run(5.0)
    host.label(role="web")
    host.clock.advance(60.0)
    made = host.start()
    host.clock.at(host.clock.now() + 5.0, made.request_stop)
    made.run()
    assert targets(host) == ["random"]
    found = list(read(host.settings.recordings))
    assert {tick.labels["role"] for tick in found} == {"db", "web"}
    replayed = as_recorded(load_policy(file), found)
    assert (replayed.differing, replayed.compared) == (0, len(found))
    # Another policy is asked about the recorded host, too: it was never measured for that one.
    other = write_policy(host.policies, name="other", when='\'label("role") == "web"\'')
    played = as_if(load_policy(other), found)
    assert [tick.target for tick in played.switches] == ["random"]
    assert played.switches[0].wall >= found[0].wall + 60.0
    # The same from one file that was made of both.
    kept = host.folder / "kept.jsonl.zst"
    assert cli.main(["record", str(kept), "--from", str(host.settings.recordings)]) == 0
    assert [tick.labels for tick in read(kept)] == [tick.labels for tick in found]
    assert cli.main(["replay", str(file), str(kept)]) == 0
    assert "as the daemon ran it" in capsys.readouterr().out


def test_explain_shows_labels_and_the_host(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(host.policies, when=f'\'{PRESSED} && label("role") == "web"\'')
    shown: list[str] = []

    def explain() -> None:
        assert cli.main(["explain", "--runtime-dir", str(host.settings.runtime_dir)]) == 0
        shown.append(capsys.readouterr().out)

    host.run(4.0, {3.5: explain})
    assert 'no   label("role") == "web"\n' in shown[0]
    assert 'no   pressure("io", "some") > 0.5   0 against 0.5\n' in shown[0]
    assert 'label("role") == "web" to be true' in " ".join(shown[0].split())
    assert host.said


def test_labels_and_the_host_are_drawn(host: Host) -> None:
    file = write_policy(host.policies, when=f'\'{PRESSED} && label("role") == "web"\'')
    host.run(4.0)
    picture = host.folder / "plot.svg"
    recordings = str(host.settings.recordings)
    assert cli.main(["replay", str(file), recordings, "--plot", str(picture)]) == 0
    text = html.unescape(picture.read_text())
    assert 'pressure("io", "some")' in text
    assert 'label("role") == "web"' in text
