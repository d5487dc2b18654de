# SPDX-License-Identifier: GPL-2.0-or-later
"""``edition list|load|unload|set|quarantine|clear|who``: editions, and who is inside."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import PurePath
from typing import TYPE_CHECKING

from dynamosd import status
from dynamosd.cli.output import (
    print_json,
    print_note,
    print_table,
    quarantines_of,
    tell_if_long,
)
from dynamosd.cli.subsystem import details, edition_counts, lease_of
from dynamosd.errors import DynamosError, InvalidInput, NotSupported, Refused, Unreachable
from dynamosd.kmod import ROOT_HINT
from dynamosd.model import ORIGINAL, EditionState

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dynamosd.kmod import Kmod
    from dynamosd.model import Edition, Subsystem

NAME_HELP = "SUBSYSTEM/EDITION, SUBSYSTEM, a module's name, or a file ending in .ko"

_FILE = re.compile(r"\.ko(?:\.(?:gz|xz|zst))?$")

_Pair = tuple["Subsystem", "Edition"]


def show_editions(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show every edition that is loaded."""
    pairs = list(_editions(kmod))
    if args.output == "json":
        print_json("EditionList", editions=[_edition_json(*pair) for pair in pairs])
        return 0
    head = ("SUBSYSTEM", "EDITION", "STATE", "IN FLIGHT", "MODULE")
    rows = [
        (
            subsystem.name,
            edition.name,
            edition.state,
            str(edition_counts(*pair).in_flight),
            edition.module,
        )
        for pair in pairs
        for subsystem, edition in [pair]
    ]
    print_table(head, rows, right="IN FLIGHT")
    for pair in pairs:
        if more := details(pair[1]):
            print_note(f"{_name(*pair)}: {more}")
    for subsystem in {subsystem.name: subsystem for subsystem, _ in pairs}.values():
        if lease := lease_of(subsystem):
            print_note(f"{subsystem.name}: {lease}")
    return 0


def load(args: argparse.Namespace, kmod: Kmod) -> int:
    """Load the module of an edition, if its checks let it. What is active stays active."""
    from dynamosd.cli.edition_check import refuse_bad  # noqa: PLC0415 - imports take long

    before = {_name(*pair) for pair in _editions(kmod)} if kmod.loaded else set()
    is_file = _FILE.search(args.name) is not None
    files = [args.name] if is_file else _files_of(module_name(args.name))
    refuse_bad(files, kmod, skip_loaded=not is_file)
    if is_file:
        _run("insmod", args.name)
    else:
        _run("modprobe", module_name(args.name))
    new = sorted({_name(*pair) for pair in _editions(kmod)} - before)
    if args.output == "json":
        print_json("EditionLoad", loaded=new, checked=files)
    else:
        print(f"loaded {', '.join(new)}" if new else f"{args.name} was loaded already")
    return 0


def _files_of(module: str) -> list[str]:
    """Give the files that modprobe would load, of ours: others are the kernel's own.

    Raises:
        Refused: it would run a command instead, which may do anything.
    """
    lines = _run("modprobe", "--show-depends", module).splitlines()
    if commands := [line for line in lines if line.startswith("install ")]:
        hint = "load the file itself: dynamosctl edition load FILE.ko"
        raise Refused(f"modprobe does not load a file but would run: {commands[0]}", hint=hint)
    words = [line.split(None, 2) for line in lines if line.startswith("insmod ")]
    files = [each[1] for each in words if len(each) > 1]
    return [each for each in files if PurePath(each).name.startswith("dynamos")]


def unload(args: argparse.Namespace, kmod: Kmod) -> int:
    """Unload the module of an edition, unless somebody may still run in it."""
    module = _module_of(args.name, kmod)
    for subsystem, edition in _editions(kmod):
        if edition.module == module:
            _refuse_busy(subsystem, edition)
    # Not modprobe -r: that also takes modules out that were loaded for this one, and the core.
    _run("rmmod", module)
    if args.output == "json":
        print_json("EditionUnload", module=module)
    else:
        print(f"unloaded {module}")
    return 0


def set_parameter(args: argparse.Namespace, kmod: Kmod) -> int:
    """Change a parameter of an edition, and show what it is now."""
    name, value = args.assignment
    kmod.set_parameter(args.subsystem, args.edition, name, value)
    now = kmod.read_parameter(args.subsystem, args.edition, name)
    if args.output == "json":
        print_json(
            "EditionParameter",
            subsystem=args.subsystem,
            edition=args.edition,
            name=name,
            value=now,
        )
    elif now is None:
        print(f"{args.subsystem}/{args.edition}: {name} was set; it may not be read")
    else:
        print(f"{args.subsystem}/{args.edition}: {name}={now}")
    return 0


def quarantine(args: argparse.Namespace, kmod: Kmod) -> int:
    """Keep an edition from being switched to, and show where that leaves its subsystem."""
    if args.edition == ORIGINAL:
        hint = f"to keep all calls to it: dynamosctl rollback {args.subsystem}"
        raise InvalidInput("original cannot be put in quarantine: it is the kernel's", hint=hint)
    before = kmod.read_standing(args.subsystem)
    kmod.quarantine(args.subsystem, args.edition)
    after = kmod.read_standing(args.subsystem)
    why = kmod.read_quarantine(args.subsystem, args.edition)
    active = after.active if after else None
    if args.output == "json":
        _print_quarantine(args, why, active)
        return 0
    print(f"{args.subsystem}/{args.edition}: in quarantine ({why})")
    if before != after:
        print(f"{args.subsystem}: {active} is active now")
    return 0


def clear(args: argparse.Namespace, kmod: Kmod) -> int:
    """End an edition's quarantine. What is active stays active."""
    before = kmod.read_quarantine(args.subsystem, args.edition)
    kmod.clear(args.subsystem, args.edition)
    why = kmod.read_quarantine(args.subsystem, args.edition)
    if _clear_daemons(args):
        before = ", ".join(filter(None, (before, "guardrail")))
    name = f"{args.subsystem}/{args.edition}"
    if args.output == "json":
        _print_quarantine(args, why, kmod.read_active(args.subsystem))
    elif before is None:
        print(f"{name} was not in quarantine")
    else:
        print(f"{name}: may be switched to again (it was in quarantine: {before})")
    return 0


def _clear_daemons(args: argparse.Namespace) -> bool:
    """Have the daemon end its own quarantine, if it has one; True if it did."""
    found = quarantines_of(status.read(args.runtime_dir), args.subsystem)
    if args.edition not in {each["edition"] for each in found}:
        return False
    from dynamosd.cli.client import ask  # noqa: PLC0415 - see dynamosd.cli

    said = {"command": "clear", "subsystem": args.subsystem, "edition": args.edition}
    return bool(ask(args.runtime_dir, said, args.timeout)["cleared"])


def _print_quarantine(args: argparse.Namespace, why: str | None, active: str | None) -> None:
    print_json(
        "EditionQuarantine",
        subsystem=args.subsystem,
        edition=args.edition,
        quarantine=why,
        active=active,
    )


def show_who(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show the threads that are in a subsystem's functions."""
    with tell_if_long("waiting for the kernel module, which looks at all stacks"):
        inside, more = kmod.who(args.subsystem)
    if args.output == "json":
        threads = [dataclasses.asdict(each) for each in inside]
        print_json("ThreadList", subsystem=args.subsystem, threads=threads, more=more)
        return 0
    if not inside:
        print(f"nobody is inside {args.subsystem}")
        return 0
    head = ("FUNCTION", "EDITION", "PID", "COMMAND", "SITS IN", "HOW")
    rows = [
        (each.function, each.edition, str(each.pid), each.comm, each.at, each.how)
        for each in inside
    ]
    print_table(head, rows, right="PID")
    if more:
        print_note(f"and {more} more", indent="")
    if any(each.how == "unreliable" for each in inside):
        print_note("unreliable: this stack cannot be read, so the thread may be inside", indent="")
    return 0


def module_name(name: str) -> str:
    """Give the kernel module of ``SUBSYSTEM/EDITION``, of ``SUBSYSTEM`` or of its own name."""
    module = name.replace("/", "_").replace("-", "_")
    return module if module.startswith("dynamos") else f"dynamos_{module}"


def _module_of(name: str, kmod: Kmod) -> str:
    """Give the loaded module that ``name`` means."""
    pairs = list(_editions(kmod))
    for subsystem, edition in pairs:
        if name == f"{subsystem.name}/{edition.name}" and edition.name != ORIGINAL:
            return edition.module
    module = module_name(name.rpartition("/")[2].removesuffix(".ko") if ".ko" in name else name)
    if any(edition.module == module for _, edition in pairs):
        return module
    known = ", ".join(sorted({edition.module for _, edition in pairs})) or "none"
    raise InvalidInput(f"no edition of {name} is loaded", hint=f"modules loaded: {known}")


def _refuse_busy(subsystem: Subsystem, edition: Edition) -> None:
    """Say why an edition cannot go. An original that is active is no obstacle: it is the kernel."""
    name = _name(subsystem, edition)
    if edition.name == ORIGINAL:
        return
    if edition.state in {EditionState.ACTIVE, EditionState.PARTIAL}:
        to = ORIGINAL if edition.state is EditionState.ACTIVE else subsystem.active
        hint = f"switch it away first: dynamosctl switch {subsystem.name} {to}"
        raise Refused(f"{name} is {edition.state}", hint=hint)
    if edition.state is EditionState.DRAINING:
        count = edition_counts(subsystem, edition).in_flight
        message = f"{name} is draining: {count} in flight"
        raise Refused(message, hint="wait until they have returned: dynamosctl edition list")


def _run(*command: str) -> str:
    """Run one of kmod's tools, give its output; turn what it says into an error of ours."""
    try:
        with tell_if_long(f"waiting for {' '.join(command)}"):
            done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        message = f"there is no {command[0]} here"
        raise NotSupported(message, hint="apt install kmod") from error
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.split()) or f"{command[0]} failed"
    if "not permitted" in said or "Permission denied" in said:
        raise Unreachable(said, hint=ROOT_HINT)
    if "in use" in said or "busy" in said:
        raise Refused(said, hint="switch it away and let it drain: dynamosctl edition list")
    if "not found" in said or "No such file" in said:
        raise InvalidInput(said, hint="is it built for this kernel? dynamosctl doctor")
    raise DynamosError(said, hint="the kernel may say more: dmesg")


def _editions(kmod: Kmod) -> Iterator[_Pair]:
    for subsystem in kmod.read().subsystems.values():
        for edition in subsystem.editions.values():
            yield subsystem, edition


def _name(subsystem: Subsystem, edition: Edition) -> str:
    return f"{subsystem.name}/{edition.name}"


def _edition_json(subsystem: Subsystem, edition: Edition) -> dict[str, object]:
    return {
        "subsystem": subsystem.name,
        "name": edition.name,
        "state": str(edition.state),
        "in_flight": edition_counts(subsystem, edition).in_flight,
        "module": edition.module,
        "quarantine": edition.quarantine,
        "died": edition.died,
        "modes": list(edition.modes),
        "parameters": dict(edition.parameters),
    }
