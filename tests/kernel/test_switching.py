# SPDX-License-Identifier: GPL-2.0-or-later
"""A switch sends new calls to the new edition, and every call is counted where it ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamosd.model import EditionState
from tests.kernel import control, guest
from tests.kernel.guest import EDITIONS, FUNCTIONS

pytestmark = pytest.mark.usefixtures("modules")

PAGE = 4096


@pytest.mark.parametrize("edition", EDITIONS)
def test_switch_and_count(edition: str, data: Path) -> None:
    control.switch_and_drain(edition)
    assert control.active() == edition
    assert control.state(edition) is EditionState.ACTIVE
    guest.evict(data)
    before = control.calls()

    read = guest.read_all(data)
    after_read = control.since(before)
    guest.evict(data)
    mapped = guest.map_bytes(data, [0, 3 * 1024 * PAGE - 1, 2 * 1024 * PAGE])
    after_map = control.since(before)

    assert len(read) == data.stat().st_size
    assert len(mapped) == 3
    sync = ("page_cache_sync_ra", control.runs("page_cache_sync_ra", edition))
    order = ("page_cache_ra_order", control.runs("page_cache_ra_order", edition))
    assert after_read[sync] > 0
    assert after_map[order] - after_read[order] >= 3
    if edition != "random":
        mark = ("page_cache_async_ra", control.runs("page_cache_async_ra", edition))
        assert after_read[mark] > 0
    where = {(function, control.runs(function, edition)) for function in FUNCTIONS}
    elsewhere = {key: count for key, count in after_map.items() if key not in where}
    assert set(elsewhere.values()) == {0}, "calls of an edition that was not active"

    guest.wait_until(lambda: control.in_flight() == 0, "all calls have returned")


def test_a_switch_to_the_active_edition_is_no_switch() -> None:
    before = control.switches()
    with control.Follower() as events:
        control.switch("original")
        assert events.read() == []
    assert control.switches() == before


def test_a_switch_is_one_event_and_one_count() -> None:
    before = control.switches()
    with control.Follower() as events:
        control.command("switch readahead random mode=concurrent\n")
        [event] = events.only("switched")
        drained = events.wait_for("drained", edition="original")
    assert control.switches() == before + 1
    fields = dict(event.fields)
    assert int(fields.pop("us")) > 0
    assert fields == {
        "subsystem": "readahead",
        "from": "original",
        "to": "random",
        "mode": "concurrent",
        "by": str(os.getpid()),
    }
    assert drained.fields["subsystem"] == "readahead"
    assert int(drained.fields["us"]) >= 0
    assert (drained.fields["last"], drained.fields["comm"]) == ("0", "")
    assert drained.time >= event.time
    assert control.state("original") is EditionState.IDLE
