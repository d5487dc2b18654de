# SPDX-License-Identifier: GPL-2.0-or-later
"""``pause``, ``resume`` and ``advice``: what the daemon is asked, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.cli.output import print_json, print_note, print_table, text_of, warn, warn_if_silent
from dynamosd.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from dynamosd.kmod import Kmod

SHOWN = frozenset({"open", "accepted"})
"""The states of advice that one wants to see."""


def ask_daemon(args: argparse.Namespace, command: str, **said: object) -> dict[str, Any]:
    """Ask it for something, and give its answer; a warning in that is shown.

    Raises:
        DynamosError: it refused, or cannot be reached.
    """
    from dynamosd.cli.client import ask  # noqa: PLC0415 - see dynamosd.cli

    answer = ask(args.runtime_dir, {"command": command, **said}, args.timeout)
    if answer.get("warning"):
        warn(answer["warning"])
    return answer


def _scope(args: argparse.Namespace) -> dict[str, str]:
    if args.policy and args.subsystem:
        raise UsageError("a pause is about a policy or a subsystem, not about both")
    return {"policy": args.policy or "", "subsystem": args.subsystem or ""}


# ----------------------------------------------------------------------------- pause, resume


def pause(args: argparse.Namespace, kmod: Kmod) -> int:
    """Have policies make no switch for a time."""
    del kmod
    said = {**_scope(args), "for": args.for_, "reason": args.reason}
    answer = ask_daemon(args, "pause", **said)
    if args.output == "json":
        keys = ("about", "until", "policies")
        print_json("Pause", **{key: answer[key] for key in keys})
        return 0
    print(f"paused {answer['about']} until {answer['until']}")
    _print_policies(answer["policies"])
    return 0


def _print_policies(names: list[str]) -> None:
    if names:
        print_note(f"these make no switch now: {', '.join(names)}")
    else:
        print_note("there is no such policy now; it is paused when it comes")


def resume(args: argparse.Namespace, kmod: Kmod) -> int:
    """End a pause, or all of them."""
    del kmod
    answer = ask_daemon(args, "resume", **_scope(args))
    if args.output == "json":
        print_json("Resume", ended=answer["ended"], still=answer["still"])
        return 0
    for each in answer["ended"]:
        print(f"resumed {each}")
    if not answer["ended"]:
        print("there was no such pause")
    for each in answer["still"]:
        print_note(each)
    return 0


# ------------------------------------------------------------------------------------ advice


def show_advice(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show what the policies in mode advise would do."""
    del kmod
    daemon = status.read_running(args.runtime_dir)
    warn_if_silent(daemon)
    found = [each for each in daemon.get("advice", ()) if args.all or each["state"] in SHOWN]
    if args.output == "json":
        print_json("AdviceList", updated=daemon["updated"], advice=found)
        return 0
    if not found:
        print("there is no advice")
        return 0
    for each in found:
        print_advice(each)
    return 0


def print_advice(advice: Mapping[str, Any]) -> None:
    """Print one advice."""
    print_table(
        ("ID", "STATE", "POLICY", "SUBSYSTEM", "FROM", "TO", "RULE"),
        [
            (
                advice["id"],
                advice["state"],
                advice["policy"],
                advice["subsystem"],
                advice["from"],
                advice["to"],
                text_of(advice["rule"]),
            )
        ],
    )
    print_note(f"since {advice['since']}")
    if advice["reason"]:
        print_note(advice["reason"])


def accept(args: argparse.Namespace, kmod: Kmod) -> int:
    """Have the daemon make the switch of an advice."""
    del kmod
    answer = ask_daemon(args, "accept", id=args.id)
    advice = answer["advice"]
    if args.output == "json":
        keys = ("mode", "partial", "duration_seconds")
        print_json("AcceptedAdvice", advice=advice, **{key: answer[key] for key in keys})
        return 0
    part = " in part" if answer["partial"] else ""
    arrow = f"{advice['subsystem']}: {advice['from']} -> {advice['to']}{part}"
    print(f"switched {arrow} (advice {advice['id']} of policy {advice['policy']})")
    return 0


def mute(args: argparse.Namespace, kmod: Kmod) -> int:
    """Have an advice not be shown and told any more."""
    del kmod
    answer = ask_daemon(args, "mute", id=args.id, **{"for": args.for_})
    return _show_mute(args, answer, "muted")


def unmute(args: argparse.Namespace, kmod: Kmod) -> int:
    """End that."""
    del kmod
    return _show_mute(args, ask_daemon(args, "unmute", id=args.id), "no longer muted")


def _show_mute(args: argparse.Namespace, answer: Mapping[str, Any], what: str) -> int:
    if args.output == "json":
        print_json("Mute", id=answer["id"], muted=what == "muted", until=answer["until"])
        return 0
    until = f" until {answer['until']}" if answer["until"] else ""
    print(f"advice {answer['id']} is {what}{until}")
    return 0
