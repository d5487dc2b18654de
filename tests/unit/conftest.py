# SPDX-License-Identifier: GPL-2.0-or-later
"""What many unit tests begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from dynamosd.testing import FakeModule, ManualClock
from tests.unit.asking import Operator
from tests.unit.build import write_policy
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# No test may fail because a machine is slow.
settings.register_profile("slow-machines", deadline=None)
settings.load_profile("slow-machines")


@pytest.fixture
def module(tmp_path: Path) -> FakeModule:
    """Give a module with one subsystem and a second edition of it."""
    fake = FakeModule(tmp_path / "module")
    fake.insert()
    fake.register("readahead", ["page_cache_ra_order", "page_cache_ra_unbounded"])
    fake.load("readahead", "random", ["page_cache_ra_order"])
    return fake


@pytest.fixture(autouse=True)
def _unknown_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no terminal of whoever runs the tests decide how wide lines are."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at 1000 seconds."""
    return ManualClock(1000.0)


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` while three threads are in flight."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies)
    return made


@pytest.fixture
def operator(house: House) -> Iterator[Operator]:
    """Give somebody who asks the daemon of the test's `house`."""
    made = Operator(house)
    yield made
    made.close()
