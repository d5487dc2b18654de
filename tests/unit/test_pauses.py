# SPDX-License-Identifier: GPL-2.0-or-later
"""Pausing policies: what a daemon does while it must not switch, and when it may again."""

from __future__ import annotations

import errno
import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, files, recording, status
from dynamosd.orders import Orders, Pause, Person
from dynamosd.policy.load import load_policy
from dynamosd.replay import as_recorded
from tests.unit.test_daemon import ORDER, House, rewrite
from tests.unit.test_main import DEADLINE_SECONDS, Running, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.testing import FakeModule
    from tests.unit.asking import Operator

ME = os.geteuid()
END = "2023-11-14T23:13:22.000Z"
"""An hour after the request of the first test, by the manual clock."""


def policy_status(house: House) -> dict[str, Any]:
    """Give what the status says of the policy."""
    shown = status.read(house.settings.runtime_dir)
    assert shown is not None
    policy: dict[str, Any] = shown["policies"][0]
    return policy


def test_paused_policy_decides_and_does_not_switch_until_it_is_resumed(
    house: House, operator: Operator
) -> None:
    seen: list[dict[str, Any]] = []
    active: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        1.5: operator.types("pause", "storm", "--reason", "a new\ndisk\x1b[1m"),
        2.5: lambda: house.block(3),
        5.5: lambda: seen.append(policy_status(house)),
        5.6: lambda: active.append(house.active()),
        5.7: operator.types("resume", "storm"),
        7.5: lambda: active.append(house.active()),
    }
    assert house.run(9.0, plan) == 0
    paused, resumed = operator.ended()
    assert (paused.code, resumed.code, paused.err) == (0, 0, "")
    # Nobody said for how long: an hour.
    assert paused.out.splitlines()[0] == f"paused policy storm until {END}"
    assert resumed.out == "resumed policy storm\n"
    assert active == ["original", "random"]
    why = f"policy storm paused until {END} by uid {ME}: a new disk [1m"
    (shown,) = seen
    assert (shown["phase"], shown["suppressed"], shown["target"]) == ("paused", "paused", "random")
    assert shown["rules"] == {"busy": "active"}
    assert shown["paused"] == why
    assert shown["reason"].endswith(f"no switch to random: {why}")
    assert f"readahead should be random: {why}" in {
        each["reason"] for each in house.records("trouble")
    }
    (begun,), (ended,) = house.records("pause"), house.records("resume")
    assert (begun["policy"], begun["reason"], begun["uid"]) == ("storm", "a new disk [1m", ME)
    assert (ended["policy"], ended["uid"]) == ("storm", ME)
    assert [each[2] for each in house.switches()] == ["policy", "exit"]


def test_pause_ends_by_itself(house: House, operator: Operator) -> None:
    seen: list[tuple[str | None, float | None, float | None]] = []

    def look() -> None:
        until = house.metric("dynamos_policy_pause_end_timestamp_seconds", policy="storm")
        paused = house.metric("dynamos_policy_paused", policy="storm")
        seen.append((house.active(), paused, until))

    plan: dict[float, Callable[[], object]] = {
        0.5: operator.types("pause", "storm", "--for", "4s", "-o", "json"),
        0.6: lambda: house.block(3),
        4.5: look,
        5.5: look,
    }
    house.run(7.0, plan)
    (paused,) = operator.ended()
    # Asked for at half past the second, and taken at the next tick: at 1 s.
    until = 1_700_000_005.0
    answer = json.loads(paused.out)
    assert answer["until"] == "2023-11-14T22:13:25.000Z"
    assert (answer["kind"], answer["about"]) == ("Pause", "policy storm")
    assert answer["policies"] == ["storm"]
    assert seen == [("original", 1.0, until), ("random", 0.0, None)]
    (ended,) = house.records("resume")
    assert (ended["uid"], ended["time_seconds"]) == (None, until)


def test_pause_outlives_a_reload_and_the_policy(house: House, operator: Operator) -> None:
    made = house.start()
    file = house.policies / "storm.yaml"
    text = file.read_text()
    seen: list[Any] = []

    change = partial(rewrite, made, file)
    house.clock.at(1000.5, operator.types("pause", "storm"))
    house.clock.at(1000.6, lambda: house.block(3))
    house.clock.at(1001.5, lambda: change(text.replace("2.5", "1.5")))
    house.clock.at(1003.5, lambda: seen.append((house.active(), policy_status(house)["phase"])))
    house.clock.at(1003.6, lambda: change(None))
    house.clock.at(1005.5, lambda: change(text))
    house.clock.at(1007.5, lambda: seen.append((house.active(), policy_status(house)["phase"])))
    house.clock.at(1008.0, made.request_stop)
    assert made.run() == 0
    assert seen == [("original", "paused")] * 2
    assert len(house.records("reload")) == 3
    assert house.switches() == []


def test_pause_outlives_the_daemon_and_holds_when_it_leaves(
    house: House, operator: Operator
) -> None:
    house.block(3)
    assert house.run(5.0, {2.5: operator.types("pause", "--for", "1h", "--reason", "x")}) == 0
    assert operator.ended()[0].code == 0
    # It does not switch when it leaves, nor when it has come back and its rule has ended.
    assert [each[2] for each in house.switches()] == ["policy"]
    assert house.active() == "random"
    assert any("readahead is left with random: all policies paused" in x for x in house.said)
    house.module.leave("readahead")
    second = house.start()
    house.clock.at(1007.5, operator.types("resume"))
    house.clock.at(1010.0, second.request_stop)
    assert second.run() == 0
    assert operator.ended()[1].code == 0
    assert [each[2] for each in house.switches()] == ["policy", "policy"]
    assert house.records("switch")[1]["time_seconds"] == 1_700_000_008.0


def test_pause_of_a_subsystem_and_of_all(house: House, operator: Operator) -> None:
    plan: dict[float, Callable[[], object]] = {
        0.6: lambda: house.block(3),
        0.5: operator.types("pause", "--subsystem", "readahead"),
        1.5: operator.types("pause"),
        3.5: operator.types("resume", "storm"),
        4.5: operator.types("resume", "--subsystem", "readahead"),
        6.5: operator.types("resume", "-o", "json"),
    }
    house.run(9.5, plan)
    of_subsystem, of_all, wrong, ended, rest = operator.ended()
    assert [each.code for each in operator.answers] == [0] * 5
    assert "paused subsystem readahead until" in of_subsystem.out
    assert "these make no switch now: storm" in of_all.out
    assert wrong.out.startswith("there was no such pause\n  storm stays paused: ")
    assert ended.out.startswith("resumed subsystem readahead\n  storm stays paused: all policies")
    assert json.loads(rest.out)["ended"] == ["all policies"]
    made = house.records("switch")
    assert [each["trigger"] for each in made] == ["policy", "exit"]
    assert made[0]["time_seconds"] == 1_700_000_007.0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pause", "strom"), 1, 'there is no policy "strom"'),
        (("pause", "strom"), 1, 'did you mean "storm"?'),
        (("pause", "--subsystem", "pipe"), 1, 'no policy for the subsystem "pipe"'),
        (("resume", "strom"), 1, 'there is no policy "strom"'),
        (("pause", "storm", "--subsystem", "readahead"), 2, "not about both"),
        (("pause", "--for", "0s"), 2, "is no time"),
        (("pause", "--for", "soon"), 2, "--for"),
        (("pause", "--reason", "x" * 201), 1, "at most 200 characters"),
    ],
)
def test_pause_that_cannot_be(
    house: House, operator: Operator, words: tuple[str, ...], code: int, said: str
) -> None:
    house.run(3.0, {0.5: operator.types(*words)})
    (answer,) = operator.ended()
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert house.records("pause") == []


def test_way_out_of_quarantine_stays_open(house: House, operator: Operator) -> None:
    # The module's tripwire has gone to `original`; somebody goes back to what is in quarantine.
    def break_it() -> None:
        house.module.trip("readahead", "random")
        (house.module.sysfs / "readahead/active").write_text("random\n")

    house.block(3)
    house.run(6.0, {1.5: operator.types("pause"), 3.5: break_it})
    switch = house.records("switch")[-1]
    assert (switch["from"], switch["to"], switch["trigger"]) == ("random", "original", "policy")
    assert house.active() == "original"


def test_pauses_are_in_recordings(house: House, operator: Operator) -> None:
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        1.5: operator.types("pause"),
        2.5: lambda: house.module.leave("readahead"),
        5.5: operator.types("resume"),
    }
    house.run(8.0, plan)
    policy = load_policy(house.policies / "storm.yaml")
    played = as_recorded(policy, recording.read(house.settings.recordings))
    assert (played.compared, played.differing) == (8, 0)
    assert played.suppressed["paused"] == 3


def test_explain_and_status_show_it(
    house: House, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(house.settings.runtime_dir)
    shown: list[str] = []

    def look() -> None:
        operator.ended()
        for command in ("explain", "status"):
            assert cli.main([command, "--runtime-dir", folder], house.module.kmod) == 0
            shown.append(capsys.readouterr().out)
        words = ["switch", "readahead", "random", "--runtime-dir", folder]
        assert cli.main(words, house.module.kmod) == 0
        shown.append(capsys.readouterr().err)

    pause = operator.types("pause", "--for", "1h", "--reason", "a long reason " * 10)
    house.run(4.0, {0.5: pause, 2.5: look})
    explained, stood, warned = shown
    for text in (explained, stood):
        assert "all policies paused until 2023-11-14T23:13:21.000Z by uid" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 80
    # Nobody will switch back what is switched by hand now.
    assert warned == ""


def test_pause_outlives_a_daemon_that_is_killed(tmp_path: Path, module: FakeModule) -> None:
    running = Running(tmp_path, module)
    module.call("readahead", ORDER, blocked=3)
    where = ["--runtime-dir", str(running.run)]
    with running.daemon() as process:
        wait_for(lambda: running.active() == "random", "the switch")
        assert cli.main(["pause", "storm", "--reason", "look", *where]) == 0
        process.kill()
        process.wait()
    module.leave("readahead")
    with running.daemon() as process:
        shown = status.read(running.run)
        assert shown is not None
        (policy,), (pause,) = shown["policies"], shown["pauses"]
        assert (policy["phase"], pause["policy"], pause["reason"]) == ("paused", "storm", "look")
        assert running.active() == "random"
        assert cli.main(["resume", *where]) == 0
        wait_for(lambda: running.active() == "original", "the way back")
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
    assert cli.main(["pause", *where]) == 5


def test_pause_that_nobody_waits_for_is_not_made_by_a_daemon_that_comes_back(
    tmp_path: Path, module: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Running(tmp_path, module)
    where = ["--runtime-dir", str(running.run)]

    def updated() -> object:
        return (running.status() or {})["updated"]

    with running.daemon() as process:
        process.send_signal(signal.SIGSTOP)
        assert cli.main(["pause", "--timeout", "100ms", *where]) == 5
        assert "the daemon does not answer" in capsys.readouterr().err
        process.send_signal(signal.SIGCONT)
        # The last tick may have begun before it was stopped; those after it have seen all.
        for _ in range(3):
            before = updated()
            wait_for(lambda seen=before: updated() != seen, "a tick")  # type: ignore[misc]
        assert (running.status() or {})["pauses"] == []
        assert running.records("pause") == []
        # It answers who is there.
        assert cli.main(["pause", "--reason", "x", *where]) == 0
        assert [each["result"] for each in running.records("request")][-1] == "ok"


# --------------------------------------------------------------------------------- the file


def test_pause_that_cannot_be_kept_is_in_force_and_says_so(
    house: House, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: object, _text: str, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = files.replace

    def replace(path: Path, text: str, **options: Any) -> None:  # noqa: ANN401 - passed on
        (full if path.name == "orders.json" else real)(path, text, **options)

    monkeypatch.setattr(files, "replace", replace)
    house.run(5.0, {0.5: operator.types("pause"), 1.5: lambda: house.block(3)})
    (answer,) = operator.ended()
    assert answer.code == 0
    assert "a restart of the daemon forgets it" in answer.err
    assert house.switches() == []
    assert house.metric("dynamos_orders_errors_total") == 1


def test_pause_that_could_not_be_kept_is_kept_when_there_is_room(
    house: House, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, is_full = files.replace, [True]

    def replace(path: Path, text: str, **options: Any) -> None:  # noqa: ANN401 - passed on
        if is_full[0] and path.name == "orders.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, text, **options)

    monkeypatch.setattr(files, "replace", replace)
    plan: dict[float, Callable[[], object]] = {
        0.5: operator.types("pause"),
        70.5: lambda: is_full.__setitem__(0, False),
    }
    house.run(130.0, plan)
    assert house.metric("dynamos_orders_errors_total") == 2
    kept = Orders(house.settings.orders, pytest.fail)
    kept.load()
    assert list(kept.pauses) == [("", "")]
    assert len([line for line in house.said if line.endswith("is written now")]) == 1


PAUSE = {"policy": "", "subsystem": "", "since": 1, "reason": "", "by": {"uid": 0}}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"version": 2, "pauses": [], "mutes": []}',
        '{"version": 1, "pauses": [{}], "mutes": []}',
        '{"version": 1, "pauses": [7], "mutes": []}',
        json.dumps({"version": 1, "mutes": [], "pauses": [{**PAUSE, "until": "soon"}]}),
        json.dumps({"version": 1, "mutes": [], "pauses": [{**PAUSE, "until": 1e300}]}),
        json.dumps({"version": 1, "mutes": [], "pauses": [{**PAUSE, "until": 2, "since": ""}]}),
        "\udcff",
    ],
)
def test_file_that_is_not_one_is_put_aside(tmp_path: Path, content: str) -> None:
    file, said = tmp_path / "orders.json", list[str]()
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    orders = Orders(file, said.append)
    orders.load()
    assert (orders.pauses, orders.mutes, orders.errors) == ({}, {}, 1)
    assert "pauses, pins and muted advice are lost" in said[0]
    assert (tmp_path / "orders.json.bad").exists()
    assert not file.exists()


def test_file_comes_back(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "below" / "orders.json", pytest.fail)
    orders.load()
    pause = Pause("storm", "", 5.0, 9.5, "x", Person(0, 1000))
    orders.pauses[pause.scope] = pause
    assert orders.save() == ""
    again = Orders(orders.path, pytest.fail)
    again.load()
    assert again.pauses == {("storm", ""): pause}
    assert str(pause).endswith("by uid 0 (login 1000): x")
    assert again.drop_old(9.4) == ([], [], [])
    assert again.drop_old(9.5) == ([pause], [], [])
    third = Orders(orders.path, pytest.fail)
    third.load()
    assert third.pauses == {}
