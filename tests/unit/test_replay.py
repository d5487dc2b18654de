# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon recorded is decided again just so, and other policies can be played over it."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from dynamosd import cli
from dynamosd.plot import WIDTH, draw
from dynamosd.policy.load import load_policy
from dynamosd.recording import Tick, files, read
from dynamosd.replay import Evaluation, Replayed, as_if, as_recorded, compare, survey
from tests.unit.build import write_policy
from tests.unit.policy.build import policy_of
from tests.unit.test_daemon import ORDER, House

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.testing import FakeModule, ManualClock

RULE = "{maxSwitches: {count: 4, per: 30s}, cooldown: 2s}"


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` while three threads are in flight."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies, limits=RULE, interval="500ms")
    return made


def history(house: House, seed: int, seconds: float = 120.0) -> None:
    """Let a daemon live through a random load, with quarantine, scopes and untrusted figures."""
    chance = random.Random(seed)  # noqa: S311 - a load
    plan: dict[float, Callable[[], object]] = {}
    kmod, module = house.module.kmod, house.module
    for number in range(int(seconds)):
        act = chance.choice(
            [
                lambda: house.block(3),
                lambda: house.block(3),
                lambda: module.leave("readahead"),
                lambda: module.leave("readahead"),
                lambda: module.call("readahead", ORDER, 500),
                lambda: house.probe.lost.update({("readahead", ORDER, "original"): 5}),
                house.probe.lost.clear,
                lambda: kmod.switch("readahead", "original"),
                lambda: kmod.switch("readahead", "original", "concurrent"),
                lambda: kmod.quarantine("readahead", "random"),
                lambda: kmod.clear("readahead", "random"),
            ]
        )
        plan[number + chance.random()] = act
    house.run(seconds, plan)


def ticks(house: House) -> list[Tick]:
    return list(read(house.settings.recordings))


@pytest.mark.parametrize("seed", range(5))
def test_replay_gives_the_daemons_own_decisions(house: House, seed: int) -> None:
    history(house, seed)
    policy = load_policy(house.policies / "storm.yaml")
    found = ticks(house)
    assert survey(found).has(policy)
    replayed = as_recorded(policy, found)
    assert (replayed.differing, replayed.differences) == (0, [])
    assert replayed.compared == house.metric("dynamos_policy_evaluations_total")
    suppressed = house.metric("dynamos_switches_suppressed_total", reason="cooldown")
    assert replayed.suppressed["cooldown"] == suppressed or suppressed is None
    decided = [each.decision.reason for each in replayed.evaluations]
    told = {each["reason"] for each in house.records("decision") if "repeated" not in each}
    assert told <= {*decided}


def test_replay_goes_on_over_a_reload_and_a_new_daemon(house: House) -> None:
    file = house.policies / "storm.yaml"
    first = file.read_text()
    made = house.start()

    def change(text: str) -> None:
        file.write_text(text)
        made.request_reload()

    house.block(3)
    house.clock.at(1003.2, lambda: change(first.replace("> 2.5", "> 9.5")))
    house.clock.at(1006.2, lambda: change(first))
    house.clock.at(1009.0, made.request_stop)
    made.run()
    house.clock.advance(50.0)
    made = house.start()
    house.clock.at(house.clock.now() + 5.0, made.request_stop)
    made.run()
    assert len(files(house.settings.recordings)) == 2
    replayed = as_recorded(load_policy(file), ticks(house))
    total = len(ticks(house))
    # Six evaluations were of the other content.
    assert (replayed.differing, replayed.compared) == (0, total - 6)
    # The time in which no daemon ran is nobody's.
    assert sum(replayed.seconds.values()) < 15.0


def test_difference_is_found(house: House) -> None:
    history(house, 1, 30.0)
    file = house.policies / "storm.yaml"
    policy = load_policy(file)
    found = ticks(house)
    found[7].entries["storm"].decided["reason"] = "something else"
    replayed = as_recorded(policy, found)
    assert (replayed.differing, len(replayed.differences)) == (1, 1)
    assert replayed.differences[0].wall == found[7].wall
    # Another content of the file is not what the daemon ran.
    file.write_text(file.read_text() + "# a remark\n")
    assert not survey(found).has(load_policy(file))


def busy_and_idle(house: House) -> None:
    """Be busy from 2 s to 12 s and from 22 s to 24 s; the daemon stays 30 s."""
    house.run(
        30.0,
        {
            1.9: lambda: house.block(3),
            11.9: lambda: house.module.leave("readahead"),
            21.9: lambda: house.block(3),
            23.9: lambda: house.module.leave("readahead"),
        },
    )


def played(house: House, tmp_path: Path, **changed: str) -> Replayed:
    file = write_policy(tmp_path / "other", **{"interval": "500ms", **changed})
    return as_if(load_policy(file), ticks(house))


def test_other_policies_go_their_own_way(house: House, tmp_path: Path) -> None:
    busy_and_idle(house)
    plain = played(house, tmp_path)
    assert [
        (each.target, round(each.wall - plain.evaluations[0].wall, 1)) for each in plain.switches
    ] == [
        *(("random", 2.0), ("original", 12.0), ("random", 22.0), ("original", 24.0)),
    ]
    assert {edition: round(time) for edition, time in plain.seconds.items()} == {
        "original": 18,
        "random": 12,
    }
    assert (plain.flaps(3.0), plain.flaps(11.0), plain.flaps(1.0)) == (1, 3, 0)
    slow = played(house, tmp_path, limits="{cooldown: 10500ms}", mode="observe")
    assert [each.target for each in slow.switches] == ["random", "original", "random"]
    apart = compare(plain, slow)
    assert [(each.first, each.second) for each in apart] == [
        *(("original", "random"), ("random", "original"), ("original", "random")),
    ]
    assert compare(plain, plain) == []
    assert sum(each.end - each.begin for each in apart) == pytest.approx(
        sum(abs(slow.seconds[name] - plain.seconds[name]) for name in ("random",)), abs=6.0
    )


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = cli.main([str(each) for each in argv])
    return (code, *capsys.readouterr())


def test_commands(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy_and_idle(house)
    policy, folder = house.policies / "storm.yaml", house.settings.recordings
    code, shown, _ = run(capsys, "replay", policy, folder)
    assert code == 0
    assert "as the daemon ran it" in shown
    assert "original -> random  (busy)" in shown
    assert "switches 4, flaps 3" in shown
    compared = len(ticks(house))
    assert f"decided as the daemon did: {compared} of {compared}" in shown
    kept = tmp_path / "kept.jsonl.zst"
    code, shown, _ = run(capsys, "record", kept, "--from", folder)
    assert (code, f"{compared} samples" in shown) == (0, True)
    code, _, said = run(capsys, "record", kept, "--from", folder)
    assert (code, "exists already" in said) == (1, True)
    other = write_policy(tmp_path / "other", interval="500ms", limits="{cooldown: 10500ms}")
    code, shown, _ = run(capsys, "replay", policy, kept, "--against", other)
    assert (code, "the two differ for" in shown) == (0, True)
    code, shown, _ = run(capsys, "replay", policy, kept, "--against", other, "-o", "json")
    answer = json.loads(shown)
    assert (answer["kind"], answer["exit_code"], answer["samples"]) == ("Replay", 0, compared)
    assert len(answer["policy"]["switches"]) == 4
    assert len(answer["against"]["switches"]) == 3
    assert answer["apart"][0]["policy"] == "original"
    code, shown, _ = run(capsys, "replay", policy, kept, "-o", "json")
    assert json.loads(shown)["compared"] == compared


def test_commands_gone_wrong(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, none = house.policies / "storm.yaml", tmp_path / "none"
    none.mkdir()
    code, _, said = run(capsys, "replay", policy, none)
    assert (code, "there is no recording in" in said) == (1, True)
    code, _, said = run(capsys, "record", tmp_path / "x", "--runtime-dir", none)
    assert (code, "no daemon is running" in said) == (5, True)
    code, _, said = run(capsys, "record", tmp_path / "x", "--from", none)
    assert (code, "there is no recording in" in said) == (1, True)
    assert not (tmp_path / "x").exists()
    code, _, said = run(capsys, "replay", none / "missing.yaml", none)
    assert (code, "cannot be read" in said) == (1, True)
    code, _, said = run(capsys, "replay", policy, none, "--flap", "soon")
    assert (code, "is not a duration" in said) == (2, True)


def test_decisions_that_differ_are_shown(
    house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy_and_idle(house)
    found = ticks(house)
    found[3].entries["storm"].decided["rule"] = "busy"
    monkeypatch.setattr("dynamosd.recording.read", lambda _path: found)
    code, shown, said = run(capsys, "replay", house.policies / "storm.yaml", "x")
    assert code == 1
    assert "not what the daemon decided: rule 'busy' became ''" in said
    assert f"{len(found) - 1} of {len(found)}" in shown


SVG = "{http://www.w3.org/2000/svg}"


def picture(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own


def titles(root: ET.Element, kind: str) -> list[str]:
    return [each.findtext(f"{SVG}title") or "" for each in root.iter(f"{SVG}{kind}")]


def test_evaluations_are_kept_for_a_picture_only(house: House) -> None:
    busy_and_idle(house)
    policy, found = load_policy(house.policies / "storm.yaml"), ticks(house)
    light, whole = (as_recorded(policy, found, keep=keep) for keep in (False, True))
    assert (light.evaluated, light.evaluations) == (len(found), [])
    assert (light.switches, light.seconds) == (whole.switches, whole.seconds)


def test_picture_has_editions_values_limits_and_shades(house: House, tmp_path: Path) -> None:
    busy_and_idle(house)
    made = played(house, tmp_path, limits="{cooldown: 4s}")
    root = picture(draw(made))
    spans = [
        title for title in titles(root, "rect") if title.startswith(("random: ", "original: "))
    ]
    assert len(spans) == len(made.spans)
    assert titles(root, "rect").count("cooldown") == len(made.switches) + 1
    lines = titles(root, "line")
    assert sum("->" in title for title in lines) == len(made.switches)
    assert "2.5: when of rule busy" in lines
    marks = [each.text for each in root.iter(f"{SVG}text") if each.get("class") == "time"]
    assert marks == ["0s", "5s", "10s", "15s", "20s", "25s"]
    assert len(list(root.iter(f"{SVG}polyline"))) == 1
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width", 0)) <= WIDTH + 1


def test_picture_of_two(house: House, tmp_path: Path) -> None:
    busy_and_idle(house)
    one, two = (
        played(house, tmp_path),
        played(house, tmp_path, name="slow", limits="{cooldown: 9s}"),
    )
    labels = [each.text for each in picture(draw(one, two)).iter(f"{SVG}text")]
    assert {"storm", "slow", "random", "original"} <= {*labels}


def test_gaps_break_the_line_and_many_points_are_thinned(house: House, tmp_path: Path) -> None:
    busy_and_idle(house)
    made = played(house, tmp_path)
    first = made.evaluations[0]

    def at(number: int, value: float | None) -> Evaluation:
        (name,) = first.decision.readings
        decision = dataclasses.replace(first.decision, readings={name: value})
        return Evaluation(first.wall + number / 100, decision)

    made.evaluations[:] = [
        at(number, None if number == 10_000 else float(number * 7919 % 1000))
        for number in range(20_000)
    ]
    lines = [each.get("points", "") for each in picture(draw(made)).iter(f"{SVG}polyline")]
    assert len(lines) == 2
    assert sum(len(line.split()) for line in lines) <= 2 * WIDTH


def test_picture_of_nothing() -> None:
    assert picture(draw(Replayed(policy_of()))).tag == f"{SVG}svg"


def test_command_draws(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy_and_idle(house)
    policy, file = house.policies / "storm.yaml", tmp_path / "out.svg"
    code, _, _ = run(capsys, "replay", policy, house.settings.recordings, "--plot", file)
    assert code == 0
    assert picture(file.read_text()).tag == f"{SVG}svg"
    code, _, said = run(
        capsys, "replay", policy, house.settings.recordings, "--plot", tmp_path / "no" / "x.svg"
    )
    assert (code, "cannot write" in said) == (1, True)
