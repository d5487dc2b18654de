# SPDX-License-Identifier: GPL-2.0-or-later
"""Pins: a person holds a subsystem at an edition, until they, time or safety end that."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, status
from dynamosd.api.documents import View
from dynamosd.api.handler import Shown
from dynamosd.api.server import ApiServer
from dynamosd.model import LeaseTerms
from dynamosd.orders import Orders, Person, Pin
from dynamosd.requests import Inbox, Request
from dynamosd.switcher import Switcher
from tests.unit.build import write_policy
from tests.unit.test_daemon import ORDER, House, rewrite
from tests.unit.test_main import DEADLINE_SECONDS, Running, wait_for
from tests.unit.test_quarantines import GUARDRAILS, fail

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.testing import FakeModule
    from tests.unit.asking import Operator

    Plan = dict[float, Callable[[], object]]

ME = os.geteuid()


def shown(house: House) -> dict[str, Any]:
    """Give the daemon's status."""
    found = status.read(house.settings.runtime_dir)
    assert found is not None
    return found


def stands(house: House) -> tuple[str, str | None]:
    """Give what is active and what is partial."""
    subsystem = house.module.kmod.read().subsystems["readahead"]
    return subsystem.active, subsystem.partial


# ------------------------------------------------------------------------------ pin and unpin


def test_who_has_an_answer_finds_it_in_the_status(
    house: House, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is typed next, or comes next from a pipe, goes by the status."""
    seen: list[list[str]] = []
    answer = Inbox.answer

    def noting(inbox: Inbox, request: Request, result: Any) -> None:  # noqa: ANN401 - JSON
        seen.append([each["edition"] for each in shown(house)["pins"]])
        answer(inbox, request, result)

    monkeypatch.setattr(Inbox, "answer", noting)
    plan: Plan = {
        1.5: operator.types("pin", "readahead", "random"),
        3.5: operator.types("unpin", "readahead"),
    }
    assert house.run(6.0, plan) == 0
    assert [each.code for each in operator.ended()] == [0, 0]
    assert seen == [["random"], []]


def test_pin_holds_against_a_policy_until_unpin(house: House, operator: Operator) -> None:
    seen: list[Any] = []
    plan: Plan = {
        1.5: operator.types("pin", "readahead", "original", "--reason", "a new\ndisk\x1b[1m"),
        2.5: lambda: house.block(3),
        5.5: lambda: seen.extend([house.active(), shown(house)]),
        5.7: operator.types("unpin", "readahead"),
        6.6: lambda: seen.append(house.active()),
    }
    assert house.run(9.0, plan) == 0
    pinned, ended = operator.ended()
    assert (pinned.code, ended.code, pinned.err, ended.err) == (0, 0, "", "")
    assert pinned.out.splitlines() == [
        "readahead: original is pinned until dynamosctl unpin readahead",
        "  policy storm makes no switch meanwhile",
    ]
    assert ended.out == "readahead is no longer pinned\n  policy storm decides again\n"
    before, told, after = seen
    assert (before, after) == ("original", "random")
    why = f"pinned by uid {ME}: a new disk [1m"
    policy, (pin,) = told["policies"][0], told["pins"]
    assert (policy["phase"], policy["suppressed"], policy["paused"]) == ("paused", "paused", why)
    assert policy["reason"].endswith(f"no switch to random: {why}")
    assert (pin["edition"], pin["until"], pin["trouble"]) == ("original", None, None)
    (begun,), (over,) = house.records("pin"), house.records("unpin")
    assert (begun["edition"], begun["uid"], begun["reason"]) == ("original", ME, "a new disk [1m")
    assert (over["subsystem"], over["uid"]) == ("readahead", ME)
    assert [each[2] for each in house.switches()] == ["policy", "exit"]


def test_pin_switches_at_once_and_again(house: House, operator: Operator) -> None:
    seen: list[str | None] = []
    plan: Plan = {
        1.5: operator.types("pin", "readahead", "random", "-o", "json"),
        2.2: lambda: seen.append(house.active()),
        3.5: lambda: house.module.command("switch readahead original"),
        4.2: lambda: seen.append(house.active()),
    }
    assert house.run(6.0, plan) == 0
    (pinned,) = operator.ended()
    answer = json.loads(pinned.out)
    assert (answer["kind"], answer["from"], answer["switched"]) == ("Pin", "original", True)
    assert (pinned.code, answer["trouble"], answer["until"]) == (0, "", None)
    assert seen == ["random", "random"]
    assert house.switches() == [
        ("original", "random", "pin", "ok"),
        ("random", "original", "manual", "ok"),
        ("original", "random", "pin", "ok"),
    ]
    first = house.records("switch")[0]
    assert (first["uid"], first["reason"]) == (ME, f"pinned by uid {ME}")
    # It stays when the daemon leaves, whatever onExit says.
    assert house.active() == "random"
    assert any("readahead is left with random: pinned by" in line for line in house.said)
    labels = {"subsystem": "readahead", "trigger": "pin", "to": "random"}
    assert house.metric("dynamos_switches_total", **labels) == 2


@pytest.mark.parametrize("scope", ["share:1/10", "share:1/2"])
def test_pin_ends_a_scoped_switch_by_hand(house: House, operator: Operator, scope: str) -> None:
    seen: list[Any] = []

    def begin() -> None:
        house.module.command(f"switch readahead random mode=scoped scope={scope}")

    plan: Plan = {
        0.5: begin,
        1.5: operator.types("pin", "readahead", "original"),
        2.2: lambda: seen.append(stands(house)),
        3.5: begin,
        4.2: lambda: seen.append(stands(house)),
    }
    assert house.run(5.0, plan) == 0
    assert [each.code for each in operator.ended()] == [0]
    assert seen == [("original", None)] * 2


def test_pin_ends_by_itself(house: House, operator: Operator) -> None:
    seen: list[Any] = []
    labels = {"subsystem": "readahead", "edition": "original"}

    def look() -> None:
        end = house.metric("dynamos_subsystem_pin_end_timestamp_seconds", subsystem="readahead")
        seen.append((house.active(), house.metric("dynamos_subsystem_pinned", **labels), end))

    plan: Plan = {
        0.5: operator.types("pin", "readahead", "original", "--for", "4s"),
        0.6: lambda: house.block(3),
        4.5: look,
        5.5: look,
    }
    house.run(7.0, plan)
    (pinned,) = operator.ended()
    until = 1_700_000_005.0
    assert "original is pinned until 2023-11-14T22:13:25.000Z" in pinned.out
    assert seen == [("original", 1.0, until), ("random", None, None)]
    (over,) = house.records("unpin")
    assert (over["uid"], over["reason"]) == (None, "its time is over")
    assert over["time_seconds"] == until


def test_pin_takes_the_place_of_another(house: House, operator: Operator) -> None:
    plan: Plan = {
        0.5: operator.types("pin", "readahead", "random"),
        2.5: operator.types("pin", "readahead", "original", "--for", "1h"),
    }
    house.run(5.0, plan)
    assert [each.code for each in operator.ended()] == [0, 0]
    assert house.active() == "original"
    assert [each["edition"] for each in house.records("pin")] == ["random", "original"]
    assert house.records("unpin") == []
    assert [each[:3] for each in house.switches()] == [
        ("original", "random", "pin"),
        ("random", "original", "pin"),
    ]


def test_advice_is_neither_given_nor_accepted(house: House, operator: Operator) -> None:
    write_policy(house.policies, mode="advise")
    house.block(3)
    which: list[str] = []
    plan: Plan = {
        2.2: lambda: which.extend(each["id"] for each in shown(house)["advice"]),
        2.5: operator.types("pin", "readahead", "original"),
        3.5: operator.types("advice", "accept", lambda: which[0]),
    }
    house.run(6.0, plan)
    pinned, accepted = operator.ended()
    assert (pinned.code, accepted.code) == (0, 6)
    assert house.switches() == []
    assert house.metric("dynamos_policy_open_advice", policy="storm") == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pin", "readahaed", "random"), 1, "did you mean readahead?"),
        (("pin", "readahead", "randon"), 1, "did you mean random?"),
        (("pin", "readahead", "bogus"), 1, "editions here: original, random"),
        (("pin", "readahead", "random", "--for", "0s"), 2, "is no time"),
        (("pin", "readahead", "random", "--timeout", "0s"), 2, "is no time"),
        (("pin", "readahead", "random", "--reason", "x" * 201), 1, "at most 200 characters"),
        (("unpin", "readahaed"), 1, "did you mean readahead?"),
        (("rollback",), 2, "name a subsystem, or say --all"),
        (("rollback", "readahead", "--all"), 2, "name a subsystem, or say --all"),
        (("rollback", "readahaed"), 1, "did you mean readahead?"),
    ],
)
def test_pin_that_cannot_be(
    house: House, operator: Operator, words: tuple[str, ...], code: int, said: str
) -> None:
    house.run(3.0, {0.5: operator.types(*words)})
    (answer,) = operator.ended()
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert house.records("pin") == house.records("unpin") == []
    assert shown_pins(house) == {}


def shown_pins(house: House) -> dict[str, Pin]:
    """Give the pins that the daemon has kept."""
    orders = Orders(house.settings.orders, pytest.fail)
    orders.load()
    return orders.pins


def test_unpin_of_what_is_not_pinned(house: House, operator: Operator) -> None:
    house.run(3.0, {0.5: operator.types("unpin", "readahead")})
    (answer,) = operator.ended()
    assert (answer.code, answer.out) == (0, "readahead was not pinned\n")
    assert house.records("unpin") == []


def test_switched_off_module_refuses_all_but_original(house: House, operator: Operator) -> None:
    house.module.enable(0)
    plan: Plan = {
        0.5: operator.types("pin", "readahead", "random"),
        1.5: operator.types("pin", "readahead", "original"),
    }
    house.run(4.0, plan)
    refused, pinned = operator.ended()
    assert (refused.code, pinned.code) == (6, 0)
    assert "switched off" in refused.err


def test_subsystem_of_another_program_is_pinned_to_original_only(
    house: House, operator: Operator
) -> None:
    (house.policies / "storm.yaml").unlink()
    other = house.module.open(by=4711)
    house.module.kmod.lease(other, "readahead", LeaseTerms("hold", "original", 30.0, 60.0))
    plan: Plan = {
        0.5: operator.types("pin", "readahead", "random"),
        1.5: operator.types("rollback", "readahead"),
    }
    house.run(4.0, plan)
    refused, back = operator.ended()
    assert (refused.code, back.code) == (6, 0)
    assert "another program looks after it (pid 4711)" in refused.err
    other.close()


def test_pin_without_a_module_or_a_daemon(house: House, operator: Operator) -> None:
    plan: Plan = {0.5: house.module.remove, 1.5: operator.types("pin", "readahead", "random")}
    house.run(4.0, plan)
    (answer,) = operator.ended()
    assert (answer.code, "the kernel module is not loaded" in answer.err) == (5, True)
    where = ["--runtime-dir", str(house.settings.runtime_dir)]
    assert cli.main(["pin", "readahead", "random", *where], house.module.kmod) == 5
    assert cli.main(["unpin", "readahead", *where], house.module.kmod) == 5


# -------------------------------------------------------------------------------- what lasts


def test_pin_outlives_a_reload_and_the_policy(house: House, operator: Operator) -> None:
    made, file = house.start(), house.policies / "storm.yaml"
    text = file.read_text()
    seen: list[Any] = []

    change = partial(rewrite, made, file)
    house.clock.at(1000.5, operator.types("pin", "readahead", "random"))
    house.clock.at(1002.5, lambda: change(None))
    house.clock.at(1004.5, lambda: seen.append(house.active()))
    house.clock.at(1004.6, lambda: change(text))
    house.clock.at(1006.5, lambda: seen.append(house.active()))
    house.clock.at(1008.0, made.request_stop)
    assert made.run() == 0
    assert seen == ["random", "random"]
    assert [each[2] for each in house.switches()] == ["pin"]


def test_pin_outlives_a_daemon_that_is_killed(tmp_path: Path, module: FakeModule) -> None:
    running = Running(tmp_path, module)
    where = ["--runtime-dir", str(running.run)]
    with running.daemon() as process:
        assert cli.main(["pin", "readahead", "random", *where]) == 0
        assert running.active() == "random"
        process.kill()
        process.wait()
    module.command("switch readahead original")
    with running.daemon() as process:
        # Without a reason of its own the policy would leave it where it was found.
        wait_for(lambda: running.active() == "random", "the pin is carried out again")
        assert cli.main(["unpin", "readahead", *where]) == 0
        wait_for(lambda: running.active() == "original", "the policy decides again")
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0


def test_lease_of_what_is_pinned_to_original_is_hold(house: House, operator: Operator) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(house.module.lease_of("readahead")["action"])

    plan: Plan = {
        1.4: look,
        1.5: operator.types("pin", "readahead", "original"),
        4.2: look,
        4.5: operator.types("pin", "readahead", "random"),
        7.2: look,
    }
    house.run(8.0, plan)
    assert seen == ["baseline", "hold", "baseline"]


def test_daemon_lost_right_after_a_pin_leaves_no_edition_behind(
    house: House, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it was pinned to `original` the lease was to hold: not when calls go elsewhere."""
    actions: dict[str, str] = {}
    attempt = Switcher.attempt

    def noting(switcher: Switcher, name: str, target: str, *rest: Any) -> Any:  # noqa: ANN401
        actions[target] = house.module.lease_of(name)["action"]
        return attempt(switcher, name, target, *rest)

    monkeypatch.setattr(Switcher, "attempt", noting)
    plan: Plan = {
        1.5: operator.types("pin", "readahead", "original"),
        4.5: operator.types("pin", "readahead", "random"),
        7.5: operator.types("pin", "readahead", "original"),
    }
    house.run(9.0, plan)
    assert actions == {"random": "baseline", "original": "baseline"}


def test_file_comes_back_and_an_older_one_has_no_pins(tmp_path: Path) -> None:
    orders = Orders(tmp_path / "orders.json", pytest.fail)
    pin = Pin("readahead", "random", 5.0, 9.5, "x", Person(0, 1000))
    orders.pins["readahead"] = pin
    assert orders.save() == ""
    again = Orders(orders.path, pytest.fail)
    again.load()
    assert again.pins == {"readahead": pin}
    assert str(pin) == "pinned by uid 0 (login 1000) until 1970-01-01T00:00:09.500Z: x"
    assert again.drop_old(9.4) == ([], [], [])
    assert again.drop_old(9.5) == ([], [pin], [])
    old = json.loads(orders.path.read_text())
    del old["pins"]
    orders.path.write_text(json.dumps(old))
    third = Orders(orders.path, pytest.fail)
    third.load()
    assert third.pins == {}


@pytest.mark.parametrize("wrong", [{"until": "soon"}, {"by": 7}, {"colour": "red"}])
def test_file_with_a_pin_that_is_none_is_put_aside(tmp_path: Path, wrong: dict[str, Any]) -> None:
    pin = {"subsystem": "a", "edition": "b", "since": 1, "until": 2, "reason": "", "by": {"uid": 0}}
    file, said = tmp_path / "orders.json", list[str]()
    content = {"version": 1, "pauses": [], "mutes": [], "pins": [{**pin, **wrong}]}
    file.write_text(json.dumps(content))
    orders = Orders(file, said.append)
    orders.load()
    assert (orders.pins, orders.errors, "are lost" in said[0]) == ({}, 1, True)


# ------------------------------------------------------------------------------------ safety


def test_breach_ends_a_pin_and_rolls_back(house: House, operator: Operator) -> None:
    write_policy(house.policies, more=GUARDRAILS)
    plan: Plan = {second + 0.5: lambda: fail(house) for second in range(20)}
    plan[0.7] = operator.types("pin", "readahead", "random", "--reason", "brave")
    plan[17.7] = operator.types("pin", "readahead", "random")
    assert house.run(20.0, plan) == 0
    _, refused = operator.ended()
    assert house.active() == "original"
    assert house.switches() == [
        ("original", "random", "pin", "ok"),
        ("random", "original", "policy", "ok"),
    ]
    (over,) = house.records("unpin")
    assert (over["uid"], over["edition"]) == (None, "random")
    assert over["reason"] == "edition random is in quarantine for 30s (guardrail failing)"
    assert refused.code == 6
    assert "dynamosctl edition clear readahead random" in refused.err


def test_tripwire_ends_a_pin(house: House, operator: Operator) -> None:
    plan: Plan = {
        0.5: operator.types("pin", "readahead", "random"),
        2.5: lambda: house.module.trip("readahead", "random"),
    }
    house.run(5.0, plan)
    assert house.switches() == [
        ("original", "random", "pin", "ok"),
        ("random", "original", "tripwire", "ok"),
    ]
    (over,) = house.records("unpin")
    assert over["reason"] == "edition random is in quarantine (oops)"
    assert shown_pins(house) == {}


def test_edition_that_is_pinned_and_bad_is_left_without_a_policy(
    house: House, operator: Operator
) -> None:
    (house.policies / "storm.yaml").unlink()

    def break_it() -> None:
        house.module.trip("readahead", "random")
        (house.module.sysfs / "readahead/active").write_text("random\n")

    plan: Plan = {0.5: operator.types("pin", "readahead", "random"), 2.5: break_it}
    house.run(5.0, plan)
    assert house.active() == "original"
    assert house.switches()[-1] == ("random", "original", "pin", "ok")
    assert len(house.records("unpin")) == 1


def test_pin_that_cannot_be_carried_out_is_told_and_tried_again(
    house: House, operator: Operator
) -> None:
    plan: Plan = {
        0.5: operator.types("pin", "readahead", "random"),
        2.5: lambda: house.module.command("switch readahead original"),
        2.6: lambda: house.module.unload("readahead", "random"),
        5.5: lambda: trouble.append(shown(house)["pins"][0]["trouble"]),
        5.6: lambda: house.module.load("readahead", "random", [ORDER]),
        7.5: lambda: trouble.append(shown(house)["pins"][0]["trouble"]),
    }
    trouble: list[str | None] = []
    house.run(9.0, plan)
    assert trouble == ["edition random is not loaded", None]
    assert house.active() == "random"
    assert house.switches()[-2:] == [
        ("original", "random", "pin", "refused"),
        ("original", "random", "pin", "ok"),
    ]
    said = [line for line in house.said if "readahead should be random" in line]
    assert len(said) == 1


# ------------------------------------------------------------------------- switch and rollback


def typed(house: House, *words: str) -> int:
    """Run a command that asks nothing of the daemon."""
    where = ("--runtime-dir", str(house.settings.runtime_dir))
    return cli.main([*words, *where], house.module.kmod)


def test_switch_elsewhere_is_refused_and_says_how_to_unpin(
    house: House, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []

    def switch() -> None:
        operator.ended()
        codes.append(typed(house, "switch", "readahead", "original"))
        codes.append(typed(house, "switch", "readahead", "random", "--scope", "share:1/2"))
        codes.append(typed(house, "switch", "readahead", "random"))

    plan: Plan = {0.5: operator.types("pin", "readahead", "random", "--reason", "x"), 2.5: switch}
    house.run(4.0, plan)
    said = capsys.readouterr().err
    assert codes == [6, 6, 0]
    assert f"readahead is held: random pinned by uid {ME}: x" in said
    assert "dynamosctl unpin readahead, or hold it there: dynamosctl rollback readahead" in said


def test_switch_that_a_policy_would_undo_offers_the_pin(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.run(4.0, {2.5: lambda: typed(house, "switch", "readahead", "random")})
    said = capsys.readouterr().err
    assert "policy storm enforces readahead and may switch it again" in said
    assert "to hold it there: dynamosctl pin readahead random" in said


def test_rollback_is_a_pin_to_original_for_an_hour(house: House, operator: Operator) -> None:
    house.block(3)
    seen: list[str | None] = []
    plan: Plan = {
        2.4: lambda: seen.append(house.active()),
        2.5: operator.types("rollback", "readahead", "--reason", "3 a.m."),
        5.5: lambda: seen.append(house.active()),
    }
    house.run(7.0, plan)
    (answer,) = operator.ended()
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[:2] == [
        "readahead: random -> original",
        "readahead: original is pinned until 2023-11-14T23:13:23.000Z",
    ]
    assert seen == ["random", "original"]
    assert house.active() == "original"


def test_rollback_does_not_shorten_a_pin(house: House, operator: Operator) -> None:
    plan: Plan = {
        0.5: operator.types("pin", "readahead", "original", "--reason", "for good"),
        2.5: operator.types("rollback", "--all", "-o", "json"),
    }
    house.run(5.0, plan)
    _, answer = operator.ended()
    (back,) = json.loads(answer.out)["subsystems"]
    assert (back["until"], back["reason"], back["pinned"]) == (None, "for good", True)
    assert len(house.records("pin")) == 1


def test_rollback_without_a_daemon(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.module.command("switch readahead random")
    assert typed(house, "rollback", "readahead") == 0
    said = capsys.readouterr()
    assert said.out == "readahead: random -> original\n"
    assert "nothing holds readahead there, but nobody switches it either" in said.err
    assert house.active() == "original"
    assert typed(house, "rollback", "--all") == 0
    assert capsys.readouterr().out == "readahead: original is active already\n"


@pytest.mark.parametrize("has_ticked", [True, False])
def test_rollback_with_a_daemon_that_hangs_or_starts(
    house: House, capsys: pytest.CaptureFixture[str], *, has_ticked: bool
) -> None:
    house.module.command("switch readahead random")
    if has_ticked:
        status.write(house.settings.runtime_dir, {"pid": os.getpid(), "policies": []})
    shown = Shown(bytes, lambda: True, lambda: View(house.settings.journal))
    server = ApiServer(("127.0.0.1", 0), house.settings.runtime_dir, shown, Inbox())
    try:
        assert typed(house, "rollback", "readahead", "--timeout", "300ms") == 5
    finally:
        server.close()
    assert house.active() == "original"
    assert "the daemon may switch it again" in capsys.readouterr().err


def test_rollback_with_a_daemon_whose_socket_is_gone(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.module.command("switch readahead random")
    status.write(house.settings.runtime_dir, {"pid": os.getpid(), "policies": []})
    assert typed(house, "rollback", "readahead") == 5
    assert house.active() == "original"
    assert "the daemon may switch it again" in capsys.readouterr().err


def test_rollback_that_the_daemon_refuses_is_done_all_the_same(
    house: House, operator: Operator
) -> None:
    (house.policies / "storm.yaml").unlink()
    house.module.command("switch readahead random")
    house.run(4.0, {0.5: operator.types("rollback", "readahead", "--reason", "x" * 201)})
    (answer,) = operator.ended()
    assert (answer.code, answer.out) == (1, "readahead: random -> original\n")
    assert "at most 200 characters: nothing holds readahead there" in answer.err
    assert house.records("pin") == []


def test_rollback_beside_a_lease_that_is_lost(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    other = house.module.open(by=4711)
    house.module.kmod.lease(other, "readahead", LeaseTerms("baseline", "random", 30.0, 60.0))
    other.close()
    house.module.reap()
    assert typed(house, "rollback", "readahead") == 0
    assert "and pid 4711 has left a lease: it may be switched again" in capsys.readouterr().err


# ----------------------------------------------------------------------------- what is shown


def test_status_show_explain_and_history_tell_of_it(
    house: House, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, str] = {}

    def look() -> None:
        operator.ended()
        journal = ["--journal", str(house.settings.journal)]
        capsys.readouterr()
        for words in (["status"], ["show", "readahead", *journal], ["explain"]):
            assert typed(house, *words) == 0
            told[words[0]] = capsys.readouterr().out
        assert typed(house, "status", "-o", "json") == 0
        told["json"] = capsys.readouterr().out

    pin = operator.types("pin", "readahead", "random", "--for", "1h", "--reason", "compare " * 9)
    house.run(5.0, {0.5: pin, 2.5: look, 3.5: operator.types("unpin", "readahead")})
    operator.ended()
    who = f"pinned by uid {ME} until 2023-11-14T23:13:21.000Z: compare compare"
    for name in ("status", "show"):
        assert f"random {who}" in " ".join(told[name].split())
    assert who in " ".join(told["explain"].split())
    for name in ("status", "show", "explain"):
        assert max(map(len, told[name].splitlines())) <= 80
    (subsystem,) = json.loads(told["json"])["subsystems"]
    assert (subsystem["pin"]["edition"], subsystem["pin"]["uid"]) == ("random", ME)
    assert typed(house, "history", "--journal", str(house.settings.journal)) == 0
    history = " ".join(capsys.readouterr().out.split())
    assert f"random pinned by uid {ME} until 2023-11-14T23:13:21Z: compare" in history
    assert f"random no longer pinned: ended by uid {ME}" in history
    assert "original -> random (for the pin)" in history
