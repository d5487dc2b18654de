# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl history: what happened and why, for people and for jq."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dynamosd import records, status
from dynamosd.cli import main, words
from dynamosd.cli.words import say
from dynamosd.journal import Journal
from dynamosd.testing import FakeModule, ManualClock
from tests.unit.test_daemon import House

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 80
PATIENCE_SECONDS = 60.0


class Past:
    """A journal, and the command that shows it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Begin without one."""
        self.path = folder / "journal.jsonl"
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.now = time.time()
        self.journal = Journal(self.path, lambda: self.now, print)
        self._capsys = capsys
        self.shown = self.said = ""

    def __call__(self, *words: str, code: int = 0) -> list[str]:
        """Run ``history``; give its lines."""
        where = ["--runtime-dir", str(self.run_dir)]
        if "--journal" not in words:
            where += ["--journal", str(self.path)]
        assert main(["history", *words, *where]) == code
        self.shown, self.said = self._capsys.readouterr()
        assert "Traceback" not in self.said
        return self.shown.splitlines()

    def numbers(self, *words: str) -> list[int]:
        """Run it with ``-o json``; give the numbers of the records."""
        return [json.loads(line)["n"] for line in self(*words, "-o", "json")]

    def ago(self, seconds: float, kind: str, **said: Any) -> None:  # noqa: ANN401 - JSON
        """Let something have happened."""
        self.now = time.time() - seconds
        self.journal.record(kind, str(said), None, **said)

    def switch(self, seconds: float, origin: str, to: str, **said: Any) -> None:  # noqa: ANN401
        """Let a policy have switched."""
        also = {"subsystem": "readahead", "trigger": "policy", "policy": "storm", "rule": "busy"}
        also |= {"result": "ok", "error": "", "reason": "in_flight > 2", "from": origin, "to": to}
        self.ago(seconds, "switch", **(also | said))


@pytest.fixture
def past(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Past:
    """Give one."""
    return Past(tmp_path, capsys)


def test_rows_are_sentences_and_the_newest_is_last(past: Past) -> None:
    past.ago(7200.0, "start", version="1", pid=5, policies={"storm": "enforce"})
    past.switch(60.0, "original", "random")
    past.switch(30.0, "random", "original", result="refused", error="no such edition")
    head, *rows = past()
    assert head.split() == ["TIME", "KIND", "SUBSYSTEM", "WHAT"]
    text = " ".join(" ".join(rows).split())
    assert "daemon 1 started, pid 5; policies: storm (enforce)" in text
    assert "original -> random (policy storm, rule busy): in_flight > 2" in text
    assert text.endswith("random -> original (policy storm, rule busy) refused: no such edition")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  start ", rows[0])


@pytest.mark.parametrize("width", [70, WIDTH, 200])
def test_rows_fit_a_terminal_whatever_is_in_them(
    past: Past, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    past.switch(60.0, "original", "random", reason="very high " * 30)
    past.switch(60.0, "o" * 300, "r", subsystem="s" * 100)
    past.ago(5.0, "nobody_knows_this_kind_of_record", subsystem=["x"], note="\033[2J\nboo")
    lines = past()
    assert width - 20 < max(map(len, lines)) <= width
    assert "\033" not in past.shown
    assert "note= [2J boo" in " ".join(past.shown.split())


def test_a_row_is_one_line_for_a_pipe(past: Past) -> None:
    past.switch(60.0, "original", "random", reason="very high " * 30)
    past.switch(60.0, "random", "original", reason="very low, until-condition " * 30)
    _, *rows = past()
    assert [row.split()[1] for row in rows] == ["switch", "switch"]
    assert rows[1].endswith("until-condition")


def test_what_was_folded_is_one_row_that_counts(past: Past) -> None:
    for _ in range(5):
        past.journal.record("trouble", "storm", policy="storm", reason="waits")
    past.journal.close()
    _, first, *again = past()
    assert first.endswith("policy storm: waits")
    assert "policy storm: waits (4 more times since" in " ".join(" ".join(again).split())


def test_the_last_ones_are_shown_unless_all_are_asked_for(past: Past) -> None:
    for number in range(120):
        past.ago(60.0, "x", n=number)
    assert past.numbers() == list(range(70, 120))
    assert past.numbers("-n", "2") == [118, 119]
    assert past.numbers("-n", "0") == list(range(120))
    assert len(past("-n", "0")) == 121


def test_filters(past: Past) -> None:
    past.ago(9000.0, "decision", n=0, policy="storm", subsystem="readahead")
    past.ago(8000.0, "trouble", n=1, policy="storm")
    past.ago(7000.0, "trouble", n=2, policy="calm", subsystem="pipe")
    past.ago(600.0, "pause", n=3, policy="", subsystem="")
    past.ago(500.0, "pause", n=4, policy="", subsystem="readahead")
    past.ago(400.0, "switch", n=5, policy="", subsystem="readahead")
    past.ago(300.0, "start", n=6)
    assert past.numbers("--subsystem", "readahead") == [0, 1, 3, 4, 5]
    assert past.numbers("--subsystem", "pipe") == [2, 3]
    assert past.numbers("--policy", "storm") == [0, 1, 3, 4]
    assert past.numbers("--policy", "calm") == [2, 3]
    assert past.numbers("--kind", "pause", "switch") == [3, 4, 5]
    assert past.numbers("--kind", "pause", "--kind", "start") == [3, 4, 6]
    assert past.numbers("--since", "1h") == [3, 4, 5, 6]
    assert past.numbers("--since", "1h", "--until", "7m30s") == [3, 4]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 450))
    assert past.numbers("--since", at) == [5, 6]
    assert past.numbers("--until", at.replace("Z", "+00:00"), "-n", "1") == [4]


def test_requests_are_filtered_by_what_they_are_about(past: Past) -> None:
    past.ago(90.0, "trouble", n=0, policy="storm", subsystem="readahead")
    past.ago(80.0, "request", n=1, command="pause", policy="storm", subsystem="")
    past.ago(70.0, "request", n=2, command="pause", policy="", subsystem="readahead")
    past.ago(60.0, "request", n=3, command="pause", policy="", subsystem="")
    past.ago(50.0, "request", n=4, command="accept", id="k3")
    past.ago(40.0, "request", n=5, command="pause", policy="calm", subsystem="")
    assert past.numbers("--policy", "storm") == [0, 1, 2, 3]
    assert past.numbers("--subsystem", "readahead") == [0, 1, 2, 3]


def test_a_policys_subsystem_is_known_from_the_daemon_too(past: Past) -> None:
    past.ago(60.0, "trouble", n=1, policy="storm")
    assert past.numbers("--subsystem", "readahead") == []
    assert "no record of the journal is like that" in past.said
    policies = [{"name": "storm", "subsystem": "readahead"}]
    status.write(past.run_dir, {"pid": os.getpid(), "policies": policies})
    assert past.numbers("--subsystem", "readahead") == [1]


def test_a_kind_that_is_nowhere_is_told(past: Past) -> None:
    past.ago(60.0, "switch", n=1)
    past.ago(60.0, "pause", n=1, policy="", subsystem="")
    assert past("--kind", "swich") == []
    assert "none has kind swich; kinds there are: pause, switch" in past.said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--since", "soon"), '"soon" is not a duration'),
        (("--since", "2026-01-31"), "does not say of which zone"),
        (("--until", "2026-13-31T12:00:00Z"), "neither a time such as"),
        (("-n", "-1"), '"-1" is not a number'),
        (("-f", "--until", "1h"), "--until and --follow do not go together"),
    ],
)
def test_wrong_words(past: Past, words: tuple[str, ...], message: str) -> None:
    past(*words, code=2)
    assert message in past.said


def test_the_journal_is_the_running_daemons(
    tmp_path: Path, module: FakeModule, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, module, clock)
    where = ["--runtime-dir", str(house.settings.runtime_dir)]
    codes: list[int] = []
    house.run(2.5, {1.5: lambda: codes.append(main(["history", *where]))})
    assert codes == [0]
    assert "daemon 0.1.0 started" in capsys.readouterr().out


def test_no_journal(past: Past) -> None:
    past(code=1)
    assert f"there is no journal {past.path}" in past.said


def test_a_journal_that_may_not_be_read(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.ago(1.0, "x", n=1)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(past.path))

    monkeypatch.setattr(records, "_open_all", refuse)
    past(code=5)
    assert f"may not read {past.path}" in past.said
    assert "sudo" in past.said


def test_torn_lines_are_told(past: Past) -> None:
    past.ago(1.0, "x", n=1)
    with past.path.open("a") as file:
        file.write('{"n": 2\n{"n"')
    assert past.numbers() == [1]
    assert "2 lines are left out" in past.said


def test_a_large_journal_takes_little_memory(past: Past) -> None:
    line = json.dumps({"time": "2026-01-01T00:00:00.000Z", "kind": "x", "text": "y " * 10}) + "\n"
    with past.path.open("w") as file:
        for _ in range(200):
            file.write(line * 1000)
    tracemalloc.start()
    try:
        assert len(past("-n", "10")) == 11
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------ following


def begin(past: Past, *words: str) -> subprocess.Popen[str]:
    """Begin to follow, as a program of its own."""
    # Who runs these tests in the background of a shell has SIGINT ignored, and its children have.
    command = ["env", "--default-signal=INT"]
    command += [sys.executable, "-m", "dynamosd.cli", "history", "-f", *words]
    command += ["--journal", str(past.path), "--runtime-dir", str(past.run_dir)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def next_line(process: subprocess.Popen[str]) -> str:
    """Wait for a line."""
    assert process.stdout is not None
    # A line that does not come would wait for ever.
    watchdog = threading.Timer(PATIENCE_SECONDS, process.kill)
    watchdog.start()
    line = process.stdout.readline()
    watchdog.cancel()
    return line


def test_following_goes_on_over_a_rotation_and_ends_cleanly(past: Past) -> None:
    past.ago(60.0, "x", n=0)
    past.ago(60.0, "x", n=1)
    with begin(past, "-n", "1", "-o", "json") as process:
        assert json.loads(next_line(process))["n"] == 1
        past.ago(1.0, "x", n=2)
        past.path.rename(f"{past.path}.1")
        past.ago(1.0, "x", n=3)
        assert [json.loads(next_line(process))["n"] for _ in range(2)] == [2, 3]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (0, "", "")


def test_following_waits_for_a_journal(past: Past) -> None:
    with begin(past) as process:
        assert process.stderr is not None
        assert "waiting for it" in process.stderr.readline()
        past.switch(1.0, "original", "random")
        assert next_line(process).startswith("TIME")
        assert "original -> random" in next_line(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0


# ---------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            {"kind": "request", "command": "pause", "policy": "", "subsystem": "s"}
            | {"result": "ok", "uid": 0, "login": 7, "pid": 12},
            "pause s, asked by uid 0 (login 7), pid 12: ok",
        ),
        (
            {"kind": "request", "command": "clear", "subsystem": "s", "edition": "e"}
            | {"result": "refused", "error": "no", "uid": 0, "login": None, "pid": 12},
            "clear s e, asked by uid 0, pid 12: refused: no",
        ),
        (
            {"kind": "request", "command": None, "result": "invalid", "error": "for: no"}
            | {"uid": 5, "login": None, "pid": 12},
            "something, asked by uid 5, pid 12: invalid: for: no",
        ),
        (
            {"kind": "request", "result": "refused", "error": "3 more were not done"},
            "something: refused: 3 more were not done",
        ),
        ({"kind": "stop", "clean": False}, "daemon left; not all is back at its baseline"),
        ({"kind": "reload", "policies": ["a", "b"]}, "policies read again: a, b"),
        ({"kind": "resume", "policy": "a", "subsystem": "", "uid": None}, "its time is over"),
        (
            {"kind": "resume", "policy": "", "subsystem": "", "uid": 0, "login": 7},
            "all policies no longer paused: ended by uid 0 (login 7)",
        ),
        (
            {"kind": "pause", "policy": "", "subsystem": "s", "uid": 0, "login": None}
            | {"until": "2026-01-31T12:00:00.123Z", "reason": "disk"},
            "subsystem s paused until 2026-01-31T12:00:00Z by uid 0: disk",
        ),
        (
            {"kind": "lease", "result": "held", "adopted": True, "action": "hold"}
            | {"grace_seconds": 30.0},
            "lease taken over; if the daemon is lost: 30s of grace, nothing is done then",
        ),
        ({"kind": "lease", "result": "lost"}, "lease lost"),
        (
            {"kind": "decision", "policy": "p", "mode": "enforce", "target": "b", "current": "a"}
            | {"phase": "cooldown", "suppressed": "cooldown", "reason": "rule x"},
            "policy p (enforce) is cooldown, wants a -> b, no switch (cooldown): rule x",
        ),
        (
            {"kind": "advice", "id": "k3", "policy": "p", "from": "a", "to": "b"}
            | {"result": "refused", "uid": 0, "login": None, "error": "too late"},
            "advice k3 of policy p, a -> b: refused (asked by uid 0): too late",
        ),
        ({"kind": "mute", "id": "k3", "policy": "p", "uid": 0}, "advice k3 of policy p is muted"),
        (
            {"kind": "guardrail", "policy": "p", "guardrail": "slower", "edition": "b"}
            | {"scope": "share:1/4", "verdict": "breached", "reason": "3 windows"},
            "guardrail slower of policy p, b (share:1/4): breached: 3 windows",
        ),
        (
            {"kind": "quarantine", "edition": "b", "result": "begun", "count": 2}
            | {"until": "2026-01-31T12:00:00.123Z", "policy": "p", "guardrail": "slower"},
            "b is in quarantine until 2026-01-31T12:00:00Z (no. 2): guardrail slower of policy p",
        ),
        (
            {"kind": "quarantine", "edition": "b", "result": "over", "uid": None},
            "b is no longer in quarantine: its time is over",
        ),
        (
            {"kind": "quarantine", "edition": "b", "result": "cleared", "uid": 0, "login": None},
            "b is no longer in quarantine: ended by uid 0",
        ),
        (
            {"kind": "canary", "policy": "p", "edition": "b", "event": "started", "step": 1}
            | {"steps": 2, "scope": "share:1/4", "reason": "rule x"},
            "canary of policy p, b: started, step 1 of 2 (share:1/4): rule x",
        ),
        (
            {"kind": "canary", "policy": "p", "edition": "b", "event": "ended", "step": 0}
            | {"steps": 2, "scope": "", "reason": ""},
            "canary of policy p, b: ended",
        ),
        ({"kind": "module_back", "version": "2"}, "the kernel module is back, version 2"),
        ({"kind": "probe_attached"}, "probes attached again"),
        ({"kind": "switch", "from": "a"}, "from=a"),
        ({"kind": 5, "a": None}, "a=None"),
    ],
)
def test_words(record: dict[str, Any], text: str) -> None:
    assert text in say(record)


@pytest.mark.parametrize(
    ("trigger", "text"),
    [("manual", "by hand"), ("tripwire", "by the tripwire"), ("lease", "for the lost lease")],
)
def test_who_switched(past: Past, trigger: str, text: str) -> None:
    past.switch(1.0, "a", "b", trigger=trigger, policy="", rule="")
    assert f"a -> b ({text}): in_flight > 2" in " ".join(" ".join(past()).split())


def test_every_kind_that_is_documented_has_words_of_its_own() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.partition("| kind | when | keys |\n")[2].partition("\n\n")[0]
    first_column = "".join(row.split("|")[1] for row in table.splitlines())
    assert set(re.findall("`(.*?)`", first_column)) == set(words.KINDS)
