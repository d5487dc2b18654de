# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings: what the policies saw and decided, evaluation by evaluation, to be played again.

Zstandard-compressed JSON Lines, described in docs/recordings.md. The first line of a file is its
header; each line after it is one tick of the loop with its signals and, for each policy that was
evaluated, what it found and decided. Where a policy's state does not follow from the line before
(at the beginning of a file, and when policies were read again), the line has the state too: every
decision can be computed again. Each line leaves as one block, so that all but the last one can be
read after the daemon was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from backports import zstd

from dynamosd.errors import InvalidInput
from dynamosd.model import Decision, Part, RuleState, Signal, Signals
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import Asked, PolicyState, Progress, Situation
from dynamosd.policy.expression import Input
from dynamosd.policy.objective import Evidence, Learning
from dynamosd.policy.readings import Average
from dynamosd.policy.rollout_json import (
    guarded_to_json,
    rolling_to_json,
    rollout_from_json,
    watch_from_json,
    watch_to_json,
)

FORMAT = "dynamos-recording"
VERSION = 2
SUFFIX = ".jsonl.zst"

_WITHOUT_EDITIONS = 1
"""The version whose signals were of all editions together; it is still read."""

MAX_BYTES = 4 * 1024 * 1024
KEEP = 8

RETRY_SECONDS = 60.0
"""For how long nothing is tried after a write that failed: each try begins a new file."""

_LEVEL = 3
_CHUNK_BYTES = 256
"""What is read at a time: of a chunk that has noise in it nothing can be used."""

_SOMETIMES = ("guarded", "scope", "rolling")
"""The parts of a decision that not every one has."""

_MAX_LINE_BYTES = 16 * 1024 * 1024

Json = dict[str, Any]


class Evaluated(NamedTuple):
    """One policy's evaluation: what went in, and what came out."""

    policy: Policy
    situation: Situation
    before: PolicyState
    decision: Decision
    after: PolicyState


# ----------------------------------------------------------------------------------- writing


@dataclass(slots=True)
class Recorder:
    """Writes the rolling recording. Trouble is counted and told once: it never stops the caller.

    Args:
        folder: where the files are; made when it is missing.
        tell: shows a line to the operator.
        about: more for the headers, such as the program's version.
        max_bytes: size of a file, compressed, from which on the next one is begun.
        keep: how many files stay, the one that is written included; with 0 nothing is recorded.
    """

    folder: Path
    tell: Callable[[str], None]
    about: Mapping[str, object] = field(default_factory=dict)
    max_bytes: int = MAX_BYTES
    keep: int = KEEP
    errors: int = 0
    _writer: RecordingWriter | None = None
    _known: dict[str, tuple[PolicyState, str]] = field(default_factory=dict)
    _labels: Mapping[str, str] = field(default_factory=dict)
    _retry_at: float = float("-inf")
    _failing: bool = False

    def record(
        self, now: float, wall: float, signals: Signals, evaluated: Sequence[Evaluated]
    ) -> None:
        """Write one tick: ``now`` as the policies have it, ``wall`` in Unix time."""
        if not evaluated or self.keep <= 0 or now < self._retry_at:
            return
        try:
            writer = self._open(wall)
            entries = [self._entry(each) for each in evaluated]
            line = _sample(now, wall, signals, entries)
            labels = evaluated[0].situation.labels
            if labels != self._labels:
                line["labels"] = dict(labels)
            writer.write(line)
            self._labels = labels
            if writer.size >= self.max_bytes:
                self.close()
        except OSError as error:
            self._fail(now, error)
            return
        if self._failing:
            self.tell(f"{self.folder} can be written again")
        self._failing = False

    def close(self) -> None:
        """End the file. The next record begins a new one."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()

    def _open(self, wall: float) -> RecordingWriter:
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{_next_number(self.folder):08d}{SUFFIX}"
            self._known.clear()
            self._labels = {}
            self._writer = RecordingWriter(path, {**self.about, "wall": wall})
            # Only now that there is a new one: a full disk must not eat the old ones.
            for old in files(self.folder)[: -self.keep]:
                old.unlink(missing_ok=True)
        return self._writer

    def _entry(self, evaluated: Evaluated) -> Json:
        entry = _decided(evaluated.situation, evaluated.decision)
        name, digest = evaluated.policy.name, evaluated.policy.digest
        state, of = self._known.get(name, (None, ""))
        if state is not evaluated.before or of != digest:
            entry["subsystem"] = evaluated.policy.subsystem
            entry["digest"] = digest
            entry["state"] = state_to_json(evaluated.before)
        self._known[name] = (evaluated.after, digest)
        return entry

    def _fail(self, now: float, error: OSError) -> None:
        self.errors += 1
        self._retry_at = now + RETRY_SECONDS
        self.close()
        if not self._failing:
            self.tell(f"cannot write {self.folder}: {error.strerror}; going on without recording")
        self._failing = True


class RecordingWriter:
    """One file. Raises `OSError`; a file that could not be written is not gone on with."""

    def __init__(self, path: Path, about: Mapping[str, object]) -> None:
        """Begin a file with its header; ``about`` says more than its format."""
        self.size = 0
        self._compressor = zstd.ZstdCompressor(level=_LEVEL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file: int | None = os.open(path, flags, 0o640)
        try:
            self.write({"format": FORMAT, "version": VERSION, **about})
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def write(self, line: Json) -> None:
        """Append a line."""
        text = json.dumps(line, separators=(",", ":")) + "\n"
        self._append(self._compressor.compress(text.encode(), mode=zstd.ZstdCompressor.FLUSH_BLOCK))

    def close(self) -> None:
        """End the file, so that decompressors do not call it cut short."""
        if self._file is not None:
            self._append(self._compressor.flush(mode=zstd.ZstdCompressor.FLUSH_FRAME))
            os.close(self._file)
            self._file = None

    def _append(self, data: bytes) -> None:
        if self._file is None:
            raise OSError(0, "the file was given up")
        self.size += len(data)
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            # What was written in part cannot be mended, as the next block builds on it.
            os.close(self._file)
            self._file = None
            raise


def files(folder: Path) -> list[Path]:
    """Give the recordings in a folder, the oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())


def _next_number(folder: Path) -> int:
    numbers = [path.name.removesuffix(SUFFIX) for path in files(folder)]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)


def _sample(now: float, wall: float, signals: Signals, policies: list[Json]) -> Json:
    found = [[*key, each.value, each.trusted, each.reason] for key, each in signals.values.items()]
    return {"now": now, "wall": wall, "signals": found, "policies": policies}


def _decided(situation: Situation, decision: Decision) -> Json:
    entry: Json = {"policy": decision.policy, "current": situation.current}
    if situation.quarantined:
        entry["quarantined"] = dict(situation.quarantined)
    if situation.paused:
        entry["paused"] = situation.paused
    if situation.part:
        entry["part"] = [situation.part.edition, situation.part.scope]
    if situation.suspended:
        entry["suspended"] = situation.suspended
    return {**entry, **decision_to_json(decision)}


def decision_to_json(decision: Decision) -> Json:
    """Give what a decision came to."""
    said: Json = {
        "action": str(decision.action),
        "target": decision.target,
        "rule": decision.rule,
        "phase": str(decision.phase),
        "suppressed": None if decision.suppressed is None else str(decision.suppressed),
        "rules": {rule: str(state) for rule, state in decision.rules.items()},
        "reason": decision.reason,
    }
    if decision.guarded is not None:
        said["guarded"] = guarded_to_json(decision.guarded)
    if decision.scope:
        said["scope"] = decision.scope
    if decision.rolling is not None:
        said["rolling"] = rolling_to_json(decision.rolling)
    return said


# -------------------------------------------------------------------------------------- state


def state_to_json(state: PolicyState) -> Json:
    """Give a policy's state, all of it."""
    return {
        "rules": {name: list(each) for name, each in state.rules.items()},
        "averages": [[*read, *average] for read, average in state.averages.items()],
        "switches": list(state.switches),
        "asked": None if state.asked is None else list(state.asked),
        "frozen_until": state.frozen_until,
        "learning": None if state.learning is None else asdict(state.learning),
        "watch": None if state.watch is None else watch_to_json(state.watch),
        "rollout": None if state.rollout is None else asdict(state.rollout),
    }


def state_from_json(data: Json) -> PolicyState:
    """Give the state back; what is not one raises `ValueError`, `KeyError` or `TypeError`."""
    return PolicyState(
        rules={
            name: Progress(RuleState(state), since, recent)
            for name, (state, since, recent) in data["rules"].items()
        },
        averages={
            Input(signal, function, edition, smooth): Average(value, time)
            for signal, function, edition, smooth, value, time in data["averages"]
        },
        switches=tuple(data["switches"]),
        asked=None if data["asked"] is None else Asked(*data["asked"]),
        frozen_until=data["frozen_until"],
        learning=_learning_from_json(data.get("learning")),
        watch=watch_from_json(data.get("watch")),
        rollout=rollout_from_json(data.get("rollout")),
    )


def _learning_from_json(data: Json | None) -> Learning | None:
    """Give what an objective has found out; recordings from before there were any have none."""
    if data is None:
        return None
    evidence = {name: Evidence(*each) for name, each in data["evidence"].items()}
    return Learning(**{**data, "evidence": evidence, "queue": tuple(data["queue"])})


# ------------------------------------------------------------------------------------ reading


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy's evaluation. ``state`` is None where it follows from the line before."""

    policy: str
    current: str
    quarantined: Mapping[str, str]
    paused: str
    decided: Json
    subsystem: str = ""
    digest: str = ""
    state: PolicyState | None = None
    suspended: str = ""
    part: Part | None = None

    def situation(self, tick: Tick) -> Situation:
        """Give what the policy found at a tick, which has this entry."""
        return Situation(
            self.current,
            tick.now,
            tick.wall,
            self.quarantined,
            self.paused,
            self.suspended,
            labels=tick.labels,
            part=self.part,
        )


@dataclass(frozen=True, slots=True)
class Tick:
    """One line of a recording."""

    now: float
    wall: float
    signals: Signals
    entries: Mapping[str, Entry]
    labels: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Iterator[Tick]:
    """Give the ticks of a file, or of all files of a folder; what is torn is left out.

    Raises:
        InvalidInput: it cannot be read, or is no recording that this program knows.
    """
    paths = files(path) if path.is_dir() else [path]
    if not paths:
        raise InvalidInput(f"there is no recording in {path}", hint=f"they end in {SUFFIX}")
    for each in paths:
        # A daemon that was killed at once has left an empty one.
        if path is each or next(_lines(each), None) is not None:
            yield from _read_file(each)


def read_lines(path: Path) -> Iterator[Json]:
    """Give the lines of a file, its header first.

    Raises:
        InvalidInput: as `read`.
    """
    lines = _lines(path)
    header = next(lines, None)
    if header is None or header.get("format") != FORMAT:
        raise InvalidInput(f"{path} is not a recording")
    version = header.get("version")
    if version not in {_WITHOUT_EDITIONS, VERSION}:
        message = f"{path} is a recording of version {version}, not {VERSION}"
        raise InvalidInput(message, hint="use the dynamosctl that belongs to the daemon")
    yield {**header, "version": VERSION}
    yield from map(_with_editions, lines) if version == _WITHOUT_EDITIONS else lines


def _with_editions(line: Json) -> Json:
    """Give a line of a version 1 recording as one of version 2, or as it is if it is not one."""
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        states = [each["state"] for each in line["policies"] if "state" in each]
        for rows in (line["signals"], *(each["averages"] for each in states)):
            for row in rows:
                row.insert(2, "")
    return line


def _read_file(path: Path) -> Iterator[Tick]:
    lines = read_lines(path)
    next(lines)
    labels: Json = {}
    for number, line in enumerate(lines, 2):
        try:
            labels = line.get("labels", labels)
            tick = _tick(line, labels)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path}: line {number} is not a sample: {error!r}") from None
        yield tick


def _lines(path: Path) -> Iterator[Json]:
    """Give the lines that are whole; a file that was cut short ends with the last one of them."""
    try:
        with path.open("rb") as file:
            rest = b""
            for data in _decompress(file):
                *whole, rest = (rest + data).split(b"\n")
                if len(rest) > _MAX_LINE_BYTES:
                    raise InvalidInput(f"{path} has a line of more than 16 MiB")
                for line in whole:
                    yield _parse(path, line)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error


def _parse(path: Path, line: bytes) -> Json:
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidInput(f"{path} is not a recording: it has a line that is no JSON object")
    return parsed


def _decompress(file: BinaryIO) -> Iterator[bytes]:
    decompressor = zstd.ZstdDecompressor()
    while not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            data = file.read(_CHUNK_BYTES)
            if not data:
                return
        try:
            yield decompressor.decompress(data, max_length=_MAX_LINE_BYTES)
        except (zstd.ZstdError, EOFError):
            # Torn: nothing after it can be told from noise.
            return


def _tick(line: Json, labels: Json) -> Tick:
    now, wall = float(line["now"]), float(line["wall"])
    values = {
        (str(signal), str(function), str(edition)): Signal(value, bool(trusted), str(reason))
        for signal, function, edition, value, trusted, reason in line["signals"]
    }
    entries = {str(entry["policy"]): _entry(entry) for entry in line["policies"]}
    hosts = {str(name): str(text) for name, text in dict(labels).items()}
    return Tick(now, wall, Signals(now, values), entries, hosts)


def _entry(entry: Json) -> Entry:
    decided = ("action", "target", "rule", "phase", "suppressed", "rules", "reason")
    return Entry(
        policy=entry["policy"],
        current=entry["current"],
        quarantined=entry.get("quarantined", {}),
        paused=entry.get("paused", ""),
        decided={
            **{key: entry[key] for key in decided},
            **{key: entry[key] for key in _SOMETIMES if key in entry},
        },
        subsystem=entry.get("subsystem", ""),
        digest=entry.get("digest", ""),
        state=state_from_json(entry["state"]) if "state" in entry else None,
        suspended=entry.get("suspended", ""),
        part=Part(*map(str, entry["part"])) if "part" in entry else None,
    )
