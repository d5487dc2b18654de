# SPDX-License-Identifier: GPL-2.0-or-later
"""``dynamosd``: the daemon's command line; the class of an error is the exit code."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd import __version__
from dynamosd.commandline import Parser
from dynamosd.console import run_program, say
from dynamosd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamosd.daemon import World

PROGRAM = "dynamosd"
CONFIG = Path("/etc/dynamosd")


def main(argv: Sequence[str] | None = None, world: World | None = None) -> int:
    """Run the daemon; give its exit code. Another ``world`` than this machine is for tests."""
    argv = sys.argv[1:] if argv is None else argv
    return run_program(PROGRAM, lambda: _run(make_parser().parse_args(argv), world))


def make_parser() -> argparse.ArgumentParser:
    """Give what reads the command line."""
    text = "Switches editions of kernel functions, by measurement and policy."
    parser = Parser(prog=PROGRAM, description=text)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    text = "run in the foreground until SIGTERM"
    run = commands.add_parser("run", help=text, description=text)
    run.add_argument(
        "--config",
        type=Path,
        default=CONFIG,
        metavar="DIR",
        help=f"settings and policies ({CONFIG})",
    )
    run.add_argument("--metrics-address", metavar="HOST:PORT", help="where /metrics is served")
    run.add_argument("--journal", type=Path, metavar="FILE", help="where decisions are recorded")
    run.add_argument("--runtime-dir", type=Path, metavar="DIR", help="for the lock and the status")
    run.add_argument(
        "--probe-budget", metavar="SHARE", help="of all CPUs' time, for the probes, such as 1%%"
    )
    run.add_argument(
        "--watch", action="store_true", help="read the policies again when their files change"
    )
    return parser


def _run(args: argparse.Namespace, world: World | None) -> int:
    # They take long to import, and not before the command line is known to be right.
    from dynamosd import config, daemon, privileges  # noqa: PLC0415
    from dynamosd.api.address import parse_address  # noqa: PLC0415

    settings = config.load(args.config)
    if args.metrics_address:
        address = parse_address(args.metrics_address)
        settings = dataclasses.replace(settings, metrics_address=address)
    if args.journal:
        settings = dataclasses.replace(settings, journal=args.journal)
    if args.runtime_dir:
        settings = dataclasses.replace(settings, runtime_dir=args.runtime_dir)
    if args.probe_budget:
        settings = dataclasses.replace(settings, probe_budget=_share(args.probe_budget))
    if args.watch:
        settings = dataclasses.replace(settings, watch=True)
    if world is None:
        privileges.drop()
        daemon.check_start(settings)
        world = daemon.World(say)
    return daemon.run(settings, world)


def _share(text: str) -> float:
    from dynamosd.budget import parse_share  # noqa: PLC0415

    try:
        return parse_share(text)
    except ValueError as error:
        raise UsageError(f"--probe-budget {text}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
