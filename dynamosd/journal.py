# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened and why, one JSON object a line.

A record that says the same as the last one about the same thing is not written again: it is
counted, and the count goes out with ``"repeated"`` as soon as there is something new to say.
Each line is one ``write()`` to a file opened for appending, so that writers never mix; a line
that was cut short by a crash or a full disk is ended before the next one, and readers skip it.
Trouble with the disk is counted and told once: it never stops the caller. What says that something
was changed is synced, by a thread of its own: the caller never waits for a slow disk.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.records import Record, numbered, read

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATH", "Journal", "Record", "read", "rfc3339"]

PATH = Path("/var/lib/dynamosd/journal.jsonl")
"""Where it is, if the settings do not say otherwise."""

MAX_BYTES = 8 * 1024 * 1024
KEEP = 4
"""How many old journals stay, as ``journal.jsonl.1`` (the newest of them) and so on."""

_SYNCED = frozenset({"switch", "completed", "quarantine", "lease", "start", "stop"})
"""Kinds that one asks for after a power cut."""

_LOCK_TRIES = 50
_LOCK_PAUSE_SECONDS = 0.001


@dataclass(slots=True)
class _Last:
    """The last record about one thing, and how often it came again since it was written."""

    fields: Record
    repeated: int = 0
    since: float = 0.0


class Syncer:
    """Syncs a file in the background: one run at a time, and one more for all that came in it."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._mutex = threading.Lock()
        self._path: Path | None = None
        self._thread: threading.Thread | None = None

    def sync(self, path: Path) -> None:
        """Have what is in the file now on the disk, soon."""
        with self._mutex:
            self._path = path
            if self._thread is None:
                # A daemon's: a disk that hangs does not keep the process from its end.
                thread = threading.Thread(target=self._run, name="journal", daemon=True)
                # Where there is no memory for one, the next record asks again.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def wait(self, seconds: float) -> None:
        """Wait until all is on the disk, but no longer than that."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        while (path := self._next()) is not None:
            # What cannot be synced was told when it could not be written, or will be with the next.
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fdatasync(file)
                finally:
                    os.close(file)

    def _next(self) -> Path | None:
        with self._mutex:
            path, self._path = self._path, None
            if path is None:
                self._thread = None
            return path


@dataclass(slots=True)
class Journal:
    """Appends records.

    Args:
        path: the file; its folder is made when it is missing.
        wall: gives seconds of the Unix epoch.
        tell: shows a line to the operator; used when writing fails, and when it works again.
        also: is given each record too, whatever becomes of it here.
    """

    path: Path
    wall: Callable[[], float]
    tell: Callable[[str], None]
    max_bytes: int = MAX_BYTES
    keep: int = KEEP
    also: Callable[[Record], None] | None = None
    errors: int = 0
    _syncer: Syncer = field(default_factory=Syncer)
    _last: dict[tuple[str, str], _Last] = field(default_factory=dict)
    _failing: bool = False

    def record(
        self, kind: str, about: str = "", detail: Record | None = None, **said: object
    ) -> None:
        """Write that ``kind`` happened.

        Args:
            kind: one word, e.g. ``switch``.
            about: what a repetition must be about to be one, e.g. the subsystem.
            detail: what goes with it, but does not make it something new (measured values).
            said: what happened.
        """
        last = self._last.get((kind, about))
        if last and last.fields == said:
            last.repeated += 1
            last.since = last.since or self.wall()
            return
        self._flush(kind, about)
        self._last[kind, about] = _Last(dict(said))
        self._append({"kind": kind, **said, **(detail or {})})

    def forget(self, kind: str, about: str = "") -> None:
        """Let the next record of this kind be a new one, whatever it says."""
        self._flush(kind, about)
        self._last.pop((kind, about), None)

    def close(self) -> None:
        """Write the counts that are due."""
        for kind, about in list(self._last):
            self.forget(kind, about)

    def _flush(self, kind: str, about: str) -> None:
        last = self._last.get((kind, about))
        if last and last.repeated:
            said = {"repeated": last.repeated, "since": rfc3339(last.since)}
            self._append({"kind": kind, **last.fields, **said})
            last.repeated, last.since = 0, 0.0

    def _append(self, record: Record) -> None:
        if self.also is not None:
            self.also(record)
        now = self.wall()
        line = json.dumps({"time": rfc3339(now), "time_seconds": round(now, 3), **record})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._rotate()
            self._write(line.encode() + b"\n")
            if record["kind"] in _SYNCED:
                self._syncer.sync(self.path)
        except OSError as error:
            self.errors += 1
            if not self._failing:
                self.tell(f"cannot write {self.path}: {error.strerror}; going on without it")
            self._failing = True
            return
        if self._failing:
            self.tell(f"{self.path} can be written again")
        self._failing = False

    def _write(self, line: bytes) -> None:
        """Append a line; the file is opened each time, for it may have been moved meanwhile."""
        journal = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            # Unlocked, a line that looks torn may be one that is being written.
            if _lock(journal) and _is_torn(journal):
                line = b"\n" + line
            written = os.write(journal, line)
            if written < len(line):
                # The disk got full in mid-line. The next write will say so with an errno.
                os.write(journal, line[written:])
        finally:
            os.close(journal)

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size < self.max_bytes:
                return
            for number in range(self.keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    numbered(self.path, number).replace(numbered(self.path, number + 1))
            self.path.replace(numbered(self.path, 1))


def _lock(journal: int) -> bool:
    """Keep other writers out until the file is closed; False when one of them does not move.

    Each of them is in here for microseconds. One that was stopped meanwhile must not stop us too.
    """
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(OSError):
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_PAUSE_SECONDS)
    return False


def _is_torn(journal: int) -> bool:
    """Tell whether the file's last line was never finished."""
    size = os.fstat(journal).st_size
    return size > 0 and os.pread(journal, 1, size - 1) != b"\n"


def rfc3339(wall: float) -> str:
    """Show seconds of the Unix epoch as RFC 3339 does, in UTC, to the millisecond."""
    time = dt.datetime.fromtimestamp(wall, dt.UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
