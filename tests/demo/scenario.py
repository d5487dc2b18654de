# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo itself; runs as root on the machine whose kernel is to switch (the VM, by default).

Two runs of the same phases: first with `original` held fixed, then with dynamosd and the shipped
policy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dynamosd import config
from tests.demo import fio, machine, report, timeline
from tests.demo.model import Observation, Phase, Point, Run, read_per_asked

POLICIES = Path(__file__).resolve().parents[2] / "policies"

IDLE_SECONDS = 5.0
BACK_DEADLINE = 120.0

RANDOM = ("--ioengine=mmap", "--rw=randread", "--io_size=32M", "--randrepeat=1")
SEQUENTIAL = ("--ioengine=mmap", "--rw=read", "--io_size=320M")
HELD_RANDOM_LIMIT = "--runtime=25"
"""With `original` the random phase is cut off here: its figures are ratios and need no more."""

HEADER = (
    f"{'time':>6}  {'run':8} {'phase':10} {'active':10} "
    f"{'ra_order/s':>10} {'sync_ra/s':>9} {'async_ra/s':>10} "
    f"{'in flight':>9} {'MB/s':>6} {'read/asked':>10}"
)
FUNCTIONS = ("page_cache_ra_order", "page_cache_sync_ra", "page_cache_async_ra")


Note = Callable[[fio.Progress], None]
Work = Callable[[Note], None]


def say(text: str) -> None:
    """Print a line at once: the reader follows live, through a pipe."""
    print(text, flush=True)


class Recorder:
    """Collects the points of one run and prints each as a row of the live table."""

    def __init__(
        self, run: str, disk: machine.BlockDevice, observe: Callable[[], Observation], began: float
    ) -> None:
        self._run, self._disk, self._observe, self._began = run, disk, observe, began
        self._points: list[Point] = []
        self._phase = ""
        self._base = 0
        self.phases: dict[str, Phase] = {}

    def phase(self, name: str, work: Work) -> None:
        """Run one phase: ``work`` is given what to call with its progress."""
        machine.drop_caches()
        self._phase, self._base, self._points = name, self._disk.bytes_read(), []
        began = time.monotonic()
        self.note(fio.Progress())
        work(self.note)
        self.phases[name] = Phase(name, began, time.monotonic(), tuple(self._points))

    def note(self, progress: fio.Progress) -> None:
        """Take a point."""
        disk = self._disk.bytes_read() - self._base
        point = Point(
            time.monotonic(), self._phase, progress.asked, progress.seconds, disk, self._observe()
        )
        if self._points:
            self._print(self._points[-1], point)
        self._points.append(point)

    def active(self) -> str:
        """Name the edition that was active at the last point."""
        return self._points[-1].seen.active

    def _print(self, last: Point, now: Point) -> None:
        seconds = max(now.time - last.time, 1e-3)
        rates = [(now.seen.calls[name] - last.seen.calls[name]) / seconds for name in FUNCTIONS]
        ratio = read_per_asked(now.disk - last.disk, now.asked - last.asked)
        say(
            f"{now.time - self._began:5.0f}s  {self._run:8} {self._phase:10} {now.seen.active:10} "
            f"{rates[0]:10.0f} {rates[1]:9.0f} {rates[2]:10.0f} "
            f"{sum(now.seen.in_flight.values()):9d} "
            f"{(now.asked - last.asked) / seconds / 1e6:6.2f} {report.show(ratio):>10}"
        )


def idle(seconds: float) -> Work:
    """Do nothing for a while, but watch."""

    def work(note: Note) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            note(fio.Progress())

    return work


def until_back(recorder: Recorder) -> Work:
    """Do nothing until `original` is active again."""

    def work(note: Note) -> None:
        end = time.monotonic() + BACK_DEADLINE
        idle(IDLE_SECONDS)(note)
        while recorder.active() != "original" and time.monotonic() < end:
            time.sleep(1)
            note(fio.Progress())

    return work


def reading(data: Path, options: Sequence[str]) -> Work:
    """Read the file with fio."""

    def work(note: Note) -> None:
        fio.run(data, options, note)

    return work


def held_original(data: Path, disk: machine.BlockDevice, began: float) -> Run:
    """Measure what the kernel does by itself."""
    say("\n== the kernel as it is: `original` held fixed")
    say(HEADER)
    recorder = Recorder("original", disk, machine.observe_module, began)
    recorder.phase("random", reading(data, (*RANDOM, HELD_RANDOM_LIMIT)))
    recorder.phase("sequential", reading(data, SEQUENTIAL))
    return Run("original", recorder.phases)


def adaptive(data: Path, disk: machine.BlockDevice, journal: Path, began: float) -> Run:
    """Measure the kernel that switches itself."""
    say("\n== the kernel that switches itself: starting dynamosd with the shipped policy")
    with tempfile.TemporaryDirectory() as folder:
        # Those of other subsystems would only wait for them.
        for policy in POLICIES.glob("readahead*.yaml"):
            shutil.copy(policy, folder)
        return _adaptive(data, disk, Path(folder), journal, began)


def _adaptive(
    data: Path, disk: machine.BlockDevice, config: Path, journal: Path, began: float
) -> Run:
    with machine.daemon(config, journal, say):
        say(HEADER)
        recorder = Recorder("adaptive", disk, machine.observe_metrics, began)
        recorder.phase("idle", idle(IDLE_SECONDS))
        recorder.phase("random", reading(data, RANDOM))
        recorder.phase("sequential", reading(data, SEQUENTIAL))
        recorder.phase("idle again", until_back(recorder))
    return Run("adaptive", recorder.phases, machine.read_switches(journal))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what a demo needs to know of the machine."""
    parser.add_argument(
        "--data", type=Path, required=True, help="a large file on the disk to be read"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for timeline.svg and journal.jsonl"
    )
    parser.add_argument(
        "--modules",
        type=Path,
        default=Path("/lib/modules") / os.uname().release / "updates",
        help="folder of the kernel modules",
    )


def fresh_journal(out: Path) -> Path:
    """Take away what the last demo has left; give where the daemon is to write its journal.

    Beside that it keeps its recording, for `dynamosctl replay`.
    """
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / config.RECORDINGS, ignore_errors=True)
    journal = out / "journal.jsonl"
    journal.unlink(missing_ok=True)
    return journal


def main(argv: Sequence[str] | None = None) -> int:
    """Run both, tell what came of it, draw it; 0 if it switched both ways and gained, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    journal = fresh_journal(args.out)
    began = time.monotonic()
    disk = machine.BlockDevice(args.data)
    try:
        machine.load_modules(args.modules)
        original = held_original(args.data, disk, began)
        switching = adaptive(args.data, disk, journal, began)
    except (machine.DemoError, fio.FioError) as error:
        say(f"demo: error: {error}")
        return 1
    finally:
        machine.unload_modules()
    (args.out / "timeline.svg").write_text(timeline.draw(switching, original))
    verdict = report.judge(switching, original)
    say(report.summary(switching, original, verdict))
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
