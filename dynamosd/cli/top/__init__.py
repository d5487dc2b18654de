# SPDX-License-Identifier: GPL-2.0-or-later
"""``top``: what the kernel calls now, looked at again and again."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.cli.output import pin_of, policies_of
from dynamosd.cli.top.frame import BARS, PLAIN_BARS, Paper, frame, furthest
from dynamosd.cli.top.look import Look, press
from dynamosd.cli.top.measure import Meter, Picture
from dynamosd.cli.top.rows import rows_of
from dynamosd.cli.top.terminal import END, Terminal
from dynamosd.clock import SystemClock, Ticker
from dynamosd.errors import Unreachable
from dynamosd.journal import rfc3339

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dynamosd.cli.top.rows import Row
    from dynamosd.clock import Clock
    from dynamosd.kmod import Kmod
    from dynamosd.model import KernelState


def show_top(args: argparse.Namespace, kmod: Kmod, clock: Clock | None = None) -> int:
    """Show it until somebody has seen enough; another ``clock`` is for tests."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What this terminal has no letter for is no reason to end.
        sys.stdout.reconfigure(errors="replace")
    clock = clock or SystemClock()
    look = Look(sort=args.sort, reverse=args.reverse, filter=args.filter, editions=args.editions)
    watch = Watch(kmod, args.runtime_dir, clock)
    # A module that is not there when one begins is a mistake; one that goes later is news.
    first = watch.look()
    if first.kernel is None:
        kmod.read()
    if args.output == "json":
        return _go_on(watch, args, lambda picture: print(json.dumps(document(picture))))
    if args.batch or not _can_draw():
        return _go_on(watch, args, lambda picture: _print(picture, look, args.delay))
    return _live(watch, args, look, first)


def _can_draw() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


class Watch:
    """Looks at the module and at what the daemon says."""

    def __init__(self, kmod: Kmod, runtime_dir: Path, clock: Clock) -> None:
        """Begin with nothing seen."""
        self.clock = clock
        self._kmod = kmod
        self._runtime_dir = runtime_dir
        self._meter = Meter()

    def look(self) -> Picture:
        """Give what is to be seen now, and since the look before."""
        why = ""
        try:
            kernel = self._kmod.read()
        except Unreachable as error:
            kernel, why = None, error.message
        daemon = status.read(self._runtime_dir)
        picture = self._meter.feed(self.clock.now(), self.clock.wall(), kernel, daemon)
        return replace(picture, why=why)


# ---------------------------------------------------------------------------------------- batch


def _go_on(watch: Watch, args: argparse.Namespace, show: Callable[[Picture], None]) -> int:
    """Show it each time; the first look was only what the next is compared with."""
    try:
        for _ in _times(watch.clock, args.delay, args.count):
            show(watch.look())
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    return 0


def _times(clock: Clock, delay: float, limit: int) -> Iterator[int]:
    """Come back after each delay, ``limit`` times; 0: for ever."""
    ticker = Ticker(delay, clock.now() + delay)
    for number in count(1):
        while not ticker.is_due(clock.now()):
            clock.wait_until(ticker.deadline)
        ticker.arrive(clock.now())
        yield number
        if number == limit:
            return


def _print(picture: Picture, look: Look, delay: float) -> None:
    """Print it as plain text, as wide as it is, or as the terminal."""
    width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
    for line in frame(picture, look, Paper(width or None, None, _bars()), delay):
        print(line.plain.rstrip())
    print()


def _bars() -> str:
    """Give what sparklines are drawn with where they are shown."""
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return PLAIN_BARS
    return BARS


# ----------------------------------------------------------------------------------------- JSON


def document(picture: Picture) -> dict[str, object]:
    """Give it for programs."""
    kernel, daemon = picture.kernel, picture.daemon
    parts: dict[str, list[Row]] = {}
    for row in rows_of(picture, editions=True):
        parts.setdefault(row.subsystem, []).append(row)
    return {
        "apiVersion": status.API_VERSION,
        "kind": "Top",
        "time": rfc3339(picture.wall),
        "time_seconds": picture.wall,
        "interval_seconds": picture.seconds or None,
        "module": kernel and {"version": kernel.version, "enabled": kernel.enabled},
        "daemon": daemon and {key: daemon.get(key) for key in ("pid", "version", "started")},
        "subsystems": [
            {
                **_subsystem(picture, kernel, row),
                "functions": _functions(parts.get(row.subsystem, [])),
            }
            for row in rows_of(picture, editions=False)
            if kernel
        ],
    }


def _subsystem(picture: Picture, kernel: KernelState, row: Row) -> dict[str, object]:
    since = picture.since.get(row.subsystem)
    keys = ("name", "mode", "phase", "rule", "paused", "trouble")
    policies = policies_of(picture.daemon, row.subsystem)
    pin = pin_of(picture.daemon, row.subsystem)
    return {
        "name": row.subsystem,
        "active": row.edition,
        "partial": kernel.subsystems[row.subsystem].partial,
        **_figures(row),
        "active_since": rfc3339(since) if since else None,
        "pinned": pin and pin["edition"],
        "policies": [{key: each.get(key) for key in keys} for each in policies]
        if picture.daemon
        else None,
    }


def _figures(row: Row) -> dict[str, object]:
    return {
        "calls_per_second": None if row.rate is None else round(row.rate, 3),
        "in_flight": row.in_flight,
        "draining": row.draining,
    }


def _functions(rows: list[Row]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        found.setdefault(row.function, []).append({"name": row.edition, **_figures(row)})
    return [{"name": name, "editions": editions} for name, editions in found.items()]


# ----------------------------------------------------------------------------------------- live


def _live(watch: Watch, args: argparse.Namespace, look: Look, shown: Picture) -> int:
    """Show it on the terminal, and do what the keys say."""
    now = watch.clock.now
    ticker = Ticker(args.delay, now() + args.delay)
    left = args.count or None
    with Terminal() as terminal:
        while True:
            paper = Paper(*terminal.size, _bars())
            look = replace(look, first=min(look.first, furthest(shown, look, paper)))
            terminal.draw(frame(shown, look, paper, args.delay))
            for key in terminal.wait(ticker.deadline - now()):
                changed = None if key == END else press(look, key)
                if changed is None:
                    return 0
                look = changed
            if ticker.is_due(now()):
                ticker.arrive(now())
                left = left and left - 1
                if left == 0:
                    return 0
                seen = watch.look()
                shown = shown if look.paused else seen
