# SPDX-License-Identifier: GPL-2.0-or-later
"""What policies hold parameters of editions at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from dynamosd.errors import InvalidInput
from dynamosd.journal import Journal
from dynamosd.model import Edition, EditionState, Subsystem
from dynamosd.parameters import RETRY_SECONDS, ParameterKeeper
from tests.unit.build import write_policy
from tests.unit.policy.build import policy_of

if TYPE_CHECKING:
    from pathlib import Path

    from dynamosd.testing import FakeModule
    from tests.unit.test_daemon import House

MORE = """\
  parameters:
    - {{edition: random, name: window, value: "{}"}}
"""


@pytest.fixture(autouse=True)
def _tuned(module: FakeModule) -> None:
    module.give_parameter("readahead", "random", "window", 64)


def window(house: House) -> str | None:
    """Give the parameter's value."""
    return house.module.kmod.read_parameter("readahead", "random", "window")


def set_by_hand(house: House) -> None:
    """Set it as a person does."""
    house.module.kmod.set_parameter("readahead", "random", "window", "32")


def test_parameter_is_set_before_the_switch_and_held(house: House) -> None:
    write_policy(house.policies, more=MORE.format(128))
    at_switch: list[str | None] = []
    house.block(3)
    plan = {2.5: lambda: at_switch.append(window(house)), 3.5: lambda: set_by_hand(house)}
    house.run(5.0, plan)
    assert (at_switch, window(house)) == (["128"], "128")
    told = [(each["from"], each["to"]) for each in house.records("parameter")]
    assert told == [("64", "128"), ("32", "128")]
    first = house.records("parameter")[0]["time_seconds"]
    assert first <= house.records("switch")[0]["time_seconds"]


def test_edition_whose_parameter_is_not_taken_is_not_switched_to(house: House) -> None:
    write_policy(house.policies, more=MORE.format("many"))
    house.block(3)
    house.run(5.0)
    (switch, *_) = house.records("switch")
    assert (switch["result"], window(house)) == ("refused", "64")
    assert "random window=many" in switch["error"]
    assert len([line for line in house.said if "window=many" in line]) == 1
    assert house.active() == "original"


def test_policy_that_only_advises_sets_nothing(house: House) -> None:
    write_policy(house.policies, more=MORE.format(128), mode="advise")
    house.block(3)
    house.run(3.0)
    assert (window(house), house.records("parameter")) == ("64", [])


# --------------------------------------------------------------------------------- the keeper


@dataclass
class Kmod:
    """A module that shows a parameter in its own words, or takes none."""

    shown: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def set_parameter(self, _subsystem: str, _edition: str, _name: str, value: str) -> None:
        """Take it, if it is known."""
        self.told.append(value)
        if value not in self.shown:
            raise InvalidInput("not taken")

    def read_parameter(self, _subsystem: str, _edition: str, _name: str) -> str | None:
        """Show what it was told last."""
        return self.shown.get(self.told[-1])


def pipe(shown: str, *editions: str) -> Subsystem:
    """Give a subsystem whose editions show a parameter so."""
    there = {
        name: Edition(name, 1, EditionState.IDLE, "m", parameters={"batch_pages": shown})
        for name in editions
    }
    return Subsystem("pipe", "original", "concurrent", 0, there, {})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Give a journal."""
    return Journal(tmp_path / "journal", lambda: 0.0, lambda _line: None)


PARAMETERS = """\
parameters:
  - {edition: batched, name: batch_pages, value: "1"}
"""


def test_what_is_shown_in_other_words_is_told_once(journal: Journal) -> None:
    kmod, policy = Kmod({"1": "Y"}), policy_of(spec=PARAMETERS)
    keeper = ParameterKeeper(kmod, journal, lambda _line: None)  # type: ignore[arg-type]
    for shown in ("N", "Y", "Y"):
        assert keeper.keep(policy, pipe(shown, "batched"), 0.0) == {}
    assert kmod.told == ["1"]
    # Somebody has changed it; the edition is loaded anew.
    assert keeper.keep(policy, pipe("N", "batched"), 0.0) == {}
    assert keeper.keep(policy, pipe("", "quiet"), 0.0) == {}
    assert keeper.keep(policy, pipe("N", "batched"), 0.0) == {}
    assert kmod.told == ["1", "1", "1"]


def test_what_is_right_is_not_told(journal: Journal) -> None:
    kmod, policy = Kmod({"1": "1"}), policy_of(spec=PARAMETERS)
    keeper = ParameterKeeper(kmod, journal, lambda _line: None)  # type: ignore[arg-type]
    assert keeper.keep(policy, pipe("1", "batched"), 0.0) == {}
    assert kmod.told == []


def test_what_is_not_taken_is_tried_again_after_a_while(journal: Journal) -> None:
    kmod, policy = Kmod(), policy_of(spec=PARAMETERS)
    keeper = ParameterKeeper(kmod, journal, lambda _line: None)  # type: ignore[arg-type]
    wrong = {"batched": "batched batch_pages=1: not taken"}
    for now in (0.0, RETRY_SECONDS / 2, RETRY_SECONDS):
        assert keeper.keep(policy, pipe("0", "batched"), now) == wrong
    assert kmod.told == ["1", "1"]
    # Another value is another question.
    other = replace(policy, settings=(replace(policy.settings[0], value="2"),))
    assert "batch_pages=2" in keeper.keep(other, pipe("0", "batched"), RETRY_SECONDS)["batched"]
    kmod.shown["2"] = "2"
    assert keeper.keep(other, pipe("0", "batched"), 2 * RETRY_SECONDS) == {}
