# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl top and completion, on the real module: what it counts, and while it goes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from dynamosd import cli
from tests.kernel import control, guest
from tests.kernel.load import background
from tests.seat import PROMPT, Seat

pytestmark = pytest.mark.one_kernel

ASKED = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}


def read_until(path: Path, done: threading.Event) -> None:
    """Have the disk read a file again and again, and not only the page cache."""
    while not done.is_set():
        guest.evict(path)
        guest.read_all(path)


@pytest.mark.usefixtures("modules")
def test_calls_are_those_that_the_module_counts(data: Path) -> None:
    before, out = control.calls(), io.StringIO()
    done = threading.Event()
    with background(lambda: read_until(data, done)), contextlib.redirect_stdout(out):
        try:
            assert cli.main(["top", "-o", "json", "-d", "2s", "-n", "3"]) == 0
        finally:
            done.set()
    counted = sum(control.since(before).values())
    looks = [json.loads(line) for line in out.getvalue().splitlines()]
    told = sum(
        each["interval_seconds"] * subsystem["calls_per_second"]
        for each in looks
        for subsystem in each["subsystems"]
        if subsystem["name"] == "readahead"
    )
    assert len(looks) == 3
    assert 0 < round(told) <= counted
    assert looks[-1]["subsystems"][0]["active"] == "original"


@pytest.mark.usefixtures("modules")
def test_modules_go_and_come_back_while_somebody_looks() -> None:
    seat = Seat({**os.environ, "TERM": "xterm", "PS1": PROMPT, "LC_ALL": "C.UTF-8"})
    try:
        seat.type("dynamosctl top -d 200ms\n")
        seat.until_shown("SUBSYSTEM", "readahead", "no daemon")
        control.command("switch readahead random")
        seat.until_shown("random")
        control.command("switch readahead original")
        guest.unload_all()
        seat.until_shown("the kernel module is not loaded; waiting for it")
        guest.load_all()
        seat.until_shown("readahead", "loaded")
        seat.type("q")
        seat.until(lambda: seat.text.endswith(PROMPT.rstrip()))
        assert seat.run("echo $?") == "0"
    finally:
        seat.close()


@pytest.mark.usefixtures("modules")
def test_names_of_the_real_module_are_offered() -> None:
    for line, offered in (
        ("dynamosctl show ", ["readahead"]),
        ("dynamosctl switch readahead ", sorted(guest.EDITIONS)),
    ):
        done = subprocess.run(
            ["bash", "-c", "dynamosctl 8>&1 9>&2 1>&2"],
            env={**os.environ, **ASKED, "COMP_LINE": line, "COMP_POINT": str(len(line))},
            capture_output=True,
            text=True,
            timeout=guest.PATIENCE,
        )
        assert sorted(each.strip() for each in done.stdout.splitlines()) == offered, done.stderr
