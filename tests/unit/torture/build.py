# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams of events for tests, without numbers and times to write."""

from __future__ import annotations

from dynamosd.events import Event, parse_event

UP = (
    "registered subsystem=s",
    "gated subsystem=s function=f backend=direct",
    "loaded subsystem=s edition=b module=m_b",
    "loaded subsystem=s edition=c module=m_c",
)
"""The life of a subsystem begins."""

DOWN = (
    "unloaded subsystem=s edition=c module=m_c",
    "ungated subsystem=s function=f backend=direct",
    "unloaded subsystem=s edition=b module=m_b",
    "unregistered subsystem=s",
)
"""It ends."""

TO_B = "switched subsystem=s from=original to=b mode=concurrent by=7 us=5"
BACK = "switched subsystem=s from=b to=original mode=concurrent by=7 us=5"
ORIGINAL_DRAINED = "drained subsystem=s edition=original us=1 last=0 comm=x"
B_DRAINED = "drained subsystem=s edition=b us=1 last=0 comm=x"


def event(line: str, seq: int) -> Event:
    """Give event number ``seq``, which comes at 100 seconds and as many more."""
    found = parse_event(f"seq={seq} time={100 + seq} event={line}")
    assert found
    return found


def stream(*lines: str) -> list[Event]:
    """Give events that are numbered from 1."""
    return [event(line, seq) for seq, line in enumerate(lines, 1)]
