# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl top on a terminal: keys, sizes, signals, and a terminal that is as it was."""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamosd.testing import FakeModule
from tests.seat import DEADLINE_SECONDS, PROMPT, REDRAWN, Seat
from tests.unit.cli.program import write_program

COLOUR = re.compile(rb"\033\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;[0-9]+)*m")

FAULT = """\
from dynamosd.cli.top import Watch
look, seen = Watch.look, []
def fail(self):
    seen.append(1)
    if len(seen) > 2:
        raise RuntimeError("a fault of the program")
    return look(self)
Watch.look = fail
"""


class Top(Seat):
    """Runs top in the shell."""

    def __init__(self, module: FakeModule, folder: Path, **environment: str) -> None:
        """Have it on the path."""
        self.module = module
        self.program = folder / "bin" / "dynamosctl"
        if not self.program.exists():
            write_program(module, folder)
        path = f"{self.program.parent}:/usr/bin:/bin"
        super().__init__({"PATH": path, "HOME": str(folder), **environment})
        self.modes = self.run("stty -g")

    def start(self, more: str = "") -> None:
        """Start it, and see its first rates."""
        self.type(f"dynamosctl top -d 0.1 --runtime-dir /nonexistent {more}\n")
        self.until_shown("dynamosctl top", "SUBSYSTEM", "readahead", "q quit")
        self.until(lambda: self.row("readahead")[2] != "-")

    def row(self, name: str) -> list[str]:
        """Give the words of a row; no words where it is not there."""
        rows = (line.split() for line in self.lines if line.startswith(name))
        return next(rows, [""] * 9)

    def pids(self) -> list[int]:
        """Give the processes of the shell."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def check_restored(self, code: int) -> None:
        """See that the shell has its terminal as it was, with nothing of ours left on it."""
        self.until(lambda: not self.pids())
        self.until(lambda: self.text.endswith(PROMPT.rstrip()))
        assert "SUBSYSTEM" not in self.text
        assert self.run("echo $?") == str(code)
        assert self.run("stty -g") == self.modes
        for on, off in ((b"\033[?1049h", b"\033[?1049l"), (b"\033[?25l", b"\033[?25h")):
            assert self.raw.count(on) == self.raw.count(off) >= 1


@pytest.fixture
def seats(module: FakeModule, tmp_path: Path) -> Iterator[list[Top]]:
    """Give a list of what is closed in the end; the first one is there."""
    made = [Top(module, tmp_path)]
    yield made
    for each in made:
        each.close()


@pytest.fixture
def top(seats: list[Top]) -> Top:
    """Give a shell."""
    return seats[0]


def test_figures_change_as_calls_come(top: Top, module: FakeModule) -> None:
    top.start()
    module.call("readahead", "page_cache_ra_order", blocked=2)
    call = lambda: module.call("readahead", "page_cache_ra_order", 100)  # noqa: E731
    top.until(lambda: top.row("readahead")[2] not in {"0", "-"}, call)
    top.until(lambda: "2 in flight" in top.lines[1])
    module.kmod.switch("readahead", "random")
    top.until(lambda: top.row("readahead")[1] == "random")
    top.until(lambda: top.row("readahead")[-4::2] == ["2", "no"])
    top.until(lambda: any(bar in top.text for bar in "▂▃▄▅▆▇█"), call)
    top.type("q")
    top.check_restored(0)


def test_keys(top: Top, module: FakeModule) -> None:
    module.register("pipe", ["pipe_write"])
    module.call("readahead", "page_cache_ra_order", blocked=3)
    top.start("--sort in-flight")
    top.until(lambda: top.lines[4].startswith("readahead") and top.lines[5].startswith("pipe"))
    top.type("n")
    top.until(lambda: top.lines[4].startswith("pipe"))
    top.type("r")
    top.until(lambda: top.lines[4].startswith("readahead"))
    top.type("e")
    top.until_shown("FUNCTION", "page_cache_ra_unbounded", "pipe_write")
    top.type("/ORDER")
    top.until_shown("filter: ORDER_", "Enter: keep the filter")
    top.until(lambda: "pipe_write" not in top.text and "page_cache_ra_order" in top.text)
    top.type("\r")
    top.until(lambda: top.lines[0].endswith("filter: ORDER") and "q quit" in top.text)
    top.type("\033")
    top.until_shown("pipe_write")
    top.type("h")
    top.until_shown("sort by calls/s", "any key: back")
    top.type("\033[B")
    top.until_shown("pipe_write")
    top.type("q")
    top.check_restored(0)


def test_pause(top: Top, module: FakeModule) -> None:
    top.start()
    top.type(" ")
    top.until_shown("PAUSED")
    module.call("readahead", "page_cache_ra_order", blocked=5)
    top.until_drawn_again()
    before = top.last_drawing()
    top.until_drawn_again()
    assert top.last_drawing() == before
    assert "0 in flight" in before
    top.type(" ")
    top.until(lambda: "5 in flight" in top.text and "PAUSED" not in top.text)


def test_any_size_from_forty_columns(top: Top) -> None:
    top.start()
    for columns, lines in ((40, 10), (120, 30), (60, 5), (80, 24)):
        top.resize(columns, lines)
        top.until(lambda: top.lines[-1].startswith("q quit"))
        top.until(lambda: top.lines[0].startswith("dynamosctl top"))
        top.until(lambda: top.lines[3].startswith("SUBSYSTEM"))
    top.resize(40, 10)
    top.until(lambda: top.lines[3] == "SUBSYSTEM  ACTIVE    CALLS/s  IN FLIGHT")
    top.type("q")
    top.check_restored(0)


@pytest.mark.parametrize(("key", "code"), [("\x03", 0), ("\x1c", 128 + signal.SIGQUIT)])
def test_keys_that_are_signals(top: Top, key: str, code: int) -> None:
    top.run("ulimit -c 0")
    top.start()
    top.type(key)
    top.check_restored(code)


def test_sigterm(top: Top) -> None:
    top.start()
    (pid,) = top.pids()
    os.kill(pid, signal.SIGTERM)
    top.check_restored(128 + signal.SIGTERM)


def test_stopped_and_going_on(top: Top) -> None:
    top.start()
    for _ in range(2):
        top.type("\x1a")
        top.until(lambda: "Stopped" in top.text)
        top.until(lambda: top.text.endswith(PROMPT.rstrip()))
        assert "SUBSYSTEM" not in top.text
        assert top.run("stty -g") == top.modes
        top.type("fg\n")
        top.until_shown("SUBSYSTEM", "q quit")
        top.until_drawn_again()
    top.type("e")
    top.until_shown("FUNCTION")
    top.type("q")
    top.check_restored(0)


def test_stopped_behind_its_back(top: Top) -> None:
    top.start()
    (pid,) = top.pids()
    os.kill(pid, signal.SIGSTOP)
    top.until_shown("Stopped")
    top.type("fg\n")
    top.until_drawn_again()
    top.until(lambda: "Stopped" not in top.text and "q quit" in top.text)
    top.type("q")
    top.until(lambda: not top.pids())
    top.until(lambda: top.text.endswith(PROMPT.rstrip()))
    assert top.run("stty -g") == top.modes


def test_a_module_that_goes_and_comes_back(top: Top, module: FakeModule) -> None:
    top.start()
    module.remove()
    top.until_shown("the kernel module is not loaded; waiting for it")
    module.insert()
    top.until_shown("no subsystem is loaded")
    module.register("pipe", ["pipe_write"])
    top.until(lambda: "pipe" in top.text and top.row("pipe")[2] == "0")
    top.type("q")
    top.check_restored(0)


def test_so_many_looks_and_no_more(top: Top) -> None:
    command = "dynamosctl top -d 0.1 -n 2 --runtime-dir /nonexistent >/dev/tty; echo $?"
    assert top.run(command) == "0"
    assert top.raw.count(REDRAWN) >= 2
    assert top.run("stty -g") == top.modes


def test_a_fault_of_the_program_gives_the_terminal_back(top: Top) -> None:
    top.program.write_text(
        top.program.read_text().replace("sys.exit(main", f"{FAULT}sys.exit(main")
    )
    top.type("dynamosctl top -d 0.1\n")
    top.until_shown("internal error: RuntimeError: a fault of the program")
    top.check_restored(1)


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"])
def test_without_a_keyboard_it_goes_on_until_ctrl_c(top: Top, redirection: str) -> None:
    top.start(redirection)
    top.until_drawn_again()
    top.type("\x03")
    top.check_restored(0)


def test_it_ends_when_the_terminal_is_gone(top: Top) -> None:
    top.start()
    (pid,) = top.pids()
    ended = os.pidfd_open(pid)
    try:
        top.hang_up()
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        assert poll.poll(DEADLINE_SECONDS * 1000)
    finally:
        os.close(ended)


def test_no_colour_where_none_is_wanted(
    seats: list[Top], module: FakeModule, tmp_path: Path
) -> None:
    module.kmod.switch("readahead", "random")
    seats[0].start()
    assert COLOUR.search(seats[0].raw)
    seats.append(Top(module, tmp_path, NO_COLOR="1"))
    seats[1].start()
    assert not COLOUR.search(seats[1].raw)
    seats.append(Top(module, tmp_path, TERM="dumb"))
    seats[2].type("dynamosctl top -d 0.1 -n 1 | cat; dynamosctl top -d 0.1 -n 1\n")
    seats[2].until(lambda: seats[2].text.count("SUBSYSTEM") == 2)
    assert b"\033[?1049h" not in seats[2].raw
