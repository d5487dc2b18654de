# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.drains: what is new of the module's events, and how long editions drained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dynamosd.drains import Drain, EventReader, drains
from dynamosd.errors import Unreachable

if TYPE_CHECKING:
    from dynamosd.testing import FakeModule


def held(*numbers: int, name: str = "drained") -> str:
    """Give the lines of events with these numbers."""
    text = f'event={name} subsystem=readahead edition=random us=1500 last=0 comm=""'
    return "".join(f"seq={each} time=1.0 {text}\n" for each in numbers)


def numbers(reader: EventReader, text: str) -> list[int]:
    """Give the numbers of those that are new."""
    return [each.seq for each in reader.take(text)]


def test_each_event_is_taken_once() -> None:
    reader = EventReader()
    assert numbers(reader, held(4, 5)) == []
    assert numbers(reader, held(4, 5)) == []
    assert numbers(reader, held(4, 5, 6, 7)) == [6, 7]
    assert numbers(reader, held(5, 6, 7, 8)) == [8]
    assert reader.lost == 0


def test_what_was_overwritten_is_counted() -> None:
    reader = EventReader()
    reader.take(held(1, 2))
    assert numbers(reader, held(10, 11)) == [10, 11]
    assert reader.lost == 7


def test_module_that_was_loaded_anew_counts_from_one() -> None:
    reader = EventReader()
    reader.take(held(40, 41))
    assert numbers(reader, held(1, 2)) == [1, 2]
    assert numbers(reader, held(2, 3)) == [3]
    assert reader.lost == 0
    reader.forget_module()
    assert numbers(reader, held(50)) == []
    assert numbers(reader, "") == []


def test_module_that_has_said_nothing_yet() -> None:
    reader = EventReader()
    assert numbers(reader, "") == []
    assert numbers(reader, held(1)) == [1]


def test_line_that_says_that_events_were_lost_is_no_event() -> None:
    reader = EventReader()
    reader.take(held(1))
    lost = "seq=0 time=0 event=lost count=8\n"
    assert numbers(reader, lost + held(10, 11)) == [10, 11]
    assert reader.lost == 8


def test_drains() -> None:
    reader = EventReader()
    reader.take(held(1))
    assert drains(reader.take(held(1, 2))) == [Drain("readahead", "random", 0.0015)]
    assert drains(reader.take(held(3, name="draining"))) == []
    cut = "seq=4 time=1.0 event=drained subsystem=readahead edition=random us=\n"
    assert drains(reader.take(cut)) == []


def test_reads_what_the_module_holds(module: FakeModule) -> None:
    reader = EventReader()
    reader.take(module.kmod.read_held())
    module.call("readahead", "page_cache_ra_order", blocked=1)
    module.kmod.switch("readahead", "random")
    assert drains(reader.take(module.kmod.read_held())) == []
    module.leave("readahead")
    found = drains(reader.take(module.kmod.read_held()))
    assert [(each.subsystem, each.edition) for each in found] == [("readahead", "original")]


def test_module_that_is_gone(module: FakeModule) -> None:
    module.remove()
    with pytest.raises(Unreachable):
        module.kmod.read_held()
