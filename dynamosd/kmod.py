# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel module's files, and nothing else: docs/abi.md, seen from Python.

Reading walks ``/sys/kernel/dynamos``; acting writes one command to ``/dev/dynamos``; listening
reads event lines from it. What the kernel answers with an errno becomes one of our errors here.
All paths are arguments, so that nothing else has to know where the module lives.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dynamosd import events
from dynamosd.errors import (
    DynamosError,
    Exhausted,
    InvalidInput,
    LeaseTaken,
    NotUnderstood,
    Refused,
    Unreachable,
    is_shortage,
)
from dynamosd.events import Event, Inside, parse_event, parse_events
from dynamosd.model import (
    Counts,
    Edition,
    EditionState,
    Function,
    KernelState,
    LeaseState,
    Standing,
    Subsystem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dynamosd.model import LeaseTerms

__all__ = [
    "CommandFailed",
    "Device",
    "Event",
    "Inside",
    "Kmod",
    "OpenDevice",
    "Unfit",
    "Who",
    "no_subsystem",
    "parse_event",
    "parse_events",
]

SYSFS = Path("/sys/kernel/dynamos")
DEVICE = Path("/dev/dynamos")
SETTINGS = Path("/sys/module/dynamos/parameters")

LOAD_HINT = "load the kernel module: modprobe dynamos"
ROOT_HINT = "only root may do this: run it with sudo"
GROUP_HINT = "root may do this, and with the service the group dynamos: run it with sudo"
ENABLE_HINT = "switch it on: echo 1 > /sys/module/dynamos/parameters/enable"

SWITCHED_OFF = "the module is switched off (enable=0)"

_OFF = frozenset({"0", "N"})
"""How the kernel shows a parameter that is not set, as a number or as a truth."""

_COUNTS = ("held", "objects", "before_gate", "unreliable", "lease_holder")
"""The numbers of a subsystem that an older module does not show."""

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR})
"""How a sysfs file fails that was there a moment ago: its folder went while we were reading."""

_INVALID = frozenset(
    {errno.ENOENT, errno.ENXIO, errno.ESRCH, errno.EINVAL, errno.E2BIG, errno.ERANGE}
)
"""The errnos of a command that names something wrong."""

_REFUSED = frozenset(
    {
        errno.ENODEV,
        errno.EOPNOTSUPP,
        errno.ETIMEDOUT,
        errno.ECANCELED,
        errno.ENOTRECOVERABLE,
        errno.EBUSY,
    }
)
"""The errnos of a command that is right, and may not be carried out now."""

_EVENT_BYTES = 64 * 1024
_MAX_BLOCKS = 16
"""More than the module's ring can hold: a reader must not be kept busy by others' events."""

_NAME = re.compile(r"[!#-~]+")
_NO_NAME_HINT = "see: dynamosctl list"
_SHORTAGE_HINT = "close something, or raise the limit"

MIN_TIMEOUT_SECONDS = 0.001
MAX_TIMEOUT_SECONDS = 60.0


class CommandFailed(Exception):
    """The module's answer to a command: an errno, and the sentence it gave, if any.

    ``said`` are the events that came with it.
    """

    def __init__(self, number: int, reason: str, said: Sequence[Event] = ()) -> None:
        super().__init__(number, reason)
        self.number = number
        self.reason = reason
        self.said = said


class Device(Protocol):
    """What takes commands."""

    def command(self, line: str) -> Sequence[Event]:
        """Carry ``line`` out; give the events that came since, others' included.

        Raises:
            CommandFailed: the module says no.
            OSError: it cannot be opened.
        """


class OpenDevice(Device, Protocol):
    """The same, as one open file: what belongs to that, a lease, lasts until it is closed."""

    def close(self) -> None:
        """Close it; once is enough."""


class OpenFile:
    """``/dev/dynamos``, open. No program that is started meanwhile inherits it."""

    def __init__(self, path: Path) -> None:
        """Open the node; raises `OSError` when that is not possible."""
        self._file: int | None = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def command(self, line: str) -> Sequence[Event]:
        """Write ``line``; when the module refuses, pick its reason out of the events."""
        if self._file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        os.lseek(self._file, 0, os.SEEK_END)
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            said = _drain(self._file)
            reason = events.refusal(said, line, os.getpid())
            raise CommandFailed(error.errno or errno.EIO, reason, said) from error
        return _drain(self._file)

    def close(self) -> None:
        """Close it; once is enough."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


class CharacterDevice:
    """``/dev/dynamos`` itself."""

    def __init__(self, path: Path) -> None:
        """Name the node; it is opened for each command."""
        self._path = path

    def command(self, line: str) -> Sequence[Event]:
        """Open the node for one command."""
        with contextlib.closing(OpenFile(self._path)) as device:
            return device.command(line)


def _drain(device: int) -> list[Event]:
    """Give all events that can be had without waiting."""
    return list(parse_events(_read_all(device)))


def _read_all(device: int) -> str:
    """Give all lines that can be had without waiting."""
    blocks: list[bytes] = []
    try:
        while len(blocks) < _MAX_BLOCKS and (block := os.read(device, _EVENT_BYTES)):
            blocks.append(block)
    except OSError:
        # EAGAIN is the normal end; a reason that cannot be read is only a reason less.
        pass
    return events.text_of_lines(b"".join(blocks))


class Who(NamedTuple):
    """The threads in a subsystem's functions, and how many more there were."""

    inside: list[Inside]
    more: int


class Unfit(NamedTuple):
    """Why a function may not be gated: the module's errno, and its sentence."""

    number: int
    reason: str

    @property
    def is_denied(self) -> bool:
        """Whether it could be, and must not."""
        return self.number == errno.EPERM


@dataclass(frozen=True, slots=True)
class _Command:
    """A command, in the parts that an error names."""

    line: str
    subsystem: str
    edition: str = ""
    parameter: str = ""
    mode: str | None = None
    scope: str | None = None


class Kmod:
    """The kernel module."""

    def __init__(
        self,
        sysfs: Path | str = SYSFS,
        device: Path | str = DEVICE,
        port: Device | None = None,
        opener: Callable[[], OpenDevice] | None = None,
        settings: Path | str = SETTINGS,
    ) -> None:
        """Name the module's files.

        Args:
            sysfs: where it shows its state.
            device: where it takes commands and gives events.
            port: what takes the commands instead of ``device`` (for tests).
            opener: what opens ``device`` for longer than a command (for tests).
            settings: where the kernel shows the module's parameters.
        """
        self._sysfs = Path(sysfs)
        self._device = Path(device)
        self._port: Device = port or CharacterDevice(self._device)
        self._opener = opener or (lambda: OpenFile(self._device))
        self._settings = Path(settings)

    @property
    def loaded(self) -> bool:
        """Whether the module shows itself."""
        return self._sysfs.is_dir()

    @property
    def enabled(self) -> bool:
        """Whether the module is switched on; an older one cannot be switched off."""
        return self._setting("enable") not in _OFF

    @property
    def backend(self) -> str:
        """The back end that gates take: ``auto``, ``direct`` or ``ftrace``; "" if not shown."""
        return self._setting("backend")

    def _setting(self, name: str) -> str:
        """Give a parameter of the module; "" when there is none, or it may not be read."""
        try:
            return events.text_of_lines((self._settings / name).read_bytes()).strip()
        except OSError:
            return ""

    def read(self) -> KernelState:
        """Read everything the module shows.

        An edition or function that goes while it is being read is left out.

        Raises:
            Unreachable: the module is not loaded, or we may not read.
            Exhausted: it may be there; we cannot open its files.
        """
        with _reading():
            version = _text(self._sysfs / "version")
            if version is None:
                raise Unreachable("the kernel module is not loaded", hint=LOAD_HINT)
            found = (_subsystem(folder) for folder in _folders(self._sysfs))
            subsystems = {each.name: each for each in found if each}
            return KernelState(version, subsystems, self.enabled, self._setting("tripwire"))

    def read_address(self, subsystem: str, function: str) -> int | None:
        """Give the address of a function's entry, as the module shows it to root.

        None when it shows none: its module is not loaded, we are not root, or it has gone.
        """
        try:
            return int(
                _text(self._sysfs / subsystem / "functions" / function / "address") or "", 16
            )
        except (OSError, ValueError):
            return None

    def read_names(self) -> dict[str, list[str]]:
        """Give the names of the subsystems, and of the editions of each. Raises `OSError`."""
        folders = _folders(self._sysfs)
        return {each.name: [one.name for one in _folders(each / "editions")] for each in folders}

    def read_parameter_names(self, subsystem: str, edition: str) -> list[str]:
        """Give the names of an edition's parameters, also of those that may not be read."""
        folder = self._sysfs / subsystem / "editions" / edition / "parameters"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def read_active(self, subsystem: str) -> str | None:
        """Give the name of the active edition; None when there is no such subsystem.

        Raises what `read` does.
        """
        if not _NAME.fullmatch(subsystem) or "/" in subsystem:
            return None
        with _reading():
            return _text(self._sysfs / subsystem / "active")

    def read_standing(self, subsystem: str) -> Standing | None:
        """Tell which editions new calls get; None when there is no such subsystem.

        Raises what `read` does.
        """
        if not _NAME.fullmatch(subsystem) or "/" in subsystem:
            return None
        folder = self._sysfs / subsystem
        with _reading():
            # In this order: a switch that completes meanwhile shows as partial, or as active.
            partial, active = _choice(folder / "partial"), _text(folder / "active")
            if active is None:
                return None
            mode, scope = _text(folder / "mode") or "", _choice(folder / "scope")
        return Standing(active, partial, mode, scope)

    def switch(  # noqa: PLR0913 - one for each option of the command
        self,
        subsystem: str,
        edition: str,
        mode: str | None = None,
        *,
        timeout: float | None = None,
        scope: str | None = None,
        objects: str | None = None,
    ) -> None:
        """Make ``edition`` the active one of ``subsystem``, or the partial one.

        Args:
            subsystem: what to switch.
            edition: what to switch it to.
            mode: how; None leaves it to the module.
            timeout: for how many seconds callers may be held (mode exclusive).
            scope: which calls get the edition (mode scoped).
            objects: ``migrate`` or ``keep`` (mode per-object).

        Raises:
            InvalidInput: there is no such subsystem, edition, mode or scope.
            Refused: the module knows all of it and says no.
            Unreachable: the module is not loaded, or we are not root.
        """
        options = {"mode": mode, "timeout_ms": _milliseconds(timeout)}
        options |= {"scope": scope, "objects": objects}
        words = [f"{key}={_word(value)}" for key, value in options.items() if value is not None]
        line = " ".join(["switch", _word(subsystem), _word(edition), *words])
        self._command(_Command(line, subsystem, edition, mode=mode, scope=scope))

    def set_parameter(self, subsystem: str, edition: str, name: str, value: str) -> None:
        """Change a parameter of an edition's module.

        Raises:
            InvalidInput: there is no such subsystem, edition or parameter, or the value is wrong.
            Refused: the parameter may not be written.
            Unreachable: the module is not loaded, or we are not root.
        """
        if "=" in name:
            raise InvalidInput(f"{name!r} is not a name", hint=_NO_NAME_HINT)
        said = _word(value) if value else ""
        line = f"set {_word(subsystem)} {_word(edition)} {_word(name)}={said}"
        self._command(_Command(line, subsystem, edition, parameter=name))

    def quarantine(self, subsystem: str, edition: str) -> None:
        """Keep an edition from being switched to; calls that get it go to ``original`` first.

        Raises:
            InvalidInput: there is no such subsystem or edition.
            Refused: the module says no.
            Unreachable: the module is not loaded, or we are not root.
        """
        line = f"quarantine {_word(subsystem)} {_word(edition)}"
        self._command(_Command(line, subsystem, edition))

    def clear(self, subsystem: str, edition: str) -> None:
        """End an edition's quarantine; raises what `quarantine` does."""
        line = f"clear {_word(subsystem)} {_word(edition)}"
        self._command(_Command(line, subsystem, edition))

    def read_lease(self, subsystem: str) -> LeaseState | None:
        """Tell how a subsystem's lease stands; None when there is no such subsystem.

        Raises:
            Exhausted: there may be one; we cannot open its files.
        """
        folder = self._sysfs / subsystem
        try:
            if _text(folder / "active") is None:
                return None
            known = _text(folder / "lease") is not None
            return LeaseState(_choice(folder / "lease"), self._lease_holder(subsystem), known)
        except (OSError, ValueError) as error:
            if is_shortage(error):
                raise _exhausted(error) from error
            return None

    def read_quarantine(self, subsystem: str, edition: str) -> str | None:
        """Give why an edition may not be switched to; None when it may, or there is none."""
        return _choice(self._sysfs / subsystem / "editions" / edition / "quarantine")

    def open(self) -> OpenDevice:
        """Open the device for commands that are the open file's.

        Raises:
            Unreachable: the module is not loaded, or we are not root.
        """
        try:
            return self._opener()
        except OSError as error:
            raise self._unreachable(error) from error

    def lease(self, device: OpenDevice, subsystem: str, terms: LeaseTerms) -> Sequence[Event]:
        """Take a subsystem's lease for an open file, or renew it; give the events that came.

        Raises:
            LeaseTaken: somebody else holds it.
            InvalidInput: there is no such subsystem, or no such edition as the baseline.
            NotUnderstood: the module does not know leases.
            Refused: the module says no.
            Unreachable: the module is not loaded, or we are not root.
        """
        options = {
            "action": terms.action,
            "baseline": terms.baseline,
            "grace_ms": round(terms.grace_seconds * 1000),
            "ttl_ms": round(terms.ttl_seconds * 1000),
        }
        words = [f"{key}={_word(value)}" for key, value in options.items()]
        line = " ".join(["lease", _word(subsystem), *words])
        return self._command(_Command(line, subsystem, terms.baseline), device)

    def release(self, device: OpenDevice, subsystem: str) -> None:
        """Give a lease back: nothing is done then. Raises what `lease` does."""
        self._command(_Command(f"release {_word(subsystem)}", subsystem), device)

    def read_parameter(self, subsystem: str, edition: str, name: str) -> str | None:
        """Give the value of a parameter of an edition's module; None when it may not be read."""
        return _parameters(self._sysfs / subsystem / "editions" / edition).get(name)

    def who(self, subsystem: str) -> Who:
        """Look at all stacks: give the threads that are in one of the functions.

        Raises:
            InvalidInput: there is no such subsystem.
            Unreachable: the module is not loaded, or we are not root.
            DynamosError: others made so many events that the answer is not complete.
        """
        said = self._command(_Command(f"who {_word(subsystem)}", subsystem))
        if events.lost(said):
            raise DynamosError("events of the answer were lost", hint="try again")
        return Who(*events.inside(said, subsystem))

    def check(self, function: str) -> Unfit | None:
        """Ask whether a function may be gated; give why not, or None when it may.

        Args:
            function: its name; with that of its module and a colon before it, if it is a module's.

        Raises:
            InvalidInput: this cannot be a function's name.
            NotUnderstood: the module does not know the question.
            Unreachable: the module is not loaded, or we are not root.
        """
        command = _Command(f"check {_word(function)}", "")
        with _reading():
            try:
                self._port.command(command.line)
            except CommandFailed as failure:
                if _is_about(failure, function):
                    return Unfit(failure.number, failure.reason)
                raise self._refused(failure, command) from failure
            except OSError as error:
                raise self._unreachable(error) from error
        return None

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
                    yield from parse_events(events.text_of_lines(lines))
        except OSError as error:
            raise self._unreachable(error) from error

    def read_held(self) -> str:
        """Give the lines of all events that the module still holds, without waiting.

        The device is open for no longer than that.

        Raises:
            Unreachable: the module is not loaded, or we may not read.
        """
        try:
            device = os.open(self._device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            return _read_all(device)
        finally:
            os.close(device)

    def _command(self, command: _Command, device: Device | None = None) -> Sequence[Event]:
        # What an errno means is told by what the module shows.
        with _reading():
            try:
                return (device or self._port).command(command.line)
            except CommandFailed as failure:
                raise self._refused(failure, command) from failure
            except OSError as error:
                raise self._unreachable(error) from error

    def _unreachable(self, error: OSError) -> Unreachable:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return Unreachable(f"may not open {self._device}", hint=GROUP_HINT)
        if error.errno in _GONE | {errno.ENXIO}:
            return Unreachable("the kernel module is not loaded", hint=LOAD_HINT)
        if is_shortage(error):
            return Exhausted(f"{self._device}: {error.strerror}", hint=_SHORTAGE_HINT)
        return Unreachable(f"{self._device}: {error.strerror}", hint="see: dynamosctl doctor")

    def _refused(self, failure: CommandFailed, command: _Command) -> DynamosError:
        """Turn an errno of docs/abi.md into the error that says it."""
        error, default, hint = self._explain(failure.number, command)
        message = failure.reason or default
        if failure.number == errno.EBUSY:
            message = _name_holder(message, self._lease_holder(command.subsystem))
        if failure.number == errno.ETIMEDOUT:
            threads, more = events.inside(failure.said, command.subsystem)
            if threads:
                # Told once: the module's own sentence may name some of them already.
                message = "the timeout is over" if "still inside" in message else message
                message += f"; still inside: {events.name_threads(threads, more)}"
        return error(message, hint=hint)

    def _explain(self, number: int, command: _Command) -> tuple[type[DynamosError], str, str]:
        """Give the error of an errno, a sentence if the module gave none, and what to do."""
        if number in _INVALID:
            wrong = NotUnderstood if number == errno.EINVAL else InvalidInput
            return wrong, *self._what_is_wrong(number, command)
        if number == errno.EPERM and not command.parameter and not self.enabled:
            return Refused, SWITCHED_OFF, ENABLE_HINT
        if number in _REFUSED or (number == errno.EPERM and command.parameter):
            refusal = LeaseTaken if number == errno.EBUSY else Refused
            return refusal, *self._why_not(number, command)
        if number in {errno.EACCES, errno.EPERM}:
            return Unreachable, "only root may do this", ROOT_HINT
        if number == errno.EINTR:
            return DynamosError, "a signal ended the command; nothing changed", "try again"
        said = f"the module failed: {os.strerror(number)}"
        return DynamosError, said, "see: dynamosctl doctor, dmesg"

    def _what_is_wrong(self, number: int, command: _Command) -> tuple[str, str]:
        subsystem, edition = command.subsystem, command.edition
        if number == errno.ENOENT:
            wrong = no_subsystem(subsystem, self._names())
            return wrong.message, wrong.hint
        if number == errno.ENXIO:
            wrong = no_edition(subsystem, edition, self._names(subsystem, "editions"))
            return wrong.message, wrong.hint
        if number == errno.ESRCH:
            return self._not_there(command)
        return self._not_understood(number, command)

    def _why_not(self, number: int, command: _Command) -> tuple[str, str]:
        subsystem, edition = command.subsystem, command.edition
        if number == errno.EOPNOTSUPP:
            said = f"{subsystem} cannot switch to {edition} like this"
            return said, self._allowed(command)
        if number == errno.ETIMEDOUT:
            hint = f"who is inside now: dynamosctl edition who {subsystem}; let them end, "
            hint += "hold callers longer (--timeout), or take another mode"
            return "somebody was inside until the deadline", hint
        if number == errno.EBUSY:
            hint = "end that program, or leave the subsystem to it: dynamosctl status"
            return f"somebody else holds the lease of {subsystem}", hint
        if number in {errno.ECANCELED, errno.ENOTRECOVERABLE}:
            return self._given_up(number, command)
        if number == errno.EPERM:
            hint = f"it may be set when the module is loaded: modprobe … {command.parameter}=…"
            return f"parameter {command.parameter} may not be written", hint
        said = f"{edition or subsystem} has no gate, or its module is being removed"
        return said, "load it again: dynamosctl edition load"

    def _given_up(self, number: int, command: _Command) -> tuple[str, str]:
        """Say why an edition is not to be had: its quarantine, itself, or what came meanwhile."""
        subsystem, edition = command.subsystem, command.edition
        why = self.read_quarantine(subsystem, edition)
        if why or number == errno.ENOTRECOVERABLE:
            hint = f"if it is good again: dynamosctl edition clear {subsystem} {edition}"
            return quarantined(edition, why), hint
        hint = "the edition's author says when it can be used; dmesg may say more"
        return f"edition {edition} itself said no, or a switch to original came meanwhile", hint

    def _lease_holder(self, subsystem: str) -> int:
        try:
            return _number(self._sysfs / subsystem / "lease_holder") or 0
        except (OSError, ValueError):
            return 0

    def _not_there(self, command: _Command) -> tuple[str, str]:
        """Say what is not there: a parameter, or what a scope names."""
        if not command.parameter:
            hint = "the task, cgroup or CPU must exist, and `handler` needs an edition that has one"
            return "what the scope names is not there", hint
        names = _parameters(self._edition_folder(command))
        said = f"edition {command.edition} has no parameter {command.parameter}"
        # Not `_known_names`: there may be others, which may be written but not read.
        near = _known_names(command.parameter, names, "parameter") if names else ""
        return said, near or "modinfo shows the module's parameters"

    def _not_understood(self, number: int, command: _Command) -> tuple[str, str]:
        if number == errno.E2BIG:
            return "the command is too long", "a command has at most 255 bytes: take shorter names"
        if command.parameter:
            now = _parameters(self._edition_folder(command)).get(command.parameter)
            hint = f"it is {now} now" if now else "modinfo shows the module's parameters"
            return f"{command.parameter} cannot have this value", hint
        if command.scope:
            hint = "a scope is cpus:LIST, task:PID, cgroup:PATH, share:1/N or handler"
            return "the module does not understand the command", hint
        hint = "module and program may not belong together: dynamosctl version"
        return "the module does not understand the command", hint

    def _allowed(self, command: _Command) -> str:
        """Give the modes in which one can switch to an edition from where we are."""
        editions = self._sysfs / command.subsystem / "editions"
        standing = self.read_standing(command.subsystem)
        here = [standing.active, standing.partial or standing.active] if standing else []
        allowed = {name: _modes(editions / name) for name in (*here, command.edition)}
        if not standing or not all(allowed.values()):
            return "what each edition allows: dynamosctl edition list"
        common = [
            mode
            for mode in allowed[command.edition]
            if all(mode in each for each in allowed.values())
        ]
        if command.mode in common:
            return f"how {command.subsystem} stands now: dynamosctl status"
        if common:
            listed = ", ".join(common)
            return f"from {standing.active} to {command.edition} one can switch with: {listed}"
        each = (f"{name} allows {', '.join(modes)}" for name, modes in allowed.items())
        return "; ".join(each)

    def _edition_folder(self, command: _Command) -> Path:
        return self._sysfs / command.subsystem / "editions" / command.edition

    def _names(self, *below: str) -> list[str]:
        return [folder.name for folder in _folders(self._sysfs.joinpath(*below))]


def _is_about(failure: CommandFailed, function: str) -> bool:
    """Tell whether the module's answer is about a function, and not about the command.

    What must not be gated may be found under another name of the same text; all else begins with
    the name that was asked for. An older module, which has no such command, begins otherwise. Want
    of memory says nothing of the function.
    """
    if failure.number in {errno.EPERM, errno.ENOENT}:
        return bool(failure.reason)
    name = function.rpartition(":")[2]
    return failure.number != errno.ENOMEM and failure.reason.startswith(f"{name}: ")


def _word(text: object) -> str:
    """Give a word of a command.

    Raises:
        InvalidInput: it would be none, or more than one.
    """
    word = str(text)
    if not _NAME.fullmatch(word):
        raise InvalidInput(f"{word!r} is not a name", hint=_NO_NAME_HINT)
    return word


def quarantined(edition: str, why: str | None) -> str:
    """Say that an edition may not be switched to."""
    return f"edition {edition} is in quarantine" + (f" ({why})" if why else "")


def _name_holder(message: str, pid: int) -> str:
    """Name the program that holds a lease, unless the module's own sentence does."""
    told = not pid or re.search(rf"\b{pid}\b", message)
    return message if told else f"{message}: pid {pid}"


def _milliseconds(timeout: float | None) -> int | None:
    if timeout is None:
        return None
    if not MIN_TIMEOUT_SECONDS <= timeout <= MAX_TIMEOUT_SECONDS:
        raise InvalidInput(f"a timeout of {timeout} s is not possible", hint="from 1ms to 1m")
    return round(timeout * 1000)


def no_subsystem(name: str, names: Iterable[str]) -> InvalidInput:
    """Give the error that there is no subsystem of a name; ``names`` are those there are."""
    hint = _known_names(name, names, "subsystem")
    return InvalidInput(f"there is no subsystem {name}", hint=hint)


def no_edition(subsystem: str, name: str, names: Iterable[str]) -> InvalidInput:
    """Give the error that a subsystem has no such edition; ``names`` are those it has."""
    hint = _known_names(name, names, "edition")
    return InvalidInput(f"subsystem {subsystem} has no edition {name}", hint=hint)


def _known_names(wrong: str, names: Iterable[str], kind: str) -> str:
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


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Let what reading the module's files raises be the error that says it."""
    try:
        yield
    except PermissionError as error:
        raise Unreachable(f"may not read {error.filename}", hint=ROOT_HINT) from error
    except (OSError, ValueError) as error:
        if is_shortage(error):
            raise _exhausted(error) from error
        message = f"the kernel module cannot be read: {error}"
        raise Unreachable(message, hint="see: dynamosctl version, dmesg") from error


def _exhausted(error: Exception) -> Exhausted:
    return Exhausted(f"the kernel module cannot be read: {error}", hint=_SHORTAGE_HINT)


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


def _choice(path: Path) -> str | None:
    """Give a value that may be none: in words, or because an older module has no such file."""
    text = _text(path)
    return None if text in {None, "", "none"} else text


def _modes(folder: Path) -> tuple[str, ...]:
    return tuple((_text(folder / "modes") or "").split())


def _parameters(folder: Path) -> dict[str, str]:
    """Give an edition's parameters, those that may be read. Their text is whatever it is."""
    found: dict[str, str] = {}
    try:
        for path in sorted((folder / "parameters").iterdir()):
            with contextlib.suppress(OSError):
                found[path.name] = events.text_of_lines(path.read_bytes()).rstrip("\n")
    except OSError:
        # Not there, or the module's author lets nobody look: no reason to show nothing else.
        pass
    return found


def _edition(folder: Path) -> Edition | None:
    index, state = _number(folder / "index"), _text(folder / "state")
    module = _text(folder / "module")
    if index is None or state is None or module is None:
        return None
    return Edition(
        folder.name,
        index,
        EditionState(state),
        module,
        _modes(folder),
        _parameters(folder),
        _choice(folder / "quarantine"),
        _number(folder / "died") or 0,
    )


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
        partial=_choice(folder / "partial"),
        scope=_choice(folder / "scope"),
        lease=_choice(folder / "lease"),
        **{name: _number(folder / name) or 0 for name in _COUNTS},
    )
