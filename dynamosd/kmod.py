# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel module's files, and nothing else: docs/abi.md, seen from Python.

Reading walks ``/sys/kernel/dynamos``; acting writes one command to ``/dev/dynamos``; listening
reads event lines from it. What the kernel answers with an errno becomes one of our errors here.
Both paths are arguments, so that nothing else has to know where the module lives.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dynamosd.errors import DynamosError, InvalidInput, Refused, Unreachable
from dynamosd.model import Counts, Edition, EditionState, Function, KernelState, Subsystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SYSFS = Path("/sys/kernel/dynamos")
DEVICE = Path("/dev/dynamos")

LOAD_HINT = "load the kernel module: modprobe dynamos"
ROOT_HINT = "only root may do this: run it with sudo"

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR})
"""How a sysfs file fails that was there a moment ago: its folder went while we were reading."""

_EVENT_BYTES = 64 * 1024
_NAME = re.compile(r"[!#-~]+")
_WORD = re.compile(r'([^\s=]+)=(?:"([^"]*)(?:"|$)|(\S*))')


@dataclass(frozen=True, slots=True)
class Event:
    """One line from ``/dev/dynamos``.

    ``time`` is CLOCK_MONOTONIC in seconds. ``seq`` is 0 for a ``lost`` event, which the reader
    gets instead of the ones that were overwritten before it came.
    """

    seq: int
    time: float
    name: str
    fields: Mapping[str, str]


def parse_event(line: str) -> Event | None:
    """Take one event line apart; None when it is not one. A line cut short keeps its words."""
    fields = {key: quoted or bare for key, quoted, bare in _WORD.findall(line)}
    try:
        seq, time, name = int(fields.pop("seq")), float(fields.pop("time")), fields.pop("event")
    except (KeyError, ValueError):
        return None
    return Event(seq, time, name, fields)


def parse_events(text: str) -> Iterator[Event]:
    """Give the events of a block of lines, without those that are not event lines."""
    return (event for line in text.splitlines() if (event := parse_event(line)))


class CommandFailed(Exception):
    """The module's answer to a command: an errno, and the sentence it gave, if any."""

    def __init__(self, number: int, reason: str) -> None:
        """Keep the errno ``number`` and the ``reason``, which may be empty."""
        super().__init__(number, reason)
        self.number = number
        self.reason = reason


class Device(Protocol):
    """What takes commands."""

    def command(self, line: str) -> None:
        """Carry ``line`` out, or raise `CommandFailed`; `OSError` when it cannot be opened."""


class CharacterDevice:
    """``/dev/dynamos`` itself."""

    def __init__(self, path: Path) -> None:
        """Name the node; it is opened for each command."""
        self._path = path

    def command(self, line: str) -> None:
        """Write ``line``; when the module refuses, pick its reason out of the events."""
        device = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.lseek(device, 0, os.SEEK_END)
            try:
                os.write(device, line.encode())
            except OSError as error:
                reason = _refusal(_drain(device), line, os.getpid())
                raise CommandFailed(error.errno or errno.EIO, reason) from error
        finally:
            os.close(device)


def _drain(device: int) -> str:
    """Give all event lines that can be had without waiting."""
    blocks = []
    try:
        while block := os.read(device, _EVENT_BYTES):
            blocks.append(block)
    except OSError:
        # EAGAIN is the normal end; a reason that cannot be read is only a reason less.
        pass
    return b"".join(blocks).decode("ascii", "replace")


def _refusal(text: str, line: str, pid: int) -> str:
    """Give the reason of the last refusal that is ours: others may be writing too."""
    ours = [
        event.fields.get("reason", "")
        for event in parse_events(text)
        if event.name == "refused"
        and (event.fields.get("by") == str(pid) or event.fields.get("command") == line)
    ]
    return ours[-1] if ours else ""


class Kmod:
    """The kernel module."""

    def __init__(
        self, sysfs: Path | str = SYSFS, device: Path | str = DEVICE, port: Device | None = None
    ) -> None:
        """Name the module's files.

        Args:
            sysfs: where it shows its state.
            device: where it takes commands and gives events.
            port: what takes the commands instead of ``device`` (for tests).
        """
        self._sysfs = Path(sysfs)
        self._device = Path(device)
        self._port: Device = port or CharacterDevice(self._device)

    @property
    def loaded(self) -> bool:
        """Whether the module shows itself."""
        return self._sysfs.is_dir()

    def read(self) -> KernelState:
        """Read everything the module shows.

        An edition or function that goes while it is being read is left out.

        Raises:
            Unreachable: the module is not loaded, or we may not read.
        """
        try:
            version = _text(self._sysfs / "version")
            if version is None:
                raise Unreachable("the kernel module is not loaded", hint=LOAD_HINT)
            found = (_subsystem(folder) for folder in _folders(self._sysfs))
            return KernelState(version, {each.name: each for each in found if each})
        except PermissionError as error:
            raise Unreachable(f"may not read {error.filename}", hint=ROOT_HINT) from error
        except (OSError, ValueError) as error:
            message = f"the kernel module cannot be read: {error}"
            raise Unreachable(message, hint="see: dynamosctl version, dmesg") from error

    def read_active(self, subsystem: str) -> str | None:
        """Give the name of the active edition; None when there is no such subsystem."""
        if not _NAME.fullmatch(subsystem) or "/" in subsystem:
            return None
        return _text(self._sysfs / subsystem / "active")

    def switch(self, subsystem: str, edition: str, mode: str = "concurrent") -> None:
        """Make ``edition`` the active one of ``subsystem``.

        Raises:
            InvalidInput: there is no such subsystem, edition or mode.
            Refused: the module knows both and says no.
            Unreachable: the module is not loaded, or we are not root.
        """
        for name in (subsystem, edition, mode):
            if not _NAME.fullmatch(name):
                raise InvalidInput(f"{name!r} is not a name", hint="see: dynamosctl list")
        self._command(f"switch {subsystem} {edition} mode={mode}", subsystem, edition)

    def events(self) -> Iterator[Event]:
        """Give events as they come, the oldest one still held first; waits for the next one.

        Raises:
            Unreachable: the module is not loaded, or we are not root.
        """
        try:
            with self._device.open("rb", buffering=0) as device:
                rest = b""
                while block := device.read(_EVENT_BYTES):
                    lines, _, rest = (rest + block).rpartition(b"\n")
                    yield from parse_events(lines.decode("ascii", "replace"))
        except OSError as error:
            raise self._unreachable(error) from error

    def _command(self, line: str, subsystem: str, edition: str) -> None:
        try:
            self._port.command(line)
        except CommandFailed as failure:
            raise self._refused(failure, subsystem, edition) from failure
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: OSError) -> Unreachable:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return Unreachable(f"may not open {self._device}", hint=ROOT_HINT)
        if error.errno in _GONE | {errno.ENXIO}:
            return Unreachable("the kernel module is not loaded", hint=LOAD_HINT)
        return Unreachable(f"{self._device}: {error.strerror}", hint="see: dynamosctl doctor")

    def _refused(self, failure: CommandFailed, subsystem: str, edition: str) -> DynamosError:
        """Turn an errno of docs/abi.md into the error that says it."""
        number, reason = failure.number, failure.reason
        error: type[DynamosError] = InvalidInput
        match number:
            case errno.ENOENT:
                default = f"there is no subsystem {subsystem}"
                hint = known_names(subsystem, self._names(), "subsystem")
            case errno.ENXIO:
                default = f"subsystem {subsystem} has no edition {edition}"
                hint = known_names(edition, self._names(subsystem, "editions"), "edition")
            case errno.EINVAL | errno.E2BIG:
                default = "the module does not understand the command"
                hint = "module and program may not belong together: dynamosctl version"
            case errno.ENODEV:
                error, default = Refused, f"the module of edition {edition} is being removed"
                hint = "load it again: dynamosctl edition load"
            case errno.EOPNOTSUPP:
                error, default = Refused, f"{subsystem} cannot switch to {edition} like this"
                hint = "mode=concurrent always works"
            case errno.EACCES | errno.EPERM:
                error, default, hint = Unreachable, "only root may switch", ROOT_HINT
            case _:
                error, default = DynamosError, f"the module failed: {os.strerror(number)}"
                hint = "see: dynamosctl doctor, dmesg"
        return error(reason or default, hint=hint)

    def _names(self, *below: str) -> list[str]:
        return [folder.name for folder in _folders(self._sysfs.joinpath(*below))]


def known_names(wrong: str, names: Iterable[str], kind: str) -> str:
    """Give the hint for a name that does not exist: the nearest one, or all there are."""
    # Only a wrong name needs it, and it costs start-up time.
    import difflib  # noqa: PLC0415

    names = sorted(names)
    if near := difflib.get_close_matches(wrong, names, n=1):
        return f"did you mean {near[0]}?"
    if names:
        return f"{kind}s here: {', '.join(names)}"
    return f"no {kind} is loaded: dynamosctl edition load"


# ------------------------------------------------------------------------------------ sysfs


def _text(path: Path) -> str | None:
    """Give the value in a file, or None when it is not there (any more)."""
    try:
        return path.read_text(encoding="ascii").rstrip("\n")
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def _number(path: Path) -> int | None:
    text = _text(path)
    return None if text is None else int(text)


def _folders(path: Path) -> list[Path]:
    """Give the folders in a folder, by name; none when it is not there (any more)."""
    try:
        with os.scandir(path) as entries:
            return sorted(path / entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def _edition(folder: Path) -> Edition | None:
    index, state = _number(folder / "index"), _text(folder / "state")
    module = _text(folder / "module")
    if index is None or state is None or module is None:
        return None
    return Edition(folder.name, index, EditionState(state), module)


def _counts(folder: Path) -> Counts | None:
    calls, in_flight = _number(folder / "calls"), _number(folder / "in_flight")
    if calls is None or in_flight is None:
        return None
    return Counts(calls, in_flight)


def _function(folder: Path) -> Function | None:
    number, backend = _number(folder / "id"), _text(folder / "backend")
    if number is None or backend is None:
        return None
    found = ((each.name, _counts(each)) for each in _folders(folder))
    return Function(folder.name, number, backend, {name: each for name, each in found if each})


def _subsystem(folder: Path) -> Subsystem | None:
    active, mode = _text(folder / "active"), _text(folder / "mode")
    switches = _number(folder / "switches")
    if active is None or mode is None or switches is None:
        return None
    editions = filter(None, map(_edition, _folders(folder / "editions")))
    functions = filter(None, map(_function, _folders(folder / "functions")))
    return Subsystem(
        folder.name,
        active,
        mode,
        switches,
        {each.name: each for each in sorted(editions, key=lambda edition: edition.index)},
        {each.name: each for each in functions},
    )
