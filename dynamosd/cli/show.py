# SPDX-License-Identifier: GPL-2.0-or-later
"""``show``: all that is known of one subsystem, on one screen."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.api.documents import subsystem_json
from dynamosd.cli.history import journal_of
from dynamosd.cli.output import (
    colour,
    policies_of,
    print_json,
    print_note,
    print_table,
    tell_if_long,
    warn_if_silent,
)
from dynamosd.cli.request import SHOWN, print_advice
from dynamosd.cli.subsystem import (
    FUNCTION_HEAD,
    details,
    edition_counts,
    function_rows,
    notes,
    pin_notes,
    print_policy,
    quarantine_notes,
    status_json,
)
from dynamosd.cli.words import because, plain, trigger_of
from dynamosd.kmod import no_subsystem
from dynamosd.records import read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from dynamosd.kmod import Kmod
    from dynamosd.model import Subsystem
    from dynamosd.records import Record


def show_subsystem(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show a subsystem: what the module says, what the daemon says, and what the journal says."""
    subsystem = find(kmod, args.subsystem)
    daemon = status.read(args.runtime_dir)
    warn_if_silent(daemon)
    journal = args.journal or journal_of(daemon)
    with tell_if_long(f"reading {journal}"):
        since = find_since(journal, subsystem)
    advice = _advice(daemon, subsystem.name)
    if args.output == "json":
        about = {**status_json(subsystem, daemon), **subsystem_json(subsystem)}
        print_json(
            "Subsystem",
            **about,
            since=asdict(since),
            daemon=daemon and {key: daemon.get(key) for key in ("pid", "version", "started")},
            advice=advice if daemon else None,
            pauses=_pauses(daemon, subsystem.name) if daemon else None,
        )
        return 0
    _print_kernel(subsystem, since)
    if daemon is None:
        print()
        print_note(
            "no daemon is running: policies, pins, pauses and advice are not known", indent=""
        )
        return 0
    _print_daemon(daemon, subsystem.name)
    for each in advice:
        print()
        print_advice(each)
    return 0


def find(kmod: Kmod, name: str) -> Subsystem:
    """Give a subsystem as the module shows it.

    Raises:
        InvalidInput: there is none of that name.
    """
    subsystems = kmod.read().subsystems
    if name not in subsystems:
        raise no_subsystem(name, subsystems)
    return subsystems[name]


# ------------------------------------------------------------------------------ since when


@dataclass(frozen=True, slots=True)
class Since:
    """Since when new calls get the active edition, by whom and why; or why that is not known."""

    time: str | None = None
    by: str = ""
    reason: str = ""
    unknown: str = ""

    def __str__(self) -> str:
        """Say it."""
        if self.unknown:
            return f"since when is not known: {self.unknown}"
        if self.time is None:
            return "since it was loaded: it has never been switched"
        return f"since {self.time} ({self.by}){because(self.reason)}"


def find_since(path: Path, subsystem: Subsystem) -> Since:
    """Look into the journal for the switch that made the active edition active."""
    if not subsystem.switches:
        return Since()
    try:
        last = _last_switch(path, subsystem.name)
    except OSError as error:
        return Since(unknown=f"{path} cannot be read: {error.strerror}")
    if last is None:
        none = f"no switch to {subsystem.active} since the machine was started"
        return Since(unknown=f"{path} has {none}")
    if last["to"] != subsystem.active:
        seen = f"the last switch in the journal is to {last['to']}, at {last['time']}"
        return Since(unknown=f"{seen}; somebody has switched while no daemon looked")
    return Since(last["time"], trigger_of(last), str(last.get("reason") or ""))


def _last_switch(path: Path, subsystem: str) -> Record | None:
    """Give the last record of another edition becoming the active one, since the boot."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    last: Record | None = None
    begun: Record | None = None
    for record in read(path):
        if record.get("subsystem") != subsystem or record.get("time_seconds", 0.0) < booted:
            continue
        match record.get("kind"), record.get("result"):
            case "switch", "ok" if record.get("partial"):
                begun = record
            case "switch", "ok":
                last, begun = record, None
            case "completed", _ if begun is not None and begun["to"] == record["edition"]:
                last, begun = {**begun, "time": record["time"]}, None
    return last


# ------------------------------------------------------------------------------------ showing


def _print_kernel(subsystem: Subsystem, since: Since) -> None:
    head = f"{subsystem.name}: {subsystem.active} is active ({subsystem.mode})"
    print(colour(head, "bold"))
    print_note(plain(str(since)))
    print_note(f"switches: {subsystem.switches}")
    for note in notes(subsystem):
        print_note(note)
    if subsystem.lease is None:
        print_note("no lease: nobody is missed when it stops")
    print()
    rows = [
        (edition.name, edition.state, str(counts.calls), str(counts.in_flight), edition.module)
        for edition in subsystem.editions.values()
        for counts in [edition_counts(subsystem, edition)]
    ]
    head_row = ("EDITION", "STATE", "CALLS", "IN FLIGHT", "MODULE")
    print_table(head_row, rows, right="CALLS,IN FLIGHT")
    for edition in subsystem.editions.values():
        if more := details(edition):
            print_note(f"{edition.name}: {more}")
    print()
    print_table(FUNCTION_HEAD, function_rows(subsystem), right="CALLS,IN FLIGHT")


def _print_daemon(daemon: Mapping[str, Any], subsystem: str) -> None:
    for note in [*pin_notes(daemon, subsystem), *quarantine_notes(daemon, subsystem)]:
        print_note(note)
    policies = policies_of(daemon, subsystem)
    print()
    if not policies:
        print_note("no policy is about it", indent="")
    for number, policy in enumerate(policies):
        if number:
            print()
        print_policy(policy)


def _advice(daemon: Mapping[str, Any] | None, subsystem: str) -> list[dict[str, Any]]:
    """Give the advice about a subsystem that one wants to see."""
    found = (daemon or {}).get("advice", ())
    return [each for each in found if each["subsystem"] == subsystem and each["state"] in SHOWN]


def _pauses(daemon: Mapping[str, Any] | None, subsystem: str) -> list[dict[str, Any]]:
    """Give the pauses that are about a subsystem, or about all."""
    names = {policy["name"] for policy in policies_of(daemon, subsystem)}
    return [
        each
        for each in (daemon or {}).get("pauses", ())
        if each["policy"] in names
        or (not each["policy"] and each["subsystem"] in {None, subsystem})
    ]
