# SPDX-License-Identifier: GPL-2.0-or-later
"""``dynamosd``: the daemon's command line; the class of an error is the exit code."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dynamosd import __version__
from dynamosd.console import run_program, say
from dynamosd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamosd.daemon import World

PROGRAM = "dynamosd"
CONFIG = Path("/etc/dynamosd")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see: {self.prog} --help")


def main(argv: Sequence[str] | None = None, world: World | None = None) -> int:
    """Run the daemon; give its exit code. Another ``world`` than this machine is for tests."""
    argv = sys.argv[1:] if argv is None else argv
    return run_program(PROGRAM, lambda: _run(_parser().parse_args(argv), world))


def _parser() -> _Parser:
    text = "Switches editions of kernel functions, by measurement and policy."
    parser = _Parser(prog=PROGRAM, description=text)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    run = commands.add_parser("run", help="run in the foreground until SIGTERM")
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
        "--watch", action="store_true", help="read the policies again when their files change"
    )
    return parser


def _run(args: argparse.Namespace, world: World | None) -> int:
    # They take long to import, and not before the command line is known to be right.
    from dynamosd import config, daemon, web  # noqa: PLC0415

    settings = config.load(args.config)
    if args.metrics_address:
        address = web.parse_address(args.metrics_address)
        settings = dataclasses.replace(settings, metrics_address=address)
    if args.journal:
        settings = dataclasses.replace(settings, journal=args.journal)
    if args.runtime_dir:
        settings = dataclasses.replace(settings, runtime_dir=args.runtime_dir)
    if args.watch:
        settings = dataclasses.replace(settings, watch=True)
    if world is None:
        daemon.check_start(settings)
        world = daemon.World(say)
    return daemon.run(settings, world)


if __name__ == "__main__":
    sys.exit(main())
