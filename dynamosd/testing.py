# SPDX-License-Identifier: GPL-2.0-or-later
"""Fakes for tests: the module over a folder, probes, and a clock that is moved by hand.

`FakeModule` keeps all its state in files, as the real one shows it, so that several processes
can use one folder. It stands in for ``/sys/kernel/dynamos`` and ``/dev/dynamos`` of docs/abi.md.
It has no clock: a test says when a lease has been silent for too long, and when its grace is over.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.errors import Unreachable
from dynamosd.kmod import CommandFailed, Event, Kmod, parse_events
from dynamosd.latency import latency_of
from dynamosd.model import HELD, LOST, ORIGINAL, RESOURCES, FunctionSample, ProbeCost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dynamosd.model import Counts, KernelState

Key = tuple[str, str, str]
"""(subsystem, function, edition)."""

COMMAND_MAX = 255
MODES = ("concurrent", "exclusive", "per-object", "scoped")
"""All modes, those first that a switch without a mode takes first."""

_OPTIONS = frozenset({"mode", "timeout_ms", "scope", "objects"})
_SCOPES = ("cpus:", "task:", "cgroup:", "share:1/", "handler")
_TIMEOUTS = range(1, 60001)
_MAX_INSIDE = 16

_LEASE_DEFAULTS = {"action": "baseline", "baseline": ORIGINAL, "grace_ms": "30000", "ttl_ms": "0"}
_GRACES = range(3_600_001)
_TTLS = range(100, 3_600_001)


class FakeModule:
    """The kernel module, as far as its files go."""

    def __init__(self, folder: Path | str) -> None:
        """Use what is in ``folder``; an empty one is a module that is not loaded."""
        self._folder = Path(folder)
        self.sysfs = self._folder / "sysfs"
        self.device = self._folder / "device"
        self.settings = self._folder / "parameters"
        self._leases = self._folder / "leases"
        self.denied: dict[str, tuple[int, str]] = {}
        """Functions that may not be gated, each with an errno and a sentence."""
        self._files = self._folder / "files"
        self.kmod = Kmod(self.sysfs, self.device, self, self.open, self.settings)

    # ------------------------------------------------------------------- what the kernel does

    def insert(self, version: str = "0.1.0") -> None:
        """Load the module itself."""
        _put(self.sysfs / "version", version)
        _put(self.settings / "enable", 1)
        _put(self.settings / "tripwire", "oops")
        self._leases.mkdir(exist_ok=True)
        self._files.mkdir(exist_ok=True)
        _put(self.device, "")

    def remove(self) -> None:
        """Take the module out, whatever it holds."""
        for folder in (self.sysfs, self.settings, self._leases):
            shutil.rmtree(folder)
        self.device.unlink()

    def register(self, subsystem: str, functions: Iterable[str]) -> None:
        """Add a subsystem with its original edition."""
        folder = self.sysfs / subsystem
        first = 1 + len(list(self.sysfs.glob("*/functions/*")))
        for number, function in enumerate(functions, first):
            _put(folder / "functions" / function / "id", number)
            _put(folder / "functions" / function / "backend", "none")
        _put(folder / "mode", "concurrent")
        for name in ("partial", "scope", "lease"):
            _put(folder / name, "none")
        for name in ("switches", "held", "objects", "before_gate", "unreliable", "lease_holder"):
            _put(folder / name, 0)
        _put(folder / "active", ORIGINAL)
        self.load(subsystem, ORIGINAL)

    def load(
        self,
        subsystem: str,
        edition: str,
        functions: Iterable[str] | None = None,
        modes: Iterable[str] = MODES,
    ) -> None:
        """Add an edition of ``functions`` (all of them); the second one installs the gates."""
        folder = self.sysfs / subsystem
        editions = folder / "editions"
        taken = {int(path.read_text()) for path in editions.glob("*/index")}
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        _put(editions / edition / "index", index)
        _put(editions / edition / "module", f"dynamos_{subsystem}")
        _put(editions / edition / "modes", " ".join(modes))
        _put(editions / edition / "quarantine", "none")
        _put(editions / edition / "died", 0)
        _put(editions / edition / "state", "active" if edition == ORIGINAL else "idle")
        names = functions or [path.name for path in (folder / "functions").iterdir()]
        for function in names:
            _put(folder / "functions" / function / edition / "calls", 0)
            _put(folder / "functions" / function / edition / "in_flight", 0)
            _put(folder / "functions" / function / "backend", "direct" if index else "none")

    def unload(self, subsystem: str, edition: str) -> None:
        """Take an edition out; raises `OSError` with EBUSY while it is active or in flight."""
        folder = self.sysfs / subsystem / "editions" / edition
        if (folder / "state").read_text().strip() != "idle":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        shutil.rmtree(folder)
        for counts in (self.sysfs / subsystem / "functions").glob(f"*/{edition}"):
            shutil.rmtree(counts)

    def give_parameter(self, subsystem: str, edition: str, name: str, value: object) -> None:
        """Let the module of an edition have a parameter."""
        _put(self.sysfs / subsystem / "editions" / edition / "parameters" / name, value)

    def trip(self, subsystem: str, edition: str, why: str = "oops") -> None:
        """Let a call that is in an edition fault, or only warn."""
        folder = self.sysfs / subsystem
        text = f"subsystem={subsystem} edition={edition} why={why} pid=999"
        self._emit("tripped", f'{text} comm="a reader" at=some_function')
        if why == "oops":
            _add(folder / "editions" / edition / "died", 1)
        self._quarantine(folder, edition, why, 0)

    def enable(self, value: int) -> None:
        """Write the parameter ``enable``: 0 takes every subsystem to ``original``."""
        _put(self.settings / "enable", value)
        for subsystem in () if value else sorted(self.sysfs.iterdir()):
            if subsystem.is_dir():
                self._switch_back(subsystem, os.getpid())
        self._emit("enabled" if value else "disabled", f"by={os.getpid()}")

    def lose(self, subsystem: str, why: str = "silent") -> None:
        """Let a lease be missed: by its ``ttl_ms``, or because its file was closed."""
        folder, lease = self.sysfs / subsystem, self.lease_of(subsystem)
        if folder.is_dir() and _get(folder / "lease") == HELD:
            _put(folder / "lease", LOST)
            text = f"subsystem={subsystem} by={lease['by']} why={why}"
            self._emit("lease_lost", f"{text} grace_ms={lease['grace_ms']}")

    def expire(self, subsystem: str) -> None:
        """Let the grace of a lease that is lost be over."""
        folder, lease = self.sysfs / subsystem, self.lease_of(subsystem)
        if _get(folder / "lease") != LOST:
            raise ValueError(f"the lease of {subsystem} is not lost")
        self._end_lease(folder)
        text = f"subsystem={subsystem} action={lease['action']} baseline={lease['baseline']}"
        self._emit("lease_expired", text)
        if lease["action"] == "baseline":
            self._switch_back(folder, 0, lease["baseline"])

    def lease_of(self, subsystem: str) -> dict[str, str]:
        """Give what a lease was asked for, and by whom; empty when there is none."""
        try:
            lease: dict[str, str] = json.loads((self._leases / subsystem).read_text())
        except FileNotFoundError:
            return {}
        return lease

    def reap(self) -> None:
        """Notice the programs that have died with leases, as the kernel does by itself."""
        for path in list(self._leases.iterdir()) if self._leases.is_dir() else []:
            if not _is_open(self._files / self.lease_of(path.name)["file"]):
                self.lose(path.name, "closed")

    def complete(self, subsystem: str) -> None:
        """Let the last object have the edition that a per-object switch is about."""
        folder = self.sysfs / subsystem
        edition = _get(folder / "partial")
        self._stand(folder, edition, "none", "per-object", "none")
        self._emit("completed", f"subsystem={subsystem} edition={edition} us=5")
        self._let_drain(folder)

    def leave(self, subsystem: str) -> None:
        """Let all threads return."""
        for path in (self.sysfs / subsystem / "functions").glob("*/*/in_flight"):
            _put(path, 0)
        self._let_drain(self.sysfs / subsystem)

    def call(
        self, subsystem: str, function: str, times: int = 1, *, blocked: int = 0, which: str = ""
    ) -> None:
        """Let ``times`` calls run through, and ``blocked`` more enter and stay.

        They get the active edition, or the one that ``which`` names, as when it is partial.
        """
        folder = self.sysfs / subsystem / "functions" / function
        active = self.sysfs / subsystem / "active"
        edition = folder / (which or active.read_text().strip())
        if not edition.exists():
            edition = folder / ORIGINAL
        _add(edition / "calls", times + blocked)
        _add(edition / "in_flight", blocked)

    # ------------------------------------------------------------------- what the device does

    def open(self, by: int | None = None) -> FakeFile:
        """Open the device; leases are the file's, and the process's that has the pid ``by``."""
        if not self.device.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.device))
        return FakeFile(self, self._files, by or os.getpid())

    def command(self, line: str) -> list[Event]:
        """Carry a command out as the module would, with its errnos and events."""
        with contextlib.closing(self.open()) as file:
            return file.command(line)

    def carry_out(self, line: str, file: str, by: int) -> list[Event]:
        """Do what `FakeFile.command` says."""
        if not self.device.exists():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(self.device))
        if len(line) > COMMAND_MAX:
            raise CommandFailed(errno.E2BIG, "")
        self.reap()
        before = len(self.device.read_text())
        try:
            self._command(line.split(" "), file, by)
        except CommandFailed as failure:
            text = f'command="{line}" by={os.getpid()} errno={failure.number}'
            self._emit("refused", f'{text} reason="{failure.reason}"')
            failure.said = self._since(before)
            raise
        return self._since(before)

    def _since(self, before: int) -> list[Event]:
        return list(parse_events(self.device.read_text()[before:]))

    def close(self, file: str) -> None:
        """Close one of the open files: its leases are lost."""
        for path in list(self._leases.iterdir()) if self._leases.is_dir() else []:
            if self.lease_of(path.name)["file"] == file:
                self.lose(path.name, "closed")

    def _command(self, words: list[str], file: str, by: int) -> None:
        match words:
            case ["lease", subsystem, *options]:
                asked = {**_lease_options(options), "file": file, "by": str(by)}
                self._lease(self._subsystem(subsystem), asked)
            case ["release", subsystem]:
                self._release(self._subsystem(subsystem), file)
            case ["quarantine", subsystem, edition]:
                folder = self._subsystem(subsystem)
                self._edition(folder, edition)
                if edition == ORIGINAL:
                    raise CommandFailed(errno.EINVAL, "original cannot be put in quarantine")
                self._quarantine(folder, edition, "command", os.getpid())
            case ["clear", subsystem, edition]:
                self._clear(self._edition(self._subsystem(subsystem), edition))
            case ["check", function]:
                self._check(function)
            case ["who", subsystem]:
                self._name_threads(self._subsystem(subsystem))
            case ["set", subsystem, edition, assignment] if "=" in assignment:
                folder = self._edition(self._subsystem(subsystem), edition)
                self._set(folder, *assignment.split("=", 1))
            case ["switch", subsystem, edition, *options]:
                self._switch(subsystem, edition, _options(options))
            case _:
                raise CommandFailed(errno.EINVAL, "this is no command")

    def _check(self, function: str) -> None:
        """Say whether a function may be gated: it may, unless it is in `denied`."""
        if function in self.denied:
            raise CommandFailed(*self.denied[function])

    def _subsystem(self, name: str) -> Path:
        if not (self.sysfs / name).is_dir():
            raise CommandFailed(errno.ENOENT, f"there is no subsystem {name}")
        return self.sysfs / name

    def _edition(self, folder: Path, name: str) -> Path:
        if not (folder / "editions" / name).is_dir():
            raise CommandFailed(errno.ENXIO, f"subsystem {folder.name} has no edition {name}")
        return folder / "editions" / name

    def _lease(self, folder: Path, lease: Mapping[str, str]) -> None:
        subsystem, before = folder.name, self.lease_of(folder.name)
        self._edition(folder, lease["baseline"])
        state = _get(folder / "lease")
        if state == HELD and before["file"] != lease["file"]:
            reason = f"the lease of {subsystem} is held by pid {before['by']}"
            raise CommandFailed(errno.EBUSY, reason)
        _put(self._leases / subsystem, json.dumps(lease))
        _put(folder / "lease_holder", lease["by"])
        _put(folder / "lease", HELD)
        if state != HELD or before != lease:
            said = " ".join(f"{key}={lease[key]}" for key in _LEASE_DEFAULTS)
            text = f"subsystem={subsystem} by={lease['by']} {said}"
            self._emit("leased", f"{text} adopted={int(state == LOST)}")

    def _release(self, folder: Path, file: str) -> None:
        lease = self.lease_of(folder.name)
        if lease and lease["file"] != file:
            reason = f"the lease of {folder.name} is held by pid {lease['by']}"
            raise CommandFailed(errno.EBUSY, reason)
        if lease:
            self._end_lease(folder)
            self._emit("released", f"subsystem={folder.name} by={os.getpid()}")

    def _end_lease(self, folder: Path) -> None:
        _put(folder / "lease", "none")
        _put(folder / "lease_holder", 0)
        (self._leases / folder.name).unlink()

    def _quarantine(self, folder: Path, edition: str, why: str, by: int) -> None:
        state = _get(folder / "editions" / edition / "state")
        if state in {"active", "partial"}:
            self._switch_back(folder, by)
        _put(folder / "editions" / edition / "quarantine", why)
        text = f"subsystem={folder.name} edition={edition} why={why} by={by}"
        self._emit("quarantined", text)

    def _clear(self, folder: Path) -> None:
        if _get(folder / "quarantine") != "none":
            _put(folder / "quarantine", "none")
            text = f"subsystem={folder.parts[-3]} edition={folder.name} by={os.getpid()}"
            self._emit("cleared", text)

    def _switch_back(self, folder: Path, by: int, edition: str = ORIGINAL) -> None:
        """Switch as the module does of itself."""
        origin, partial = _get(folder / "active"), _get(folder / "partial")
        if (origin, partial) != (edition, "none"):
            self._stand(folder, edition, "none", "concurrent", "none")
            _add(folder / "switches", 1)
            text = f"subsystem={folder.name} from={origin} to={edition} mode=concurrent us=3"
            self._emit("switched", f"{text} by={by}")
            self._let_drain(folder)

    def _set(self, folder: Path, name: str, value: str) -> None:
        path = folder / "parameters" / name
        if not path.exists():
            reason = f"edition {folder.name} has no parameter {name}"
            raise CommandFailed(errno.ESRCH, reason)
        if not path.stat().st_mode & stat.S_IWUSR:
            raise CommandFailed(errno.EPERM, f"parameter {name} may not be written")
        if not value.isdecimal():
            raise CommandFailed(errno.EINVAL, f"parameter {name} takes a number")
        _put(path, value)
        text = f"subsystem={folder.parts[-3]} edition={folder.name} parameter={name}"
        self._emit("parameter", f"{text} value={value} by={os.getpid()}")

    def _switch(self, subsystem: str, edition: str, options: Mapping[str, str]) -> None:
        folder = self._subsystem(subsystem)
        self._edition(folder, edition)
        origin, partial = _get(folder / "active"), _get(folder / "partial")
        if edition == origin and options.get("mode") == "scoped":
            raise CommandFailed(
                errno.EINVAL, f"edition {edition} is active, outside of every scope"
            )
        if edition == origin and partial == "none":
            return
        if edition != ORIGINAL and _get(self.settings / "enable") == "0":
            raise CommandFailed(errno.EPERM, "the module is switched off")
        why = _get(folder / "editions" / edition / "quarantine")
        if why != "none":
            reason = f"edition {edition} is in quarantine ({why})"
            raise CommandFailed(errno.ENOTRECOVERABLE, reason)
        mode, scope = self._mode(folder, edition, options), options.get("scope", "none")
        if partial == edition and mode == "per-object":
            return
        busy = _in_flight(folder, origin)
        if mode == "exclusive" and busy:
            self._name_threads(folder)
            reason = f"{busy} threads were inside for {options.get('timeout_ms', '1000')} ms"
            raise CommandFailed(errno.ETIMEDOUT, reason)
        partly = mode == "scoped" or (mode == "per-object" and busy)
        if partly and edition != origin:
            self._stand(folder, origin, edition, mode, scope)
        else:
            self._stand(folder, edition, "none", mode, "none")
        _add(folder / "switches", 1)
        text = f"subsystem={subsystem} from={origin} to={edition} mode={mode} us=3"
        text += f" scope={scope}" if mode == "scoped" else ""
        self._emit("switched", f"{text} by={os.getpid()}")
        self._let_drain(folder)

    def _mode(self, folder: Path, edition: str, options: Mapping[str, str]) -> str:
        """Choose or check the mode."""
        names = (_get(folder / "active"), edition)
        allowed = [set(_get(folder / "editions" / name / "modes").split()) for name in names]
        both = [mode for mode in MODES if all(mode in each for each in allowed)]
        mode = options.get("mode") or next((each for each in both if each != "scoped"), "none")
        if mode not in both:
            reason = f"mode {mode} is not allowed from {names[0]} to {edition}"
            raise CommandFailed(errno.EOPNOTSUPP, reason)
        if options.get("scope", "") == "task:99999":
            raise CommandFailed(errno.ESRCH, "there is no task 99999")
        return mode

    def _stand(self, folder: Path, active: str, partial: str, mode: str, scope: str) -> None:
        """Be so from now on; what loses its calls drains."""
        for name, value in (("mode", mode), ("scope", scope)):
            _put(folder / name, value)
        _put(folder / "partial", partial)
        _put(folder / "active", active)
        for path in (folder / "editions").iterdir():
            left = "idle" if _get(path / "state") == "idle" else "draining"
            states = {active: "active", partial: "partial"}
            _put(path / "state", states.get(path.name, left))

    def _let_drain(self, folder: Path) -> None:
        """Let what was left, and has nobody inside, be idle."""
        for path in sorted((folder / "editions").iterdir()):
            if _get(path / "state") == "draining" and not _in_flight(folder, path.name):
                _put(path / "state", "idle")
                text = f"subsystem={folder.name} edition={path.name} us=2000"
                self._emit("drained", f'{text} last=0 comm=""')

    def _name_threads(self, folder: Path) -> None:
        """Give the events of the threads inside."""
        threads = [
            (path.parts[-3], path.parts[-2], "gated")
            for path in sorted(folder.glob("functions/*/*/in_flight"))
            for _ in range(int(_get(path)))
        ]
        function = min(path.name for path in (folder / "functions").iterdir())
        threads += [(function, ORIGINAL, "before-gate")] * int(_get(folder / "before_gate"))
        threads += [("?", "?", "unreliable")] * int(_get(folder / "unreliable"))
        more = max(0, len(threads) - _MAX_INSIDE)
        for number, (function, edition, how) in enumerate(threads[:_MAX_INSIDE], 1):
            text = f"subsystem={folder.name} function={function} edition={edition}"
            text += f' pid={1000 + number} comm="a reader" at=io_schedule how={how}'
            text += f" count={more}" if more and number == _MAX_INSIDE else ""
            self._emit("inside", text)

    def _emit(self, name: str, fields: str) -> None:
        seq = 1 + len(self.device.read_text().splitlines())
        with self.device.open("a") as device:
            device.write(f"seq={seq} time={seq}.000000000 event={name} {fields}\n")


class FakeFile:
    """The device, open. A lock on a file of its own shows other processes that it still is."""

    def __init__(self, module: FakeModule, folder: Path, by: int) -> None:
        """Open it."""
        self._module = module
        self._by = by
        number, name = tempfile.mkstemp(dir=folder)
        fcntl.flock(number, fcntl.LOCK_EX)
        self._number: int | None = number
        self._path = Path(name)

    def command(self, line: str) -> list[Event]:
        """Carry a command out for this file."""
        if self._number is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._module.carry_out(line, self._path.name, self._by)

    def close(self) -> None:
        """Close it: its leases are lost."""
        number, self._number = self._number, None
        if number is not None:
            self._module.close(self._path.name)
            self._path.unlink()
            os.close(number)


def _is_open(path: Path) -> bool:
    """Tell whether a `FakeFile` of any process is still open."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lease_options(words: Iterable[str]) -> dict[str, str]:
    """Take the options of a lease apart."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _LEASE_DEFAULTS or key in found or not equals:
            raise CommandFailed(errno.EINVAL, f"unknown option {word}")
        found[key] = value
    found = _LEASE_DEFAULTS | found
    if found["action"] not in {"baseline", "hold"}:
        raise CommandFailed(errno.EINVAL, f"unknown action {found['action']}")
    if int(found["grace_ms"]) not in _GRACES:
        raise CommandFailed(errno.EINVAL, "grace_ms is from 0 to 3600000")
    if int(found["ttl_ms"]) not in _TTLS and found["ttl_ms"] != "0":
        raise CommandFailed(errno.EINVAL, "ttl_ms is 0 or from 100 to 3600000")
    return found


def _options(words: Iterable[str]) -> dict[str, str]:
    """Take the options of a switch apart."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _OPTIONS or key in found or not equals:
            raise CommandFailed(errno.EINVAL, f"unknown option {word}")
        found[key] = value
    if found.get("mode", MODES[0]) not in MODES:
        raise CommandFailed(errno.EINVAL, f"unknown mode {found['mode']}")
    if int(found.get("timeout_ms", "1")) not in _TIMEOUTS:
        raise CommandFailed(errno.EINVAL, "timeout_ms is from 1 to 60000")
    if not found.get("scope", "handler").startswith(_SCOPES):
        raise CommandFailed(errno.EINVAL, f"unknown scope {found['scope']}")
    _check_together(found)
    return found


def _check_together(found: Mapping[str, str]) -> None:
    """Check that each option goes with the mode; without one, a timeout is for the case."""
    for key, mode in (("timeout_ms", "exclusive"), ("scope", "scoped"), ("objects", "per-object")):
        default = mode if key == "timeout_ms" else ""
        if key in found and found.get("mode", default) != mode:
            raise CommandFailed(errno.EINVAL, f"option {key} is for mode {mode}")
    if found.get("mode") == "scoped" and "scope" not in found:
        raise CommandFailed(errno.EINVAL, "mode scoped needs a scope=")


def _in_flight(folder: Path, edition: str) -> int:
    return sum(int(_get(path)) for path in folder.glob(f"functions/*/{edition}/in_flight"))


def _get(path: Path) -> str:
    return path.read_text().strip()


def _put(path: Path, value: object) -> None:
    """Replace a value at once, as a reader of sysfs sees it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(f"{value}\n" if value != "" else "")
    new.replace(path)


def _add(path: Path, number: int) -> None:
    _put(path, int(path.read_text()) + number)


@dataclass
class FakeProbe:
    """Probes that see what the module counts, but for ``lost`` calls.

    ``figures`` gives the sequential and the classified calls of a (subsystem, function, edition),
    ``errors`` its errors, and ``took`` the nanoseconds of the calls that were timed.
    ``between`` runs after each reading: calls that come while a sample is taken.
    """

    lost: dict[Key, int] = field(default_factory=dict)
    figures: dict[Key, tuple[int, int]] = field(default_factory=dict)
    between: Callable[[], object] = lambda: None
    kmod: Kmod | None = None
    errors: dict[Key, int] = field(default_factory=dict)
    took: dict[Key, list[int]] = field(default_factory=dict)
    watched: list[KernelState] = field(default_factory=list)
    timed: frozenset[str] = frozenset()
    closed: bool = False

    def watch(self, state: KernelState, timed: frozenset[str]) -> None:
        """Note what there is, and whose calls are timed."""
        self.watched.append(state)
        self.timed = timed

    def read(self, state: KernelState) -> Mapping[Key, FunctionSample]:
        """Count what the module counts at this moment."""
        if self.closed:
            raise Unreachable("the probe is closed")
        now = self.kmod.read() if self.kmod else state
        figures = {
            key: FunctionSample(
                counts.calls - self.lost.get(key, 0),
                counts.calls - counts.in_flight - self.lost.get(key, 0),
                *self.figures.get(key, (0, 0)),
                errors=self.errors.get(key, 0),
                latency=latency_of(self.took.get(key, ())) if key[1] in self.timed else None,
            )
            for key, counts in _counts(now)
        }
        self.between()
        return figures

    def cost(self) -> ProbeCost:
        """Cost something."""
        return ProbeCost(runs=10, run_seconds=0.5, missed=0)

    def dropped(self) -> int:
        """Drop nothing."""
        return 0

    def close(self) -> None:
        """Detach."""
        self.closed = True


def _counts(state: KernelState) -> Iterator[tuple[Key, Counts]]:
    for subsystem in state.subsystems.values():
        for function in subsystem.functions.values():
            for edition, counts in function.counts.items():
                yield (subsystem.name, function.name, edition), counts


class ManualClock:
    """A clock that stands still until something waits; then it is the time waited for.

    ``at`` lets things happen while the loop waits: ``clock.at(3.0, module.remove)``.
    """

    def __init__(self, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        """Start at ``now`` seconds, which is ``wall`` seconds of the Unix epoch."""
        self._now = now
        self._wall = wall - now
        self._woken = False
        self._plans: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> float:
        """Give seconds of CLOCK_MONOTONIC."""
        return self._now

    def wall(self) -> float:
        """Give seconds of the Unix epoch."""
        return self._wall + self._now

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Let ``action`` happen when the clock gets to ``time``."""
        self._plans.append((time, action))
        self._plans.sort(key=lambda plan: plan[0])

    def advance(self, seconds: float) -> None:
        """Let time pass, and what was planned in it happen."""
        self._pass_until(self._now + seconds, wakes=False)

    def wait_until(self, deadline: float) -> None:
        """Be there at once, unless something wakes us on the way."""
        self._pass_until(deadline, wakes=True)

    def wake(self) -> None:
        """End the wait; the next one too, if none is going on."""
        self._woken = True

    def _pass_until(self, deadline: float, *, wakes: bool) -> None:
        while self._plans and self._plans[0][0] <= deadline and not (wakes and self._woken):
            time, action = self._plans.pop(0)
            self._now = max(self._now, time)
            action()
        if wakes and self._woken:
            self._woken = False
        else:
            self._now = max(self._now, deadline)


# -------------------------------------------------------------------------------------- the host


class FakeHost:
    """The files of /proc that tell how busy a host is; times are in seconds since its boot.

    Args:
        proc: where the files are; the folder is made.
    """

    def __init__(self, proc: Path) -> None:
        """Begin idle, with pressure measured."""
        self.proc = proc
        (proc / "pressure").mkdir(parents=True)
        for resource in RESOURCES:
            self.stall(resource, some=0.0, full=0.0)
        self.run(busy=0, idle=1000)
        self.remember(total=1000, available=900)

    def stall(self, resource: str, *, some: float, full: float = 0.0) -> None:
        """Let tasks have been stalled for so many seconds by now."""
        averages = "avg10=0.00 avg60=0.00 avg300=0.00"
        spent = {"some": some, "full": full}
        lines = [f"{kind} {averages} total={round(each * 1e6)}\n" for kind, each in spent.items()]
        (self.proc / "pressure" / resource).write_text("".join(lines))

    def run(self, *, busy: int, idle: int) -> None:
        """Let the CPUs have been busy and idle for so many ticks by now."""
        text = f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\nintr 1\n"
        (self.proc / "stat").write_text(text)

    def remember(self, *, total: int, available: int) -> None:
        """Have so much memory, in KiB."""
        text = f"MemTotal: {total} kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n"
        (self.proc / "meminfo").write_text(text)

    def switch_psi_off(self) -> None:
        """Be a kernel that was booted with psi=0."""
        shutil.rmtree(self.proc / "pressure")
