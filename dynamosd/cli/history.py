# SPDX-License-Identifier: GPL-2.0-or-later
"""``history``: the journal as a person reads it, and as it grows."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamosd import journal, status
from dynamosd.cli.output import colour, warn, wrap
from dynamosd.cli.words import plain, say
from dynamosd.errors import InvalidInput, Unreachable, UsageError
from dynamosd.kmod import ROOT_HINT
from dynamosd.records import Reader

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from dynamosd.kmod import Kmod
    from dynamosd.records import Record

_POLL_SECONDS = 0.2
_SURVEYED = 500
"""How many records decide how wide the columns are, when there is no end of them."""

_TIME = 20
_INDENT = " " * (_TIME + 2)
"""Before what goes on below: sentences are long, and more of them fits beside the time."""

_WIDEST = 16
"""How wide the columns of names may get; a name that is longer moves its own row."""

_COLOURS = {
    "switch": "bold",
    "trouble": "yellow",
    "reload_failed": "red",
    "module_gone": "red",
    "probe_lost": "yellow",
    "budget": "yellow",
}


# ---------------------------------------------------------------------------------- the journal


def journal_of(daemon: dict[str, Any] | None) -> Path:
    """Give the journal of the daemon that runs, or where one would be."""
    return Path((daemon or {}).get("journal") or journal.PATH)


def not_allowed(path: Path) -> Unreachable:
    """Say that a journal may not be read."""
    return Unreachable(f"may not read {path}", hint=ROOT_HINT)


# ----------------------------------------------------------------------------------- the filter


@dataclass(slots=True)
class Filter:
    """Which records are wanted. ``homes`` says which subsystem a policy is about."""

    subsystem: str | None = None
    policy: str | None = None
    kinds: frozenset[str] = frozenset()
    since: float | None = None
    until: float | None = None
    homes: dict[str, str] = field(default_factory=dict)

    def takes(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        policy, subsystem = record.get("policy"), record.get("subsystem")
        if policy and subsystem and isinstance(policy, str):
            self.homes[policy] = subsystem
        if self.kinds and str(record.get("kind")) not in self.kinds:
            return False
        if policy == subsystem == "":
            # A pause of all policies is about every one of them.
            return self._in_time(record)
        return self._in_time(record) and self._in_subsystem(record) and self._of_policy(record)

    def _in_time(self, record: Record) -> bool:
        if self.since is None and self.until is None:
            return True
        at = record.get("time_seconds")
        if not isinstance(at, int | float):
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)

    def _in_subsystem(self, record: Record) -> bool:
        if self.subsystem is None:
            return True
        home = record.get("subsystem") or self.homes.get(str(record.get("policy")))
        return home == self.subsystem

    def _of_policy(self, record: Record) -> bool:
        if self.policy is None or record.get("policy") == self.policy:
            return True
        home, kind = self.homes.get(self.policy), record.get("kind")
        if kind in {"pin", "unpin"}:
            return record.get("subsystem") == home
        of_all = kind in {"pause", "resume", "request"} and record.get("policy") == ""
        return of_all and record.get("subsystem") == home


# -------------------------------------------------------------------------------------- showing


@dataclass(slots=True)
class _Rows:
    """Prints records as a table; how wide its columns are, the first records decide."""

    kind: int = 0
    subsystem: int = 0

    def survey(self, records: Iterable[Record]) -> None:
        """Look how much room the columns need, and print their heads."""
        kinds, subsystems = ["KIND".ljust(len("decision"))], ["SUBSYSTEM"]
        for record in records:
            kinds.append(plain(str(record.get("kind"))))
            subsystems.append(_subsystem(record))
        self.kind = min(_WIDEST, max(map(len, kinds)))
        self.subsystem = min(_WIDEST, max(map(len, subsystems)))
        print(colour(f"{self._start('TIME', kinds[0], subsystems[0])}WHAT", "bold"))

    def _start(self, when: str, kind: str, subsystem: str) -> str:
        kind, subsystem = kind.ljust(self.kind), subsystem.ljust(self.subsystem)
        return f"{when.ljust(_TIME)}  {kind}  {subsystem}  "

    def show(self, record: Record) -> None:
        """Print one record, in as many lines as it takes."""
        kind = plain(str(record.get("kind")))
        start = self._start(_when(record), kind, _subsystem(record))
        # A record is one line for whoever searches in them.
        lines = wrap(start + say(record), _INDENT, piped=sys.maxsize)
        name = "red" if record.get("result") in {"refused", "failed"} else _COLOURS.get(kind)
        if name:
            lines[0] = lines[0].replace(f"  {kind}", f"  {colour(kind, name)}", 1)
        print("\n".join(lines))


def _when(record: Record) -> str:
    text = plain(str(record.get("time", "")))
    return f"{text[:19]}Z" if len(text) > _TIME else text


def _subsystem(record: Record) -> str:
    return plain(str(record.get("subsystem") or "-"))


# ------------------------------------------------------------------------------------ the command


def show_history(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show what happened and why; with --follow, go on until Ctrl-C."""
    del kmod
    if args.follow and args.until is not None:
        raise UsageError("--until and --follow do not go together")
    daemon = status.read(args.runtime_dir)
    path = args.journal or journal_of(daemon)
    policies = (daemon or {}).get("policies", ())
    homes = {each["name"]: each["subsystem"] for each in policies if "subsystem" in each}
    kinds = frozenset(args.kind or ())
    wanted = Filter(args.subsystem, args.policy, kinds, args.since, args.until, homes)
    try:
        with contextlib.closing(Reader(path)) as reader:
            _History(args, path, reader, wanted).run()
    except PermissionError as error:
        raise not_allowed(error.filename or path) from error
    return 0


@dataclass(slots=True)
class _History:
    """One run of the command. ``shown`` counts rows."""

    args: argparse.Namespace
    path: Path
    reader: Reader
    wanted: Filter
    rows: _Rows = field(default_factory=_Rows)
    kinds: set[str] = field(default_factory=set)
    shown: int = 0
    told: int = 0

    def run(self) -> None:
        """Show what there is, and go on if that is asked for."""
        if not self.args.follow:
            self._show_all()
            return
        # This is how it is meant to end, and no failure.
        with contextlib.suppress(KeyboardInterrupt):
            self._follow()

    def _show_all(self) -> None:
        self._show_last()
        if not self.reader.found:
            hint = "a daemon writes it: dynamosd run; another one: --journal FILE"
            raise InvalidInput(f"there is no journal {self.path}", hint=hint)
        if not self.shown:
            warn("no record of the journal is like that")
            if lacking := sorted(self.wanted.kinds - self.kinds):
                kinds = ", ".join(sorted(self.kinds)) or "none"
                warn(f"none has kind {', '.join(lacking)}; kinds there are: {kinds}")
        self._tell_torn()

    def _show_last(self) -> None:
        """Show the last records that fit. No more than that are ever held."""
        found = self._fitting(self._records())
        if self.args.count:
            found = iter(deque(found, self.args.count))
        self._show(found)

    def _follow(self) -> None:
        self._show_last()
        if not self.reader.found:
            warn(f"there is no journal {self.path} yet: waiting for it")
        while True:
            self._show(self._fitting(self.reader.records()))
            self._tell_torn()
            time.sleep(_POLL_SECONDS)

    def _records(self) -> Iterator[Record]:
        yield from self.reader.records()
        if not self.args.follow:
            yield from self.reader.unfinished()

    def _fitting(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self.kinds.add(str(record.get("kind")))
            if self.wanted.takes(record):
                yield record

    def _show(self, records: Iterator[Record]) -> None:
        if self.args.output == "json":
            for record in records:
                print(json.dumps(record))
                self.shown += 1
        else:
            self._show_rows(records)
        sys.stdout.flush()

    def _show_rows(self, records: Iterator[Record]) -> None:
        first = list(islice(records, self.args.count or _SURVEYED)) if not self.shown else []
        if first:
            self.rows.survey(first)
        for group in (first, records):
            for record in group:
                self.rows.show(record)
                self.shown += 1

    def _tell_torn(self) -> None:
        """Say how many lines could not be read, once for each that is new."""
        new, self.told = self.reader.torn - self.told, self.reader.torn
        if new:
            lines = "line is" if new == 1 else "lines are"
            warn(f"{new} {lines} left out: cut short, or not a record")
