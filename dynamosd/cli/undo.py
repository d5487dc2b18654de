# SPDX-License-Identifier: GPL-2.0-or-later
"""``undo``: what still holds, as commands that take it back. It prints, and does nothing."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dynamosd import phrases, status
from dynamosd.cli.output import policies_of, print_json
from dynamosd.cli.subsystem import describe_pin
from dynamosd.cli.words import plain
from dynamosd.kmod import ENABLE_HINT, SWITCHED_OFF, quarantined
from dynamosd.model import ORIGINAL
from dynamosd.status import RUNTIME_DIR

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from dynamosd.kmod import Kmod
    from dynamosd.model import KernelState, Subsystem

    Daemon = Mapping[str, Any] | None
    Finder = Callable[[KernelState | None, Daemon], Iterator["Held"]]


@dataclass(frozen=True, slots=True)
class Held:
    """What holds, of which kind it is, and the command that takes it back."""

    kind: str
    what: str
    command: tuple[str, ...]


def show_undo(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show all that differs from an untouched machine, in the order in which to take it back."""
    kernel, daemon = kmod.read() if kmod.loaded else None, status.read(args.runtime_dir)
    found = [each for find in _FINDERS for each in find(kernel, daemon)]
    if args.output == "json":
        holds = [{**asdict(each), "command": _command(each, args.runtime_dir)} for each in found]
        print_json("Undo", holds=holds, daemon=daemon is not None)
        return 0
    for each in found:
        print(f"{shlex.join(_command(each, args.runtime_dir))}  # {plain(each.what)}")
    if kernel is None:
        _remark("the kernel module is not loaded: every function runs the kernel's own code")
    elif not kernel.enabled:
        _remark(f"{SWITCHED_OFF}; when the reason for that is gone, {ENABLE_HINT}")
    if daemon is None:
        _remark("no daemon is running: pins, pauses and muted advice that it keeps are not known")
    if not found:
        nothing = "nothing holds: all is as on an untouched machine"
        _remark(nothing if daemon else "nothing holds that the kernel module knows of")
    return 0


def _remark(text: str) -> None:
    """Say something that is no command, also to a shell."""
    print(f"# {text}", file=sys.stderr)


def _command(held: Held, runtime_dir: Path) -> list[str]:
    where = [] if runtime_dir == RUNTIME_DIR else ["--runtime-dir", str(runtime_dir)]
    return ["dynamosctl", *held.command, *where]


# -------------------------------------------------------------------------------- what holds


def _pins(_kernel: KernelState | None, daemon: Daemon) -> Iterator[Held]:
    for pin in (daemon or {}).get("pins", ()):
        name = pin["subsystem"]
        yield Held("pin", f"{name}: {describe_pin(pin)}", ("unpin", name))


def _editions(kernel: KernelState | None, daemon: Daemon) -> Iterator[Held]:
    """Give the subsystems of which some calls, or all, get another edition than the original."""
    for subsystem in kernel.subsystems.values() if kernel else ():
        if subsystem.active == ORIGINAL and subsystem.partial is None:
            continue
        back = "switch", subsystem.name, ORIGINAL
        yield Held("edition", _standing(subsystem) + _fights(daemon, subsystem.name), back)


def _standing(subsystem: Subsystem) -> str:
    said = f"{subsystem.name}: {subsystem.active} is active"
    if subsystem.partial is None:
        return said
    scope = f", {subsystem.scope}" if subsystem.scope else ""
    return f"{said}, {subsystem.partial} is partial ({subsystem.mode}{scope})"


def _fights(daemon: Daemon, subsystem: str) -> str:
    """Say which policies would switch a subsystem again."""
    found = [each["name"] for each in policies_of(daemon, subsystem) if each["mode"] == "enforce"]
    if not found:
        return ""
    hold = f"dynamosctl rollback {subsystem}"
    return f"; policy {', '.join(found)} enforces it and may switch it again; to hold it: {hold}"


def _mutes(_kernel: KernelState | None, daemon: Daemon) -> Iterator[Held]:
    for each in (daemon or {}).get("advice", ()):
        if each["state"] == "muted":
            arrow = f"{each['subsystem']}: {each['from']} -> {each['to']}"
            what = f"{arrow}, advice of policy {each['policy']}, is muted"
            yield Held("mute", what, ("advice", "unmute", each["id"]))


def _quarantines(kernel: KernelState | None, daemon: Daemon) -> Iterator[Held]:
    """Give the module's and the daemon's: one command ends both."""
    found: dict[tuple[str, str], list[str]] = {}
    for subsystem in kernel.subsystems.values() if kernel else ():
        for each in subsystem.editions.values():
            if each.quarantine:
                said = quarantined(each.name, each.quarantine)
                found.setdefault((subsystem.name, each.name), []).append(said)
    for kept in (daemon or {}).get("quarantines", ()):
        why = phrases.why_quarantined(kept["policy"], kept["guardrail"], kept["reason"])
        said = f"{kept['edition']} is in quarantine until {kept['until']} ({why})"
        found.setdefault((kept["subsystem"], kept["edition"]), []).append(said)
    for (name, edition), said_of_it in found.items():
        yield Held(
            "quarantine", f"{name}: {'; '.join(said_of_it)}", ("edition", "clear", name, edition)
        )


def _pauses(_kernel: KernelState | None, daemon: Daemon) -> Iterator[Held]:
    for each in (daemon or {}).get("pauses", ()):
        about = phrases.scope(each["policy"] or "", each["subsystem"] or "")
        who = phrases.person(each["uid"], each["login"])
        what = phrases.paused(about, who, each["until"], each["reason"])
        yield Held("pause", what, ("resume", *_scope(each)))


def _scope(pause: Mapping[str, Any]) -> tuple[str, ...]:
    if pause["policy"]:
        return (pause["policy"],)
    return ("--subsystem", pause["subsystem"]) if pause["subsystem"] else ()


_FINDERS: tuple[Finder, ...] = (_pins, _editions, _mutes, _quarantines, _pauses)
"""A pin would forbid the switches; pauses are last, for policies switch after them."""
