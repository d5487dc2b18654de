# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading events: whole lines, in order, with what was lost; waiting as files wait."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from dynamosd.kmod import parse_event, parse_events
from tests.kernel import control, guest

pytestmark = pytest.mark.usefixtures("modules")

RING = 256


@pytest.fixture
def fd() -> Iterator[int]:
    """The device, opened for reading without waiting, behind the last event."""
    device = os.open(control.DEVICE, os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(device, 0, os.SEEK_END)
    yield device
    os.close(device)


def cause_events(count: int) -> None:
    for _ in range(count):
        assert guest.answer(lambda: control.command("nonsense")) == "EINVAL"


def test_nothing_to_read_is_eagain_without_waiting(fd: int) -> None:
    assert guest.answer(lambda: os.read(fd, 4096)) == "EAGAIN"


def test_a_buffer_too_small_for_a_line_is_einval_and_loses_nothing(fd: int) -> None:
    cause_events(1)
    assert guest.answer(lambda: os.read(fd, 8)) == "EINVAL"
    line = os.read(fd, 4096)
    assert guest.answer(lambda: os.read(fd, 4096)) == "EAGAIN"

    cause_events(1)
    size = len(line) + 1  # the next seq may have one digit more
    assert guest.answer(lambda: os.read(fd, len(line) - 1)) == "EINVAL"
    assert os.read(fd, size).count(b"\n") == 1


def test_a_read_gives_as_many_whole_lines_as_fit(fd: int) -> None:
    cause_events(3)
    first = os.read(fd, 4096)
    assert first.count(b"\n") == 3
    assert first.endswith(b"\n")

    cause_events(3)
    size = len(first) // 3 * 2 + 4
    parts = [os.read(fd, size), os.read(fd, size)]
    assert [part.count(b"\n") for part in parts] == [2, 1]
    events = list(parse_events((first + b"".join(parts)).decode()))
    assert [event.seq - events[0].seq for event in events] == list(range(6))
    assert [event.time for event in events] == sorted(event.time for event in events)


def test_poll_wakes_with_an_event_and_not_before(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    woken: list[tuple[int, int]] = []
    waiter = threading.Thread(target=lambda: woken.extend(poll.poll(guest.PATIENCE * 1000)))
    waiter.start()
    cause_events(1)
    waiter.join(guest.PATIENCE)
    assert woken == [(fd, select.POLLIN)]
    assert os.read(fd, 4096).count(b"\n") == 1
    assert poll.poll(0) == []


def test_read_waits_for_an_event() -> None:
    fd = os.open(control.DEVICE, os.O_RDONLY)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(os.read(fd, 4096)))
        reader.start()
        control.switch("random")
        reader.join(guest.PATIENCE)
    finally:
        os.close(fd)
    event = parse_event(got[0].decode().splitlines()[0])
    assert event
    assert (event.name, event.fields["to"]) == ("switched", "random")


def test_seek_goes_to_the_oldest_or_behind_the_newest(fd: int) -> None:
    cause_events(RING)
    os.lseek(fd, 0, os.SEEK_END)
    assert guest.answer(lambda: os.read(fd, 4096)) == "EAGAIN"
    os.lseek(fd, 0, os.SEEK_SET)
    text = []
    while guest.answer(lambda: text.append(os.read(fd, 64 * 1024))) != "EAGAIN":
        pass
    events = list(parse_events(b"".join(text).decode()))
    assert len(events) == RING
    assert [event.seq - events[0].seq for event in events] == list(range(RING))
    assert guest.answer(lambda: os.lseek(fd, 1, os.SEEK_SET)) == "EINVAL"
    assert guest.answer(lambda: os.lseek(fd, -1, os.SEEK_END)) == "EINVAL"
    assert guest.answer(lambda: os.lseek(fd, 0, os.SEEK_CUR)) == "EINVAL"


def test_an_overtaken_reader_learns_how_many_it_lost() -> None:
    with control.Follower() as events:
        cause_events(1)
        [first] = events.read()
        cause_events(RING + 10)
        rest = events.read()
        assert events.lost == 10
        assert len(rest) == RING
        assert rest[0].seq == first.seq + 11
        cause_events(1)
        [last] = events.read()
        assert last.seq == rest[-1].seq + 1


def test_each_reader_gets_every_event() -> None:
    with control.Follower() as one, control.Follower() as other:
        control.switch("random")
        control.switch("streaming")
        assert [event.fields["to"] for event in one.only("switched")] == ["random", "streaming"]
        assert [event.fields["to"] for event in other.only("switched")] == ["random", "streaming"]


@pytest.mark.usefixtures("modules")
def test_each_event_is_a_tracepoint_too() -> None:
    folder = guest.TRACING / "instances/dynamos_events"
    folder.mkdir()
    enable = folder / "events/dynamos/event_line/enable"
    try:
        enable.write_text("1")
        with control.Follower() as events:
            control.switch("random")
            assert guest.answer(lambda: control.switch("nothing")) == "ENXIO"
            told = [event for event in events.read() if event.name in {"switched", "refused"}]
        trace = (folder / "trace").read_text()
    finally:
        enable.write_text("0")
        folder.rmdir()
    assert [event.name for event in told] == ["switched", "refused"]
    for event in told:
        assert f"event_line: seq={event.seq} event={event.name} " in trace
    assert 'reason="subsystem readahead has no edition nothing"' in trace
