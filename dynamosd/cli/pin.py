# SPDX-License-Identifier: GPL-2.0-or-later
"""``pin``, ``unpin`` and ``rollback``: a person holds a subsystem at an edition."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.cli.output import print_json, print_note, warn
from dynamosd.cli.request import ask_daemon
from dynamosd.errors import DynamosError, NoDaemon, Unreachable, UsageError
from dynamosd.model import LOST, ORIGINAL
from dynamosd.switcher import Switcher

if TYPE_CHECKING:
    import argparse

    from dynamosd.kmod import Kmod
    from dynamosd.model import LeaseState

_FAILED = 1
_KEYS = ("subsystem", "edition", "until", "reason", "from", "switched", "partial", "trouble")


# ------------------------------------------------------------------------------- pin, unpin


def pin(args: argparse.Namespace, kmod: Kmod) -> int:
    """Hold a subsystem at an edition; 1 if it is not there yet."""
    del kmod
    said = {"subsystem": args.subsystem, "edition": args.edition, "reason": args.reason}
    answer = ask_daemon(args, "pin", **said, **{"for": args.for_})
    if args.output == "json":
        print_json("Pin", **{key: answer[key] for key in _KEYS})
    else:
        _print_pin(answer)
    return _code(answer)


def _print_pin(answer: dict[str, Any]) -> None:
    name, edition, end = answer["subsystem"], answer["edition"], answer["until"]
    if answer["switched"]:
        part = " in part, until every object has it" if answer["partial"] else ""
        print(f"{name}: {answer['from']} -> {edition}{part}")
    until = f"until {end}" if end else f"until dynamosctl unpin {name}"
    print(f"{name}: {edition} is pinned {until}")
    for policy in answer["policies"]:
        print_note(f"policy {policy} makes no switch meanwhile")


def _code(answer: dict[str, Any]) -> int:
    """Tell whether what was asked for is so, and say it if it is not."""
    if not answer["trouble"]:
        return 0
    name, edition = answer["subsystem"], answer["edition"]
    warn(f"{name} is not at {edition} yet: {answer['trouble']}; the daemon goes on trying")
    return _FAILED


def unpin(args: argparse.Namespace, kmod: Kmod) -> int:
    """Leave a subsystem to its policies again."""
    del kmod
    answer = ask_daemon(args, "unpin", subsystem=args.subsystem)
    if args.output == "json":
        keys = ("subsystem", "ended", "policies")
        print_json("Unpin", **{key: answer[key] for key in keys})
        return 0
    if not answer["ended"]:
        print(f"{args.subsystem} was not pinned")
        return 0
    print(f"{args.subsystem} is no longer pinned")
    for policy in answer["policies"]:
        print_note(f"policy {policy} decides again")
    if not answer["policies"]:
        print_note("it stays as it is: no policy switches it")
    return 0


# ----------------------------------------------------------------------------------- rollback


@dataclass(slots=True)
class _Rollback:
    """What has become of each subsystem. ``worst`` is the exit code.

    ``gone`` says why no daemon is asked any more, and is "" while one is.
    """

    args: argparse.Namespace
    kmod: Kmod
    shown: list[dict[str, Any]] = field(default_factory=list)
    worst: int = 0
    gone: str = ""

    def run(self, name: str) -> None:
        """Bring one subsystem back: by the daemon if there is one that does, or directly."""
        if not self.gone:
            try:
                self._by_daemon(name)
            except DynamosError as error:
                # One that starts has shown nothing yet, but can be asked.
                if isinstance(error, NoDaemon) and status.read(self.args.runtime_dir) is None:
                    self._directly(name, error.message, _no_daemon(self.kmod.read_lease(name)))
                    return
                # Whatever it is that it minds: the way back is open at all times.
                why, code = error.message, error.exit_code
            else:
                return
            # Nobody waits for it again, with the others.
            self.gone = why if code == Unreachable.exit_code else ""
        else:
            why, code = self.gone, Unreachable.exit_code
        self._directly(name, why, "and the daemon may switch it again")
        self.worst = max(self.worst, code)

    def _by_daemon(self, name: str) -> None:
        said = {"subsystem": name, "edition": ORIGINAL, "reason": self.args.reason}
        more = {"for": self.args.for_, "at_least": True}
        answer = ask_daemon(self.args, "pin", **said, **more)
        self.worst = max(self.worst, _code(answer))
        self.shown.append({**{key: answer[key] for key in _KEYS}, "pinned": True})
        if self.args.output != "json":
            _print_pin(answer)

    def _directly(self, name: str, why: str, then: str) -> None:
        result = Switcher(self.kmod, time.monotonic).switch(name, ORIGINAL, "manual")
        said = {"subsystem": name, "edition": ORIGINAL, "until": None, "reason": ""}
        made = {"from": result.origin, "switched": result.changed, "partial": result.partial}
        self.shown.append({**said, **made, "trouble": "", "pinned": False})
        if self.args.output != "json":
            was = f"{result.origin} -> " if result.changed else ""
            print(f"{name}: {was}{ORIGINAL}{'' if result.changed else ' is active already'}")
        warn(f"{why}: nothing holds {name} there, {then}")


def _no_daemon(lease: LeaseState | None) -> str:
    """Say who may switch a subsystem when there is no daemon."""
    if lease is None or lease.state is None:
        return "but nobody switches it either"
    what = "has left a lease" if lease.state == LOST else "looks after it"
    return f"and pid {lease.holder} {what}: it may be switched again"


def rollback(args: argparse.Namespace, kmod: Kmod) -> int:
    """Bring a subsystem, or all, back to original, and hold it there."""
    if bool(args.subsystem) is args.all:
        raise UsageError("name a subsystem, or say --all", hint="see: dynamosctl rollback --help")
    if not kmod.loaded:
        hint = "nothing is to be brought back: every function runs the kernel's own code"
        raise Unreachable("the kernel module is not loaded", hint=hint)
    work, failed = _Rollback(args, kmod), list[DynamosError]()
    for name in sorted(kmod.read().subsystems) if args.all else [args.subsystem]:
        try:
            work.run(name)
        except DynamosError as error:
            # The others are not to wait for what is wrong with one.
            if not args.all:
                raise
            warn(f"{name}: {error.message}")
            failed.append(error)
    if args.output == "json":
        print_json("Rollback", subsystems=work.shown)
    elif not work.shown and not failed:
        print_note("no subsystem is loaded: there is nothing to bring back", indent="")
    return max([work.worst, *(each.exit_code for each in failed)])
