# SPDX-License-Identifier: GPL-2.0-or-later
"""Guardrails at work: what the daemon does with an edition that breaks one, and remembers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, files, status
from dynamosd.journal import Journal
from dynamosd.policy.load import load_policy
from dynamosd.quarantines import Quarantines
from dynamosd.recording import read
from dynamosd.replay import as_recorded
from tests.unit.build import write_policy
from tests.unit.test_daemon import ORDER, House

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.testing import FakeModule, ManualClock
    from tests.unit.asking import Operator

KEY = ("readahead", ORDER, "random")

GUARDRAILS = """\
  guardrails:
    - name: failing
      breach: error_share("page_cache_ra_order") > 0.1
      confidence: 95%
      quarantine: 30s
"""


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` at once, and may not have it fail."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies, more=GUARDRAILS)
    made.block(3)
    return made


def fail(house: House, share: float = 1.0) -> None:
    """Make calls to `random`, of which a share fails, if it is active."""
    if house.active() != "random":
        return
    house.module.call("readahead", ORDER, 100)
    house.probe.errors[KEY] = house.probe.errors.get(KEY, 0) + int(100 * share)


def failing(seconds: int, share: float = 1.0) -> Callable[[House], dict[float, Callable[[], Any]]]:
    """Give a plan in which that happens each second."""

    def plan(house: House) -> dict[float, Callable[[], Any]]:
        return {second + 0.5: lambda: fail(house, share) for second in range(seconds)}

    return plan


def test_breach_rolls_back_quarantines_and_tells(house: House) -> None:
    seen: list[dict[str, Any] | None] = []
    plan = failing(20)(house)
    plan[15.2] = lambda: seen.append(status.read(house.settings.runtime_dir))
    plan[15.3] = lambda: seen.append({"active": house.active()})
    assert house.run(17.0, plan) == 0
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "policy", "ok"),
    ]
    (begun,) = house.records("quarantine")
    assert (begun["result"], begun["edition"], begun["guardrail"]) == ("begun", "random", "failing")
    assert (begun["seconds"], begun["count"], begun["policy"]) == (30.0, 1, "storm")
    (verdict,) = house.records("guardrail")
    assert (verdict["verdict"], verdict["edition"]) == ("breached", "random")
    assert "guardrail failing" in house.records("switch")[1]["reason"]
    shown, active = seen
    assert active == {"active": "original"}
    assert shown is not None
    assert shown["policies"][0]["phase"] == "quarantined"
    (quarantine,) = shown["quarantines"]
    assert (quarantine["edition"], quarantine["subsystem"]) == ("random", "readahead")
    labels = {"subsystem": "readahead", "edition": "random"}
    end = house.metric("dynamos_edition_quarantine_end_timestamp_seconds", **labels)
    assert end == begun["time_seconds"] + 30.0
    assert house.metric("dynamos_guardrail_breaches_total", guardrail="failing") == 1
    assert any("in quarantine until" in line for line in house.said)


def test_quarantine_ends_by_itself_and_is_longer_the_next_time(house: House) -> None:
    assert house.run(70.0, failing(70)(house)) == 0
    found = [(each["result"], each["seconds"]) for each in house.records("quarantine")]
    assert found == [("begun", 30.0), ("over", 30.0), ("begun", 60.0)]


def test_quarantine_outlives_the_daemon(house: House) -> None:
    assert house.run(15.0, failing(15)(house)) == 0
    assert house.active() == "original"
    house.clock.advance(5.0)
    begin = house.clock.now()
    made = house.start()
    house.clock.at(begin + 4.0, made.request_stop)
    assert made.run() == 0
    # Not chosen again: the only switches are those of the first.
    assert len(house.switches()) == 2
    made = house.start()
    house.clock.at(house.clock.now() + 30.0, made.request_stop)
    assert made.run() == 0
    assert house.switches()[2][:2] == ("original", "random")
    assert house.records("quarantine")[-1]["result"] == "over"


def test_person_clears_it(house: House, operator: Operator) -> None:
    plan = failing(13)(house)
    plan[14.2] = operator.types("edition", "clear", "readahead", "random")
    plan[17.2] = operator.types("edition", "clear", "readahead", "random")
    seen: list[str | None] = []
    plan[16.7] = lambda: seen.append(house.active())
    assert house.run(19.0, plan) == 0
    first, second = operator.ended()
    assert (first.code, second.code) == (0, 0)
    assert "(it was in quarantine: guardrail)" in first.out
    assert "was not in quarantine" in second.out
    assert seen == ["random"]
    assert [each["result"] for each in house.records("quarantine")] == ["begun", "cleared"]
    assert house.records("quarantine")[1]["uid"] is not None


def test_good_edition_stays_and_is_recorded_once(house: House) -> None:
    assert house.run(40.0, failing(40, 0.0)(house)) == 0
    assert [each[2] for each in house.switches()] == ["policy", "exit"]
    first, *_ = house.records("guardrail")
    assert (first["verdict"], first.get("repeated")) == ("passed", None)
    assert house.metric("dynamos_guardrail_verdict", verdict="passed") == 1.0
    assert house.records("quarantine") == []


def test_replay_gives_the_same_breach(house: House) -> None:
    assert house.run(60.0, failing(60)(house)) == 0
    policy = load_policy(house.policies / "storm.yaml")
    replayed = as_recorded(policy, read(house.settings.recordings))
    assert (replayed.compared, replayed.differing) == (60, 0)
    breaches = [
        each.decision.guarded.breach
        for each in replayed.evaluations
        if each.decision.guarded and each.decision.guarded.breach
    ]
    assert len(breaches) == 2


def test_policy_that_only_advises_puts_nothing_in_quarantine(house: House) -> None:
    write_policy(house.policies, more=GUARDRAILS, mode="advise")
    plan = failing(20)(house)
    plan[0.2] = lambda: house.module.kmod.switch("readahead", "random")
    assert house.run(20.0, plan) == 0
    assert house.active() == "random"
    assert house.records("quarantine") == []
    assert house.records("guardrail")[0]["verdict"] == "breached"


def test_explain_and_status_show_it(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def ask(*words: str) -> None:
        folder = str(house.settings.runtime_dir)
        assert cli.main([*words, "--runtime-dir", folder], house.module.kmod) == 0
        said.append(capsys.readouterr().out)

    plan = failing(20)(house)
    plan[4.7] = lambda: ask("explain", "storm")
    plan[15.7] = lambda: ask("status")
    plan[15.8] = lambda: ask("status", "-o", "json")
    assert house.run(17.0, plan) == 0
    explained, shown, document = said
    assert "guardrails: random, in use for" in explained
    assert "failing: watching; broken in" in explained
    assert "random: in quarantine until" in shown
    (subsystem,) = json.loads(document)["subsystems"]
    assert subsystem["quarantines"][0]["guardrail"] == "failing"


# --------------------------------------------------------------------------------- the file


def book(folder: Path, said: list[str]) -> Quarantines:
    writer = Journal(folder / "journal", lambda: 0.0, said.append)
    return Quarantines(folder / "below" / "quarantines.json", writer, said.append)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}', '{"version": 1}'])
def test_file_that_cannot_be_used_is_put_aside(tmp_path: Path, content: str) -> None:
    said: list[str] = []
    made = book(tmp_path, said)
    made.path.parent.mkdir()
    made.path.write_text(content)
    made.load(0.0)
    assert (made.errors, list(made.lasting(0.0))) == (1, [])
    assert "quarantines are lost" in said[0]
    assert made.path.with_name("quarantines.json.bad").read_text() == content


def test_disk_that_is_full_is_told_and_nothing_else(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.replace

    def full(path: Path, text: str, **options: Any) -> None:  # noqa: ANN401 - as the real one
        if path.name == "quarantines.json":
            raise OSError(28, "No space left on device")
        real(path, text, **options)

    monkeypatch.setattr(files, "replace", full)
    assert house.run(15.0, failing(15)(house)) == 0
    assert house.active() == "original"
    assert any("a restart of the daemon forgets it" in line for line in house.said)
    assert house.metric("dynamos_quarantines_errors_total") == 1


def test_quarantine_that_could_not_be_kept_is_kept_when_there_is_room(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(house.policies, more=GUARDRAILS.replace("30s", "10m"))
    real, is_full = files.replace, [True]

    def replace(path: Path, text: str, **options: Any) -> None:  # noqa: ANN401 - as the real one
        if is_full[0] and path.name == "quarantines.json":
            raise OSError(28, "No space left on device")
        real(path, text, **options)

    monkeypatch.setattr(files, "replace", replace)
    plan = failing(10)(house) | {20.25: lambda: is_full.__setitem__(0, False)}
    house.run(100.0, plan)
    assert house.metric("dynamos_quarantines_errors_total") == 1
    assert len([line for line in house.said if line.endswith("is written now")]) == 1
    (kept,) = json.loads(house.settings.quarantines.read_text())["quarantines"]
    assert (kept["subsystem"], kept["edition"]) == ("readahead", "random")
