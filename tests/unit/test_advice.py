# SPDX-License-Identifier: GPL-2.0-or-later
"""Advice: given with an id that stays, accepted once, muted, and refused when it is unsafe."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd import cli, recording, status
from dynamosd.advice import KEPT, AdviceBook, AdviceState
from dynamosd.errors import Refused
from dynamosd.journal import Journal
from dynamosd.kmod import Kmod
from dynamosd.model import Action, Decision, LeaseTerms
from dynamosd.orders import Mute, Orders, Person
from dynamosd.policy.advice import advice_id
from dynamosd.policy.definition import Mode
from dynamosd.policy.load import load_policy
from dynamosd.replay import as_recorded
from tests.unit.build import write_policy
from tests.unit.policy.build import policy_of
from tests.unit.test_daemon import ORDER, House, scoped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.kmod import Event
    from dynamosd.policy.definition import Policy
    from dynamosd.testing import FakeModule, ManualClock
    from tests.unit.asking import Operator

ME = os.geteuid()


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy advises `random` while three threads are in flight."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies, mode="advise")
    return made


def shown(house: House) -> list[dict[str, Any]]:
    """Give the advice of the status."""
    found = status.read(house.settings.runtime_dir)
    assert found is not None
    advice: list[dict[str, Any]] = found["advice"]
    return advice


def the_open(house: House) -> str:
    """Give the id of the one advice that is open."""
    (advice,) = [each for each in shown(house) if each["state"] == "open"]
    return str(advice["id"])


def results(house: House) -> list[tuple[str, str]]:
    """Give what the journal says became of advice: its target, and what."""
    return [(each["to"], each["result"]) for each in house.records("advice")]


# ------------------------------------------------------------------------------------- the id


def decision(policy: Policy, **changed: Any) -> Decision:  # noqa: ANN401 - fields
    """Give what a policy in mode advise decides in a storm."""
    made = Decision(
        time=5.0,
        policy=policy.name,
        subsystem=policy.subsystem,
        action=Action.SWITCH,
        current="original",
        target="batched",
        rule="storm",
        reason="so",
        values={},
        rules={},
    )
    return replace(made, **changed)


def advising() -> Policy:
    """Give a policy in mode advise."""
    return policy_of(spec="mode: advise\n")


def test_id_is_a_contract() -> None:
    # It is in people's notes, and muted advice is known by it: this must never change.
    rule = """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
  until: calls_rate("pipe_write") < 50.0
  for: 3s
  samples: {need: 2, of: 3}
  during: [{days: "sat,sun", from: "08:00"}]
"""
    policy = policy_of(rule, "mode: advise\n")
    assert advice_id(policy, decision(policy)) == "s7epcdlb"
    assert advice_id(policy, decision(policy, rule="", target="original")) == "mpb53jqt"


@pytest.mark.parametrize(
    "changed",
    [{"current": "quiet"}, {"target": "quiet"}, {"rule": ""}],
)
def test_another_situation_is_another_advice(changed: dict[str, str]) -> None:
    policy = advising()
    found = advice_id(policy, decision(policy))
    assert found is not None
    assert len(found) == 8
    assert advice_id(policy, decision(policy, **changed)) != found


def test_changed_rule_or_name_is_another_advice() -> None:
    policy = advising()
    (rule,) = policy.rules
    found = {
        advice_id(each, decision(each))
        for each in (
            policy,
            replace(policy, name="other"),
            replace(policy, rules=(replace(rule, for_seconds=77.0),)),
            replace(policy, rules=(replace(rule, keep_for_seconds=77.0),)),
            replace(policy, rules=(replace(rule, until=rule.when),)),
        )
    }
    assert len(found) == 5


@given(time=st.floats(allow_nan=False), reason=st.text())
def test_what_is_measured_does_not_change_the_id(time: float, reason: str) -> None:
    policy = advising()
    again = decision(
        replace(policy, file="elsewhere"), time=time, reason=reason, values={"x": time}
    )
    assert advice_id(policy, again) == advice_id(policy, decision(policy))


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ENFORCE])
def test_only_mode_advise_advises(mode: Mode) -> None:
    policy = replace(advising(), mode=mode)
    assert advice_id(policy, decision(policy)) is None


def test_a_decision_to_stay_is_no_advice() -> None:
    policy = advising()
    assert advice_id(policy, decision(policy, action=Action.STAY)) is None


# -------------------------------------------------------------------------------- giving advice


def test_advice_is_given_shown_and_over(house: House, operator: Operator) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append((shown(house), house.metric("dynamos_policy_open_advice", policy="storm")))

    plan: dict[float, Callable[[], object]] = {
        0.5: look,
        1.5: lambda: house.block(3),
        4.5: look,
        4.6: operator.types("advice", "list"),
        4.7: lambda: house.module.leave("readahead"),
        6.5: look,
        6.6: operator.types("advice", "list"),
        6.7: operator.types("advice", "list", "--all", "-o", "json"),
    }
    assert house.run(8.0, plan) == 0
    assert (seen[0], seen[2][1]) == (([], 0.0), 0.0)
    ((advice,), count) = seen[1]
    assert count == 1.0
    assert (advice["policy"], advice["subsystem"], advice["rule"]) == ("storm", "readahead", "busy")
    assert (advice["from"], advice["to"], advice["state"]) == ("original", "random", "open")
    assert advice["since"] == "2023-11-14T22:13:22.000Z"
    assert f'in_flight("{ORDER}") = 3' in advice["reason"]
    during, after, everything = operator.ended()
    assert during.code == after.code == 0
    line = f"{advice['id']}  open   storm   readahead  original  random  busy"
    assert line in during.out.splitlines()
    assert max(map(len, during.out.splitlines())) <= 80
    assert after.out == "there is no advice\n"
    (gone,) = json.loads(everything.out)["advice"]
    assert (gone["id"], gone["state"]) == (advice["id"], "gone")
    assert results(house) == [("random", "open"), ("random", "gone")]
    assert len([line for line in house.said if f"advice {advice['id']} of policy" in line]) == 1
    assert house.active() == "original"


def test_the_same_situation_has_the_same_id_after_a_restart(house: House) -> None:
    seen: list[str] = []
    house.block(3)
    house.run(3.0, {2.5: lambda: seen.append(the_open(house))})
    second = house.start()
    house.clock.at(1005.5, lambda: seen.append(the_open(house)))
    house.clock.at(1006.0, second.request_stop)
    second.run()
    assert len(seen) == 2
    assert seen[0] == seen[1]


@pytest.mark.parametrize("mode", ["observe", "enforce", None])
def test_advice_goes_with_its_policy(house: House, mode: str | None) -> None:
    made = house.start()
    seen: list[Any] = []

    def change() -> None:
        if mode is None:
            (house.policies / "storm.yaml").unlink()
        else:
            write_policy(house.policies, mode=mode)
        made.request_reload()

    house.block(3)
    house.clock.at(1002.5, change)
    house.clock.at(1004.5, lambda: seen.extend(shown(house)))
    house.clock.at(1005.0, made.request_stop)
    made.run()
    assert [each["state"] for each in seen] == ["gone"]
    assert house.metric("dynamos_policy_open_advice", policy="storm") is None


# ------------------------------------------------------------------------------------ accepting


def test_accepted_advice_is_switched_to_once_and_stays(house: House, operator: Operator) -> None:
    leases: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: house.block(3),
        2.5: operator.types("advice", "accept", lambda: the_open(house)),
        3.5: lambda: leases.append(house.lease()),
        4.5: lambda: house.module.leave("readahead"),
    }
    assert house.run(8.0, plan) == 0
    (accepted,) = operator.ended()
    assert (accepted.code, accepted.err) == (0, "")
    which = accepted.words[2]
    assert accepted.out == (
        f"switched readahead: original -> random (advice {which} of policy storm)\n"
    )
    # It goes on advising, and nothing but a person goes back: not even the daemon's end.
    assert house.active() == "random"
    assert leases == [None]
    assert house.switches() == [("original", "random", "advice", "ok")]
    (switch,) = house.records("switch")
    assert (switch["advice"], switch["uid"], switch["policy"]) == (which, ME, "storm")
    assert (switch["rule"], switch["time_seconds"]) == ("busy", 1_700_000_003.0)
    assert results(house) == [("random", "open"), ("random", "accepted"), ("original", "open")]
    assert house.records("advice")[1]["uid"] == ME
    assert house.metric("dynamos_switches_total", trigger="advice", result="ok") == 1
    assert house.metric("dynamos_policy_mode", policy="storm", mode="advise") == 1


def test_way_back_is_an_advice_of_its_own(house: House, operator: Operator) -> None:
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: house.block(3),
        2.5: operator.types("advice", "accept", lambda: the_open(house), "-o", "json"),
        4.5: lambda: house.module.leave("readahead"),
        6.5: operator.types("advice", "accept", lambda: the_open(house), "-o", "json"),
        8.5: operator.types("advice", "list", "-o", "json"),
    }
    house.run(10.0, plan)
    there, back, listed = (json.loads(each.out) for each in operator.ended())
    assert there["kind"] == "AcceptedAdvice"
    assert (there["mode"], there["partial"]) == ("concurrent", False)
    assert (back["advice"]["from"], back["advice"]["to"]) == ("random", "original")
    assert [each["state"] for each in listed["advice"]] == ["accepted", "accepted"]
    assert house.active() == "original"
    assert [each[2] for each in house.switches()] == ["advice", "advice"]


def test_accepted_switch_counts_for_the_limits(house: House, operator: Operator) -> None:
    write_policy(house.policies, mode="advise", limits="{cooldown: 4s}")
    seen: list[str] = []
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: house.block(3),
        2.5: operator.types("advice", "accept", lambda: the_open(house)),
        3.5: lambda: house.module.leave("readahead"),
    }
    for second in range(4, 9):
        plan[second + 0.5] = lambda: seen.append(
            ",".join(each["to"] for each in shown(house) if each["state"] == "open")
        )
    house.run(9.0, plan)
    assert seen == ["", "", "", "original", "original"]


def test_accepted_switch_keeps_the_recording_whole(house: House, operator: Operator) -> None:
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: house.block(3),
        2.5: operator.types("advice", "accept", lambda: the_open(house)),
        4.5: lambda: house.module.leave("readahead"),
    }
    house.run(8.0, plan)
    policy = load_policy(house.policies / "storm.yaml")
    played = as_recorded(policy, recording.read(house.settings.recordings))
    assert (played.compared, played.differing) == (8, 0)


def test_slow_switch_costs_no_other_subsystem_its_lease(
    house: House, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(house.policies, mode="advise", switch="{mode: exclusive, timeout: 30s}")
    house.module.register("pipe", ["pipe_write"])
    house.module.load("pipe", "batched")
    when = 'in_flight("pipe_write") > 99.0'
    write_policy(house.policies, name="p", subsystem="pipe", edition="batched", when=when)
    told: list[str] = []
    command = house.module.carry_out

    def slow(line: str, file: str, by: int) -> list[Event]:
        told.append(line)
        if line.startswith("switch "):
            house.clock.advance(30.0)
        return command(line, file, by)

    monkeypatch.setattr(house.module, "carry_out", slow)
    house.block(3)
    house.run(5.0, {1.5: operator.types("advice", "accept", lambda: the_open(house))})
    switch = next(number for number, line in enumerate(told) if line.startswith("switch "))
    assert "ttl_ms=40000" in told[switch - 1]


def enforce_another(house: House) -> None:
    """Let another policy enforce what the first one advises on."""
    write_policy(house.policies, name="other", mode="enforce", when=f'in_flight("{ORDER}") > 99.0')


def lease_it(house: House) -> None:
    """Let another program look after the subsystem."""
    other = house.module.open(by=812)
    house.module.kmod.lease(other, "readahead", LeaseTerms("hold", "original", 9.0, 0.0))


@pytest.mark.parametrize(
    ("before", "between", "why"),
    [
        (None, lambda house: house.module.leave("readahead"), "does not hold any more: baseline"),
        (
            None,
            lambda house: house.module.trip("readahead", "random"),
            "does not hold any more: .*edition random is in quarantine \\(oops\\)",
        ),
        (None, lambda house: house.module.enable(0), "the module is switched off"),
        (None, scoped, "someone else's scoped switch to random is going on"),
        (None, lease_it, r"another program looks after it \(pid 812\)"),
        (None, lambda house: house.module.kmod.switch("readahead", "random"), "not hold any more"),
        (enforce_another, lambda _house: None, "policy other enforces it"),
    ],
)
def test_advice_that_is_refused(
    house: House,
    operator: Operator,
    before: Callable[[House], object] | None,
    between: Callable[[House], object],
    why: str,
) -> None:
    # Evaluated at 0 and 5 s: in between the daemon has to look again.
    write_policy(house.policies, mode="advise", interval="5s")
    if before:
        before(house)
    house.block(3)
    found: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        1.5: lambda: between(house),
        2.5: operator.types("advice", "accept", lambda: the_open(house)),
        3.5: lambda: found.append(house.active()),
    }
    house.run(4.0, plan)
    (refused,) = operator.ended()
    assert (refused.code, refused.out) == (6, "")
    assert not [each for each in house.switches() if each[2] == "advice"]
    record = house.records("advice")[-1]
    assert (record["result"], record["uid"]) == ("refused", ME)
    assert re.search(why, record["error"]), record["error"]
    assert re.search(why, refused.err), refused.err


def test_advice_is_not_accepted_twice_or_late(house: House, operator: Operator) -> None:
    write_policy(house.policies, mode="advise", interval="3s")
    ids: list[str] = []
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: ids.append(the_open(house)),
        0.6: operator.types("advice", "accept", lambda: ids[0]),
        1.5: operator.types("advice", "accept", lambda: ids[0]),
        3.5: operator.types("advice", "accept", lambda: ids[0]),
        4.5: operator.types("advice", "accept", "aaaaaaaa"),
    }
    house.run(6.0, plan)
    first, twice, late, unknown = operator.ended()
    assert [each.code for each in (first, twice, late, unknown)] == [0, 6, 6, 1]
    assert "has been accepted already" in twice.err
    assert 'there is no advice "aaaaaaaa"' in unknown.err
    assert len(house.switches()) == 1


def test_advice_that_the_module_refuses_stays_open(
    house: House, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object, *_words: object, **_options: object) -> None:
        raise Refused("the module says no")

    monkeypatch.setattr(Kmod, "switch", refuse)
    seen: list[str] = []
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        1.5: operator.types("advice", "accept", lambda: the_open(house)),
        3.5: lambda: seen.append(the_open(house)),
    }
    house.run(5.0, plan)
    (refused,) = operator.ended()
    assert refused.code == 6
    assert "cannot switch readahead: original -> random: the module says no" in refused.err
    assert seen == [refused.words[2]]
    assert house.switches() == [("original", "random", "advice", "refused")]


def test_module_that_is_gone(house: House, operator: Operator) -> None:
    house.block(3)
    ids: list[str] = []
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: ids.append(the_open(house)),
        1.5: house.module.remove,
        2.5: operator.types("advice", "accept", lambda: ids[0]),
        3.5: operator.types("pause"),
    }
    house.run(5.0, plan)
    accepted, paused = operator.ended()
    assert (accepted.code, paused.code) == (5, 0)
    assert "the kernel module is not loaded" in accepted.err


def test_paused_policy_gives_no_advice(house: House, operator: Operator) -> None:
    house.block(3)
    seen: list[Any] = []
    ids: list[str] = []
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: ids.append(the_open(house)),
        0.6: operator.types("pause", "storm"),
        2.5: lambda: seen.append([each["state"] for each in shown(house)]),
        2.6: operator.types("advice", "accept", lambda: ids[0]),
        3.5: operator.types("resume"),
        5.5: lambda: seen.append(the_open(house)),
    }
    house.run(6.0, plan)
    assert [each.code for each in operator.ended()] == [0, 6, 0]
    assert seen == [["gone"], ids[0]]


# --------------------------------------------------------------------------------------- muting


def test_muted_advice_is_neither_shown_nor_told(house: House, operator: Operator) -> None:
    ids: list[str] = []
    counts: list[float | None] = []
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: ids.append(the_open(house)),
        0.6: operator.types("advice", "mute", lambda: ids[0], "--for", "10s"),
        1.5: operator.types("advice", "list"),
        1.6: lambda: counts.append(house.metric("dynamos_policy_open_advice", policy="storm")),
        2.5: lambda: house.module.leave("readahead"),
        4.5: lambda: house.block(3),
        6.5: operator.types("advice", "list", "--all"),
        12.5: operator.types("advice", "list", "-o", "json"),
        12.6: lambda: counts.append(house.metric("dynamos_policy_open_advice", policy="storm")),
    }
    house.run(14.0, plan)
    muted, hidden, everything, later = operator.ended()
    assert [each.code for each in operator.answers] == [0] * 4
    assert muted.out == f"advice {ids[0]} is muted until 2023-11-14T22:13:31.000Z\n"
    assert hidden.out == "there is no advice\n"
    assert f"{ids[0]}  muted" in everything.out
    assert [each["id"] for each in json.loads(later.out)["advice"]] == ids
    assert counts == [0.0, 1.0]
    assert results(house) == [("random", "open")]
    assert len([line for line in house.said if f"advice {ids[0]} of policy" in line]) == 1
    assert [each["uid"] for each in house.records("mute")] == [ME]
    assert [each["uid"] for each in house.records("unmute")] == [None]


def test_mute_outlives_the_daemon_and_is_ended(house: House, operator: Operator) -> None:
    ids: list[str] = []
    house.block(3)
    mute = operator.types("advice", "mute", lambda: ids[0], "-o", "json")
    house.run(3.0, {0.5: lambda: ids.append(the_open(house)), 1.5: mute})
    assert json.loads(operator.ended()[0].out)["until"] is None
    house.module.leave("readahead")
    second = house.start()
    house.clock.at(1004.5, operator.types("advice", "list", "--all"))
    house.clock.at(1005.5, lambda: house.block(3))
    house.clock.at(1007.5, operator.types("advice", "unmute", lambda: ids[0]))
    house.clock.at(1009.5, operator.types("advice", "list"))
    house.clock.at(1009.6, operator.types("advice", "unmute", lambda: ids[0]))
    house.clock.at(1011.0, second.request_stop)
    second.run()
    known, unmuted, listed, again = operator.ended()[1:]
    assert f"{ids[0]}  muted  storm" in known.out
    assert unmuted.out == f"advice {ids[0]} is no longer muted\n"
    assert f"{ids[0]}  open" in listed.out
    assert again.code == 1
    assert f'advice "{ids[0]}" is not muted' in again.err


def test_muted_advice_can_be_accepted(house: House, operator: Operator) -> None:
    ids: list[str] = []
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: ids.append(the_open(house)),
        0.6: operator.types("advice", "mute", lambda: ids[0]),
        2.5: operator.types("advice", "accept", lambda: ids[0]),
    }
    house.run(5.0, plan)
    assert [each.code for each in operator.ended()] == [0, 0]
    assert house.active() == "random"


def test_explain_and_status_name_the_advice(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(house.settings.runtime_dir)
    shown: list[str] = []

    def look() -> None:
        shown.append(the_open(house))
        for command in ("explain", "status"):
            assert cli.main([command, "--runtime-dir", folder], house.module.kmod) == 0
            shown.append(capsys.readouterr().out)

    house.block(3)
    house.run(4.0, {2.5: look})
    which, explained, stood = shown
    assert f"that is advice {which}: dynamosctl advice accept or mute" in explained
    assert "original is active; the policy is active, and wants random" in explained
    assert f"advice {which}: dynamosctl advice list" in stood


# --------------------------------------------------------------------------------------- the book


def test_book_does_not_grow_for_ever(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", lambda: 0.0, pytest.fail)
    orders = Orders(tmp_path / "orders", pytest.fail)
    book = AdviceBook(orders, journal, lambda _line: None)
    policy = advising()
    for number in range(3 * KEPT):
        book.note(policy, decision(policy, target=f"edition{number}"), float(number))
    found = book.all()
    assert len(found) == KEPT + 1
    assert [each.state for each in found[-2:]] == [AdviceState.GONE, AdviceState.OPEN]
    # One that is muted is known even so.
    mute = Mute("aaaaaaaa", "storm", "pipe", "original", "x", "", -1.0, None, Person(0))
    orders.mutes["aaaaaaaa"] = mute
    assert (book.all()[0].id, book.all()[0].state) == ("aaaaaaaa", AdviceState.MUTED)
