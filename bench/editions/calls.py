# SPDX-License-Identifier: GPL-2.0-or-later
"""How long calls of a gated function take: from the tracepoints at both ends; run in the guest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
BUFFER_KIB = 8192
NS_PER_S = 1_000_000_000

_END = re.compile(
    r"-(?P<task>\d+)\s+\[\d+\]\s.*?(?P<time>\d+\.\d+): edition_(?P<which>enter|exit):"
)


def durations(lines: Iterable[str]) -> Iterator[float]:
    """Yield how long each call in a trace took (ns), but for those of which one end is not in it.

    A task is in one call of the function at a time.
    """
    inside: dict[str, float] = {}
    for line in lines:
        if not (end := _END.search(line)):
            continue
        time = float(end["time"])
        if end["which"] == "enter":
            inside[end["task"]] = time
        elif end["task"] in inside:
            yield (time - inside.pop(end["task"])) * NS_PER_S


@contextmanager
def timed(subsystem: str, function: str) -> Iterator[list[float]]:
    """Trace a function's calls; after the block the list has how long each took (ns)."""
    spent: list[float] = []
    number = Path("/sys/kernel/dynamos", subsystem, "functions", function, "id").read_text().strip()
    folder = TRACING / "instances/bench_editions"
    folder.mkdir()
    try:
        (folder / "buffer_size_kb").write_text(str(BUFFER_KIB))
        for event in ("edition_enter", "edition_exit"):
            (folder / "events/dynamos" / event / "filter").write_text(f"function == {number}")
        # While nothing runs: some emulators do not bear it well that text changes under a load.
        (folder / "events/dynamos/enable").write_text("1")
        yield spent
        (folder / "events/dynamos/enable").write_text("0")
        spent += durations((folder / "trace").read_text().splitlines())
    finally:
        folder.rmdir()
