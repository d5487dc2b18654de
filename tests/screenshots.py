# SPDX-License-Identifier: GPL-2.0-or-later
"""`make screenshots`: pictures for the README, of programs that run on a made-up machine.

``python -m tests.screenshots FOLDER`` draws them as SVG. Nothing in them is drawn by hand, and
each time they come out the same: a test compares them with those in docs/screenshots.
"""

from __future__ import annotations

import io
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from dynamosd.cli.top.frame import Paper, frame
from dynamosd.cli.top.look import Look
from dynamosd.cli.top.measure import Meter, Picture
from dynamosd.journal import rfc3339
from dynamosd.testing import FakeModule

PAPER = Paper(100, 11)
DELAY = 2.0
START = 1_767_225_600.0
"""New year's day, which is a time like any other."""

STEPS = 33
SWITCHED = 22
"""At which step the policy takes readahead to another edition."""

FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Without fonts from elsewhere: a page that shows it needs nothing from the net."""


def machine(folder: Path) -> FakeModule:
    """Give a machine with three subsystems."""
    module = FakeModule(folder)
    module.insert()
    module.register("readahead", ["page_cache_ra_order", "page_cache_sync_ra"])
    module.load("readahead", "random")
    module.load("readahead", "streaming", ["page_cache_ra_order"])
    module.register("pipe", ["pipe_read", "pipe_write"])
    module.load("pipe", "batched")
    module.register("dentry", ["d_lookup"])
    module.load("dentry", "hashed")
    return module


def work(module: FakeModule, step: int) -> None:
    """Let two seconds of work be done: a database begins to read at random, pipes come and go."""
    reads = 90 + 9 * (step % 4) + 1900 / (1 + math.exp((SWITCHED - 4 - step) / 1.5))
    module.call("readahead", "page_cache_ra_order", round(reads))
    module.call("readahead", "page_cache_sync_ra", round(reads / 7))
    module.call("pipe", "pipe_write", round(44000 + 30000 * math.sin(step / 3)))
    module.call("pipe", "pipe_read", round(41000 + 30000 * math.sin(step / 3)))
    module.call("dentry", "d_lookup", 5200 + 700 * (step % 5))
    if step == SWITCHED - 1:
        module.call("readahead", "page_cache_ra_order", blocked=2)
    if step == SWITCHED:
        module.kmod.switch("readahead", "random")
        module.call("readahead", "page_cache_ra_order", blocked=5)
        module.call("pipe", "pipe_read", blocked=12)


def daemon(step: int) -> dict[str, Any]:
    """Give what the daemon says."""
    ours = {"name": "readahead", "subsystem": "readahead", "mode": "enforce", "phase": "inactive"}
    if step >= SWITCHED:
        ours |= {"phase": "active", "rule": "random"}
    storm = {"name": "pipe-storm", "subsystem": "pipe", "mode": "advise", "phase": "pending"}
    old = {"to": "original", "time": rfc3339(START - 3 * 3600.0)}
    return {"pid": 4242, "policies": [ours, storm], "last_switches": {"pipe": old}}


def picture() -> Picture:
    """Look at the machine for a minute; give the last look."""
    with tempfile.TemporaryDirectory() as folder:
        module = machine(Path(folder))
        meter = Meter()
        module.kmod.switch("pipe", "batched")
        module.kmod.switch("pipe", "original")
        for step in range(STEPS):
            now = DELAY * step
            seen = meter.feed(now, START + now, module.kmod.read(), daemon(step))
            work(module, step)
    return seen


def draw(lines: list[Text], title: str) -> str:
    """Give lines of a terminal as SVG."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=PAPER.width,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
    )
    for line in lines:
        console.print(line, no_wrap=True, crop=False, highlight=False)
    return console.export_svg(title=title, code_format=FORMAT, unique_id="dynamos")


def pictures() -> Iterator[tuple[str, str]]:
    """Give each picture with its file's name."""
    seen = picture()
    yield "top.svg", draw(frame(seen, Look(), PAPER, DELAY), "dynamosctl top")
    lines = frame(seen, Look(editions=True), Paper(PAPER.width, 17), DELAY)
    yield "top-editions.svg", draw(lines, "dynamosctl top, editions")


def main(folder: Path) -> None:
    """Draw them all."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pictures():
        (folder / name).write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
